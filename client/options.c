/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The command line. One table has every option with the verbs that take it:
 * getopt_long()'s tables and the help texts are made from it, so that help is
 * complete by construction, and an option given to a verb that has no use for
 * it is an error, never ignored.
 *
 * Operands are collected in their order ("-" in front of the short options)
 * rather than permuted behind the options, because "with" must know which of
 * them stood before the "--".
 */
#include "options.h"

#include <getopt.h>

#include "base/text.h"
#include "errors.h"
#include "i18n.h"
#include "suggest.h"

/* Long options without a short one; beyond any character. */
enum {
        OPTION_OFFSET = 256,
        OPTION_SIZE,
        OPTION_SECTOR_SIZE,
        OPTION_NO_MOUNT,
        OPTION_NO_PARTITION_SCAN,
        OPTION_VOLUME,
        OPTION_NAME,
        OPTION_DIRECT_IO,
        OPTION_KEEP,
        OPTION_SETTLE,
        OPTION_ON_ACCESS,
        OPTION_IDLE_TIMEOUT,
        OPTION_PRINT_PATH,
        OPTION_JSON,
        OPTION_ALL_USERS,
        OPTION_TARGETS,
        OPTION_FORCE,
        OPTION_NO_ASK_PASSWORD,
        OPTION_NOTIFY,
};

typedef struct Option {
        int id;
        const char *name;
        const char *value; /* what the help calls its argument; NULL: it has none */
        unsigned verbs;
        const char *help; /* NULL: another spelling of the option above it */
} Option;

#define IMAGE_VERBS (VERB_ATTACH | VERB_WITH | VERB_AUTOMOUNT)
#define CALL_VERBS (VERB_ATTACH | VERB_WITH | VERB_OPEN | VERB_DETACH | VERB_MOUNT | VERB_UNMOUNT | VERB_RESCAN)

static const Option options[] = {
        { 'w', "writable", NULL, IMAGE_VERBS | VERB_OPEN, N_("attach for reading and writing") },
        { 'w', "writeable", NULL, IMAGE_VERBS | VERB_OPEN, NULL },
        { 'r', "read-only", NULL, IMAGE_VERBS | VERB_OPEN, N_("attach for reading only (the default)") },
        { OPTION_OFFSET, "offset", "SIZE", IMAGE_VERBS, N_("where the image begins in the file") },
        { OPTION_SIZE, "size", "SIZE", IMAGE_VERBS, N_("how much of the file it takes") },
        { OPTION_SECTOR_SIZE, "sector-size", "BYTES", IMAGE_VERBS, N_("512, 1024, 2048 or 4096 (default: found out)") },
        { OPTION_NO_PARTITION_SCAN, "no-partition-scan", NULL, IMAGE_VERBS, N_("do not look for a partition table") },
        { OPTION_NO_MOUNT, "no-mount", NULL, VERB_ATTACH, N_("attach only, mount nothing") },
        { OPTION_VOLUME, "volume", "N[,N...]", IMAGE_VERBS | VERB_MOUNT | VERB_UNMOUNT,
          N_("only these volumes: partition numbers, 0 for the whole image") },
        { 't', "type", "TYPE", IMAGE_VERBS | VERB_MOUNT, N_("mount as this file system type") },
        { 'o', "options", "OPTIONS", IMAGE_VERBS | VERB_MOUNT, N_("mount options, comma-separated") },
        { OPTION_NAME, "name", "NAME", IMAGE_VERBS | VERB_MOUNT, N_("what to call the mount point") },
        { OPTION_DIRECT_IO, "direct-io", "auto|yes|no", IMAGE_VERBS, N_("read the file past the page cache") },
        { OPTION_KEEP, "keep", NULL, VERB_ATTACH | VERB_AUTOMOUNT,
          N_("stay attached until detached, also after umount and logout") },
        { OPTION_ON_ACCESS, "on-access", NULL, VERB_ATTACH | VERB_AUTOMOUNT,
          N_("mount each volume when its folder is entered") },
        { OPTION_IDLE_TIMEOUT, "idle-timeout", "SECONDS", VERB_ATTACH | VERB_AUTOMOUNT,
          N_("with --on-access: unmount what is not used for so long (300; 0: never)") },
        { OPTION_SETTLE, "settle", NULL, IMAGE_VERBS, N_("wait until udev has processed the devices") },
        { 'a', "all", NULL, VERB_DETACH | VERB_LIST, N_("detach all your images; list those of all users") },
        { OPTION_FORCE, "force", NULL, VERB_DETACH, N_("give up images that are in use or stuck") },
        { OPTION_NOTIFY, "notify", NULL, VERB_DETACH, N_("show what goes wrong on the desktop, too") },
        { OPTION_ALL_USERS, "all-users", NULL, VERB_LIST | VERB_MONITOR, N_("images of other users too") },
        { OPTION_TARGETS, "targets", NULL, VERB_LIST | VERB_AUTOMOUNT,
          N_("print only what other verbs can be given, one per line") },
        { OPTION_PRINT_PATH, "print-path", NULL, VERB_ATTACH, N_("print mount points only, one per line") },
        { OPTION_JSON, "json", NULL, VERB_ATTACH | VERB_LIST | VERB_INFO | VERB_MONITOR | VERB_AUTOMOUNT,
          N_("print JSON, one document per line") },
        { OPTION_NO_ASK_PASSWORD, "no-ask-password", NULL, CALL_VERBS, N_("fail rather than ask for a password") },
        { 'h', "help", NULL, VERB_ALL, N_("show this help") },
        { 'V', "version", NULL, VERB_ALL, N_("show the version") },
};

