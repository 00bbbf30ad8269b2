/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * "loopmount open": the client as ann runs it, with a session bus of her own, on
 * which this test is the notification service and the file manager; xdg-open and
 * zenity are scripts that write down what they were given.
 */
#include "lib/ground.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define NOTIFICATIONS "org.freedesktop.Notifications"
#define NOTIFICATIONS_PATH "/org/freedesktop/Notifications"
#define FILE_MANAGER "org.freedesktop.FileManager1"
#define FILE_MANAGER_PATH "/org/freedesktop/FileManager1"

static const char introspection[] = "<node>"
                                    "  <interface name='org.freedesktop.Notifications'>"
                                    "    <method name='GetCapabilities'><arg type='as' direction='out'/></method>"
                                    "    <method name='Notify'>"
                                    "      <arg type='s' direction='in'/><arg type='u' direction='in'/>"
                                    "      <arg type='s' direction='in'/><arg type='s' direction='in'/>"
                                    "      <arg type='s' direction='in'/><arg type='as' direction='in'/>"
                                    "      <arg type='a{sv}' direction='in'/><arg type='i' direction='in'/>"
                                    "      <arg type='u' direction='out'/>"
                                    "    </method>"
                                    "    <method name='CloseNotification'><arg type='u' direction='in'/></method>"
                                    "  </interface>"
                                    "  <interface name='org.freedesktop.FileManager1'>"
                                    "    <method name='ShowFolders'>"
                                    "      <arg type='as' direction='in'/><arg type='s' direction='in'/>"
                                    "    </method>"
                                    "  </interface>"
                                    "</node>";

/* Of one test. */
typedef struct Desk {
        GPid bus_pid;
        char *address;
        GDBusConnection *bus;
        guint objects[2];
        const char *const *capabilities;

        guint32 last_id, closed_id; /* of notifications */
        unsigned n_notified;
        char *summary, *body;
        char **actions;
        guchar urgency;

        unsigned n_shown; /* folders */
        char *shown;
} Desk;

static const char *const all_capabilities[] = { "body", "body-markup", "actions", NULL };
static const char *const few_capabilities[] = { "body", NULL };

static void on_notify(Desk *desk, GVariant *parameters)
{
        g_autoptr(GVariant) hints = NULL;

        g_clear_pointer(&desk->summary, g_free);
        g_clear_pointer(&desk->body, g_free);
        g_clear_pointer(&desk->actions, g_strfreev);
        g_variant_get(parameters, "(susss^as@a{sv}i)", NULL, NULL, NULL, &desk->summary, &desk->body, &desk->actions,
                      &hints, NULL);
        desk->urgency = 255;
        g_variant_lookup(hints, "urgency", "y", &desk->urgency);
        desk->last_id++;
        desk->n_notified++;
}

static void on_call(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                    const char *method, GVariant *parameters, GDBusMethodInvocation *invocation, gpointer userdata)
{
        Desk *desk = userdata;
        GVariant *reply = NULL;

        (void)bus, (void)sender, (void)path, (void)interface;
        if (streq(method, "GetCapabilities")) {
                reply = g_variant_new("(^as)", desk->capabilities);
        } else if (streq(method, "Notify")) {
                on_notify(desk, parameters);
                reply = g_variant_new("(u)", desk->last_id);
        } else if (streq(method, "CloseNotification")) {
                g_variant_get(parameters, "(u)", &desk->closed_id);
        } else {
                g_auto(GStrv) uris = NULL;
                g_variant_get(parameters, "(^as&s)", &uris, NULL);
                g_assert_cmpuint(g_strv_length(uris), ==, 1);
                g_free(desk->shown);
                desk->shown = g_strdup(uris[0]);
                desk->n_shown++;
        }
        g_dbus_method_invocation_return_value(invocation, reply);
}

static void ask_bus(Desk *desk, const char *method, GVariant *parameters)
{
        g_autoptr(GError) error = NULL;
        GVariant *reply =
                g_dbus_connection_call_sync(desk->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                            "org.freedesktop.DBus", method, parameters, NULL, 0, -1, NULL, &error);

        g_assert_no_error(error);
        g_variant_unref(reply);
}

