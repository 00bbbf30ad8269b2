/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * umount.loopmount: what makes a plain "umount DIR" work for a user.
 *
 * The mounts are recorded with uhelper=loopmount; umount(8) finds that and runs
 * this program, as the user who called it, with the directory in front and its
 * own options behind. The daemon does the rest. Exit codes are those of
 * mount(8), which the caller passes on.
 *
 * An option that asks for something else than an ordinary unmount is refused:
 * to ignore it would do another thing than was asked for.
 */
#include <getopt.h>

#include "errors.h"
#include "i18n.h"
#include "target.h"

enum {
        UMOUNT_USAGE = 1,
        UMOUNT_SYSTEM = 2,
        UMOUNT_FAILED = 32,
};

static int umount_status(int status)
{
        switch (status) {
        case STATUS_OK:
                return 0;
        case STATUS_USAGE:
        case STATUS_NOT_AUTHORIZED:
                return UMOUNT_USAGE;
        case STATUS_UNREACHABLE:
                return UMOUNT_SYSTEM;
        default:
                return UMOUNT_FAILED;
        }
}

static int parse(int argc, char **argv, const char **ret_directory)
{
        static const struct {
                int letter;
                const char *what;
        } refused[] = {
                { 'f', N_("cannot be unmounted by force") },
                { 'l', N_("cannot be unmounted lazily; without -l the error says who uses it") },
                { 'r', N_("cannot be remounted read-only") },
                { 'N', N_("cannot be unmounted in another mount namespace") },
        };
        const char *directory = argc > 1 ? argv[1] : NULL;
        int c;

        if (!directory || *directory == '-')
                return error_print(STATUS_USAGE, NULL, _("to be run by umount(8): umount.loopmount DIR [-nv]"));
        optind = 2;
        while ((c = getopt(argc, argv, "flnrsvN:t:")) >= 0) {
                if (c == '?')
                        return STATUS_USAGE;
                for (size_t i = 0; i < ELEMENTSOF(refused); i++)
                        if (refused[i].letter == c)
                                return error_print(STATUS_USAGE, directory, "%s", _(refused[i].what));
        }
        if (optind < argc)
                return error_print(STATUS_USAGE, argv[optind], _("one directory at a time"));
        *ret_directory = directory;
        return STATUS_OK;
}

static int unmount(const char *directory)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_connection_ Connection connection = { 0 };
        _cleanup_target_ Target target = { 0 };
        int r, status;

        status = connection_open(&connection, true);
        if (status == STATUS_OK)
                status = target_resolve(&connection, directory, &target);
        if (status != STATUS_OK)
                return status;
        if (!target.volume)
                return error_print(STATUS_NOT_FOUND, directory, _("is not the mount point of an attached image"));

        connection_say(&connection, _("Unmounting %s"), directory);
        r = connection_call_simple(&connection, target.volume->path, VOLUME_INTERFACE, "Unmount", &error);
        return r < 0 ? error_print_bus(directory, &error, r) : STATUS_OK;
}

int main(int argc, char **argv)
{
        const char *directory = NULL;
        int status;

        i18n_start();
        status = parse(argc, argv, &directory);
        if (status == STATUS_OK)
                status = unmount(directory);
        return umount_status(status);
}