#define N_OPTIONS ELEMENTSOF(options)

static void make_getopt_tables(struct option *ret_long, char *ret_short)
{
        /* In order, and tell a missing argument from an unknown option. */
        *ret_short++ = '-';
        *ret_short++ = ':';
        for (size_t i = 0; i < N_OPTIONS; i++) {
                ret_long[i] = (struct option){ .name = options[i].name,
                                               .has_arg = options[i].value ? required_argument : no_argument,
                                               .val = options[i].id };
                if (options[i].id > UINT8_MAX)
                        continue;
                *ret_short++ = (char)options[i].id;
                if (options[i].value)
                        *ret_short++ = ':';
        }
        *ret_short = 0;
        ret_long[N_OPTIONS] = (struct option){ 0 };
}

/* N_OPTIONS if there is none. */
static size_t find_option(int id)
{
        size_t i = 0;

        while (i < N_OPTIONS && options[i].id != id)
                i++;
        return i;
}

int options_parse_volumes(const char *s, uint32_t **volumes, size_t *n_volumes)
{
        _cleanup_free_ char *copy = strdup(s);
        char *rest = copy;

        if (!copy)
                return -ENOMEM;
        for (const char *word; (word = strsep(&rest, ","));) {
                uint32_t *more;
                uint64_t number;
                int r;

                r = text_parse_uint(word, UINT32_MAX, &number);
                if (r < 0)
                        return r;
                more = reallocarray(*volumes, *n_volumes + 1, sizeof(uint32_t));
                if (!more)
                        return -ENOMEM;
                *volumes = more;
                (*volumes)[(*n_volumes)++] = (uint32_t)number;
        }
        return 0;
}

static int apply_flag(int id, Settings *settings)
{
        switch (id) {
        case 'w':
                settings->writable = true;
                break;
        case 'r':
                settings->read_only = true;
                break;
        case 'h':
                settings->help = true;
                break;
        case 'V':
                settings->version = true;
                break;
        case OPTION_NO_MOUNT:
                settings->no_mount = true;
                break;
        case OPTION_NO_PARTITION_SCAN:
                settings->no_partition_scan = true;
                break;
        case OPTION_KEEP:
                settings->keep = true;
                break;
        case OPTION_SETTLE:
                settings->settle = true;
                break;
        case OPTION_ON_ACCESS:
                settings->on_access = true;
                break;
        case OPTION_PRINT_PATH:
                settings->print_path = true;
                break;
        case OPTION_JSON:
                settings->json = true;
                break;
        case 'a':
                settings->all = settings->all_users = true;
                break;
        case OPTION_FORCE:
                settings->force = true;
                break;
        case OPTION_NOTIFY:
                settings->notify = true;
                break;
        case OPTION_ALL_USERS:
                settings->all_users = true;
                break;
        case OPTION_TARGETS:
                settings->targets = true;
                break;
        case OPTION_NO_ASK_PASSWORD:
                settings->no_ask_password = true;
                break;
        }
        return 0;
}

