/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Orders and questions over org.loopmount1.test.Polkit; signals count what comes in. */
#include "lib/polkit.h"

#include <signal.h>
#include <sys/wait.h>

#include "lib/bus.h"
#include "lib/wait.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define TEST_PATH "/org/loopmount1/test"
#define TEST_INTERFACE "org.loopmount1.test.Polkit"

static GVariant *order(TestPolkit *polkit, const char *method, GVariant *parameters)
{
        g_autoptr(GError) error = NULL;
        GVariant *reply =
                g_dbus_connection_call_sync(polkit->bus, polkit->name, TEST_PATH, TEST_INTERFACE, method, parameters,
                                            NULL, G_DBUS_CALL_FLAGS_NO_AUTO_START, -1, NULL, &error);
        g_assert_no_error(error);
        return reply;
}

static void on_signal(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                      const char *member, GVariant *parameters, gpointer userdata)
{
        TestPolkit *polkit = userdata;

        (void)bus;
        (void)sender;
        (void)path;
        (void)interface;
        (void)parameters;
        (void)member;
        polkit->n_asked++;
}

static char *owner_of(GDBusConnection *bus, const char *name)
{
        g_autoptr(GError) error = NULL;
        char *owner;

        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
                bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetNameOwner",
                g_variant_new("(s)", name), G_VARIANT_TYPE("(s)"), G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
        g_assert_no_error(error);
        g_variant_get(reply, "(s)", &owner);
        return owner;
}

/* Waits for the line that says that it owns its name. */
static void wait_ready(int fd)
{
        char byte;
        if (read(fd, &byte, 1) != 1)
                g_error("the scripted polkit does not come up");
        close(fd);
}

TestPolkit *test_polkit_start(void)
{
        TestPolkit *polkit = g_new0(TestPolkit, 1);
        const char *program = g_getenv("FAKE_POLKIT");
        g_autoptr(GError) error = NULL;
        int out;

        if (!program)
                g_error("FAKE_POLKIT is not set: the program fake-polkit");
        const char *argv[] = { program, NULL };
        g_spawn_async_with_pipes("/", (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &polkit->pid, NULL,
                                 &out, NULL, &error);
        g_assert_no_error(error);
        wait_ready(out);

        polkit->bus = test_connect_as(TEST_ROOT);
        polkit->name = owner_of(polkit->bus, POLKIT_NAME);
        polkit->subscription =
                g_dbus_connection_signal_subscribe(polkit->bus, polkit->name, TEST_INTERFACE, NULL, TEST_PATH, NULL,
                                                   G_DBUS_SIGNAL_FLAGS_NONE, on_signal, polkit, NULL);
        test_polkit_reset(polkit);
        return polkit;
}

static bool has_no_owner(gpointer userdata)
{
        return !test_has_owner(((TestPolkit *)userdata)->bus, POLKIT_NAME);
}

TestPolkit *test_polkit_stop(TestPolkit *polkit)
{
        g_dbus_connection_signal_unsubscribe(polkit->bus, polkit->subscription);
        test_dispatch();
        kill(polkit->pid, SIGTERM);
        waitpid(polkit->pid, NULL, 0);
        test_wait_quiet(has_no_owner, polkit, "the bus to drop the scripted polkit");
        g_dbus_connection_close_sync(polkit->bus, NULL, NULL);
        g_object_unref(polkit->bus);
        g_free(polkit->name);
        g_free(polkit);
        return NULL;
}

void test_polkit_set(TestPolkit *polkit, const char *action, const char *verdict)
{
        g_variant_unref(order(polkit, "SetVerdict", g_variant_new("(ss)", action ? action : "", verdict)));
}

void test_polkit_set_delay(TestPolkit *polkit, unsigned msec)
{
        g_variant_unref(order(polkit, "SetDelay", g_variant_new("(u)", msec)));
}

void test_polkit_release(TestPolkit *polkit, const char *verdict)
{
        g_variant_unref(order(polkit, "Release", g_variant_new("(s)", verdict)));
}

void test_polkit_reset(TestPolkit *polkit)
{
        g_variant_unref(order(polkit, "Reset", NULL));
        /* What it had signalled has come in before the reply. */
        test_dispatch();
        polkit->n_asked = 0;
}

typedef struct Count {
        const unsigned *value;
        unsigned wanted;
} Count;

static bool is_reached(gpointer userdata)
{
        const Count *count = userdata;
        return *count->value >= count->wanted;
}

void test_polkit_wait_asked(TestPolkit *polkit, unsigned n)
{
        test_wait(is_reached, &(Count){ &polkit->n_asked, n }, "polkit to be asked");
}

static void check_free(gpointer data)
{
        TestPolkitCheck *check = data;
        g_free(check->subject_kind);
        g_free(check->subject_name);
        g_free(check->action);
        g_variant_unref(check->details);
        g_free(check->cancellation_id);
        g_free(check);
}

GPtrArray *test_polkit_checks(TestPolkit *polkit)
{
        g_autoptr(GVariant) reply = order(polkit, "GetChecks", NULL);
        g_autoptr(GVariant) list = g_variant_get_child_value(reply, 0);
        GPtrArray *checks = g_ptr_array_new_with_free_func(check_free);

        for (gsize i = 0; i < g_variant_n_children(list); i++) {
                TestPolkitCheck *check = g_new0(TestPolkitCheck, 1);
                g_autoptr(GVariant) subject = NULL;

                g_variant_get_child(list, i, "(s@a{sv}s@a{ss}us)", &check->subject_kind, &subject, &check->action,
                                    &check->details, &check->flags, &check->cancellation_id);
                g_variant_lookup(subject, "name", "s", &check->subject_name);
                g_ptr_array_add(checks, check);
        }
        return checks;
}

unsigned test_polkit_count_pending(TestPolkit *polkit)
{
        g_autoptr(GVariant) reply = order(polkit, "CountPending", NULL);
        guint32 n;

        g_variant_get(reply, "(u)", &n);
        return n;
}
