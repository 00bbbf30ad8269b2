/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Linux has credentials per thread, and both the opening of a file and connect(2)
 * look at those of the calling one. So a thread becomes the user for good, acts,
 * and ends. The bare system calls are used: glibc's functions change all threads.
 */
#include "lib/user.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void must(long result, const char *what)
{
        if (result < 0)
                g_error("%s: %s", what, g_strerror(errno));
}

typedef struct Deed {
        uid_t uid;
        TestAction action;
        gpointer userdata;
} Deed;

static gpointer run_thread(gpointer userdata)
{
        Deed *deed = userdata;
        gid_t gid = (gid_t)deed->uid;

        must(syscall(SYS_setgroups, 1, &gid), "setgroups");
        must(syscall(SYS_setresgid, gid, gid, gid), "setresgid");
        must(syscall(SYS_setresuid, deed->uid, deed->uid, deed->uid), "setresuid");
        deed->action(deed->userdata);
        return NULL;
}

void test_do_as(uid_t uid, TestAction action, gpointer userdata)
{
        Deed deed = { uid, action, userdata };

        if (uid == TEST_ROOT)
                action(userdata);
        else
                g_thread_join(g_thread_new("as-user", run_thread, &deed));
}

typedef struct Opening {
        const char *path;
        int flags;
        int result; /* fd or -errno */
} Opening;

static void do_open(gpointer userdata)
{
        Opening *opening = userdata;
        int fd = open(opening->path, opening->flags | O_CLOEXEC, 0600);
        opening->result = fd < 0 ? -errno : fd;
}

static int open_as(uid_t uid, const char *path, int flags)
{
        Opening opening = { .path = path, .flags = flags };
        test_do_as(uid, do_open, &opening);
        return opening.result;
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

GPid test_pin_mounts(uid_t uid)
{
        const char *const argv[] = { "unshare", "-Urm", "sh", "-c", "echo; exec sleep 600", NULL };
        g_autoptr(GError) error = NULL;
        GPid pid;
        char byte;
        int output;

        if (!g_spawn_async_with_pipes("/", (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                                      become_child, GUINT_TO_POINTER(uid), &pid, NULL, &output, NULL, &error))
                g_error("unshare: %s", error->message);
        if (read(output, &byte, 1) != 1)
                g_error("unshare has ended");
        close(output);
        return pid;
}

void test_unpin_mounts(GPid pid)
{
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        g_spawn_close_pid(pid);
}