/* The bus takes nothing else as a string. */
static int take_text(const char *value, const char **target)
{
        const char *end = value + strlen(value);

        for (const char *s = value; s < end;) {
                size_t n = text_decode(s, (size_t)(end - s), NULL);

                if (n == 0)
                        return -EILSEQ;
                s += n;
        }
        *target = value;
        return 0;
}

/* -o noexec -o noatime is -o noexec,noatime, as for mount(8). */
static int add_mount_options(const char *value, char **list)
{
        const char *text;
        char *joined;
        int r = take_text(value, &text);

        if (r < 0)
                return r;
        joined = isempty(*list) ? strdup(text) : text_printf("%s,%s", *list, text);
        if (!joined)
                return -ENOMEM;
        free(*list);
        *list = joined;
        return 0;
}

static int apply_value(int id, const char *value, Settings *settings)
{
        uint64_t number;
        int r;

        switch (id) {
        case OPTION_OFFSET:
                return text_parse_size(value, &settings->offset);
        case OPTION_SIZE:
                return text_parse_size(value, &settings->size);
        case OPTION_SECTOR_SIZE:
                r = text_parse_uint(value, UINT32_MAX, &number);
                if (r >= 0)
                        settings->sector_size = (uint32_t)number;
                return r;
        case OPTION_IDLE_TIMEOUT:
                settings->has_idle_timeout = true;
                return text_parse_uint(value, UINT32_MAX, &settings->idle_timeout);
        case OPTION_VOLUME:
                return options_parse_volumes(value, &settings->volumes, &settings->n_volumes);
        case OPTION_DIRECT_IO:
                settings->direct_io = value;
                return streq(value, "auto") || streq(value, "yes") || streq(value, "no") ? 0 : -EINVAL;
        case OPTION_NAME:
                return take_text(value, &settings->name);
        case 't':
                return take_text(value, &settings->type);
        case 'o':
                return add_mount_options(value, &settings->mount_options);
        }
        return -EINVAL;
}

/* These add up. Of any other option only one value can be used, and none is dropped silently. */
static bool is_list(const Option *option)
{
        return option->id == 'o' || option->id == OPTION_VOLUME;
}

static int apply_option(int id, const char *value, bool given, Settings *settings)
{
        const Option *option = &options[find_option(id)];
        int r;

        if (given && option->value && !is_list(option))
                return error_print(STATUS_USAGE, value, _("--%s was given before; give it once"), option->name);
        r = option->value ? apply_value(id, value, settings) : apply_flag(id, settings);
        if (r == -ENOMEM)
                return error_print(STATUS_FAILED, NULL, "%s", strerror(ENOMEM));
        if (r < 0)
                return error_print(STATUS_USAGE, value,
                                   r == -ERANGE   ? _("--%s takes %s, and this is too much")
                                   : r == -EILSEQ ? _("--%s takes %s, in UTF-8")
                                                  : _("--%s takes %s"),
                                   option->name, option->value);
        return STATUS_OK;
}

/* @word: with its dashes, and perhaps "=" and an argument. */
static int complain_of_option(const char *word)
{
        const char *name = word + strspn(word, "-");
        Suggestion suggestion = { 0 };

        for (size_t i = 0; i < N_OPTIONS; i++)
                if (options[i].help)
                        suggest_consider(&suggestion, name, strcspn(name, "="), options[i].name);
        if (suggestion.word)
                return error_print(STATUS_USAGE, word, _("no such option; did you mean '--%s'?"), suggestion.word);
        return error_print(STATUS_USAGE, word, _("no such option; see 'loopmount --help'"));
}

/*
 * After getopt_long() returned '?' or ':'. What is wrong stands in front of
 * optind, except for a letter among others: only optopt has that. An option that
 * exists was given an argument with "=".
 */
