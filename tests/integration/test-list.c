/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ListImages tells what the properties tell, of the images that are asked for and
 * no others; and the command needs no more calls than that leaves it.
 */
#include "lib/ground.h"

#include <gio/gio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LISTED "(a(osstbussa(ustsssbasbs)))"

/* @filter: GVariant text, or NULL. Gives the array of images. */
static GVariant *list_images(GDBusConnection *bus, const char *filter)
{
        g_autoptr(GVariant) reply =
                test_call_ok(bus, ROOT_PATH, MANAGER, "ListImages", g_variant_new("(@a{sv})", test_options(filter)));

        g_assert_cmpstr(g_variant_get_type_string(reply), ==, LISTED);
        return g_variant_get_child_value(reply, 0);
}

/* The images that match, and only they; NULL-terminated, by id. */
static void assert_listed(GDBusConnection *bus, const char *filter, const char *const *wanted)
{
        g_autoptr(GVariant) images = list_images(bus, filter);

        g_test_message("%s", filter ? filter : "everything");
        g_assert_cmpuint(g_variant_n_children(images), ==, g_strv_length((char **)wanted));
        for (size_t i = 0; wanted[i]; i++) {
                g_autoptr(GVariant) image = g_variant_get_child_value(images, i);
                g_autoptr(GVariant) path = g_variant_get_child_value(image, 0);

                g_assert_cmpstr(g_variant_get_string(path, NULL), ==, wanted[i]);
        }
}

/* Child @n of @listed is the property @name of @object. */
static void assert_property(GDBusConnection *bus, GVariant *listed, size_t n, const char *object, const char *interface,
                            const char *name)
{
        g_autoptr(GVariant) value = g_variant_get_child_value(listed, n);
        g_autoptr(GVariant) property = test_property(bus, object, interface, name);

        g_test_message("%s of %s", name, object);
        g_assert_true(property && g_variant_equal(value, property));
}

static void assert_properties(GDBusConnection *bus, GVariant *listed, size_t first, const char *object,
                              const char *interface, const char *const *names)
{
        for (size_t i = 0; names[i]; i++)
                assert_property(bus, listed, first + i, object, interface, names[i]);
}

static void test_contents(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "ONE", "TWO", NULL };
        static const char *const of_image[] = { "BackingFile", "Device",         "Size",  "ReadOnly",
                                                "OwnerUID",    "PartitionTable", "State", NULL };
        static const char *const of_volume[] = { "Number",   "Device",      "Size",    "Usage",    "Type", "Label",
                                                 "ReadOnly", "MountPoints", "Waiting", "Obstacle", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_autofree char *path = test_attach_path(g->ann, file, "{'volumes': <[uint32 2]>}", NULL);
        g_autoptr(GVariant) images = list_images(g->bob, NULL);
        g_autoptr(GVariant) image = g_variant_get_child_value(images, 0);
        g_autoptr(GVariant) volumes = g_variant_get_child_value(image, 8);

        (void)userdata;
        g_assert_cmpuint(g_variant_n_children(images), ==, 1);
        assert_properties(g->bob, image, 1, path, IMAGE, of_image);
        g_assert_cmpuint(g_variant_n_children(volumes), ==, 2);
        for (unsigned i = 0; i < 2; i++) {
                g_autoptr(GVariant) volume = g_variant_get_child_value(volumes, i);
                g_autofree char *volume_path = test_volume_path(path, i + 1);

                assert_properties(g->bob, volume, 0, volume_path, VOLUME, of_volume);
        }
        test_detach(g->ann, path);
        unlink(file);
}

static guint64 device_number(GDBusConnection *bus, const char *object)
{
        g_autofree char *node = test_device_of(bus, object);
        struct stat st;

        g_assert_cmpint(stat(node, &st), ==, 0);
        return st.st_rdev;
}

static void test_filters(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "ONE", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_autofree char *other = test_image_ext4("other.img", "OTHER", TEST_BOB);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *anns = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *bobs = test_attach_path(g->bob, other, NULL, NULL);
        g_autofree char *partition = test_volume_path(anns, 1);
        const char *const none[] = { NULL }, *const all[] = { anns, bobs, NULL }, *const one[] = { anns, NULL };
        struct stat st;

        (void)userdata;
        g_assert_cmpint(stat(file, &st), ==, 0);
        struct {
                char *filter;
                const char *const *wanted;
        } cases[] = {
                { g_strdup("{}"), all },
                { g_strdup_printf("{'id': <'%s'>}", strrchr(anns, '/') + 1), one },
                { g_strdup("{'id': <'0'>}"), none },
                { g_strdup("{'id': <'no number'>}"), none },
                { g_strdup_printf("{'owner': <uint32 %u>}", TEST_ANN), one },
                { g_strdup_printf("{'owner': <uint32 %u>}", TEST_CAROL), none },
                { g_strdup_printf("{'file-device': <uint64 %lu>, 'file-inode': <uint64 %lu>}", st.st_dev, st.st_ino),
                  one },
                { g_strdup_printf("{'file-device': <uint64 %lu>, 'file-inode': <uint64 %lu>}", st.st_dev + 1,
                                  st.st_ino),
                  none },
                { g_strdup_printf("{'file-device': <uint64 %lu>, 'file-inode': <uint64 %lu>}", st.st_dev,
                                  st.st_ino + 1000000),
                  none },
                { g_strdup_printf("{'device-number': <uint64 %lu>}", device_number(g->ann, anns)), one },
                { g_strdup_printf("{'device-number': <uint64 %lu>}", device_number(g->ann, partition)), one },
                { g_strdup_printf("{'device-number': <uint64 %lu>}", makedev(1, 3)), none },
                { g_strdup_printf("{'mount-point': <'%s'>}", mount_points[0]), one },
                { g_strdup_printf("{'mount-point': <'%s/'>}", mount_points[0]), none },
                { g_strdup_printf("{'mount-point': <'%s'>, 'owner': <uint32 %u>}", mount_points[0], TEST_BOB), none },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                assert_listed(g->bob, cases[i].filter, cases[i].wanted);
                g_free(cases[i].filter);
        }
        test_detach(g->ann, anns);
        test_detach(g->bob, bobs);
        unlink(file);
        unlink(other);
}

