/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot REPORTS: what is there, as sorted lines of text: loop devices, mounts,
 * folders, files of the daemon, lines of utab, processes, reports of sanitizers
 * (files in REPORTS). Nothing of it may be there after a test that was not there
 * before. A program of its own, since it runs before and after each test, and
 * every process that a shell would start costs some 20 ms in the guest.
 */
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <ftw.h>
#include <glob.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char **lines;
static size_t n_lines;

static void add(const char *format, ...)
{
        va_list arguments;
        char *line;

        va_start(arguments, format);
        if (vasprintf(&line, format, arguments) < 0)
                err(1, "no memory");
        va_end(arguments);
        lines = reallocarray(lines, n_lines + 1, sizeof(char *));
        if (!lines)
                err(1, "no memory");
        lines[n_lines++] = line;
}

static int compare(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The first line of a file; NULL: there is none. Valid until the next call. */
static char *read_line(const char *path)
{
        static char line[8192];
        FILE *f = fopen(path, "re");
        char *text = f ? fgets(line, sizeof(line), f) : NULL;

        if (f)
                fclose(f);
        if (text)
                text[strcspn(text, "\n")] = '\0';
        return text;
}

static bool begins(const char *text, const char *prefix)
{
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void add_loops(void)
{
        glob_t found;

        if (glob("/sys/block/loop*/loop/backing_file", 0, NULL, &found) != 0)
                return;
        for (size_t i = 0; i < found.gl_pathc; i++) {
                const char *file = read_line(found.gl_pathv[i]);

                if (file)
                        add("loop device %.*s: %s", (int)strcspn(found.gl_pathv[i] + 11, "/"), found.gl_pathv[i] + 11,
                            file);
        }
        globfree(&found);
}

static void add_mounts(void)
{
        FILE *f = fopen("/proc/self/mountinfo", "re");
        char *line = NULL;
        size_t size = 0;

        while (f && getline(&line, &size, f) > 0) {
                const char *tail = strstr(line, " - ");
                char point[4096], source[4096];

                if (tail && sscanf(line, "%*s %*s %*s %*s %4095s", point) == 1 &&
                    sscanf(tail, " - %*s %4095s", source) == 1 &&
                    (begins(point, "/run/media/") || begins(source, "/dev/loop") || begins(point, "/home/")))
                        add("mount at %s from %s", point, source);
        }
        free(line);
        if (f)
                fclose(f);
}

/* Not into what is mounted there. */
static void add_mount_points(void)
{
        glob_t found;

        if (glob("/run/media/*/*", GLOB_PERIOD, NULL, &found) != 0)
                return;
        for (size_t i = 0; i < found.gl_pathc; i++) {
                const char *name = strrchr(found.gl_pathv[i], '/') + 1;

                if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
                        add("folder %s", found.gl_pathv[i]);
        }
        globfree(&found);
}

static int add_file(const char *path, const struct stat *st, int type, struct FTW *where)
{
        (void)st, (void)type;
        if (where->level > 0)
                add("file %s", path);
        return 0;
}

static void add_utab(void)
{
        FILE *f = fopen("/run/mount/utab", "re");
        char *line = NULL;
        size_t size = 0;

        while (f && getline(&line, &size, f) > 0)
                add("utab: %.*s", (int)strcspn(line, "\n"), line);
        free(line);
        if (f)
                fclose(f);
}

static const char *user_name(uid_t uid)
{
        static const char *const people[] = { "ann", "bob", "adm1" };

        return uid >= 1000 && uid < 1003 ? people[uid - 1000] : uid == 0 ? "root" : "another user";
}

static bool is_one_of(const char *name, const char *const *names)
{
        for (; *names; names++)
                if (strcmp(name, *names) == 0)
                        return true;
        return false;
}

/* Of the users, all but their sessions; of root, what belongs to us. */
static bool is_of_interest(const char *name, int parent, uid_t uid)
{
        static const char *const sessions[] = { "systemd", "(sd-pam)", "bash", "dbus-daemon", NULL };
        static const char *const ours[] = { "loopmount",       "closer", "catcher", "pkttyagent",
                                            "polkit-agent-he", "busctl", NULL };
        static const char *const of_daemon[] = { "gate", "idle-catcher", NULL };

        /* The daemon itself may be there or not, with those that are always there with it; its other children may not.
         */
        if (strcmp(name, "loopmountd") == 0)
                return parent != 1;
        if (is_one_of(name, of_daemon))
                return parent == 1;
        if (is_one_of(name, sessions) || begins(name, "sshd"))
                return false;
        return is_one_of(name, ours) || begins(name, "umount") || (uid >= 1000 && uid < 1003);
}

static void add_process(const char *pid)
{
        char path[300], *line, *name, *end;
        struct stat st;
        int parent;

        snprintf(path, sizeof(path), "/proc/%s", pid);
        if (stat(path, &st) < 0)
                return;
        snprintf(path, sizeof(path), "/proc/%s/stat", pid);
        line = read_line(path);
        name = line ? strchr(line, '(') : NULL;
        end = line ? strrchr(line, ')') : NULL;
        if (!name || !end || sscanf(end, ") %*c %d", &parent) != 1)
                return;
        *end = '\0';
        if (is_of_interest(name + 1, parent, st.st_uid))
                add("process %s of %s", name + 1, user_name(st.st_uid));
}

static void add_processes(void)
{
        DIR *directory = opendir("/proc");
        struct dirent *entry;

        while (directory && (entry = readdir(directory)))
                if (isdigit((unsigned char)entry->d_name[0]))
                        add_process(entry->d_name);
        if (directory)
                closedir(directory);
}

int main(int argc, char **argv)
{
        if (argc != 2)
                errx(2, "usage: snapshot REPORTS");
        add_loops();
        add_mounts();
        add_mount_points();
        (void)nftw("/run/loopmount", add_file, 16, FTW_PHYS);
        (void)nftw("/etc/loopmount.conf.d", add_file, 16, FTW_PHYS);
        (void)nftw(argv[1], add_file, 16, FTW_PHYS);
        add_utab();
        add_processes();
        qsort(lines, n_lines, sizeof(char *), compare);
        for (size_t i = 0; i < n_lines; i++)
                puts(lines[i]);
        return 0;
}
