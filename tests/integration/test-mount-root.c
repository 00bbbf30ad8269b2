/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The list of all mounts, as root: what is mounted is in it, what was unmounted is not, and no number is given out
 * twice.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mechanism/mount.h"

/* More than are read at a time. */
#define MANY 1100U

static char *make_folder(void)
{
        g_autoptr(GError) error = NULL;
        char *folder = g_dir_make_tmp("mount-XXXXXX", &error);

        g_assert_no_error(error);
        return folder;
}

static void mount_at(const char *folder)
{
        g_assert_cmpint(mount("tmpfs", folder, "tmpfs", 0, "size=4k"), ==, 0);
}

static uint64_t unique_id_of(const char *folder)
{
        uint64_t id, unique;

        g_assert_cmpint(mount_get_id(folder, &id), ==, 0);
        g_assert_cmpint(mount_get_unique_id(folder, id + 1, &unique), ==, -ESTALE);
        g_assert_cmpint(mount_get_unique_id(folder, id, &unique), ==, 0);
        return unique;
}

static void assert_listed(uint64_t unique, bool listed)
{
        _cleanup_(mount_list_done) MountList list = { 0 };

        g_assert_cmpint(mount_list_read(&list), ==, 0);
        g_assert_true(mount_list_has(&list, unique) == listed);
}

static void test_list(void)
{
        g_autofree char *folder = make_folder();
        uint64_t first, second;

        g_assert_cmpint(mount_get_unique_id(folder, 1, &first), ==, -ENOENT);
        mount_at(folder);
        first = unique_id_of(folder);
        assert_listed(first, true);
        g_assert_cmpint(umount2(folder, 0), ==, 0);
        assert_listed(first, false);
        mount_at(folder);
        second = unique_id_of(folder);
        g_assert_cmpuint(second, >, first);
        assert_listed(first, false);
        assert_listed(second, true);
        g_assert_cmpint(umount2(folder, 0), ==, 0);
        g_assert_cmpint(rmdir(folder), ==, 0);
}

static void test_many(void)
{
        g_autofree char *folder = make_folder();
        _cleanup_(mount_list_done) MountList before = { 0 }, list = { 0 };
        uint64_t first, last;

        g_assert_cmpint(mount_list_read(&before), ==, 0);
        mount_at(folder);
        first = unique_id_of(folder);
        for (unsigned i = 1; i < MANY; i++)
                mount_at(folder);
        last = unique_id_of(folder);
        g_assert_cmpint(mount_list_read(&list), ==, 0);
        for (unsigned i = 0; i < MANY; i++)
                g_assert_cmpint(umount2(folder, 0), ==, 0);
        g_assert_cmpuint(list.n, ==, before.n + MANY);
        g_assert_true(mount_list_has(&list, first) && mount_list_has(&list, last));
        for (size_t i = 0; i < before.n; i++)
                g_assert_true(mount_list_has(&list, before.ids[i]));
        g_assert_true(mount_list_has_all(&list, &before) && mount_list_has_all(&list, &list));
        g_assert_false(mount_list_has_all(&before, &list));
        assert_listed(first, false);
        g_assert_cmpint(rmdir(folder), ==, 0);
}

static void test_all(void)
{
        uint64_t odd[] = { 1, 3, 5 }, some[] = { 3, 5 }, early[] = { 0, 3 }, between[] = { 1, 4 }, late[] = { 5, 6 };
        const MountList list = { odd, ELEMENTSOF(odd) }, none = { 0 };

        g_assert_true(mount_list_has_all(&list, &(MountList){ some, ELEMENTSOF(some) }));
        g_assert_true(mount_list_has_all(&list, &none) && !mount_list_has_all(&none, &list));
        g_assert_false(mount_list_has_all(&list, &(MountList){ early, ELEMENTSOF(early) }));
        g_assert_false(mount_list_has_all(&list, &(MountList){ between, ELEMENTSOF(between) }));
        g_assert_false(mount_list_has_all(&list, &(MountList){ late, ELEMENTSOF(late) }));
}

/* Before Linux 6.8 there is nothing to try but that it says so. */
static void test_no_list(void)
{
        MountList list;

        g_assert_cmpint(mount_list_read(&list), ==, -ENOSYS);
}

static bool kernel_has_list(void)
{
        _cleanup_(mount_list_done) MountList list = { 0 };

        return mount_list_read(&list) != -ENOSYS;
}

static unsigned count_entries(const char *folder)
{
        g_autoptr(GDir) entries = g_dir_open(folder, 0, NULL);
        unsigned n = 0;

        g_assert_nonnull(entries);
        while (g_dir_read_name(entries))
                n++;
        return n;
}

/* f2fs, and erofs of some kernels, open devices by paths that the image names: there is none but its own. */
static void test_isolated(void)
{
        const MountNode node = { "/dev/loop7.41", makedev(7, 7) };
        struct stat st;
        int old, root;

        g_assert_cmpint(access("/dev/null", F_OK), ==, 0);
        g_assert_cmpint(mount_isolate(&node, 1, &old, &root), ==, 0);
        g_assert_cmpuint(count_entries("/"), ==, 1);
        g_assert_cmpuint(count_entries("/.."), ==, 1);
        g_assert_cmpuint(count_entries("/dev"), ==, 1);
        g_assert_cmpuint(count_entries("."), ==, 1);
        g_assert_cmpint(stat(node.path, &st), ==, 0);
        g_assert_true(S_ISBLK(st.st_mode) && st.st_rdev == node.device);
        g_assert_cmpint(mount_leave_isolation(old), ==, 0);
        g_assert_cmpint(access("/dev/null", F_OK), ==, 0);
        close(old);
        close(root);
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/mount-root/all", test_all);
        if (kernel_has_list()) {
                g_test_add_func("/mount-root/list", test_list);
                g_test_add_func("/mount-root/many", test_many);
        } else
                g_test_add_func("/mount-root/no-list", test_no_list);
        g_test_add_func("/mount-root/isolated", test_isolated);
        return g_test_run();
}
