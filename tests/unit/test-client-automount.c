/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "automount.h"

static void assert_name(const char *path, const char *expected)
{
        char name[AUTOMOUNT_UNIT_SIZE];

        g_assert_true(automount_unit_name(path, name));
        g_assert_cmpstr(name, ==, expected);
}

static void test_names(void)
{
        assert_name("/home/ann/disk.img", "loopmount-automount@home-ann-disk.img.service");
        assert_name("/.hidden/a-b@c.img", "loopmount-automount@\\x2ehidden-a\\x2db\\x40c.img.service");
        assert_name("/\xc3\xa4\xff\n$ %", "loopmount-automount@\\xc3\\xa4\\xff\\x0a\\x24\\x20\\x25.service");
}

/* What is too long still has a name of its own, and one that can be told by its end. */
static void test_long_names(void)
{
        char one[AUTOMOUNT_UNIT_SIZE], two[AUTOMOUNT_UNIT_SIZE];
        g_autofree char *a = g_strdup_printf("/%0300d/disk.img", 1);
        g_autofree char *b = g_strdup_printf("/%0300d/disk.img", 2);
        g_autofree char *spaces = g_strdup_printf("/%300s", "");

        g_assert_false(automount_unit_name(a, one));
        g_assert_false(automount_unit_name(b, two));
        g_assert_cmpstr(one, !=, two);
        g_assert_nonnull(strstr(one, "disk.img-"));
        g_assert_true(g_str_has_prefix(one, "loopmount-automount@0") && g_str_has_suffix(one, ".service"));
        g_assert_false(automount_unit_name(spaces, one));
        g_assert_true(g_str_has_suffix(one, ".service"));

        /* At the limit. */
        for (int n = 180; n < 240; n++) {
                g_autofree char *path = g_strdup_printf("/%0*d", n, 0);
                bool fits = automount_unit_name(path, one);

                g_assert_cmpint(fits, ==, n + strlen("loopmount-automount@.service") < AUTOMOUNT_UNIT_SIZE);
                g_assert_true(g_str_has_suffix(one, ".service"));
        }
}

static void test_settings(void)
{
        static const char *const options[] = { "--writable", "--name=a \"b\" \\c %d $HOME ${x}",
                                               "--name=\xc3\xa4\xff\n" };
        g_autofree char *text =
                automount_unit_settings("/usr/bin/loopmount", (char **)options, 3, "/a;b 'c'\n[Service]");

        g_assert_cmpstr(text, ==,
                        "# Made by 'loopmount automount enable'.\n"
                        "[Service]\n"
                        "ExecStart=\n"
                        "ExecStart=:/usr/bin/loopmount automount run \"--writable\""
                        " \"--name=a \\x22b\\x22 \\x5cc %%d $HOME ${x}\" \"--name=\xc3\xa4\\xff\\x0a\" --"
                        " \"/a;b 'c'\\x0a[Service]\"\n");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/client/automount/names", test_names);
        g_test_add_func("/client/automount/long-names", test_long_names);
        g_test_add_func("/client/automount/settings", test_settings);
        return g_test_run();
}
