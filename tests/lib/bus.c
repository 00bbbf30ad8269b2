/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bus takes a connection for one of the user that connect(2) was called as.
 * So the socket is connected by a thread that is that user, and GDBus, whose process stays root, is kept from naming
 * another one when it authenticates (G_DBUS_CONNECTION_FLAGS_CROSS_NAMESPACE, GLib 2.74).
 */
#include "lib/bus.h"

#include <fcntl.h>
#include <gio/gunixconnection.h>
#include <gio/gunixfdlist.h>
#include <gio/gunixsocketaddress.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/wait.h"

#define UID_KEY "test-uid"

/* ---- connections ---- */

typedef struct Connecting {
        int fd;
        struct sockaddr_un address;
        int error;
} Connecting;

static void do_connect(gpointer userdata)
{
        Connecting *c = userdata;
        c->error = connect(c->fd, (struct sockaddr *)&c->address, sizeof(c->address)) < 0 ? errno : 0;
}

static int connect_socket_as(uid_t uid, const char *path)
{
        Connecting c = {
                .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                .address = { .sun_family = AF_UNIX },
        };

        g_assert_cmpint(c.fd, >=, 0);
        g_strlcpy(c.address.sun_path, path, sizeof(c.address.sun_path));
        test_do_as(uid, do_connect, &c);
        if (c.error != 0)
                g_error("connect %s: %s", path, g_strerror(c.error));
        return c.fd;
}

GDBusConnection *test_connect_as(uid_t uid)
{
        g_autoptr(GError) error = NULL;
        const char *address = g_getenv("DBUS_SYSTEM_BUS_ADDRESS");
        if (!address || !g_str_has_prefix(address, "unix:path="))
                g_error("not in the namespaces of tests/harness/namespaces");

        int fd = connect_socket_as(uid, address + strlen("unix:path="));
        g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, &error);
        g_assert_no_error(error);
        g_autoptr(GSocketConnection) stream = g_socket_connection_factory_create_connection(socket);
        GDBusConnectionFlags flags = G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                     G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION |
                                     G_DBUS_CONNECTION_FLAGS_CROSS_NAMESPACE;
        /* g_dbus_connection_new_sync() of GLib 2.74 does not know that flag; the object does. */
        GDBusConnection *bus =
                g_initable_new(G_TYPE_DBUS_CONNECTION, NULL, &error, "stream", stream, "flags", flags, NULL);
        g_assert_no_error(error);
        g_object_set_data(G_OBJECT(bus), UID_KEY, GUINT_TO_POINTER(uid));
        return bus;
}

uid_t test_bus_uid(GDBusConnection *bus)
{
        return (uid_t)GPOINTER_TO_UINT(g_object_get_data(G_OBJECT(bus), UID_KEY));
}

bool test_has_owner(GDBusConnection *bus, const char *name)
{
        g_autoptr(GError) error = NULL;
        gboolean has;

        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
                bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner",
                g_variant_new("(s)", name), G_VARIANT_TYPE("(b)"), G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
        g_assert_no_error(error);
        g_variant_get(reply, "(b)", &has);
        return has;
}

typedef struct Departure {
        GDBusConnection *watcher;
        char *name;
} Departure;

static bool has_left(gpointer userdata)
{
        Departure *departure = userdata;
        return !test_has_owner(departure->watcher, departure->name);
}

void test_disconnect(GDBusConnection *bus)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *name = g_strdup(g_dbus_connection_get_unique_name(bus));
        g_autoptr(GDBusConnection) watcher = test_connect_as(TEST_ROOT);

        g_dbus_connection_close_sync(bus, NULL, &error);
        g_assert_no_error(error);
        g_object_unref(bus);
        test_wait_quiet(has_left, &(Departure){ watcher, name }, "the bus to drop a connection");
}

/* ---- calls ---- */

TestCall *test_call_free(TestCall *call)
{
        if (!call)
                return NULL;
        /* Otherwise the answer would be written into freed memory. */
        g_assert_true(call->done);
        if (call->reply)
                g_variant_unref(call->reply);
        g_clear_error(&call->error);
        g_free(call);
        return NULL;
}

static void on_call_done(GObject *source, GAsyncResult *result, gpointer userdata)
{
        TestCall *call = userdata;
        call->reply =
                g_dbus_connection_call_with_unix_fd_list_finish(G_DBUS_CONNECTION(source), NULL, result, &call->error);
        call->done = true;
}

