/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What sysfs says of a loop device, and what it does not say: a sysfs made for the test is put over the real one. */
#include <glib.h>
#include <glib/gstdio.h>
#include <sys/mount.h>

#include "mechanism/loop.h"

static void write_file(const char *path, const char *text)
{
        g_autofree char *folder = g_path_get_dirname(path);

        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* The errno of whatever was called before says nothing about the device. */
static bool is_gone(uint64_t diskseq)
{
        errno = ENOENT;
        return loop_is_gone(7, diskseq);
}

static void test_is_gone(void)
{
        g_assert_cmpint(mount("tmpfs", "/sys/block", "tmpfs", 0, "size=64k"), ==, 0);
        g_assert_true(is_gone(5));
        write_file("/sys/block/loop7/loop/backing_file", "/image\n");
        g_assert_true(is_gone(5));
        write_file("/sys/block/loop7/diskseq", "5\n");
        g_assert_false(is_gone(5));
        g_assert_true(is_gone(4));
        write_file("/sys/block/loop7/diskseq", "");
        g_assert_false(is_gone(5));
        write_file("/sys/block/loop7/diskseq", "nonsense\n");
        g_assert_false(is_gone(5));
        g_assert_cmpint(umount("/sys/block"), ==, 0);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/loop-root/is-gone", test_is_gone);
        return g_test_run();
}
