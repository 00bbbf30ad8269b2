/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * org.freedesktop.PolicyKit1 as a test wants it. It answers CheckAuthorization by
 * a script and remembers what it was asked; a test gives the script and reads the
 * memory over org.loopmount1.test.Polkit at /org/loopmount1/test.
 *
 * Verdicts:
 *   allow       yes
 *   deny        no
 *   challenge   no, but yes if the caller may be asked for a password and the
 *               flag AllowUserInteraction says so; without it, is_challenge
 *   silent      no answer, until Release
 *   dismiss     the error Cancelled, as when a person closes the dialogue
 *   error       the error Failed
 *   malformed   an answer of another signature than polkit's
 *   empty       no error, and nothing in the answer
 *   gone        it ends, without an answer
 *
 * "ready" on the standard output says that it owns the name.
 */
#include <stdio.h>

#include "lib/base.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define POLKIT_ERROR "org.freedesktop.PolicyKit1.Error."
#define TEST_PATH "/org/loopmount1/test"

#define FLAG_ALLOW_INTERACTION 1u

static const char introspection[] = "<node>"
                                    "  <interface name='org.freedesktop.PolicyKit1.Authority'>"
                                    "    <method name='CheckAuthorization'>"
                                    "      <arg type='(sa{sv})' direction='in'/>"
                                    "      <arg type='s' direction='in'/>"
                                    "      <arg type='a{ss}' direction='in'/>"
                                    "      <arg type='u' direction='in'/>"
                                    "      <arg type='s' direction='in'/>"
                                    "      <arg type='(bba{ss})' direction='out'/>"
                                    "    </method>"
                                    "    <method name='CancelCheckAuthorization'>"
                                    "      <arg type='s' direction='in'/>"
                                    "    </method>"
                                    "    <signal name='Changed'/>"
                                    "    <property name='BackendName' type='s' access='read'/>"
                                    "    <property name='BackendVersion' type='s' access='read'/>"
                                    "    <property name='BackendFeatures' type='u' access='read'/>"
                                    "  </interface>"
                                    "  <interface name='org.loopmount1.test.Polkit'>"
                                    /* action: empty for all that have no verdict of their own */
                                    "    <method name='SetVerdict'>"
                                    "      <arg name='action' type='s' direction='in'/>"
                                    "      <arg name='verdict' type='s' direction='in'/>"
                                    "    </method>"
                                    /* Answers wait for so long. */
                                    "    <method name='SetDelay'>"
                                    "      <arg name='msec' type='u' direction='in'/>"
                                    "    </method>"
                                    /* All silent checks are answered with the verdict. */
                                    "    <method name='Release'>"
                                    "      <arg name='verdict' type='s' direction='in'/>"
                                    "    </method>"
                                    /* What is silent is denied; no verdicts, no memory. */
                                    "    <method name='Reset'/>"
                                    "    <method name='GetChecks'>"
                                    "      <arg name='checks' type='a(sa{sv}sa{ss}us)' direction='out'/>"
                                    "    </method>"
                                    /* How many are silent. */
                                    "    <method name='CountPending'>"
                                    "      <arg name='n' type='u' direction='out'/>"
                                    "    </method>"
                                    /* Sent when a check has come in. */
                                    "    <signal name='Asked'/>"
                                    "  </interface>"
                                    "</node>";

typedef struct Check {
        GVariant *parameters;
        GDBusMethodInvocation *invocation; /* NULL: answered */
} Check;

static GDBusConnection *bus;
static GPtrArray *checks;    /* Check */
static GHashTable *verdicts; /* action -> verdict */
static unsigned delay_msec;

static void check_free(gpointer data)
{
        Check *check = data;
        g_variant_unref(check->parameters);
        g_clear_object(&check->invocation);
        g_free(check);
}

static const char *check_action(const Check *check)
{
        const char *action;
        g_variant_get_child(check->parameters, 1, "&s", &action);
        return action;
}

static bool check_is_interactive(const Check *check)
{
        guint32 flags;
        g_variant_get_child(check->parameters, 3, "u", &flags);
        return flags & FLAG_ALLOW_INTERACTION;
}