TestCall *test_call_start(GDBusConnection *bus, const char *path, const char *interface, const char *method,
                          GVariant *parameters, TestCallOptions options)
{
        TestCall *call = g_new0(TestCall, 1);
        g_autoptr(GError) error = NULL;
        g_autoptr(GUnixFDList) fds = NULL;
        GDBusCallFlags flags = G_DBUS_CALL_FLAGS_NO_AUTO_START;

        if (options.fd > 0) {
                fds = g_unix_fd_list_new();
                g_unix_fd_list_append(fds, options.fd, &error);
                g_assert_no_error(error);
        }
        if (options.interactive)
                flags |= G_DBUS_CALL_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION;
        g_dbus_connection_call_with_unix_fd_list(bus, BUS_NAME, path, interface, method, parameters, NULL, flags,
                                                 G_MAXINT, fds, NULL, on_call_done, call);
        return call;
}

static bool call_is_done(gpointer userdata)
{
        return ((TestCall *)userdata)->done;
}

void test_call_wait(TestCall *call)
{
        test_wait(call_is_done, call, "the reply of a call");
}

TestCall *test_call(GDBusConnection *bus, const char *path, const char *interface, const char *method,
                    GVariant *parameters, TestCallOptions options)
{
        TestCall *call = test_call_start(bus, path, interface, method, parameters, options);
        test_call_wait(call);
        return call;
}

GVariant *test_call_ok(GDBusConnection *bus, const char *path, const char *interface, const char *method,
                       GVariant *parameters)
{
        g_autoptr(TestCall) call = test_call(bus, path, interface, method, parameters, (TestCallOptions){ 0 });
        test_assert_succeeded(call);
        return g_variant_ref(call->reply);
}

void test_assert_succeeded(const TestCall *call)
{
        g_assert_true(call->done);
        g_assert_no_error(call->error);
        g_assert_nonnull(call->reply);
}

void test_assert_failed(const TestCall *call, const char *name, const char *pattern)
{
        g_assert_true(call->done);
        if (call->reply) {
                g_autofree char *text = g_variant_print(call->reply, TRUE);
                g_error("%s%s was expected, but it succeeded: %s", ERROR_PREFIX, name, text);
        }
        g_autofree char *wanted = g_strconcat(ERROR_PREFIX, name, NULL);
        g_autofree char *remote = g_dbus_error_get_remote_error(call->error);
        if (g_strcmp0(remote, wanted) != 0)
                g_error("%s was expected, not %s", wanted, call->error->message);

        g_autoptr(GError) stripped = g_error_copy(call->error);
        g_dbus_error_strip_remote_error(stripped);
        if (!g_pattern_match_simple(pattern, stripped->message))
                g_error("%s: the message was expected to match \"%s\": %s", remote, pattern, stripped->message);
}

/* ---- the API in short ---- */

GVariant *test_options(const char *text)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) options = g_variant_parse(G_VARIANT_TYPE_VARDICT, text ? text : "{}", NULL, NULL, &error);
        g_assert_no_error(error);
        g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(options);
        return g_variant_new_from_bytes(G_VARIANT_TYPE_VARDICT, bytes, TRUE);
}

TestCall *test_attach_start(GDBusConnection *bus, int fd, const char *options)
{
        return test_call_start(bus, ROOT_PATH, MANAGER, "Attach", g_variant_new("(h@a{sv})", 0, test_options(options)),
                               (TestCallOptions){ .fd = fd });
}

TestCall *test_attach(GDBusConnection *bus, int fd, const char *options)
{
        TestCall *call = test_attach_start(bus, fd, options);
        test_call_wait(call);
        return call;
}

char *test_attach_path(GDBusConnection *bus, const char *path, const char *options, char ***ret_mount_points)
{
        bool writable = options && strstr(options, "'read-only': <false>");
        _cleanup_close_ int fd = test_open_as(test_bus_uid(bus), path, writable ? O_RDWR : O_RDONLY);
        g_autoptr(TestCall) call = test_attach(bus, fd, options);
        test_assert_succeeded(call);

        char *image;
        g_auto(GStrv) mount_points = NULL;
        g_variant_get(call->reply, "(o^as)", &image, &mount_points);
        if (ret_mount_points)
                *ret_mount_points = g_steal_pointer(&mount_points);
        return image;
}

