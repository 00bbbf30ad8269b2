/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * polkitd watches the folder, but says Changed for other reasons, too, so that
 * nobody knows when it has read the rules. One that starts has read them when it
 * takes its name.
 */
#include "lib/rules.h"

#include <signal.h>

#include "lib/bus.h"
#include "lib/wait.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"

static GVariant *ask_bus(GDBusConnection *bus, const char *method, GVariant *parameters)
{
        g_autoptr(GError) error = NULL;
        GVariant *reply = g_dbus_connection_call_sync(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                                      "org.freedesktop.DBus", method, parameters, NULL,
                                                      G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
        g_assert_no_error(error);
        return reply;
}

static bool has_no_owner(gpointer bus)
{
        return !test_has_owner(bus, POLKIT_NAME);
}

static void restart_polkit(void)
{
        GDBusConnection *bus = test_connect_as(TEST_ROOT);

        if (test_has_owner(bus, POLKIT_NAME)) {
                g_autoptr(GVariant) reply =
                        ask_bus(bus, "GetConnectionUnixProcessID", g_variant_new("(s)", POLKIT_NAME));
                guint32 pid;

                g_variant_get(reply, "(u)", &pid);
                kill((pid_t)pid, SIGTERM);
                test_wait_quiet(has_no_owner, bus, "polkitd to end");
        }
        g_variant_unref(ask_bus(bus, "StartServiceByName", g_variant_new("(su)", POLKIT_NAME, 0)));
        test_disconnect(bus);
}

void test_rules_set(const char *javascript)
{
        g_autofree char *path = g_build_filename(g_getenv("LOOPMOUNT_TEST_POLKIT_RULES"), "50-test.rules", NULL);
        g_autoptr(GError) error = NULL;

        g_file_set_contents(path, javascript, -1, &error);
        g_assert_no_error(error);
        restart_polkit();
}

void test_rules_set_usual(void)
{
        test_rules_set("polkit.addRule(function(action, subject) {\n"
                       "        var own = ['org.loopmount1.attach', 'org.loopmount1.mount',\n"
                       "                   'org.loopmount1.mount-unhardened'];\n"
                       "        var people = ['ann', 'bob', 'carol'];\n"
                       "        if (own.indexOf(action.id) >= 0 && people.indexOf(subject.user) >= 0)\n"
                       "                return polkit.Result.YES;\n"
                       "});\n");
}