static int complain(int result, char **argv)
{
        char letter[] = { '-', (char)optopt, 0 };
        const char *word = argv[optind - 1];

        if (result == ':')
                return error_print(STATUS_USAGE, word, _("needs an argument; see 'loopmount --help'"));
        if (optopt == 0)
                return complain_of_option(word);
        if (find_option(optopt) < N_OPTIONS)
                return error_print(STATUS_USAGE, word, _("takes no argument; see 'loopmount --help'"));
        return error_print(STATUS_USAGE, letter, _("no such option; see 'loopmount --help'"));
}

static int check_operands(const Settings *settings, uint32_t given)
{
        const Verb *verb = settings->verb;

        for (size_t i = 0; i < N_OPTIONS; i++)
                if ((given & (UINT32_C(1) << i)) && !(options[i].verbs & verb->bit))
                        return error_print(STATUS_USAGE, verb->name,
                                           _("--%s means nothing here; see 'loopmount %s --help'"), options[i].name,
                                           verb->name);
        if (settings->help || settings->version)
                return STATUS_OK;
        if (settings->read_only && settings->writable)
                return error_print(STATUS_USAGE, verb->name, _("--read-only and --writable exclude each other"));
        if (verb->bit == VERB_WITH && (!settings->command || !settings->command[0]))
                return error_print(STATUS_USAGE, verb->name, _("which command? Usage: loopmount with %s"),
                                   verb->operands);
        if (settings->n_operands < verb->min_operands)
                return error_print(STATUS_USAGE, verb->name,
                                   verb->bit & (VERB_ATTACH | VERB_OPEN | VERB_WITH)
                                           ? _("which image? See 'loopmount %s --help'")
                                           : _("which target? See 'loopmount %s --help'"),
                                   verb->name);
        if (settings->n_operands > verb->max_operands)
                return error_print(STATUS_USAGE, settings->operands[verb->max_operands],
                                   _("one too many; see 'loopmount %s --help'"), verb->name);
        if (verb->bit == VERB_DETACH && settings->all == (settings->n_operands > 0))
                return error_print(STATUS_USAGE, verb->name, _("which target? Name some, or give --all"));
        return STATUS_OK;
}

static int keep_word(int id, const char *value, Settings *settings)
{
        const Option *option = &options[find_option(id)];
        char **more = reallocarray(settings->given, settings->n_given + 1, sizeof(char *));

        if (more)
                settings->given = more;
        if (!more || !(more[settings->n_given] =
                               text_printf("--%s%s%s", option->name, option->value ? "=" : "", strempty(value))))
                return error_print(STATUS_FAILED, NULL, "%s", strerror(ENOMEM));
        settings->n_given++;
        return STATUS_OK;
}

/* Reads the options; collects the operands and, by its index, each option that was there. */
static int read_arguments(int argc, char **argv, Settings *settings, uint32_t *ret_given)
{
        struct option long_options[N_OPTIONS + 1];
        char short_options[2 * N_OPTIONS + 3];
        uint32_t bit;
        int c, status;

        make_getopt_tables(long_options, short_options);
        opterr = 0;
        optind = 0; /* start anew */
        *ret_given = 0;
        while ((c = getopt_long(argc, argv, short_options, long_options, NULL)) >= 0) {
                if (c == '?' || c == ':')
                        return complain(c, argv);
                if (c == 1) {
                        settings->operands[settings->n_operands++] = optarg;
                        continue;
                }
                bit = UINT32_C(1) << find_option(c);
                status = apply_option(c, optarg, *ret_given & bit, settings);
                if (status == STATUS_OK)
                        status = keep_word(c, optarg, settings);
                if (status != STATUS_OK)
                        return status;
                *ret_given |= bit;
        }
        return STATUS_OK;
}

/* A word with a slash is a path, also if there is no such file: "attach" then reports the missing file. */
static bool is_file(const char *word)
{
        return strchr(word, '/') || access(word, F_OK) == 0;
}