static void own(Desk *desk, const char *name)
{
        ask_bus(desk, "RequestName", g_variant_new("(su)", name, 4));
}

static void disown(Desk *desk, const char *name)
{
        ask_bus(desk, "ReleaseName", g_variant_new("(s)", name));
}

/* ---- the session bus ---- */

static const char bus_configuration[] =
        "<busconfig><type>session</type><listen>unix:dir=%s</listen><auth>EXTERNAL</auth>"
        "<policy context='default'><allow user='*'/><allow own='*'/><allow send_destination='*' eavesdrop='true'/>"
        "<allow receive_sender='*'/></policy></busconfig>";

static void start_bus(Desk *desk)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *folder = test_folder("session");
        g_autofree char *file = g_build_filename(folder, "bus.conf", NULL);
        g_autofree char *text = g_strdup_printf(bus_configuration, folder);
        g_autofree char *option = g_strconcat("--config-file=", file, NULL);
        const char *argv[] = { "dbus-daemon", "--nofork", "--print-address=1", option, NULL };
        char address[512];
        size_t n = 0;
        int fd;

        g_assert_true(g_file_set_contents(file, text, -1, NULL));
        g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                 &desk->bus_pid, NULL, &fd, NULL, &error);
        g_assert_no_error(error);
        while (n < sizeof(address) - 1 && read(fd, address + n, 1) == 1 && address[n] != '\n')
                n++;
        address[n] = 0;
        close(fd);
        desk->address = g_strdup(address);
        desk->bus = g_dbus_connection_new_for_address_sync(desk->address,
                                                           G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                                                   G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                                                           NULL, NULL, &error);
        g_assert_no_error(error);
}

static Desk *desk_new(const char *const *capabilities)
{
        static const GDBusInterfaceVTable vtable = { .method_call = on_call };
        GDBusNodeInfo *info = g_dbus_node_info_new_for_xml(introspection, NULL);
        Desk *desk = g_new0(Desk, 1);

        start_bus(desk);
        desk->capabilities = capabilities;
        desk->objects[0] = g_dbus_connection_register_object(desk->bus, NOTIFICATIONS_PATH, info->interfaces[0],
                                                             &vtable, desk, NULL, NULL);
        desk->objects[1] = g_dbus_connection_register_object(desk->bus, FILE_MANAGER_PATH, info->interfaces[1], &vtable,
                                                             desk, NULL, NULL);
        g_dbus_node_info_unref(info);
        own(desk, NOTIFICATIONS);
        own(desk, FILE_MANAGER);
        return desk;
}

static void desk_free(Desk *desk)
{
        g_autofree char *folder = test_path("session");

        for (size_t i = 0; i < ELEMENTSOF(desk->objects); i++)
                g_dbus_connection_unregister_object(desk->bus, desk->objects[i]);
        g_dbus_connection_close_sync(desk->bus, NULL, NULL);
        g_object_unref(desk->bus);
        kill(desk->bus_pid, SIGTERM);
        waitpid(desk->bus_pid, NULL, 0);
        test_run("rm", "-rf", folder, NULL);
        g_free(desk->address);
        g_free(desk->summary);
        g_free(desk->body);
        g_strfreev(desk->actions);
        g_free(desk->shown);
        g_free(desk);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Desk, desk_free)

/* ---- the client ---- */

typedef struct Client {
        GSubprocess *process;
        bool ended;
        char *errors;
} Client;

static void on_ended(GObject *source, GAsyncResult *result, gpointer userdata)
{
        Client *client = userdata;

        g_subprocess_communicate_utf8_finish(G_SUBPROCESS(source), result, NULL, &client->errors, NULL);
        client->ended = true;
}

/* Where the scripts are that stand for programs of the desktop. */
static char *program_path(void)
{
        g_autofree char *folder = test_path("programs");

        return g_strdup_printf("%s:/usr/sbin:/usr/bin:/sbin:/bin", folder);
}