/* ---- the bus name ---- */

static void own_name(void)
{
        g_autoptr(GError) error = NULL;
        guint32 result;

        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
                bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName",
                g_variant_new("(su)", POLKIT_NAME, 4 /* do not queue */), G_VARIANT_TYPE("(u)"), G_DBUS_CALL_FLAGS_NONE,
                -1, NULL, &error);
        g_assert_no_error(error);
        g_variant_get(reply, "(u)", &result);
        if (result != 1 /* primary owner */)
                g_error("somebody else is " POLKIT_NAME);
}

/* ---- answers ---- */

/* A reply that GDBus would not let pass as one of the method's own. */
static void answer_raw(Check *check, GVariant *body)
{
        g_autoptr(GDBusMessage) reply =
                g_dbus_message_new_method_reply(g_dbus_method_invocation_get_message(check->invocation));
        if (body)
                g_dbus_message_set_body(reply, body);
        g_dbus_connection_send_message(bus, reply, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, NULL);
        g_clear_object(&check->invocation);
}

static void answer_verdict(Check *check, bool is_authorised, bool is_challenge)
{
        GVariantBuilder details;

        /* The real one tells details, too, which nobody needs to understand. */
        g_variant_builder_init(&details, G_VARIANT_TYPE("a{ss}"));
        g_variant_builder_add(&details, "{ss}", "polkit.result", is_authorised ? "yes" : "no");
        answer_raw(check, g_variant_new("((bba{ss}))", is_authorised, is_challenge, &details));
}

static void answer_error(Check *check, const char *name)
{
        g_autofree char *full = g_strconcat(POLKIT_ERROR, name, NULL);
        g_dbus_method_invocation_return_dbus_error(g_steal_pointer(&check->invocation), full, "as the test wanted it");
}

static void answer(Check *check, const char *verdict)
{
        if (streq(verdict, "allow"))
                answer_verdict(check, true, false);
        else if (streq(verdict, "deny"))
                answer_verdict(check, false, false);
        else if (streq(verdict, "challenge"))
                answer_verdict(check, check_is_interactive(check), !check_is_interactive(check));
        else if (streq(verdict, "dismiss"))
                answer_error(check, "Cancelled");
        else if (streq(verdict, "error"))
                answer_error(check, "Failed");
        else if (streq(verdict, "malformed"))
                answer_raw(check, g_variant_new("(su)", "yes", 1));
        else if (streq(verdict, "empty"))
                answer_raw(check, NULL);
        else if (streq(verdict, "gone"))
                _exit(0);
        else
                g_assert_cmpstr(verdict, ==, "silent");
}

static const char *verdict_for(const char *action)
{
        const char *verdict = g_hash_table_lookup(verdicts, action);
        if (!verdict)
                verdict = g_hash_table_lookup(verdicts, "");
        return verdict ? verdict : "deny";
}

static gboolean on_delay(gpointer userdata)
{
        Check *check = userdata;
        /* Released in the meantime? */
        if (check->invocation)
                answer(check, verdict_for(check_action(check)));
        return G_SOURCE_REMOVE;
}

static void emit(const char *signal)
{
        g_dbus_connection_emit_signal(bus, NULL, TEST_PATH, "org.loopmount1.test.Polkit", signal, NULL, NULL);
}

/* ---- polkit's methods ---- */

static void check_authorization(GVariant *parameters, GDBusMethodInvocation *invocation)
{
        Check *check = g_new0(Check, 1);

        check->parameters = g_variant_ref(parameters);
        check->invocation = invocation;
        g_ptr_array_add(checks, check);
        emit("Asked");
        if (delay_msec > 0)
                g_timeout_add(delay_msec, on_delay, check);
        else
                answer(check, verdict_for(check_action(check)));
}

/* ---- the test's methods ---- */

static void reset(void)
{
        for (guint i = 0; i < checks->len; i++) {
                Check *check = g_ptr_array_index(checks, i);
                if (check->invocation)
                        answer(check, "deny");
        }
        /* What waits for its delay is kept for on_delay(). */
        if (delay_msec == 0)
                g_ptr_array_set_size(checks, 0);
        g_hash_table_remove_all(verdicts);
        delay_msec = 0;
}

