/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of units for mount points, which anybody may have named. */
#include <glib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mechanism/mount.h"
#include "mechanism/unit.h"

static void assert_name(const char *path, const char *wanted)
{
        char name[UNIT_NAME_SIZE];

        g_assert_cmpint(unit_name_backing(path, name), ==, 0);
        g_assert_cmpstr(name, ==, wanted);
}

/* Compared with what systemd-escape --path says. */
static void test_names(void)
{
        assert_name("/", "loopmount-backing@-.target");
        assert_name("/home", "loopmount-backing@home.target");
        assert_name("/srv/a/b", "loopmount-backing@srv-a-b.target");
        assert_name("/mnt/a-b", "loopmount-backing@mnt-a\\x2db.target");
        assert_name("/.hidden/.b:_", "loopmount-backing@\\x2ehidden-.b:_.target");
}

static void test_hostile_names(void)
{
        assert_name("/m/a b\n%i", "loopmount-backing@m-a\\x20b\\x0a\\x25i.target");
        assert_name("/m/\xc3\xa4\xff\\@", "loopmount-backing@m-\\xc3\\xa4\\xff\\x5c\\x40.target");
}

static void test_long_names(void)
{
        g_autofree char *longest = g_strnfill(230, 'x');
        g_autofree char *wanted = g_strdup_printf("loopmount-backing@%s.target", longest);
        g_autofree char *path = g_strdup_printf("/%s", longest);
        g_autofree char *longer = g_strdup_printf("/x%s", longest);
        g_autofree char *wide = g_strdup_printf("/%.228s ", longest);
        char name[UNIT_NAME_SIZE];

        g_assert_cmpuint(strlen(wanted), ==, 255);
        assert_name(path, wanted);
        g_assert_cmpint(unit_name_backing(longer, name), ==, -ENAMETOOLONG);
        g_assert_cmpint(unit_name_backing(wide, name), ==, -ENAMETOOLONG);
}

static void test_mount_is_found_by_its_id(void)
{
        _cleanup_free_ char *path = NULL;
        uint64_t id;

        g_assert_cmpint(mount_get_id("/proc", &id), ==, 0);
        g_assert_cmpint(mount_find(id, 0, &path), ==, 0);
        g_assert_cmpstr(path, ==, "/proc");
}

/* A file from another mount namespace. */
static void test_mount_is_found_by_its_device(void)
{
        _cleanup_free_ char *path = NULL;
        char *none = (char *)"untouched";
        struct stat st;

        g_assert_cmpint(stat("/proc", &st), ==, 0);
        g_assert_cmpint(mount_find(UINT32_MAX, st.st_dev, &path), ==, 0);
        g_assert_true(g_str_has_prefix(path, "/proc"));
        g_assert_cmpint(mount_find(UINT32_MAX, makedev(4095, 1), &none), ==, -ENOENT);
        g_assert_cmpint(mount_find(0, makedev(4095, 1), &none), ==, -ENOENT);
        g_assert_cmpstr(none, ==, "untouched");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/unit/names", test_names);
        g_test_add_func("/unit/names/hostile", test_hostile_names);
        g_test_add_func("/unit/names/long", test_long_names);
        g_test_add_func("/unit/mount/by-id", test_mount_is_found_by_its_id);
        g_test_add_func("/unit/mount/by-device", test_mount_is_found_by_its_device);
        return g_test_run();
}
