/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "errors.h"

/* The exit codes are documented: scripts go by them. */
static void test_statuses(void)
{
        static const struct {
                const char *name;
                int status;
        } cases[] = {
                { "NotAuthorized", 3 },
                { "OptionNotPermitted", 3 },
                { "WrongPassphrase", 3 },
                { "InvalidArgs", 2 },
                { "Busy", 4 },
                { "AlreadyAttached", 4 },
                { "AlreadyMounted", 4 },
                { "NotMounted", 5 },
                { "InvalidImage", 6 },
                { "UnsupportedFilesystem", 6 },
                { "LimitExceeded", 1 },
                { "Timeout", 1 },
                { "Cancelled", 1 },
                { "Failed", 1 },
                { "OneThatIsYetToBeInvented", 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                g_autofree char *name = g_strconcat("org.loopmount1.Error.", cases[i].name, NULL);
                g_assert_cmpint(error_status(name), ==, cases[i].status);
        }
}

static void test_bus(void)
{
        g_assert_cmpint(error_status(NULL), ==, 1);
        g_assert_cmpint(error_status("org.freedesktop.DBus.Error.ServiceUnknown"), ==, 7);
        g_assert_cmpint(error_status("org.freedesktop.DBus.Error.NoReply"), ==, 7);
        g_assert_cmpint(error_status("org.freedesktop.DBus.Error.Spawn.ChildExited"), ==, 7);
        g_assert_cmpint(error_status("org.freedesktop.DBus.Error.UnknownObject"), ==, 5);
        g_assert_cmpint(error_status("org.freedesktop.DBus.Error.AccessDenied"), ==, 3);
        g_assert_cmpint(error_status("org.freedesktop.DBus.Error.Failed"), ==, 1);
}

/* What it prints goes to a terminal; the subject is a file name, and can be anything. */
static void test_print(void)
{
        sd_bus_error said = SD_BUS_ERROR_MAKE_CONST("org.loopmount1.Error.Busy", "is in use by sleep (pid 12)");
        sd_bus_error silent = SD_BUS_ERROR_NULL;

        if (g_test_subprocess()) {
                g_assert_cmpint(error_print(2, "a\x1b[31mb", "%d%%", 5), ==, 2);
                g_assert_cmpint(error_print_bus("x.img", &said, -EIO), ==, 4);
                g_assert_cmpint(error_print_bus(NULL, &silent, -ENOMEM), ==, 1);
                return;
        }
        g_test_trap_subprocess(NULL, 0, 0);
        g_test_trap_assert_passed();
        g_test_trap_assert_stderr("*: a\\x1b[31mb: 5%\n*: x.img: is in use by sleep (pid 12)\n*: Cannot allocate "
                                  "memory\n");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/client/errors/statuses", test_statuses);
        g_test_add_func("/client/errors/bus", test_bus);
        g_test_add_func("/client/errors/print", test_print);
        return g_test_run();
}