static void release(const char *verdict)
{
        for (guint i = 0; i < checks->len; i++) {
                Check *check = g_ptr_array_index(checks, i);
                if (check->invocation)
                        answer(check, verdict);
        }
}

static GVariant *list_checks(void)
{
        GVariantBuilder list;

        g_variant_builder_init(&list, G_VARIANT_TYPE("a(sa{sv}sa{ss}us)"));
        for (guint i = 0; i < checks->len; i++) {
                const Check *check = g_ptr_array_index(checks, i);
                const char *kind, *action, *id;
                g_autoptr(GVariant) subject = NULL, details = NULL;
                guint32 flags;

                g_variant_get(check->parameters, "((&s@a{sv})&s@a{ss}u&s)", &kind, &subject, &action, &details, &flags,
                              &id);
                g_variant_builder_add(&list, "(s@a{sv}s@a{ss}us)", kind, subject, action, details, flags, id);
        }
        return g_variant_new("(a(sa{sv}sa{ss}us))", &list);
}

static GVariant *count_pending(void)
{
        guint32 n = 0;

        for (guint i = 0; i < checks->len; i++)
                n += ((const Check *)g_ptr_array_index(checks, i))->invocation != NULL;
        return g_variant_new("(u)", n);
}

static GVariant *test_method(const char *method, GVariant *parameters)
{
        const char *first = NULL, *second = NULL;

        if (streq(method, "SetVerdict")) {
                g_variant_get(parameters, "(&s&s)", &first, &second);
                g_hash_table_replace(verdicts, g_strdup(first), g_strdup(second));
        } else if (streq(method, "SetDelay")) {
                g_variant_get(parameters, "(u)", &delay_msec);
        } else if (streq(method, "Release")) {
                g_variant_get(parameters, "(&s)", &first);
                release(first);
        } else if (streq(method, "Reset")) {
                reset();
        } else if (streq(method, "GetChecks")) {
                return list_checks();
        } else {
                return count_pending();
        }
        return NULL;
}

/* ---- the objects ---- */

static void on_method(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                      const char *method, GVariant *parameters, GDBusMethodInvocation *invocation, gpointer userdata)
{
        (void)connection;
        (void)sender;
        (void)path;
        (void)userdata;
        if (!streq(interface, POLKIT_INTERFACE))
                g_dbus_method_invocation_return_value(invocation, test_method(method, parameters));
        else if (streq(method, "CheckAuthorization"))
                check_authorization(parameters, invocation);
        else
                g_error("%s can stop the real polkitd for good: see daemon/mechanism/polkit.c", method);
}

static GVariant *on_property(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                             const char *name, GError **error, gpointer userdata)
{
        (void)connection;
        (void)sender;
        (void)path;
        (void)interface;
        (void)error;
        (void)userdata;
        return streq(name, "BackendFeatures") ? g_variant_new_uint32(0) : g_variant_new_string("fake");
}

static void export(GDBusNodeInfo *node, const char *path, const char *interface)
{
        static const GDBusInterfaceVTable vtable = { .method_call = on_method, .get_property = on_property };
        g_autoptr(GError) error = NULL;

        if (!g_dbus_connection_register_object(bus, path, g_dbus_node_info_lookup_interface(node, interface), &vtable,
                                               NULL, NULL, &error))
                g_error("%s: %s", path, error->message);
}

int main(void)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(introspection, &error);
        g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);

        g_assert_no_error(error);
        checks = g_ptr_array_new_with_free_func(check_free);
        verdicts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        /* It ends with the bus. */
        bus = g_bus_get_sync(G_BUS_TYPE_SYSTEM, NULL, &error);
        g_assert_no_error(error);
        g_dbus_connection_set_exit_on_close(bus, TRUE);
        export(node, POLKIT_PATH, POLKIT_INTERFACE);
        export(node, TEST_PATH, "org.loopmount1.test.Polkit");
        own_name();
        puts("ready");
        fflush(stdout);
        g_main_loop_run(loop);
        return 0;
}
