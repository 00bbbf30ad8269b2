/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* polkitd watches the folder and says Changed when it has taken the new rules over. */
#include "lib/rules.h"

#include "lib/bus.h"
#include "lib/wait.h"

static void on_changed(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                       const char *member, GVariant *parameters, gpointer userdata)
{
        (void)bus;
        (void)sender;
        (void)path;
        (void)interface;
        (void)member;
        (void)parameters;
        *(bool *)userdata = true;
}

void test_rules_set(const char *javascript)
{
        g_autofree char *path = g_build_filename(g_getenv("LOOPMOUNT_TEST_POLKIT_RULES"), "50-test.rules", NULL);
        GDBusConnection *bus = test_connect_as(TEST_ROOT);
        g_autoptr(GError) error = NULL;
        bool changed = false;

        guint subscription = g_dbus_connection_signal_subscribe(
                bus, "org.freedesktop.PolicyKit1", "org.freedesktop.PolicyKit1.Authority", "Changed", NULL, NULL,
                G_DBUS_SIGNAL_FLAGS_NONE, on_changed, &changed, NULL);
        test_has_owner(bus, "org.freedesktop.PolicyKit1");
        g_file_set_contents(path, javascript, -1, &error);
        g_assert_no_error(error);
        test_wait_flag(&changed, "polkitd to read the new rules");
        g_dbus_connection_signal_unsubscribe(bus, subscription);
        test_dispatch();
        test_disconnect(bus);
}

void test_rules_set_usual(void)
{
        test_rules_set("polkit.addRule(function(action, subject) {\n"
                       "        var own = ['org.loopmount1.attach', 'org.loopmount1.mount'];\n"
                       "        var people = ['ann', 'bob', 'carol'];\n"
                       "        if (own.indexOf(action.id) >= 0 && people.indexOf(subject.user) >= 0)\n"
                       "                return polkit.Result.YES;\n"
                       "});\n");
}
