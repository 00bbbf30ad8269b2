/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Credentials are changed with the bare system calls: glibc's functions change
 * those of all threads, and GDBus has threads of its own.
 */
#include "lib/user.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void must(long result, const char *what)
{
        if (result < 0)
                g_error("%s: %s", what, g_strerror(errno));
}

void test_become(uid_t uid)
{
        gid_t gid = (gid_t)uid;

        /* Back to root first: only root may become somebody. The saved uid stays 0 for that. */
        must(syscall(SYS_setresuid, 0, 0, 0), "setresuid");
        must(syscall(SYS_setresgid, gid, gid, 0), "setresgid");
        must(syscall(SYS_setgroups, 1, &gid), "setgroups");
        must(syscall(SYS_setresuid, uid, uid, 0), "setresuid");
}

static int open_as(uid_t uid, const char *path, int flags)
{
        test_become(uid);
        int fd = open(path, flags | O_CLOEXEC, 0600);
        int result = fd < 0 ? -errno : fd;
        test_become(TEST_ROOT);
        return result;
}

int test_open_as(uid_t uid, const char *path, int flags)
{
        int fd = open_as(uid, path, flags);
        if (fd < 0)
                g_error("open %s as %u: %s", path, uid, g_strerror(-fd));
        return fd;
}

int test_open_errno_as(uid_t uid, const char *path, int flags)
{
        int fd = open_as(uid, path, flags);
        if (fd < 0)
                return -fd;
        close(fd);
        return 0;
}

char *test_read_as(uid_t uid, const char *path)
{
        _cleanup_close_ int fd = test_open_as(uid, path, O_RDONLY);
        GString *text = g_string_new(NULL);
        char buffer[4096];
        ssize_t n;

        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                g_string_append_len(text, buffer, n);
        if (n < 0)
                g_error("read %s: %s", path, g_strerror(errno));
        return g_string_free(text, FALSE);
}

int test_write_as(uid_t uid, const char *path, const char *text)
{
        _cleanup_close_ int fd = open_as(uid, path, O_WRONLY | O_CREAT | O_TRUNC);
        if (fd < 0) {
                int error = -fd;
                fd = -1;
                return error;
        }
        return write(fd, text, strlen(text)) < 0 ? errno : 0;
}

/* Between fork and exec: the whole, single-threaded, child becomes the user for good. */
static void become_child(gpointer userdata)
{
        uid_t uid = (uid_t)GPOINTER_TO_UINT(userdata);
        gid_t gid = (gid_t)uid;

        if (syscall(SYS_setgroups, 1, &gid) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
            syscall(SYS_setresuid, uid, uid, uid) < 0)
                _exit(127);
}

int test_run_as(uid_t uid, const char *const *argv, char **ret_stdout, char **ret_stderr)
{
        g_autoptr(GError) error = NULL;
        int status;

        /* The child starts in a directory that everybody may enter. */
        if (!g_spawn_sync("/", (char **)argv, NULL, G_SPAWN_SEARCH_PATH, become_child, GUINT_TO_POINTER(uid),
                          ret_stdout, ret_stderr, &status, &error))
                g_error("%s: %s", argv[0], error->message);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
