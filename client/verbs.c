/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of verbs. Dispatch, the check of operands and all help texts go by
 * it; what a verb does is in the file named after it.
 */
#include "verbs.h"

#include "errors.h"
#include "i18n.h"
#include "suggest.h"

#define ANY_NUMBER SIZE_MAX

const Verb verbs[] = {
        { VERB_ATTACH, "attach", "IMAGE...", N_("attach image files and mount what is in them"),
          N_("Prints where the volumes are mounted. The image is attached read-only\n"
             "unless --writable is given.\n"),
          1, ANY_NUMBER, verb_attach },
        { VERB_DETACH, "detach", "TARGET...", N_("unmount all volumes of an image and detach it"),
          N_("Returns when the device is really gone. A file that is attached several\n"
             "times is detached as often. With --force images that are in use or stuck are\n"
             "unmounted all the same; what was not written back yet may be lost.\n"),
          0, ANY_NUMBER, verb_detach },
        { VERB_LIST, "list", "", N_("list attached images"), NULL, 0, 0, verb_list },
        { VERB_INFO, "info", "TARGET...", N_("show all about an image and its volumes"), NULL, 1, ANY_NUMBER,
          verb_info },
        { VERB_MOUNT, "mount", "TARGET", N_("mount volumes of an attached image"),
          N_("Mounts the volumes given with --volume, or the partition whose device\n"
             "TARGET is, or else all that can be and are not; prints where.\n"),
          1, 1, verb_mount },
        { VERB_UNMOUNT, "unmount", "TARGET", N_("unmount volumes of an attached image"),
          N_("Unmounts the volumes given with --volume, or the one that TARGET is the\n"
             "mount point or device of, or else all. With the last of them the image is\n"
             "detached, unless it was attached with --keep or --no-mount.\n"),
          1, 1, verb_unmount },
        { VERB_RESCAN, "rescan", "TARGET", N_("look for partitions and file systems again"), NULL, 1, 1, verb_rescan },
        { VERB_MONITOR, "monitor", "", N_("print what is attached, and what happens, until interrupted"), NULL, 0, 0,
          verb_monitor },
        { VERB_WITH, "with", "IMAGE -- COMMAND...", N_("attach, run a command in the mount point, detach"),
          N_("The command finds the mount point in $LOOPMOUNT_DIR too, and all of them,\n"
             "one per line, in $LOOPMOUNT_DIRS. Its exit code is passed on, 128+N if\n"
             "signal N ended it. What was mounted before stays so.\n"),
          1, 1, verb_with },
        { VERB_OPEN, "open", "IMAGE", N_("attach, show it in the file manager, offer to eject it"),
          N_("What a double click does. Errors are told on the desktop, too. Returns when\n"
             "the notification is closed or the image is detached.\n"),
          1, 1, verb_open },
        { VERB_AUTOMOUNT, "automount", "enable|disable|list|status [IMAGE...]",
          N_("attach images at login, by your own service manager"),
          N_("enable attaches the images from now on whenever you are in front of the\n"
             "screen, with these options, and as soon as their files are there; they are\n"
             "detached at logout. disable detaches them and ends that; what is in use stays\n"
             "enabled. list shows them, status what 'systemctl --user status' says.\n"),
          1, ANY_NUMBER, verb_automount },
        { VERB_HELP, "help", "[VERB]", N_("show this, or the help of a verb"), NULL, 0, 1, verb_help },
        { 0 },
};

/* What other tools call these. */
static const struct {
        const char *alias;
        const char *name;
} aliases[] = {
        { "eject", "detach" },
        { "ls", "list" },
        { "status", "list" },
        { "umount", "unmount" },
};

const Verb *verb_find(const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(aliases); i++)
                if (streq(aliases[i].alias, name))
                        name = aliases[i].name;
        for (const Verb *v = verbs; v->name; v++)
                if (streq(v->name, name))
                        return v;
        return NULL;
}

int verb_complain(const char *name)
{
        Suggestion suggestion = { 0 };

        for (const Verb *v = verbs; v->name; v++)
                suggest_consider(&suggestion, name, strlen(name), v->name);
        if (suggestion.word)
                return error_print(STATUS_USAGE, name, _("no such verb, and no such file; did you mean '%s'?"),
                                   suggestion.word);
        return error_print(STATUS_USAGE, name, _("no such verb, and no such file; see 'loopmount --help'"));
}

int verb_help(const Settings *settings)
{
        const Verb *about = NULL;

        if (settings->n_operands > 0) {
                about = verb_find(settings->operands[0]);
                if (!about)
                        return verb_complain(settings->operands[0]);
        }
        options_print_help(about);
        return STATUS_OK;
}