static Client *client_start(const Desk *desk, const char *verb, const char *option, const char *file)
{
        g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDERR_PIPE);
        g_autofree char *reuid = g_strdup_printf("--reuid=%u", TEST_ANN);
        g_autofree char *regid = g_strdup_printf("--regid=%u", TEST_ANN);
        g_autofree char *path = program_path();
        const char *argv[] = { "setpriv", reuid,  regid, "--clear-groups", "--", g_getenv("LOOPMOUNT"), verb,
                               file,      option, NULL };
        g_autoptr(GError) error = NULL;
        Client *client = g_new0(Client, 1);

        if (desk)
                g_subprocess_launcher_setenv(launcher, "DBUS_SESSION_BUS_ADDRESS", desk->address, true);
        else
                g_subprocess_launcher_setenv(launcher, "DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere", true);
        g_subprocess_launcher_setenv(launcher, "PATH", path, true);
        g_subprocess_launcher_setenv(launcher, "DISPLAY", ":77", true);
        client->process = g_subprocess_launcher_spawnv(launcher, argv, &error);
        g_assert_no_error(error);
        g_subprocess_communicate_utf8_async(client->process, NULL, NULL, on_ended, client);
        return client;
}

/* Waits for its end, and for this exit code. */
static void client_end(Client *client, int code)
{
        test_wait_flag(&client->ended, "loopmount to end");
        g_assert_true(g_subprocess_get_if_exited(client->process));
        if (g_subprocess_get_exit_status(client->process) != code)
                g_error("it ended with %d, not %d: %s", g_subprocess_get_exit_status(client->process), code,
                        client->errors);
        g_object_unref(client->process);
        g_free(client->errors);
        g_free(client);
}

typedef struct Count {
        const unsigned *value;
        unsigned wanted;
} Count;

static bool has_count(gpointer userdata)
{
        const Count *count = userdata;

        return *count->value >= count->wanted;
}

static void wait_count(const unsigned *value, unsigned wanted, const char *what)
{
        test_wait(has_count, &(Count){ value, wanted }, what);
}

static void emit(Desk *desk, const char *signal, GVariant *parameters)
{
        g_assert_true(g_dbus_connection_emit_signal(desk->bus, NULL, NOTIFICATIONS_PATH, NOTIFICATIONS, signal,
                                                    parameters, NULL));
}

static void choose(Desk *desk, const char *action)
{
        emit(desk, "ActionInvoked", g_variant_new("(us)", desk->last_id, action));
}

/* A program that writes its arguments into a file, one a line, and exits with @code. */
static void make_program(const char *name, int code)
{
        g_autofree char *folder = test_path("programs");
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *text = g_strdup_printf("#!/bin/sh\nprintf '%%s\\n' \"$@\" >>%s.called\nexit %d\n", path, code);

        g_mkdir_with_parents(folder, 0777);
        g_assert_cmpint(chmod(folder, 0777), ==, 0);
        g_assert_true(g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, 0755, NULL));
        g_assert_cmpint(chmod(path, 0755), ==, 0);
}

static char *what_program_got(const char *name)
{
        g_autofree char *path = g_strdup_printf("%s/programs/%s.called", g_getenv("LOOPMOUNT_TEST_DIR"), name);
        char *text = NULL;

        g_file_get_contents(path, &text, NULL, NULL);
        return text;
}

static void remove_programs(void)
{
        g_autofree char *folder = test_path("programs");

        test_run("rm", "-rf", folder, NULL);
}

/* ---- tests ---- */