TestCall *test_simple_call_start(GDBusConnection *bus, const char *path, const char *interface, const char *method)
{
        return test_call_start(bus, path, interface, method, g_variant_new_parsed("(@a{sv} {},)"),
                               (TestCallOptions){ 0 });
}

TestCall *test_simple_call(GDBusConnection *bus, const char *path, const char *interface, const char *method)
{
        return test_call(bus, path, interface, method, g_variant_new_parsed("(@a{sv} {},)"), (TestCallOptions){ 0 });
}

GVariant *test_property(GDBusConnection *bus, const char *path, const char *interface, const char *name)
{
        g_autoptr(TestCall) call = test_call(bus, path, DBUS_PROPERTIES, "Get", g_variant_new("(ss)", interface, name),
                                             (TestCallOptions){ 0 });
        GVariant *value;

        if (!call->reply)
                return NULL;
        g_variant_get(call->reply, "(v)", &value);
        return value;
}

static GVariant *property_of_type(GDBusConnection *bus, const char *path, const char *interface, const char *name,
                                  const char *type)
{
        GVariant *value = test_property(bus, path, interface, name);
        if (!value)
                g_error("%s has no %s.%s", path, interface, name);
        if (type)
                g_assert_cmpstr(g_variant_get_type_string(value), ==, type);
        return value;
}

char *test_property_string(GDBusConnection *bus, const char *path, const char *interface, const char *name)
{
        g_autoptr(GVariant) value = property_of_type(bus, path, interface, name, NULL);
        return g_variant_dup_string(value, NULL);
}

guint64 test_property_number(GDBusConnection *bus, const char *path, const char *interface, const char *name)
{
        g_autoptr(GVariant) value = property_of_type(bus, path, interface, name, NULL);
        if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32))
                return g_variant_get_uint32(value);
        return g_variant_get_uint64(value);
}

bool test_property_bool(GDBusConnection *bus, const char *path, const char *interface, const char *name)
{
        g_autoptr(GVariant) value = property_of_type(bus, path, interface, name, "b");
        return g_variant_get_boolean(value);
}

char **test_property_strings(GDBusConnection *bus, const char *path, const char *interface, const char *name)
{
        g_autoptr(GVariant) value = property_of_type(bus, path, interface, name, "as");
        return g_variant_dup_strv(value, NULL);
}

