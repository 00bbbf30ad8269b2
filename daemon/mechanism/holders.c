/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads /proc/PID of every process for what it has on a mount or of a device.
 *
 * May block, so only for a child that has a deadline: the files looked at are
 * anybody's. It is made unlikely: of an open file the mount comes from fdinfo,
 * and where a file has to be asked (cwd, root, exe, mappings) it is statx(2) on
 * the magic link with AT_STATX_DONT_SYNC, which no server needs to answer.
 *
 * A mapping is found by map_files, not by the device number in maps: btrfs shows
 * another one there than to stat(2). That takes CAP_SYS_ADMIN, and others' fds
 * take CAP_SYS_PTRACE; what may not be read counts as not holding anything.
 *
 * Processes come and go while this runs. All is read below one descriptor of
 * /proc/PID, so a process that ends cannot be confused with the next of its number.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/text.h"
#include "mechanism/holders.h"

/* How many are named; the others are counted. */
#define NAMES_MAX 5U

typedef struct Search {
        const uint64_t *mount_ids;
        size_t n_mount_ids;
        const dev_t *devices;
        size_t n_devices;
} Search;

typedef bool (*CheckEntry)(const Search *search, int process_fd, int folder_fd, const char *name);

static void closedirp(DIR **dir)
{
        if (*dir)
                closedir(*dir);
}

static bool is_wanted_mount(const Search *search, uint64_t mount_id)
{
        for (size_t i = 0; i < search->n_mount_ids; i++)
                if (search->mount_ids[i] == mount_id)
                        return true;
        return false;
}

static bool is_wanted_device(const Search *search, dev_t device)
{
        for (size_t i = 0; i < search->n_devices; i++)
                if (search->devices[i] == device)
                        return true;
        return false;
}

/* Whether the link @name leads to a wanted mount or device. */
static bool check_link(const Search *search, int folder_fd, const char *name)
{
        struct statx stx;

        if (statx(folder_fd, name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID, &stx) < 0)
                return false;
        if ((stx.stx_mask & STATX_MNT_ID) && is_wanted_mount(search, stx.stx_mnt_id))
                return true;
        return S_ISBLK(stx.stx_mode) && is_wanted_device(search, makedev(stx.stx_rdev_major, stx.stx_rdev_minor));
}

static bool check_mapping(const Search *search, int process_fd, int folder_fd, const char *name)
{
        (void)process_fd;
        return check_link(search, folder_fd, name);
}

/* Reads a small file of /proc, cut to what fits. */
static bool read_text(int folder_fd, const char *name, char *buffer, size_t size)
{
        _cleanup_close_ int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        n = fd < 0 ? -1 : read(fd, buffer, size - 1);
        if (n < 0)
                return false;
        buffer[n] = '\0';
        return true;
}

/* The number behind the @key that begins a line of @text. */
static bool find_number(const char *text, const char *key, uint64_t *ret)
{
        for (const char *line = text; line; line = strchr(line, '\n')) {
                line += *line == '\n';
                if (strncmp(line, key, strlen(key)) == 0)
                        return sscanf(line + strlen(key), "%" SCNu64, ret) == 1;
        }
        return false;
}

static bool check_fd(const Search *search, int process_fd, int folder_fd, const char *name)
{
        char path[sizeof("fdinfo/") + NAME_MAX], text[512], target[sizeof("/dev/") - 1];
        uint64_t mount_id;

        if (search->n_mount_ids > 0) {
                snprintf(path, sizeof(path), "fdinfo/%s", name);
                if (read_text(process_fd, path, text, sizeof(text)) && find_number(text, "mnt_id:", &mount_id) &&
                    is_wanted_mount(search, mount_id))
                        return true;
        }

        /* Only what is called /dev/... is asked what it is: any other file could be on a server that is gone. */
        if (search->n_devices == 0 || readlinkat(folder_fd, name, target, sizeof(target)) < (ssize_t)sizeof(target) ||
            memcmp(target, "/dev/", sizeof(target)) != 0)
                return false;
        return check_link(search, folder_fd, name);
}

