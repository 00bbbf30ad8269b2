/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-filesystem-options TYPE DEVICE: tries the defaults and every option of
 * TYPE's table row on the running kernel, read-only and (where the type can)
 * writable, on a file system of that type in DEVICE. Each mount is detached and
 * goes at once. TAP on stdout; needs root. An option that came with a later
 * kernel must be refused by an older one: then its row says so rightly.
 *
 * Block sizes and the like that do not fit the sample must not be tried on it:
 * of a rule, the first word (or the example) is tried for real, and the further
 * words up to the parser of the driver only (fsconfig without CREATE).
 */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/utsname.h>

#include "mechanism/filesystem.h"

static unsigned n_tests, n_failed;

static void report(bool ok, const char *what, const char *options, int r, const char *words)
{
        n_tests++;
        n_failed += !ok;
        printf("%s %u - %s \"%s\": %s%s%s\n", ok ? "ok" : "not ok", n_tests, what, options,
               r < 0 ? strerror(-r) : "done", *words ? ": " : "", words);
}

static unsigned kernel_version(void)
{
        struct utsname name;
        unsigned major = 0, minor = 0;

        if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
                return 0;
        return major << 8 | minor;
}

static int set(int fd, const char *key, const char *value)
{
        int r = fsconfig(fd, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0);

        return r < 0 ? -errno : 0;
}

static void read_words(int fd, char *words, size_t size)
{
        ssize_t n;

        for (*words = '\0'; (n = read(fd, words, size - 1)) >= 0;)
                words[n] = '\0';
        words[strcspn(words, "\n")] = '\0';
}

static int try_mount(const FilesystemType *type, const char *device, const FilesystemOptions *options, bool create,
                     char *words, size_t size)
{
        _cleanup_close_ int fd = fsopen(filesystem_driver(type), FSOPEN_CLOEXEC), mount_fd = -1;
        int r;

        if (fd < 0)
                return -errno;

        r = set(fd, "source", device);
        if (r >= 0 && options->read_only)
                r = set(fd, "ro", NULL);
        for (size_t i = 0; r >= 0 && i < options->n_items; i++)
                r = set(fd, options->items[i].key, options->items[i].value);
        if (r >= 0 && create && fsconfig(fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                r = -errno;
        if (r >= 0 && create) {
                mount_fd = fsmount(fd, FSMOUNT_CLOEXEC, (unsigned)options->attributes);
                r = mount_fd < 0 ? -errno : 0;
        }
        if (r < 0)
                read_words(fd, words, size);
        return r;
}

static void try_options(const FilesystemType *type, const char *device, bool read_only, const char *list, bool create,
                        unsigned since)
{
        FilesystemRequest request = {
                .read_only = read_only, .allow_exec = true, .uid = 1000, .gid = 1000, .configured = list
        };
        _cleanup_free_ char *offender = NULL;
        FilesystemOptions options = { 0 };
        bool known = kernel_version() >= since;
        char words[256] = "";
        int r;

        r = filesystem_options(type, &request, &options, &offender);
        if (r >= 0)
                r = try_mount(type, device, &options, create, words, sizeof(words));
        filesystem_options_done(&options);
        report(known ? r >= 0 : r < 0, read_only ? "read-only" : "writable", list, r, words);
}

static void try_word(const FilesystemType *type, const char *device, bool read_only, const FilesystemRule *rule,
                     const char *word, size_t length, bool create)
{
        char list[128];

        snprintf(list, sizeof(list), length > 0 ? "%s=%.*s" : "%s", rule->name, (int)length, word);
        try_options(type, device, read_only, list, create, rule->since);
}

static void try_rule(const FilesystemType *type, const char *device, bool read_only, const FilesystemRule *rule)
{
        switch (rule->value) {
        case FILESYSTEM_VALUE_NONE:
                try_word(type, device, read_only, rule, "", 0, true);
                break;
        case FILESYSTEM_VALUE_UID:
        case FILESYSTEM_VALUE_GID:
                try_word(type, device, read_only, rule, "1000", 4, true);
                break;
        case FILESYSTEM_VALUE_OCTAL:
                try_word(type, device, read_only, rule, "0022", 4, true);
                break;
        case FILESYSTEM_VALUE_WORD:
                if (rule->value_may_be_missing)
                        try_word(type, device, read_only, rule, "", 0, true);
                for (const char *p = rule->words; *p; p += strspn(p, " ")) {
                        try_word(type, device, read_only, rule, p, strcspn(p, " "), p == rule->words);
                        p += strcspn(p, " ");
                }
                break;
        case FILESYSTEM_VALUE_NUMBER:
        case FILESYSTEM_VALUE_CHARSET:
        case FILESYSTEM_VALUE_CODEPAGE:
        case FILESYSTEM_VALUE_PATH:
                try_word(type, device, read_only, rule, rule->example, strlen(rule->example), true);
                break;
        }
}

int main(int argc, char *argv[])
{
        const FilesystemType *type = argc == 3 ? filesystem_find(argv[1]) : NULL;

        if (!type) {
                fprintf(stderr, "usage: %s TYPE DEVICE\n", argv[0]);
                return 2;
        }

        for (int read_only = 1; read_only >= filesystem_is_read_only(type); read_only--) {
                const FilesystemRule *rule;

                try_options(type, argv[2], read_only, "", true, 0);
                try_options(type, argv[2], read_only, "noatime,nodiratime,noexec,nosymfollow,sync,dirsync", true, 0);
                try_options(type, argv[2], read_only, "defaults,user,strictatime,lazytime,async,loop", true, 0);
                for (size_t i = 0; (rule = filesystem_rule_nth(type, i)); i++)
                        if (!(read_only ? rule->needs_writable : rule->needs_read_only))
                                try_rule(type, argv[2], read_only, rule);
        }
        printf("1..%u\n", n_tests);
        return n_failed > 0;
}
