/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What only root can try of mount-point.c: foreign owners, mounts on top, and
 * that the user can come in but change nothing. In a mount namespace of its own,
 * on a tmpfs of its own.
 */
#include <fcntl.h>
#include <glib.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "mechanism/mount-point.h"

#define ANN 12345U
#define BOB 12346U

static char *folder, *root;

static void set_up(void)
{
        umask(022);
        folder = g_dir_make_tmp("loopmount-XXXXXX", NULL);
        g_assert_nonnull(folder);
        g_assert_cmpint(unshare(CLONE_NEWNS), ==, 0);
        g_assert_cmpint(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), ==, 0);
        g_assert_cmpint(mount("tmpfs", folder, "tmpfs", 0, "mode=0755"), ==, 0);
        root = g_build_filename(folder, "media", NULL);
}

static void tear_down(void)
{
        g_assert_cmpint(umount2(folder, MNT_DETACH), ==, 0);
        g_assert_cmpint(rmdir(folder), ==, 0);
        g_free(folder);
        g_free(root);
}

static char *below(const char *name)
{
        return g_build_filename(root, name, NULL);
}

static int open_user(const char *user, uid_t uid)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;

        return mount_point_open_user(root, user, uid, &path, &fd);
}

/* What @action gives as @uid: 0 or an errno. */
static int as_user(uid_t uid, int (*action)(const char *path), const char *path)
{
        int status;
        pid_t pid = fork();

        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                if (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0)
                        _exit(255);
                _exit(action(path) < 0 ? errno : 0);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static int list(const char *path)
{
        return open(path, O_RDONLY | O_DIRECTORY);
}

static int create(const char *path)
{
        return mkdirat(open(path, O_PATH), "new", 0700);
}

static int take_away(const char *path)
{
        g_autofree char *to = g_strconcat(path, ".away", NULL);

        return rename(path, to);
}

static void test_access(void)
{
        g_autofree char *ann = below("ann"), *mounted = below("ann/X");

        g_assert_cmpint(open_user("ann", ANN), ==, 0);
        g_assert_cmpint(open_user("bob", BOB), ==, 0);
        g_assert_cmpint(mkdir(mounted, 0755), ==, 0);

        g_assert_cmpint(as_user(ANN, list, ann), ==, 0);
        g_assert_cmpint(as_user(ANN, list, mounted), ==, 0);
        g_assert_cmpint(as_user(ANN, create, ann), ==, EACCES);
        g_assert_cmpint(as_user(ANN, take_away, mounted), ==, EACCES);
        g_assert_cmpint(as_user(ANN, take_away, ann), ==, EACCES);
        g_assert_cmpint(as_user(ANN, rmdir, mounted), ==, EACCES);
        g_assert_cmpint(as_user(BOB, list, ann), ==, EACCES);
        g_assert_cmpint(as_user(BOB, list, mounted), ==, EACCES);
        g_assert_cmpint(as_user(BOB, list, root), ==, 0);
}

/* The same name with another number, after a user was deleted and made anew. */
static void test_new_number(void)
{
        g_autofree char *ann = below("ann");

        g_assert_cmpint(open_user("ann", BOB), ==, 0);
        g_assert_cmpint(as_user(BOB, list, ann), ==, 0);
}

static void test_foreign_owner(void)
{
        g_autofree char *eve = below("eve");

        g_assert_cmpint(mkdir(eve, 0755), ==, 0);
        g_assert_cmpint(chown(eve, ANN, ANN), ==, 0);
        g_assert_cmpint(open_user("eve", ANN), ==, -EPERM);
        g_assert_cmpint(rmdir(eve), ==, 0);

        g_assert_cmpint(chown(root, ANN, ANN), ==, 0);
        g_assert_cmpint(open_user("ann", ANN), ==, -EPERM);
        g_assert_cmpint(chown(root, 0, 0), ==, 0);
        g_assert_cmpint(chown(folder, ANN, ANN), ==, 0);
        g_assert_cmpint(open_user("ann", ANN), ==, -EPERM);
        g_assert_cmpint(chown(folder, 0, 0), ==, 0);
        g_assert_cmpint(open_user("ann", ANN), ==, 0);
}

static void test_busy(void)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;
        g_autofree char *target = NULL;

        g_assert_cmpint(mount_point_open_user(root, "busy", ANN, &path, &fd), ==, 0);
        g_assert_cmpint(mount_point_make(fd, "X"), ==, 0);
        target = g_build_filename(path, "X", NULL);
        g_assert_cmpint(mount("tmpfs", target, "tmpfs", 0, NULL), ==, 0);
        g_assert_cmpint(mount_point_remove(target), ==, -EBUSY);
        g_assert_true(g_file_test(target, G_FILE_TEST_IS_DIR));
        g_assert_cmpint(umount(target), ==, 0);
        g_assert_cmpint(mount_point_remove(target), ==, 0);
        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

int main(int argc, char *argv[])
{
        int r;

        g_test_init(&argc, &argv, NULL);
        set_up();
        g_test_add_func("/mount-point/root/access", test_access);
        g_test_add_func("/mount-point/root/new-number", test_new_number);
        g_test_add_func("/mount-point/root/foreign-owner", test_foreign_owner);
        g_test_add_func("/mount-point/root/busy", test_busy);
        r = g_test_run();
        tear_down();
        return r;
}
