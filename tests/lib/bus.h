/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clients of the daemon, of any user, all in the test's own process. GDBus is
 * used on purpose: an implementation of D-Bus that is not the daemon's.
 */
#pragma once

#include "lib/user.h"

#define BUS_NAME "org.loopmount1"
#define ROOT_PATH "/org/loopmount1"
#define MANAGER "org.loopmount1.Manager"
#define IMAGE "org.loopmount1.Image"
#define VOLUME "org.loopmount1.Volume"
#define ERROR_PREFIX "org.loopmount1.Error."

#define DBUS_INTROSPECTABLE "org.freedesktop.DBus.Introspectable"
#define DBUS_OBJECT_MANAGER "org.freedesktop.DBus.ObjectManager"
#define DBUS_PROPERTIES "org.freedesktop.DBus.Properties"

/* A connection that the bus takes for one of @uid. */
GDBusConnection *test_connect_as(uid_t uid);

/* Closes a connection as a client that goes away does, and waits until the bus has noticed. */
void test_disconnect(GDBusConnection *bus);

/* Whether @name has an owner now. */
bool test_has_owner(GDBusConnection *bus, const char *name);

/* ---- calls ---- */

typedef struct TestCall {
        bool done;
        GVariant *reply; /* a tuple; NULL: it failed */
        GError *error;
} TestCall;

TestCall *test_call_free(TestCall *call);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestCall, test_call_free)

typedef struct TestCallOptions {
        int fd;           /* passed along as index 0 of a h argument; none if 0 */
        bool interactive; /* ALLOW_INTERACTIVE_AUTHORIZATION */
} TestCallOptions;

/*
 * Calls a method of the daemon and comes back at once. @parameters: a tuple,
 * floating or NULL. The call goes on when the default main context runs. It must
 * not be freed before it is done.
 */
TestCall *test_call_start(GDBusConnection *bus, const char *path, const char *interface, const char *method,
                          GVariant *parameters, TestCallOptions options);

/* Waits until it is done. */
void test_call_wait(TestCall *call);

/* Both of the above. */
TestCall *test_call(GDBusConnection *bus, const char *path, const char *interface, const char *method,
                    GVariant *parameters, TestCallOptions options);

/* The same for a call that has to succeed: gives the reply. */
GVariant *test_call_ok(GDBusConnection *bus, const char *path, const char *interface, const char *method,
                       GVariant *parameters);

/*
 * Aborts the test unless @call failed with org.loopmount1.Error.@name and the
 * glob @pattern matches the message.
 */
void test_assert_failed(const TestCall *call, const char *name, const char *pattern);

/* Aborts the test, showing the error, unless @call succeeded. */
void test_assert_succeeded(const TestCall *call);

/* ---- the API in short ---- */

/* An a{sv} from GVariant text: "{'mount': <false>}"; NULL: empty. Floating, as g_variant_new() gives it. */
GVariant *test_options(const char *text);

/* Attach of @fd with options as above. */
TestCall *test_attach_start(GDBusConnection *bus, int fd, const char *options);
TestCall *test_attach(GDBusConnection *bus, int fd, const char *options);

/* The same, opening @path as the owner of @bus and requiring success: gives the image's path. */
char *test_attach_path(GDBusConnection *bus, const char *path, const char *options, char ***ret_mount_points);

/* A method of the daemon that takes nothing but options, without any. */
TestCall *test_simple_call_start(GDBusConnection *bus, const char *path, const char *interface, const char *method);
TestCall *test_simple_call(GDBusConnection *bus, const char *path, const char *interface, const char *method);

/* A property, or NULL if the object or the property is not there. */
GVariant *test_property(GDBusConnection *bus, const char *path, const char *interface, const char *name);
char *test_property_string(GDBusConnection *bus, const char *path, const char *interface, const char *name);
guint64 test_property_number(GDBusConnection *bus, const char *path, const char *interface, const char *name);
bool test_property_bool(GDBusConnection *bus, const char *path, const char *interface, const char *name);
char **test_property_strings(GDBusConnection *bus, const char *path, const char *interface, const char *name);

/* The object paths that implement @interface, sorted. */
char **test_objects(GDBusConnection *bus, const char *interface);

/* IMAGE/volume/NUMBER */
char *test_volume_path(const char *image, unsigned number);

/* The uid that @bus belongs to. */
uid_t test_bus_uid(GDBusConnection *bus);

/* ---- signals ---- */

typedef struct TestSignal {
        char *path;
        char *interface;
        char *member;
        GVariant *parameters;
} TestSignal;

/* Every signal of the daemon, in order, from now on. */
typedef struct TestSignals {
        GDBusConnection *bus;
        guint subscription;
        GPtrArray *items; /* TestSignal */
} TestSignals;

TestSignals *test_signals_new(GDBusConnection *bus);
TestSignals *test_signals_free(TestSignals *signals);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestSignals, test_signals_free)

/* Forgets what came so far. */
void test_signals_clear(TestSignals *signals);

/* How many InterfacesAdded (Removed) there were for exactly the object @path and @interface. */
unsigned test_signals_count(const TestSignals *signals, const char *member, const char *path, const char *interface);

/* Waits for InterfacesAdded, InterfacesRemoved of the object and interface. */
void test_signals_wait_added(TestSignals *signals, const char *path, const char *interface);
void test_signals_wait_removed(TestSignals *signals, const char *path, const char *interface);

/* Waits for a PropertiesChanged that gives @name; gives its latest value there. */
GVariant *test_signals_wait_changed(TestSignals *signals, const char *path, const char *interface, const char *name);
