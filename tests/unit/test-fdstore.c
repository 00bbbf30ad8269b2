/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many descriptors the service manager keeps for the daemon, and for one user. */
#include <glib.h>

#include "mechanism/fdstore.h"

static void test_shares(void)
{
        g_assert_cmpint(fdstore_check(1000, FDSTORE_PER_USER_MAX, FDSTORE_PER_USER_MAX), ==, 0);
        g_assert_cmpint(fdstore_check(1000, FDSTORE_PER_USER_MAX + 1, FDSTORE_PER_USER_MAX + 1), ==, -EDQUOT);
        g_assert_cmpint(fdstore_check(1000, 1, FDSTORE_MAX), ==, 0);
        g_assert_cmpint(fdstore_check(1000, 1, FDSTORE_MAX + 1), ==, -EDQUOT);
        g_assert_cmpint(fdstore_check(0, FDSTORE_MAX, FDSTORE_MAX), ==, 0);
        g_assert_cmpint(fdstore_check(0, FDSTORE_MAX + 1, FDSTORE_MAX + 1), ==, -EDQUOT);
}

/* The service manager is told the same number. */
static void test_unit(void)
{
        g_autofree char *path = g_build_filename(g_getenv("SOURCE_ROOT"), "units/loopmountd.service.in", NULL);
        g_autofree char *line = g_strdup_printf("\nFileDescriptorStoreMax=%u\n", FDSTORE_MAX);
        g_autofree char *text = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_assert_nonnull(strstr(text, line));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fdstore/shares", test_shares);
        g_test_add_func("/fdstore/unit", test_unit);
        return g_test_run();
}
