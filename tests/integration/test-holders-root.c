/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What only root can try of holders.c: mappings, programs and roots on a mount
 * of its own, the processes of other users, and block devices. In a mount
 * namespace of its own.
 */
#include <fcntl.h>
#include <glib.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "mechanism/holders.h"

static char *folder, *program, *device;
static uint64_t host_root;

static uint64_t mount_of(const char *path)
{
        struct statx stx;

        g_assert_cmpint(statx(AT_FDCWD, path, 0, STATX_MNT_ID, &stx), ==, 0);
        return stx.stx_mnt_id;
}

static void copy_program(void)
{
        g_autofree char *command = g_strdup_printf("cp /bin/sleep '%s'", program);

        g_assert_cmpint(system(command), ==, 0);
}

static void set_up(void)
{
        _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
        int number = ioctl(control, LOOP_CTL_GET_FREE);

        g_assert_cmpint(number, >=, 0);
        device = g_strdup_printf("/dev/loop%d", number); /* only opened, whatever becomes of it */

        host_root = mount_of("/");
        folder = g_dir_make_tmp("loopmount-XXXXXX", NULL);
        g_assert_nonnull(folder);
        program = g_build_filename(folder, "program", NULL);
        g_assert_cmpint(unshare(CLONE_NEWNS), ==, 0);
        g_assert_cmpint(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), ==, 0);
        g_assert_cmpint(mount("tmpfs", folder, "tmpfs", 0, "mode=0755"), ==, 0);
        copy_program();
}

static void tear_down(void)
{
        g_assert_cmpint(umount2(folder, MNT_DETACH), ==, 0);
        g_assert_cmpint(rmdir(folder), ==, 0);
        g_free(folder);
        g_free(program);
        g_free(device);
}

static int hold_mapping(void)
{
        int fd = open(program, O_RDONLY);

        if (mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED)
                return -1;
        return close(fd);
}

static int hold_root(void)
{
        return chroot(folder);
}

static int hold_as_user(void)
{
        return setuid(12345) < 0 ? -1 : open(folder, O_PATH);
}

static int hold_device(void)
{
        return open(device, O_RDONLY | O_NONBLOCK);
}

static int hold_program(void)
{
        return 0;
}

static pid_t start(int (*hold)(void))
{
        int ready[2];
        char byte;
        pid_t pid;

        g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (hold() < 0)
                        _exit(1);
                if (hold == hold_program) {
                        execl(program, "program", "100", NULL);
                        _exit(1);
                }
                if (write(ready[1], "", 1) != 1)
                        _exit(1);
                for (;;)
                        pause();
        }
        close(ready[1]);
        /* 0 bytes: the program has been executed, and the pipe closed by that */
        g_assert_cmpint(read(ready[0], &byte, 1), ==, hold == hold_program ? 0 : 1);
        close(ready[0]);
        return pid;
}

static void stop(pid_t pid)
{
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

/* Nobody else can be on a mount in this namespace: exactly @pid is to be found. */
static void assert_found(int (*hold)(void), uid_t uid)
{
        _cleanup_free_ Holder *holders = NULL, *none = NULL;
        uint64_t mount_id = mount_of(folder);
        size_t n = 0;
        pid_t pid = start(hold);
        int r;

        r = holders_find(&mount_id, 1, NULL, 0, 100, &holders, &n);
        stop(pid);
        g_assert_cmpint(r, ==, 0);
        g_assert_cmpuint(n, ==, 1);
        g_assert_cmpint(holders[0].pid, ==, pid);
        g_assert_cmpuint(holders[0].uid, ==, uid);

        g_assert_cmpint(holders_find(&mount_id, 1, NULL, 0, 100, &none, &n), ==, 0);
        g_assert_cmpuint(n, ==, 0);
}

static void test_mapping(void)
{
        assert_found(hold_mapping, 0);
}

static void test_program(void)
{
        assert_found(hold_program, 0);
}

static void test_chroot(void)
{
        assert_found(hold_root, 0);
}

static void test_other_user(void)
{
        assert_found(hold_as_user, 12345);
}

static void test_device(void)
{
        _cleanup_free_ Holder *holders = NULL;
        pid_t pid = start(hold_device);
        bool found = false;
        struct stat st;
        size_t n = 0;
        int r;

        g_assert_cmpint(stat(device, &st), ==, 0);
        r = holders_find(NULL, 0, &st.st_rdev, 1, 100, &holders, &n);
        stop(pid);
        g_assert_cmpint(r, ==, 0);
        for (size_t i = 0; i < n; i++)
                found = found || holders[i].pid == pid;
        g_assert_true(found);
}

static void test_kernel_threads(void)
{
        _cleanup_free_ Holder *holders = NULL;
        size_t n = 0;

        /* kthreadd stands in the root folder of the host, as everything in it does. */
        g_assert_cmpint(holders_find(&host_root, 1, NULL, 0, SIZE_MAX, &holders, &n), ==, 0);
        g_assert_cmpuint(n, >, 0);
        for (size_t i = 0; i < n; i++)
                g_assert_cmpstr(holders[i].name, !=, "kthreadd");
}

int main(int argc, char *argv[])
{
        int r;

        g_test_init(&argc, &argv, NULL);
        set_up();
        g_test_add_func("/holders/root/mapping", test_mapping);
        g_test_add_func("/holders/root/program", test_program);
        g_test_add_func("/holders/root/chroot", test_chroot);
        g_test_add_func("/holders/root/other-user", test_other_user);
        g_test_add_func("/holders/root/device", test_device);
        g_test_add_func("/holders/root/kernel-threads", test_kernel_threads);
        r = g_test_run();
        tear_down();
        return r;
}