static void test_eject(TestGround *g, gconstpointer userdata)
{
        g_autoptr(Desk) desk = desk_new(all_capabilities);
        g_autofree char *file = test_image_ext4("disk.img", "LABEL", TEST_ANN);
        Client *client = client_start(desk, "open", NULL, file);
        struct statvfs file_system;

        (void)userdata;
        wait_count(&desk->n_notified, 1, "the notification");
        g_assert_cmpstr(desk->shown, ==, "file:///run/media/ann/LABEL");
        g_assert_cmpstr(desk->summary, ==, "disk.img is open");
        g_assert_cmpstr(desk->body, ==, "LABEL (read-only)");
        g_assert_cmpuint(desk->urgency, ==, 1);
        g_assert_cmpuint(g_strv_length(desk->actions), ==, 4);
        g_assert_true(g_strv_contains((const char *const *)desk->actions, "open"));
        g_assert_true(g_strv_contains((const char *const *)desk->actions, "eject"));
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        g_assert_cmpint(statvfs("/run/media/ann/LABEL", &file_system), ==, 0);
        g_assert_true(file_system.f_flag & ST_NOEXEC);

        choose(desk, "open");
        wait_count(&desk->n_shown, 2, "the folder to be shown again");
        choose(desk, "eject");
        client_end(client, 0);
        g_assert_cmpuint(desk->closed_id, ==, 1);
        g_assert_cmpuint(desk->n_notified, ==, 1);
        g_assert_cmpuint(test_count_loops(), ==, 0);
        unlink(file);
        (void)g;
}

static void test_again(TestGround *g, gconstpointer userdata)
{
        g_autoptr(Desk) desk = desk_new(all_capabilities);
        g_autofree char *file = test_image_ext4("disk.img", "LABEL", TEST_ANN);
        Client *first = client_start(desk, "open", NULL, file);

        (void)userdata;
        wait_count(&desk->n_notified, 1, "the notification");
        client_end(client_start(desk, "open", NULL, file), 0);
        g_assert_cmpuint(desk->n_shown, ==, 2);
        g_assert_cmpuint(desk->n_notified, ==, 1);
        g_assert_cmpuint(test_count_loops(), ==, 1);

        /* Somebody else's notification is none of its business. */
        emit(desk, "NotificationClosed", g_variant_new("(uu)", 77, 2));
        emit(desk, "ActionInvoked", g_variant_new("(us)", 77, "eject"));
        test_dispatch();
        g_assert_false(first->ended);

        /* Closed, it leaves, and the image stays; opened again, it is told of again. */
        emit(desk, "NotificationClosed", g_variant_new("(uu)", desk->last_id, 2));
        client_end(first, 0);
        g_assert_cmpuint(test_count_loops(), ==, 1);
        first = client_start(desk, "open", NULL, file);
        wait_count(&desk->n_notified, 2, "another notification");

        /* Detached by somebody else. */
        g_auto(GStrv) images = test_objects(g->root, IMAGE);
        test_detach(g->ann, images[0]);
        client_end(first, 0);
        g_assert_cmpuint(desk->closed_id, ==, 2);
        unlink(file);
}

/* The service goes: nobody will ever answer. */
static void test_service_gone(TestGround *g, gconstpointer userdata)
{
        g_autoptr(Desk) desk = desk_new(all_capabilities);
        g_autofree char *file = test_image_ext4("disk.img", "LABEL", TEST_ANN);
        Client *client = client_start(desk, "open", NULL, file);

        (void)userdata;
        wait_count(&desk->n_notified, 1, "the notification");
        disown(desk, NOTIFICATIONS);
        client_end(client, 0);

        /* Without one, or one without actions, there is nothing to stay for. */
        client_end(client_start(desk, "open", NULL, file), 0);
        own(desk, NOTIFICATIONS);
        desk->capabilities = few_capabilities;
        client_end(client_start(desk, "open", NULL, file), 0);
        g_assert_cmpuint(desk->n_notified, ==, 2);
        g_assert_cmpuint(g_strv_length(desk->actions), ==, 0);
        g_assert_cmpuint(desk->n_shown, ==, 3);
        g_auto(GStrv) images = test_objects(g->root, IMAGE);
        test_detach(g->ann, images[0]);
        unlink(file);
}

