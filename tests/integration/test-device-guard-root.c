/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guard by itself: whoever has a pass reaches the one device of that pass, and
 * nobody else notices anything. The devices need not exist: the kernel asks about a
 * node's number before it looks for the device (ENXIO).
 */
#include <fcntl.h>
#include <glib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "mechanism/device-guard.h"

/* Of a major number for experiments: there are none. */
#define DEVICE(n) makedev(60, (n))

static int open_device(dev_t device)
{
        char path[32];
        int fd;

        snprintf(path, sizeof(path), "/node-%u", minor(device));
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        close(fd);
        return 0;
}

static bool is_reachable(dev_t device)
{
        int r = open_device(device);

        g_assert_true(r == -ENXIO || r == -EPERM);
        return r == -ENXIO;
}

/* As mount_isolate() does: a root directory with nothing in it but nodes. */
static void isolate(void)
{
        g_autofree char *folder = g_build_filename(g_getenv("LOOPMOUNT_TEST_DIR"), "guard-XXXXXX", NULL);

        g_assert_nonnull(g_mkdtemp(folder));
        g_assert_cmpint(mount("tmpfs", folder, "tmpfs", 0, NULL), ==, 0);
        for (unsigned n = 0; n < 4; n++) {
                g_autofree char *path = g_strdup_printf("%s/node-%u", folder, minor(DEVICE(n)));
                g_assert_cmpint(mknod(path, S_IFBLK | 0600, DEVICE(n)), ==, 0);
        }
        g_assert_cmpint(chroot(folder), ==, 0);
        g_assert_cmpint(chdir("/"), ==, 0);
}

typedef void (*Child)(const int *fds, gid_t pass, int order);

/* A process with the descriptors of the guard that waits for orders. */
static pid_t start(Child child, gid_t pass, int *ret_order)
{
        int fds[DEVICE_GUARD_FDS], order[2];
        pid_t pid;

        device_guard_get_fds(fds);
        g_assert_cmpint(pipe2(order, O_CLOEXEC), ==, 0);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                close(order[1]);
                child(fds, pass, order[0]);
                _exit(0);
        }
        close(order[0]);
        *ret_order = order[1];
        return pid;
}

static void wait_for_order(int order)
{
        char byte;

        g_assert_cmpint(read(order, &byte, 1), >=, 0);
}

static void finish(pid_t pid, int order)
{
        int status;

        close(order);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
}

static void run(Child child, gid_t pass)
{
        int order;
        pid_t pid = start(child, pass, &order);

        finish(pid, order);
}

static gid_t new_pass(void)
{
        gid_t pass = device_guard_new_pass();

        g_assert_cmpuint(pass, !=, 0);
        return pass;
}

/* ---- one process ---- */

static void check_alone(const int *fds, gid_t pass, int order)
{
        (void)order;
        isolate();
        g_assert_cmpint(device_guard_enter(fds, pass, DEVICE(0)), ==, 0);
        g_assert_true(is_reachable(DEVICE(0)));
        g_assert_false(is_reachable(DEVICE(1)));
        g_assert_cmpint(mknod("/other", S_IFBLK | 0600, DEVICE(1)), ==, -1);
        g_assert_cmpint(errno, ==, EPERM);
        g_assert_cmpint(mknod("/null", S_IFCHR | 0600, makedev(1, 3)), ==, 0);
        g_assert_cmpuint(getegid(), ==, 0);

        /* The next volume. */
        g_assert_cmpint(device_guard_enter(fds, pass, DEVICE(1)), ==, 0);
        g_assert_true(is_reachable(DEVICE(1)));
        g_assert_false(is_reachable(DEVICE(0)));

        g_assert_cmpint(device_guard_leave(), ==, 0);
        g_assert_cmpuint(getgid(), ==, 0);
        g_assert_true(is_reachable(DEVICE(2)));
}

static void test_alone(void)
{
        gid_t pass = new_pass();

        run(check_alone, pass);
        device_guard_drop_pass(pass);
}

/* ---- two at once ---- */

static void enter_and_wait(const int *fds, gid_t pass, int order)
{
        isolate();
        g_assert_cmpint(device_guard_enter(fds, pass, DEVICE(2)), ==, 0);
        wait_for_order(order);
        g_assert_true(is_reachable(DEVICE(2)));
        g_assert_false(is_reachable(DEVICE(0)));
}

static void test_two(void)
{
        gid_t first = new_pass(), second = new_pass();
        int order;
        pid_t pid = start(enter_and_wait, first, &order);

        g_assert_cmpuint(first, !=, second);
        run(check_alone, second);
        device_guard_drop_pass(second);
        finish(pid, order);
        device_guard_drop_pass(first);
}

/* ---- a pass that is taken away ---- */

static void lose(const int *fds, gid_t pass, int order)
{
        isolate();
        g_assert_cmpint(device_guard_enter(fds, pass, DEVICE(0)), ==, 0);
        g_assert_true(is_reachable(DEVICE(0)));
        device_guard_drop_pass(pass);
        g_assert_false(is_reachable(DEVICE(0)));
        (void)order;
}

static void test_dropped(void)
{
        run(lose, new_pass());
}

/* ---- another daemon, whose passes are none of this one's ---- */

static void live_under_two(const int *fds, gid_t pass, int order)
{
        int others[DEVICE_GUARD_FDS];

        for (unsigned i = 0; device_guard_new_pass() >> 16 == pass >> 16; i++)
                g_assert_cmpuint(i, <, 0x10000);
        device_guard_get_fds(others);
        isolate();
        g_assert_cmpint(others[0], >=, 0);
        g_assert_cmpint(device_guard_enter(others, device_guard_new_pass(), DEVICE(1)), ==, 0);
        g_assert_true(is_reachable(DEVICE(1)));
        g_assert_false(is_reachable(DEVICE(0)));
        (void)fds, (void)order;
}

/* A guard has 65,534 passes; the one after it stands beside what is left of it. */
static void test_next_guard(void)
{
        run(live_under_two, new_pass());
}

/* ---- without a guard that works ---- */

static void enter_without_link(const int *fds, gid_t pass, int order)
{
        (void)order;
        isolate();
        close(fds[1]);
        g_assert_cmpint(device_guard_enter(fds, pass, DEVICE(0)), ==, -ENOTRECOVERABLE);
}

/* Last: the guard is gone with its last descriptor. A process that would not be guarded is told so. */
static void test_ineffective(void)
{
        gid_t pass = new_pass();
        int fds[DEVICE_GUARD_FDS];

        device_guard_get_fds(fds);
        close(fds[1]);
        run(enter_without_link, pass);
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/device-guard/alone", test_alone);
        g_test_add_func("/device-guard/two", test_two);
        g_test_add_func("/device-guard/dropped", test_dropped);
        g_test_add_func("/device-guard/next-guard", test_next_guard);
        g_test_add_func("/device-guard/ineffective", test_ineffective);
        return g_test_run();
}