static void test_refused(TestGround *g, gconstpointer userdata)
{
        static const struct {
                const char *filter, *key;
        } cases[] = {
                { "{'name': <'x'>}", "name" },
                { "{'id': <uint32 1>}", "id" },
                { "{'owner': <'ann'>}", "owner" },
                { "{'file-device': <uint64 1>}", "file-inode" },
                { "{'file-inode': <uint64 1>}", "file-device" },
                { "{'mount-point': <true>}", "mount-point" },
        };

        (void)userdata;
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *pattern = g_strdup_printf("*%s*", cases[i].key);
                g_autoptr(TestCall) call =
                        test_call(g->ann, ROOT_PATH, MANAGER, "ListImages",
                                  g_variant_new("(@a{sv})", test_options(cases[i].filter)), (TestCallOptions){ 0 });

                test_assert_failed(call, "InvalidArgs", pattern);
        }
}

/* ---- what the command calls ---- */

/* The members of all method calls to the daemon, in order. */
typedef struct Calls {
        GDBusConnection *bus;
        GMutex lock;
        GString *members;
} Calls;

static GDBusMessage *on_message(GDBusConnection *bus, GDBusMessage *message, gboolean incoming, gpointer userdata)
{
        Calls *calls = userdata;

        (void)bus;
        if (!incoming || g_dbus_message_get_message_type(message) != G_DBUS_MESSAGE_TYPE_METHOD_CALL)
                return message;
        if (g_strcmp0(g_dbus_message_get_destination(message), BUS_NAME) == 0) {
                g_mutex_lock(&calls->lock);
                g_string_append_printf(calls->members, "%s ", g_dbus_message_get_member(message));
                g_mutex_unlock(&calls->lock);
        }
        /* A monitor that answers what it overhears is thrown off the bus. */
        g_object_unref(message);
        return NULL;
}

static Calls *calls_new(void)
{
        Calls *calls = g_new0(Calls, 1);
        g_autoptr(GError) error = NULL;

        calls->bus = test_connect_as(TEST_ROOT);
        calls->members = g_string_new(NULL);
        g_dbus_connection_add_filter(calls->bus, on_message, calls, NULL);
        GVariant *reply = g_dbus_connection_call_sync(
                calls->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Monitoring",
                "BecomeMonitor", g_variant_new("(asu)", NULL, 0), NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
        g_assert_no_error(error);
        g_variant_unref(reply);
        return calls;
}

static void calls_free(Calls *calls)
{
        test_disconnect(calls->bus);
        g_string_free(calls->members, TRUE);
        g_free(calls);
}

static bool has_end(gpointer userdata)
{
        Calls *calls = userdata;

        g_mutex_lock(&calls->lock);
        bool end = g_str_has_suffix(calls->members->str, "Ping ");
        g_mutex_unlock(&calls->lock);
        return end;
}

/* Where ann may look, wherever it was built. */
static char *copy_of_command(void)
{
        g_autofree char *program = g_build_filename(g_getenv("LOOPMOUNT_BUILD"), "client", "loopmount", NULL);
        char *copy = test_path("loopmount");

        test_run("cp", program, copy, NULL);
        return copy;
}

/* Runs the command as ann; @wanted: the calls that it makes. The bus delivers in order, so that a Ping is the last. */
static void assert_calls(TestGround *g, const char *verb, const char *operand, const char *wanted)
{
        g_autofree char *program = copy_of_command();
        const char *const argv[] = { program, verb, operand, NULL };
        g_autofree char *output = NULL, *with_end = g_strconcat(wanted, " Ping ", NULL);
        Calls *calls = calls_new();

        g_assert_cmpint(test_run_as(TEST_ANN, argv, &output, NULL), ==, 0);
        g_variant_unref(test_call_ok(g->root, ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping", NULL));
        test_wait_quiet(has_end, calls, "the end of the calls");
        g_assert_cmpstr(calls->members->str, ==, with_end);
        calls_free(calls);
        unlink(program);
}

static void test_command(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);

        (void)userdata;
        assert_calls(g, "attach", file, "Attach ListImages");
        assert_calls(g, "list", "--all-users", "ListImages");
        assert_calls(g, "detach", file, "ListImages Detach");
        unlink(file);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/list/contents", NULL, test_contents);
        TEST_ADD("/list/filters", NULL, test_filters);
        TEST_ADD("/list/refused", NULL, test_refused);
        TEST_ADD("/list/command", NULL, test_command);
        return g_test_run();
}
