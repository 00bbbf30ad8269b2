/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Coming when it is called and going when there is nothing to do, without losing a
 * call between the two. The bus starts the daemon here.
 */
#include "lib/ground.h"
#include "lib/rules.h"

#include <fcntl.h>
#include <gio/gunixfdlist.h>

#define IDLE "[Limits]\nIdleTimeoutSec=1\n"
#define HASTY "[Limits]\nIdleTimeoutSec=1ms\n"

static void write_configuration(const char *text)
{
        g_autoptr(GError) error = NULL;
        g_mkdir_with_parents("/run/loopmount.conf.d", 0755);
        g_file_set_contents("/run/loopmount.conf.d/50-test.conf", text, -1, &error);
        g_assert_no_error(error);
}

/* A call that may start the daemon. */
static GVariant *call(GDBusConnection *bus, const char *path, const char *interface, const char *method,
                      GVariant *parameters, int fd)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();

        if (fd >= 0)
                g_unix_fd_list_append(fds, fd, NULL);
        GVariant *reply = g_dbus_connection_call_with_unix_fd_list_sync(
                bus, BUS_NAME, path, interface, method, parameters, NULL, G_DBUS_CALL_FLAGS_NONE,
                TEST_DEADLINE_SEC * 1000, fds, NULL, NULL, &error);
        if (!reply)
                g_error("%s: %s", method, error->message);
        return reply;
}

static bool has_left(gpointer userdata)
{
        return !test_has_owner(userdata, BUS_NAME);
}

typedef struct Fixture {
        GDBusConnection *root;
        GDBusConnection *ann;
        char *file;
        TestSnapshot *before;
} Fixture;

static void set_up(Fixture *f, gconstpointer configuration)
{
        test_rules_set_usual();
        write_configuration(configuration);
        f->root = test_connect_as(TEST_ROOT);
        f->ann = test_connect_as(TEST_ANN);
        f->file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        /* The folders below /run/loopmount are there to stay. */
        g_variant_unref(call(f->root, ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping", NULL, -1));
        test_wait_quiet(has_left, f->root, "the daemon to leave");
        f->before = test_snapshot_take(0);
}

static void tear_down(Fixture *f, gconstpointer configuration)
{
        (void)configuration;
        test_wait_quiet(has_left, f->root, "the daemon to leave");
        test_snapshot_assert(f->before, 0);
        test_snapshot_free(f->before);
        test_disconnect(f->root);
        test_disconnect(f->ann);
        unlink(f->file);
        g_free(f->file);
}

static char *attach(Fixture *f, const char *options)
{
        _cleanup_close_ int fd = test_open_as(TEST_ANN, f->file, O_RDONLY);
        g_autoptr(GVariant) reply =
                call(f->ann, ROOT_PATH, MANAGER, "Attach", g_variant_new("(h@a{sv})", 0, test_options(options)), fd);
        char *image;
        g_variant_get_child(reply, 0, "o", &image);
        return image;
}

static gboolean on_time(gpointer userdata)
{
        *(bool *)userdata = true;
        return G_SOURCE_REMOVE;
}

/* As long as there is an image, mounted or not, it stays for it. */
static void test_stays(Fixture *f, gconstpointer userdata)
{
        static const char *const options[] = { "{}", "{'mount': <false>}" };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                g_autofree char *image = attach(f, options[i]);
                bool late = false;

                /* Twice its idle time. */
                g_timeout_add(2000, on_time, &late);
                test_wait_flag(&late, "the idle time to pass");
                g_assert_true(test_has_owner(f->root, BUS_NAME));
                g_variant_unref(call(f->ann, image, IMAGE, "Detach", g_variant_new_parsed("(@a{sv} {},)"), -1));
        }
}

/* Calls come in at any moment of its leaving: each is answered, by this daemon or the next. */
static void test_loses_nothing(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        for (unsigned i = 0; i < 200; i++) {
                bool late = false;

                g_variant_unref(
                        call(f->ann, ROOT_PATH, DBUS_PROPERTIES, "Get", g_variant_new("(ss)", MANAGER, "Version"), -1));
                g_timeout_add(i % 5, on_time, &late);
                test_wait_flag(&late, "a moment to pass");
        }
        for (unsigned i = 0; i < 30; i++) {
                g_autofree char *image = attach(f, "{}");
                g_variant_unref(call(f->ann, image, IMAGE, "Detach", g_variant_new_parsed("(@a{sv} {},)"), -1));
        }
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add("/idle/stays", Fixture, IDLE, set_up, test_stays, tear_down);
        g_test_add("/idle/loses-nothing", Fixture, HASTY, set_up, test_loses_nothing, tear_down);
        return g_test_run();
}