static bool check_folder(const Search *search, int process_fd, const char *name, CheckEntry check)
{
        _cleanup_(closedirp) DIR *dir = NULL;
        struct dirent *entry;
        int fd;

        fd = openat(process_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return false;
        dir = fdopendir(fd);
        if (!dir) {
                safe_close(fd);
                return false;
        }

        while ((entry = readdir(dir)))
                if (entry->d_name[0] != '.' && check(search, process_fd, fd, entry->d_name))
                        return true;
        return false;
}

static bool check_process(const Search *search, int process_fd)
{
        char target;

        if (readlinkat(process_fd, "exe", &target, 1) < 0 && errno == ENOENT) /* a kernel thread */
                return false;

        return check_link(search, process_fd, "cwd") || check_link(search, process_fd, "root") ||
               check_link(search, process_fd, "exe") || check_folder(search, process_fd, "fd", check_fd) ||
               check_folder(search, process_fd, "map_files", check_mapping);
}

/* False if it has ended meanwhile. */
static bool describe_process(int process_fd, pid_t pid, Holder *ret)
{
        char status[1024], comm[sizeof(ret->name)];
        uint64_t uid;

        if (!read_text(process_fd, "status", status, sizeof(status)) || !find_number(status, "Uid:", &uid) ||
            !read_text(process_fd, "comm", comm, sizeof(comm)))
                return false;

        *ret = (Holder){ .pid = pid, .uid = (uid_t)uid };
        comm[MAX(strlen(comm), 1U) - 1] = '\0'; /* the newline at its end */
        memcpy(ret->name, comm, strlen(comm));
        return true;
}

static int append(Holder **holders, size_t *n_holders, const Holder *holder)
{
        Holder *longer = reallocarray(*holders, *n_holders + 1, sizeof(Holder));

        if (!longer)
                return -ENOMEM;
        longer[(*n_holders)++] = *holder;
        *holders = longer;
        return 0;
}

int holders_find(const uint64_t *mount_ids, size_t n_mount_ids, const dev_t *devices, size_t n_devices, size_t max,
                 Holder **ret_holders, size_t *ret_n_holders)
{
        const Search search = { mount_ids, n_mount_ids, devices, n_devices };
        _cleanup_(closedirp) DIR *proc = opendir("/proc");
        _cleanup_free_ Holder *holders = NULL;
        struct dirent *entry;
        size_t n_holders = 0;
        int r;

        if (!proc)
                return -errno;

        while (n_holders < max && (entry = readdir(proc))) {
                _cleanup_close_ int process_fd = -1;
                Holder holder;
                uint64_t pid;

                if (text_parse_uint(entry->d_name, INT32_MAX, &pid) < 0 || (pid_t)pid == getpid() ||
                    (pid_t)pid == getppid())
                        continue;
                process_fd = openat(dirfd(proc), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (process_fd < 0 || !check_process(&search, process_fd) ||
                    !describe_process(process_fd, (pid_t)pid, &holder))
                        continue;
                r = append(&holders, &n_holders, &holder);
                if (r < 0)
                        return r;
        }

        *ret_holders = TAKE_PTR(holders);
        *ret_n_holders = n_holders;
        return 0;
}

static bool is_shown(const Holder *holder, uid_t uid)
{
        return uid == 0 || holder->uid == uid;
}

/* Adds "NAME (pid N)" to @text, with what has to stand before it. Takes @text; NULL when out of memory. */
static char *add_name(char *text, const char *separator, const Holder *holder)
{
        _cleanup_free_ char *before = text, *name = text_escape(holder->name, strlen(holder->name));

        if (!before || !name)
                return NULL;
        return text_printf("%s%s%s (pid %d)", before, separator, name, (int)holder->pid);
}

static char *add_count(char *text, const char *separator, size_t n, const char *what)
{
        _cleanup_free_ char *before = text;

        return before ? text_printf("%s%s%zu %s", before, separator, n, what) : NULL;
}

char *holders_describe(const Holder *holders, size_t n_holders, uid_t uid)
{
        size_t n_shown = 0, n_others, done = 0;
        char *text = strdup("");

        for (size_t i = 0; i < n_holders; i++)
                n_shown += is_shown(holders + i, uid);
        n_others = n_holders - n_shown;

        for (size_t i = 0; i < n_holders && done < NAMES_MAX && text; i++)
                if (is_shown(holders + i, uid)) {
                        bool last = ++done == n_shown && n_others == 0;

                        text = add_name(text, done == 1 ? "" : last ? " and " : ", ", holders + i);
                }
        if (n_shown > done)
                text = add_count(text, n_others > 0 ? ", " : " and ", n_shown - done, "more");
        if (n_others > 0)
                text = add_count(text, n_shown > 0 ? " and " : "", n_others,
                                 n_others == 1 ? "process of another user" : "processes of other users");
        return text;
}