static int compare_strings(gconstpointer a, gconstpointer b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **test_objects(GDBusConnection *bus, const char *interface)
{
        g_autoptr(GVariant) reply = test_call_ok(bus, ROOT_PATH, DBUS_OBJECT_MANAGER, "GetManagedObjects", NULL);
        g_autoptr(GVariant) objects = g_variant_get_child_value(reply, 0);
        GPtrArray *paths = g_ptr_array_new();
        const char *path;
        GVariant *interfaces;
        GVariantIter iter;

        g_variant_iter_init(&iter, objects);
        while (g_variant_iter_loop(&iter, "{&o@a{sa{sv}}}", &path, &interfaces)) {
                g_autoptr(GVariant) properties = g_variant_lookup_value(interfaces, interface, NULL);
                if (properties)
                        g_ptr_array_add(paths, g_strdup(path));
        }
        g_ptr_array_sort(paths, compare_strings);
        g_ptr_array_add(paths, NULL);
        return (char **)g_ptr_array_free(paths, FALSE);
}

char *test_volume_path(const char *image, unsigned number)
{
        return g_strdup_printf("%s/volume/%u", image, number);
}

/* ---- signals ---- */

static void signal_free(gpointer data)
{
        TestSignal *item = data;
        g_free(item->path);
        g_free(item->interface);
        g_free(item->member);
        g_variant_unref(item->parameters);
        g_free(item);
}

static void on_signal(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                      const char *member, GVariant *parameters, gpointer userdata)
{
        TestSignals *signals = userdata;
        TestSignal *item = g_new0(TestSignal, 1);

        (void)bus;
        (void)sender;
        item->path = g_strdup(path);
        item->interface = g_strdup(interface);
        item->member = g_strdup(member);
        item->parameters = g_variant_ref(parameters);
        g_ptr_array_add(signals->items, item);
}

TestSignals *test_signals_new(GDBusConnection *bus)
{
        TestSignals *signals = g_new0(TestSignals, 1);
        signals->bus = g_object_ref(bus);
        signals->items = g_ptr_array_new_with_free_func(signal_free);
        signals->subscription = g_dbus_connection_signal_subscribe(bus, BUS_NAME, NULL, NULL, NULL, NULL,
                                                                   G_DBUS_SIGNAL_FLAGS_NONE, on_signal, signals, NULL);
        /* The bus has the match rule when it has answered anything sent after it. */
        test_has_owner(bus, BUS_NAME);
        return signals;
}

TestSignals *test_signals_free(TestSignals *signals)
{
        if (!signals)
                return NULL;
        g_dbus_connection_signal_unsubscribe(signals->bus, signals->subscription);
        /* A signal that is already on its way to on_signal() may still come in. */
        test_dispatch();
        g_object_unref(signals->bus);
        g_ptr_array_unref(signals->items);
        g_free(signals);
        return NULL;
}

void test_signals_clear(TestSignals *signals)
{
        test_dispatch();
        g_ptr_array_set_size(signals->items, 0);
}

static bool concerns(const TestSignal *item, const char *member, const char *path, const char *interface)
{
        g_autoptr(GVariant) second = NULL;
        const char *object;

        if (!streq(item->interface, DBUS_OBJECT_MANAGER) || !streq(item->member, member))
                return false;
        if (streq(member, "InterfacesAdded")) {
                g_variant_get(item->parameters, "(&o@a{sa{sv}})", &object, &second);
                g_autoptr(GVariant) properties = g_variant_lookup_value(second, interface, NULL);
                return streq(object, path) && properties;
        }
        g_autofree const char **interfaces = NULL;
        g_variant_get(item->parameters, "(&o^a&s)", &object, &interfaces);
        return streq(object, path) && g_strv_contains(interfaces, interface);
}

unsigned test_signals_count(const TestSignals *signals, const char *member, const char *path, const char *interface)
{
        unsigned n = 0;
        for (guint i = 0; i < signals->items->len; i++)
                if (concerns(g_ptr_array_index(signals->items, i), member, path, interface))
                        n++;
        return n;
}

typedef struct Expectation {
        TestSignals *signals;
        const char *member;
        const char *path;
        const char *interface;
        const char *property;
        GVariant *value;
} Expectation;

static bool has_come(gpointer userdata)
{
        Expectation *e = userdata;
        return test_signals_count(e->signals, e->member, e->path, e->interface) > 0;
}

void test_signals_wait_added(TestSignals *signals, const char *path, const char *interface)
{
        g_autofree char *what = g_strdup_printf("InterfacesAdded %s %s", path, interface);
        test_wait(
                has_come,
                &(Expectation){ .signals = signals, .member = "InterfacesAdded", .path = path, .interface = interface },
                what);
}

void test_signals_wait_removed(TestSignals *signals, const char *path, const char *interface)
{
        g_autofree char *what = g_strdup_printf("InterfacesRemoved %s %s", path, interface);
        test_wait(has_come,
                  &(Expectation){
                          .signals = signals, .member = "InterfacesRemoved", .path = path, .interface = interface },
                  what);
}

static bool has_changed(gpointer userdata)
{
        Expectation *e = userdata;

        for (guint i = e->signals->items->len; i-- > 0;) {
                const TestSignal *item = g_ptr_array_index(e->signals->items, i);
                const char *interface;
                g_autoptr(GVariant) changed = NULL;

                if (!streq(item->member, "PropertiesChanged") || !streq(item->path, e->path))
                        continue;
                g_variant_get(item->parameters, "(&s@a{sv}^as)", &interface, &changed, NULL);
                if (!streq(interface, e->interface))
                        continue;
                e->value = g_variant_lookup_value(changed, e->property, NULL);
                if (e->value)
                        return true;
        }
        return false;
}

GVariant *test_signals_wait_changed(TestSignals *signals, const char *path, const char *interface, const char *name)
{
        g_autofree char *what = g_strdup_printf("PropertiesChanged %s %s.%s", path, interface, name);
        Expectation e = { .signals = signals, .path = path, .interface = interface, .property = name };

        test_wait(has_changed, &e, what);
        return e.value;
}
