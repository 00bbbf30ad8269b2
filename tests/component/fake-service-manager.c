/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * org.freedesktop.systemd1 on a session bus, as a test wants it: for what the real one
 * cannot be made to do. Units are links in the user's folder and a state; a test scripts, by
 * org.loopmount1.test.Manager at /org/loopmount1/test, what becomes of a job.
 *
 *   Script(ss)  what it is ("start", "stop": STATE RESULT CODE STATUS TEXT..., as a unit has them
 *               behind such a job; "result": the next job's own; "delay": how many ms one takes;
 *               "refuse": a method that fails), and how
 *   Calls() -> as  what has been called since, METHOD or METHOD UNIT
 *
 * As the real one does, it tells of jobs and units only who has subscribed; a started unit's
 * process says what it does some time behind the end of the job.
 *
 * "ready" on the standard output says that it owns the name.
 */
#include <stdio.h>
#include <unistd.h>

#include "lib/base.h"

#define NAME "org.freedesktop.systemd1"
#define ROOT "/org/freedesktop/systemd1"

static const char introspection[] =
        "<node>"
        "  <interface name='org.freedesktop.systemd1.Manager'>"
        "    <method name='Subscribe'/>"
        "    <method name='Reload'/>"
        "    <method name='EnableUnitFiles'>"
        "      <arg type='as' direction='in'/><arg type='b' direction='in'/><arg type='b' direction='in'/>"
        "      <arg type='b' direction='out'/><arg type='a(sss)' direction='out'/>"
        "    </method>"
        "    <method name='DisableUnitFiles'>"
        "      <arg type='as' direction='in'/><arg type='b' direction='in'/><arg type='a(sss)' direction='out'/>"
        "    </method>"
        "    <method name='LoadUnit'><arg type='s' direction='in'/><arg type='o' direction='out'/></method>"
        "    <method name='ResetFailedUnit'><arg type='s' direction='in'/></method>"
        "    <method name='RestartUnit'>"
        "      <arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='o' direction='out'/>"
        "    </method>"
        "    <method name='StopUnit'>"
        "      <arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='o' direction='out'/>"
        "    </method>"
        "  </interface>"
        "  <interface name='org.freedesktop.systemd1.Unit'>"
        "    <property name='ActiveState' type='s' access='read'/>"
        "  </interface>"
        "  <interface name='org.freedesktop.systemd1.Service'>"
        "    <property name='StatusText' type='s' access='read'/>"
        "    <property name='Result' type='s' access='read'/>"
        "    <property name='ExecMainCode' type='i' access='read'/>"
        "    <property name='ExecMainStatus' type='i' access='read'/>"
        "    <property name='ExecStart' type='a(sasbttttuii)' access='read'/>"
        "  </interface>"
        "  <interface name='org.loopmount1.test.Manager'>"
        "    <method name='Script'><arg type='s' direction='in'/><arg type='s' direction='in'/></method>"
        "    <method name='Calls'><arg type='as' direction='out'/></method>"
        "  </interface>"
        "</node>";

typedef struct Unit {
        char *name;
        char *path;
        char *state;
        char *result;
        char *text;
        gint32 code, status;
} Unit;

typedef struct Job {
        Unit *unit;
        char *path;
        bool is_start;
} Job;

static GDBusConnection *bus;
static GDBusNodeInfo *node;
static GHashTable *units; /* by name; they stay */
static GHashTable *script;
static GPtrArray *calls;
static bool is_subscribed;
static unsigned n_jobs;

static const char *scripted(const char *what, const char *otherwise)
{
        const char *how = g_hash_table_lookup(script, what);

        return how ? how : otherwise;
}

/* ---- Units ---- */

static void set_state(Unit *unit, const char *state, const char *result, int code, int status, const char *text)
{
        g_free(unit->state);
        g_free(unit->result);
        g_free(unit->text);
        unit->state = g_strdup(state);
        unit->result = g_strdup(result);
        unit->text = g_strdup(text);
        unit->code = code;
        unit->status = status;
}

static void set_state_as_scripted(Unit *unit, const char *how)
{
        g_auto(GStrv) words = g_strsplit(how, " ", 5);

        g_assert_cmpuint(g_strv_length(words), >=, 4);
        set_state(unit, words[0], words[1], atoi(words[2]), atoi(words[3]), words[4] ? words[4] : "");
}