static int read_verb(char **argv, Settings *settings)
{
        bool ended = optind > 1 && streq(argv[optind - 1], "--");

        /* "loopmount -- list": the verb may follow, but "with" has its command there. */
        if (settings->n_operands > 0 && streq(settings->operands[0], "with")) {
                settings->command = ended ? argv + optind : NULL;
        } else
                while (argv[optind])
                        settings->operands[settings->n_operands++] = argv[optind++];

        if (settings->n_operands == 0)
                return error_print(STATUS_USAGE, NULL, _("what to do? See 'loopmount --help'"));
        settings->verb = verb_find(settings->operands[0]);
        if (!settings->verb && is_file(settings->operands[0])) {
                settings->verb = verb_find("attach");
                return STATUS_OK;
        }
        if (!settings->verb)
                return verb_complain(settings->operands[0]);
        settings->operands++;
        settings->n_operands--;
        return STATUS_OK;
}

int options_parse(int argc, char **argv, Settings *ret)
{
        uint32_t given;
        int status;

        *ret = (Settings){ 0 };
        ret->all_operands = calloc(argc + 1, sizeof(char *));
        ret->operands = ret->all_operands;
        if (!ret->operands)
                return error_print(STATUS_FAILED, NULL, "%s", strerror(ENOMEM));

        status = read_arguments(argc, argv, ret, &given);
        if (status != STATUS_OK)
                return status;
        if ((ret->help || ret->version) && ret->n_operands == 0)
                return STATUS_OK;
        status = read_verb(argv, ret);
        if (status != STATUS_OK)
                return status;
        return check_operands(ret, given);
}

void settings_clear(Settings *settings)
{
        for (size_t i = 0; i < settings->n_given; i++)
                free(settings->given[i]);
        free(settings->given);
        free(settings->all_operands);
        free(settings->volumes);
        free(settings->mount_options);
        *settings = (Settings){ 0 };
}

static void print_option(const Option *option)
{
        char left[64];

        snprintf(left, sizeof(left), "%c%c%c --%s%s%s", option->id <= UINT8_MAX ? '-' : ' ',
                 option->id <= UINT8_MAX ? option->id : ' ', option->id <= UINT8_MAX ? ',' : ' ', option->name,
                 option->value ? "=" : "", strempty(option->value));
        printf("  %-30s %s\n", left, _(option->help));
}

static void print_verb_help(const Verb *verb)
{
        printf(_("Usage: loopmount %s [OPTION...] %s\n\nTo %s.\n"), verb->name, verb->operands, _(verb->summary));
        if (verb->details)
                printf("\n%s", _(verb->details));
        if (strstr(verb->operands, "TARGET"))
                fputs(_("\nTARGET is an image file, a mount point, a device (/dev/loop3, /dev/loop3p1) or an\n"
                        "id as 'loopmount list' shows it. A word that names an existing file is that\n"
                        "file; id:WORD is the id in any case.\n"),
                      stdout);
        fputs(_("\nOptions:\n"), stdout);
        for (size_t i = 0; i < N_OPTIONS; i++)
                if (options[i].verbs & verb->bit && options[i].help)
                        print_option(&options[i]);
}

void options_print_help(const Verb *verb)
{
        if (verb) {
                print_verb_help(verb);
                return;
        }
        fputs(_("Usage: loopmount [OPTION...] VERB ...\n\nTurns disk images into mounted file systems.\n\nVerbs:\n"),
              stdout);
        for (const Verb *v = verbs; v->name; v++) {
                char left[64];
                snprintf(left, sizeof(left), "%s %s", v->name, v->operands);
                printf("  %-30s %s\n", left, _(v->summary));
        }
        fputs(_("\nOptions ('loopmount VERB --help' shows which of them a verb takes):\n"), stdout);
        for (size_t i = 0; i < N_OPTIONS; i++)
                if (options[i].help)
                        print_option(&options[i]);
        fputs(_("\n'loopmount IMAGE...' attaches, too; ls and status list, umount unmounts, eject\n"
                "detaches.\n"),
              stdout);
        fputs(_("\nTARGET is an image file, a mount point, a device or an id. A SIZE is in bytes, or\n"
                "has a suffix: K, M, G (powers of 1024; also KiB ...), KB, MB, GB (of 1000) or s\n"
                "(sectors of 512 bytes). 0x400 is hexadecimal.\n"),
              stdout);
        fputs(_("\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 not authorised, 4 busy or attached\n"
                "already, 5 not found or not mounted, 6 bad or unsupported image, 7 the daemon\n"
                "cannot be reached. See loopmount(1).\n"),
              stdout);
}