/* What is markup, or means something in a URI, comes through as what it is. */
static void test_hostile(TestGround *g, gconstpointer userdata)
{
        g_autoptr(Desk) desk = desk_new(all_capabilities);
        g_autofree char *file = test_image_ext4("<b>\"x&amp;\x1b\xff.img", "<i>'&%2e#?\\\xc3\xa4", TEST_ANN);
        Client *client = client_start(desk, "open", NULL, file);

        (void)userdata, (void)g;
        wait_count(&desk->n_notified, 1, "the notification");
        g_assert_cmpstr(desk->summary, ==, "<b>\"x&amp;\\x1b\\xff.img is open");
        g_assert_null(strpbrk(desk->body, "<>\"'"));
        g_assert_true(g_str_has_prefix(desk->body, "&lt;i&gt;&#39;&amp;%2e#?"));
        /* Read by somebody else, it is the very folder. */
        g_autofree char *folder = g_filename_from_uri(desk->shown, NULL, NULL);
        test_assert_hello(TEST_ANN, folder);
        g_assert_null(strpbrk(desk->shown, "<>&#?'\\"));
        choose(desk, "eject");
        client_end(client, 0);

        /* A service that knows no markup would show the escapes. */
        desk->capabilities = (const char *const[]){ "body", "actions", NULL };
        client = client_start(desk, "open", NULL, file);
        wait_count(&desk->n_notified, 2, "the notification");
        g_assert_true(g_str_has_prefix(desk->body, "<i>'&%2e#?"));
        choose(desk, "eject");
        client_end(client, 0);
        unlink(file);
}

static void test_several(TestGround *g, gconstpointer userdata)
{
        const char *labels[] = { "ONE", "TWO", NULL };
        g_autoptr(Desk) desk = desk_new(all_capabilities);
        g_autofree char *file = test_image_partitioned("disk.img", "gpt", labels, TEST_ANN);
        Client *client = client_start(desk, "open", "--writable", file);

        (void)userdata, (void)g;
        wait_count(&desk->n_notified, 1, "the notification");
        g_assert_cmpstr(desk->shown, ==, "file:///run/media/ann");
        g_assert_cmpstr(desk->body, ==, "ONE (writable)\nTWO (writable)");
        /* Its owner has it writable: that will do for who wants to read. */
        client_end(client_start(desk, "open", NULL, file), 0);
        g_assert_cmpuint(desk->n_notified, ==, 1);
        choose(desk, "eject");
        client_end(client, 0);
        unlink(file);
}

static void test_busy(TestGround *g, gconstpointer userdata)
{
        g_autoptr(Desk) desk = desk_new(all_capabilities);
        g_autofree char *file = test_image_ext4("disk.img", "LABEL", TEST_ANN);
        Client *client = client_start(desk, "open", NULL, file);

        (void)userdata, (void)g;
        wait_count(&desk->n_notified, 1, "the notification");
        int fd = test_open_as(TEST_ANN, "/run/media/ann/LABEL/hello", O_RDONLY);
        choose(desk, "eject");
        wait_count(&desk->n_notified, 2, "the error");
        g_assert_cmpstr(desk->summary, ==, "disk.img: cannot be ejected");
        g_assert_nonnull(strstr(desk->body, "in use"));
        g_assert_cmpuint(desk->urgency, ==, 2);
        /* From the menu it is told as well. */
        client_end(client_start(desk, "detach", "--notify", file), 4);
        g_assert_cmpuint(desk->n_notified, ==, 3);
        desk->last_id = 2;
        close(fd);
        choose(desk, "eject");
        client_end(client, 0);
        unlink(file);
}

static void assert_refused(Desk *desk, const char *verb, const char *option, const char *file, int code,
                           const char *words)
{
        unsigned before = desk->n_notified;

        client_end(client_start(desk, verb, option, file), code);
        g_assert_cmpuint(desk->n_notified, ==, before + 1);
        g_assert_cmpuint(desk->urgency, ==, 2);
        if (!strstr(desk->body, words))
                g_error("'%s' is not in '%s'", words, desk->body);
}