/* The path that the name of a unit stands for. */
static char *image_of(const Unit *unit)
{
        g_autoptr(GString) image = g_string_new("/");
        const char *s = strchr(unit->name, '@') + 1;

        for (const char *end = strrchr(s, '.'); s < end; s++)
                if (strncmp(s, "\\x", 2) == 0) {
                        char digits[] = { s[2], s[3], 0 };

                        g_string_append_c(image, (char)strtol(digits, NULL, 16));
                        s += 3;
                } else
                        g_string_append_c(image, *s == '-' ? '/' : *s);
        return g_string_free(g_steal_pointer(&image), FALSE);
}

static GVariant *command_of(const Unit *unit)
{
        g_autofree char *image = image_of(unit);
        const char *const words[] = { "loopmount", "automount", "run", "--", image, NULL };

        return g_variant_new_parsed("[(%s, %^as, %b, %t, %t, %t, %t, %u, %i, %i)]", words[0], words, FALSE, (guint64)0,
                                    (guint64)0, (guint64)0, (guint64)0, (guint32)0, 0, 0);
}

static GVariant *on_property(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                             const char *name, GError **error, gpointer userdata)
{
        const Unit *unit = userdata;

        (void)connection, (void)sender, (void)path, (void)interface, (void)error;
        if (streq(name, "ActiveState"))
                return g_variant_new_string(unit->state);
        if (streq(name, "StatusText"))
                return g_variant_new_string(unit->text);
        if (streq(name, "Result"))
                return g_variant_new_string(unit->result);
        if (streq(name, "ExecMainCode"))
                return g_variant_new_int32(unit->code);
        if (streq(name, "ExecMainStatus"))
                return g_variant_new_int32(unit->status);
        return command_of(unit);
}

static Unit *unit_get(const char *name)
{
        static const GDBusInterfaceVTable vtable = { .get_property = on_property };
        Unit *unit = g_hash_table_lookup(units, name);

        if (unit)
                return unit;
        unit = g_new0(Unit, 1);
        unit->name = g_strdup(name);
        unit->path = g_strdup_printf(ROOT "/unit/%u", g_hash_table_size(units));
        set_state(unit, "inactive", "success", 0, 0, "");
        for (unsigned i = 1; i <= 2; i++)
                g_assert_cmpuint(g_dbus_connection_register_object(bus, unit->path, node->interfaces[i], &vtable, unit,
                                                                   NULL, NULL),
                                 >, 0);
        g_hash_table_insert(units, unit->name, unit);
        return unit;
}

static void set_enabled(const char *name, bool yes)
{
        g_autofree char *folder = g_build_filename(g_getenv("HOME"), ".config/systemd/user/default.target.wants", NULL);
        g_autofree char *link = g_build_filename(folder, name, NULL);

        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
        (void)unlink(link);
        if (yes)
                g_assert_cmpint(symlink("/nowhere", link), ==, 0);
}

/* ---- Jobs ---- */

static void emit(const char *path, const char *interface, const char *signal, GVariant *parameters)
{
        g_autoptr(GVariant) owned = g_variant_ref_sink(parameters);

        if (is_subscribed)
                g_dbus_connection_emit_signal(bus, NULL, path, interface, signal, owned, NULL);
}

static void tell_changed(const Unit *unit)
{
        emit(unit->path, "org.freedesktop.DBus.Properties", "PropertiesChanged",
             g_variant_new("(sa{sv}as)", NAME ".Unit", NULL, NULL));
}

static void tell_job_removed(const char *path, const char *unit, const char *result)
{
        emit(ROOT, NAME ".Manager", "JobRemoved", g_variant_new("(uoss)", 1, path, unit, result));
}

static gboolean on_said(gpointer userdata)
{
        set_state_as_scripted(userdata, scripted("start", "active success 0 0 Attached"));
        tell_changed(userdata);
        return G_SOURCE_REMOVE;
}

static gboolean on_job(gpointer userdata)
{
        Job *job = userdata;

        /* Another one's, which nobody here waits for. */
        tell_job_removed(ROOT "/job/0", "other.service", "failed");
        if (job->is_start) {
                set_state(job->unit, "active", "success", 0, 0, "");
                g_timeout_add(50, on_said, job->unit);
        } else
                set_state_as_scripted(job->unit, scripted("stop", "inactive success 1 0 Detaching"));
        tell_changed(job->unit);
        tell_job_removed(job->path, job->unit->name, scripted("result", "done"));
        g_free(job->path);
        g_free(job);
        return G_SOURCE_REMOVE;
}

