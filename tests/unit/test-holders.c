/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs as any user, with children of its own that hold the mount of /proc. That is
 * the only mount that is there wherever holders can be found: in a plain chroot,
 * as some packages are built in, /sys is a folder of the root file system, which
 * every process holds. What takes root (mappings, other users, devices) is in
 * tests/integration/test-holders-root.c.
 */
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "mechanism/holders.h"

typedef enum Way {
        WAY_NONE,
        WAY_FILE,
        WAY_PATH,
        WAY_FOLDER,
} Way;

static uint64_t mount_of(const char *path)
{
        struct statx stx;

        g_assert_cmpint(statx(AT_FDCWD, path, 0, STATX_MNT_ID, &stx), ==, 0);
        g_assert_true(stx.stx_mask & STATX_MNT_ID);
        return stx.stx_mnt_id;
}

/* A child that holds /proc in some way until it is killed. */
static pid_t start(Way way, const char *name)
{
        int ready[2];
        char byte;
        pid_t pid;

        g_assert_cmpint(pipe(ready), ==, 0);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                prctl(PR_SET_NAME, name);
                if ((way == WAY_FILE && open("/proc/self", O_RDONLY | O_DIRECTORY) < 0) ||
                    (way == WAY_PATH && open("/proc", O_PATH) < 0) || (way == WAY_FOLDER && chdir("/proc/self") < 0))
                        _exit(1);
                if (write(ready[1], "", 1) != 1)
                        _exit(1);
                for (;;)
                        pause();
        }
        close(ready[1]);
        g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
        close(ready[0]);
        return pid;
}

static void stop(pid_t pid)
{
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

/* The holder @pid of @mount_id, copied to *ret; false if it is none. */
static bool find(uint64_t mount_id, pid_t pid, Holder *ret)
{
        _cleanup_free_ Holder *holders = NULL;
        size_t n_holders = 0;

        g_assert_cmpint(holders_find(&mount_id, 1, NULL, 0, SIZE_MAX, &holders, &n_holders), ==, 0);
        for (size_t i = 0; i < n_holders; i++)
                if (holders[i].pid == pid) {
                        *ret = holders[i];
                        return true;
                }
        return false;
}

static void test_ways(void)
{
        uint64_t proc = mount_of("/proc");
        Holder holder;

        for (Way way = WAY_NONE; way <= WAY_FOLDER; way++) {
                pid_t pid = start(way, "holder");
                bool found = find(proc, pid, &holder);

                stop(pid);
                g_test_message("way %d", way);
                g_assert_true(found == (way != WAY_NONE));
                if (found) {
                        g_assert_cmpuint(holder.uid, ==, getuid());
                        g_assert_cmpstr(holder.name, ==, "holder");
                }
        }
}

static void test_not_self(void)
{
        _cleanup_close_ int fd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        uint64_t proc = mount_of("/proc");
        Holder holder;

        g_assert_cmpint(fd, >=, 0);
        g_assert_false(find(proc, getpid(), &holder));
        g_assert_false(find(mount_of("/"), getppid(), &holder));
}

static void test_zombie(void)
{
        uint64_t proc = mount_of("/proc");
        pid_t pid = start(WAY_FILE, "holder");
        siginfo_t info;
        Holder holder;

        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        g_assert_cmpint(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), ==, 0);
        g_assert_false(find(proc, pid, &holder));
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

static void test_max(void)
{
        _cleanup_free_ Holder *holders = NULL, *none = NULL;
        uint64_t proc = mount_of("/proc");
        pid_t pids[3];
        size_t n = 9;

        for (size_t i = 0; i < ELEMENTSOF(pids); i++)
                pids[i] = start(WAY_FILE, "holder");
        g_assert_cmpint(holders_find(&proc, 1, NULL, 0, 2, &holders, &n), ==, 0);
        g_assert_cmpuint(n, ==, 2);
        g_assert_cmpint(holders_find(&proc, 1, NULL, 0, 0, &none, &n), ==, 0);
        g_assert_cmpuint(n, ==, 0);
        for (size_t i = 0; i < ELEMENTSOF(pids); i++)
                stop(pids[i]);
}

static void test_nothing_wanted(void)
{
        _cleanup_free_ Holder *holders = NULL;
        size_t n = 9;

        g_assert_cmpint(holders_find(NULL, 0, NULL, 0, SIZE_MAX, &holders, &n), ==, 0);
        g_assert_cmpuint(n, ==, 0);
}

static void test_hostile_name(void)
{
        uint64_t proc = mount_of("/proc");
        pid_t pid = start(WAY_FILE, "\x1b[2J%n\n\xff x");
        _cleanup_free_ char *text = NULL;
        g_autofree char *wanted = g_strdup_printf("\\x1b[2J%%n\\x0a\\xff x (pid %d)", (int)pid);
        Holder holder;
        bool found = find(proc, pid, &holder);

        stop(pid);
        g_assert_true(found);
        text = holders_describe(&holder, 1, getuid());
        g_assert_cmpstr(text, ==, wanted);
}

static void assert_described(const Holder *holders, size_t n, uid_t uid, const char *wanted)
{
        _cleanup_free_ char *text = holders_describe(holders, n, uid);

        g_assert_cmpstr(text, ==, wanted);
}

static void test_describe(void)
{
        const Holder holders[] = {
                { 123, 1000, "vim" },
                { 124, 1000, "bash" },
                { 7, 0, "secret" },
                { 8, 1001, "other" },
        };

        assert_described(NULL, 0, 1000, "");
        assert_described(holders, 1, 1000, "vim (pid 123)");
        assert_described(holders, 2, 1000, "vim (pid 123) and bash (pid 124)");
        assert_described(holders, 3, 1000, "vim (pid 123), bash (pid 124) and 1 process of another user");
        assert_described(holders, 4, 1000, "vim (pid 123), bash (pid 124) and 2 processes of other users");
        assert_described(holders + 1, 3, 1000, "bash (pid 124) and 2 processes of other users");
        assert_described(holders + 2, 1, 1000, "1 process of another user");
        assert_described(holders, 4, 1002, "4 processes of other users");
        assert_described(holders, 4, 0, "vim (pid 123), bash (pid 124), secret (pid 7) and other (pid 8)");
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/holders/ways", test_ways);
        g_test_add_func("/holders/not-self", test_not_self);
        g_test_add_func("/holders/zombie", test_zombie);
        g_test_add_func("/holders/max", test_max);
        g_test_add_func("/holders/nothing-wanted", test_nothing_wanted);
        g_test_add_func("/holders/hostile-name", test_hostile_name);
        g_test_add_func("/holders/describe", test_describe);
        return g_test_run();
}