static void test_errors(TestGround *g, gconstpointer userdata)
{
        g_autoptr(Desk) desk = desk_new(all_capabilities);
        g_autofree char *garbage = test_image_empty("zeros.img", 1 << 20, TEST_ANN);
        g_autofree char *short_one = test_image_bytes("short.img", "x", 1, TEST_ANN);
        g_autofree char *file = test_image_ext4("disk.img", "LABEL", TEST_ANN);

        (void)userdata;
        assert_refused(desk, "open", NULL, garbage, 6, "nothing to mount");
        assert_refused(desk, "open", NULL, short_one, 6, "short.img: ");
        assert_refused(desk, "open", NULL, "/nowhere/x.img", 5, "x.img: No such file");
        assert_refused(desk, "detach", "--notify", file, 5, "disk.img: is not attached");
        g_assert_cmpuint(test_count_loops(), ==, 0);

        g_autofree char *read_only = test_attach_path(g->ann, file, NULL, NULL);
        assert_refused(desk, "open", "--writable", file, 4, "read-only");
        test_detach(g->ann, read_only);
        g_assert_cmpuint(desk->n_shown, ==, 0);
        unlink(garbage);
        unlink(short_one);
        unlink(file);
}

/* Nobody to notify: a dialog. */
static void test_dialog(TestGround *g, gconstpointer userdata)
{
        g_autoptr(Desk) desk = desk_new(all_capabilities);
        g_autofree char *zeros = test_image_empty("zeros.img", 1 << 20, TEST_ANN);
        g_autofree char *said = NULL, *said_too = NULL;

        (void)userdata, (void)g;
        make_program("zenity", 0);
        disown(desk, NOTIFICATIONS);
        client_end(client_start(desk, "open", NULL, zeros), 6);
        said = what_program_got("zenity");
        g_assert_nonnull(said);
        g_assert_nonnull(strstr(said, "--no-markup\n"));
        g_assert_nonnull(strstr(said, "--text=zeros.img: cannot be opened\n"));
        g_assert_nonnull(strstr(said, "nothing to mount"));
        remove_programs();

        /* Not even a session bus, and no zenity. */
        make_program("xmessage", 0);
        client_end(client_start(NULL, "open", NULL, zeros), 6);
        said_too = what_program_got("xmessage");
        g_assert_nonnull(said_too);
        g_assert_nonnull(strstr(said_too, "nothing to mount"));
        remove_programs();
        unlink(zeros);
}

/* No file manager runs that would know the interface. */
static void test_xdg_open(TestGround *g, gconstpointer userdata)
{
        g_autoptr(Desk) desk = desk_new(few_capabilities);
        g_autofree char *file = test_image_ext4("disk.img", "LABEL", TEST_ANN);
        g_autofree char *got = NULL;

        (void)userdata;
        disown(desk, FILE_MANAGER);
        make_program("xdg-open", 0);
        client_end(client_start(desk, "open", NULL, file), 0);
        got = what_program_got("xdg-open");
        g_assert_cmpstr(got, ==, "/run/media/ann/LABEL\n");
        g_assert_cmpuint(desk->n_notified, ==, 1);

        /* And where that fails, it says so, and where the files are. */
        remove_programs();
        make_program("xdg-open", 4);
        client_end(client_start(desk, "open", NULL, file), 1);
        g_assert_cmpuint(desk->urgency, ==, 2);
        g_assert_nonnull(strstr(desk->body, "no file manager could be started"));
        remove_programs();
        g_auto(GStrv) images = test_objects(g->root, IMAGE);
        test_detach(g->ann, images[0]);
        unlink(file);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/open/eject", NULL, test_eject);
        TEST_ADD("/open/again", NULL, test_again);
        TEST_ADD("/open/service-gone", NULL, test_service_gone);
        TEST_ADD("/open/hostile", NULL, test_hostile);
        TEST_ADD("/open/several", NULL, test_several);
        TEST_ADD("/open/busy", NULL, test_busy);
        TEST_ADD("/open/errors", NULL, test_errors);
        TEST_ADD("/open/dialog", NULL, test_dialog);
        TEST_ADD("/open/xdg-open", NULL, test_xdg_open);
        return g_test_run();
}