static GVariant *begin_job(const char *name, bool is_start)
{
        Job *job = g_new0(Job, 1);

        job->unit = unit_get(name);
        job->path = g_strdup_printf(ROOT "/job/%u", ++n_jobs);
        job->is_start = is_start;
        g_timeout_add((guint)atoi(scripted("delay", "0")), on_job, job);
        return g_variant_new("(o)", job->path);
}

/* ---- Methods ---- */

/* NULL for those that are about none. */
static char *unit_in(GVariant *parameters)
{
        g_auto(GStrv) names = NULL;
        char *name = NULL;

        if (g_variant_n_children(parameters) == 0)
                return NULL;
        g_autoptr(GVariant) first = g_variant_get_child_value(parameters, 0);
        if (g_variant_is_of_type(first, G_VARIANT_TYPE_STRING))
                return g_variant_dup_string(first, NULL);
        names = g_variant_dup_strv(first, NULL);
        name = g_strdup(names[0]);
        return name;
}

static GVariant *manager_method(const char *method, const char *unit)
{
        if (streq(method, "Subscribe"))
                is_subscribed = true;
        if (streq(method, "EnableUnitFiles") || streq(method, "DisableUnitFiles"))
                set_enabled(unit, streq(method, "EnableUnitFiles"));
        if (streq(method, "EnableUnitFiles"))
                return g_variant_new("(ba(sss))", TRUE, NULL);
        if (streq(method, "DisableUnitFiles"))
                return g_variant_new("(a(sss))", NULL);
        if (streq(method, "LoadUnit"))
                return g_variant_new("(o)", unit_get(unit)->path);
        if (streq(method, "ResetFailedUnit"))
                set_state(unit_get(unit), "inactive", "success", 0, 0, "");
        if (streq(method, "RestartUnit") || streq(method, "StopUnit"))
                return begin_job(unit, streq(method, "RestartUnit"));
        return NULL;
}

static GVariant *test_method(const char *method, GVariant *parameters)
{
        const char *what, *how;

        if (streq(method, "Script")) {
                g_variant_get(parameters, "(&s&s)", &what, &how);
                g_hash_table_replace(script, g_strdup(what), g_strdup(how));
                return NULL;
        }
        g_ptr_array_add(calls, NULL);
        GVariant *reply = g_variant_new("(^as)", calls->pdata);
        g_ptr_array_set_size(calls, 0);
        return reply;
}

static void on_method(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                      const char *method, GVariant *parameters, GDBusMethodInvocation *invocation, gpointer userdata)
{
        g_autofree char *unit = NULL;

        (void)connection, (void)sender, (void)path, (void)userdata;
        if (!streq(interface, NAME ".Manager")) {
                g_dbus_method_invocation_return_value(invocation, test_method(method, parameters));
                return;
        }
        unit = unit_in(parameters);
        g_ptr_array_add(calls, g_strjoin(unit ? " " : "", method, unit ? unit : "", NULL));
        if (streq(method, scripted("refuse", "")))
                g_dbus_method_invocation_return_dbus_error(invocation, "org.freedesktop.DBus.Error.AccessDenied",
                                                           "as the test wanted it");
        else
                g_dbus_method_invocation_return_value(invocation, manager_method(method, unit));
}

static void export(const char *path, GDBusInterfaceInfo *interface)
{
        static const GDBusInterfaceVTable vtable = { .method_call = on_method };
        g_autoptr(GError) error = NULL;

        g_dbus_connection_register_object(bus, path, interface, &vtable, NULL, NULL, &error);
        g_assert_no_error(error);
}

static void on_owned(GDBusConnection *connection, const char *name, gpointer userdata)
{
        (void)connection, (void)name, (void)userdata;
        puts("ready");
        fflush(stdout);
}

int main(void)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);

        node = g_dbus_node_info_new_for_xml(introspection, &error);
        g_assert_no_error(error);
        units = g_hash_table_new(g_str_hash, g_str_equal);
        script = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        calls = g_ptr_array_new_with_free_func(g_free);
        /* It ends with the bus. */
        bus = g_bus_get_sync(G_BUS_TYPE_SESSION, NULL, &error);
        g_assert_no_error(error);
        g_dbus_connection_set_exit_on_close(bus, TRUE);
        export(ROOT, node->interfaces[0]);
        export("/org/loopmount1/test", node->interfaces[3]);
        g_bus_own_name_on_connection(bus, NAME, G_BUS_NAME_OWNER_FLAGS_NONE, on_owned, NULL, NULL, NULL);
        g_main_loop_run(loop);
        return 0;
}
