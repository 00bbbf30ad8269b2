/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The live API is what the XML files in dbus/ say, no more and no less, and its properties
 * make sense. Names of arguments do not travel and are not compared.
 */
#include "lib/bus.h"
#include "lib/daemon.h"
#include "lib/image.h"
#include "lib/snapshot.h"
#include "lib/wait.h"

#include <sys/stat.h>

#define EMITS_CHANGED "org.freedesktop.DBus.Property.EmitsChangedSignal"

/* One image of root's with one volume that is not mounted: an object of each kind. */
typedef struct Fixture {
        TestSnapshot *before;
        TestDaemon *daemon;
        GDBusConnection *bus;
        char *file;
        char *image;
        char *volume;
} Fixture;

static void fixture_set_up(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        f->file = test_image_ext4("contract", "CONTRACT", TEST_ROOT);
        f->daemon = test_daemon_start(NULL);
        f->before = test_snapshot_take(0);
        f->bus = test_connect_as(TEST_ROOT);
        f->image = test_attach_path(f->bus, f->file, "{'mount': <false>}", NULL);
        f->volume = test_volume_path(f->image, 0);
}

static void fixture_tear_down(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        g_autoptr(TestCall) detached = test_simple_call(f->bus, f->image, IMAGE, "Detach");
        test_assert_succeeded(detached);
        test_snapshot_assert(f->before, 0);
        test_snapshot_free(f->before);
        test_disconnect(f->bus);
        test_daemon_stop(f->daemon);
        unlink(f->file);
        g_free(f->file);
        g_free(f->image);
        g_free(f->volume);
}

/* ---- introspection ---- */

static GDBusNodeInfo *live_node(GDBusConnection *bus, const char *path)
{
        g_autoptr(GError) error = NULL;
        const char *xml;

        g_autoptr(GVariant) reply = test_call_ok(bus, path, DBUS_INTROSPECTABLE, "Introspect", NULL);
        g_variant_get(reply, "(&s)", &xml);
        GDBusNodeInfo *node = g_dbus_node_info_new_for_xml(xml, &error);
        g_assert_no_error(error);
        return node;
}

static GDBusNodeInfo *documented_node(const char *interface)
{
        g_autofree char *name = g_strconcat(interface, ".xml", NULL);
        g_autofree char *path = g_build_filename(g_getenv("LOOPMOUNT_SOURCE"), "dbus", name, NULL);
        g_autoptr(GError) error = NULL;
        g_autofree char *xml = NULL;

        g_file_get_contents(path, &xml, NULL, &error);
        g_assert_no_error(error);
        GDBusNodeInfo *node = g_dbus_node_info_new_for_xml(xml, &error);
        g_assert_no_error(error);
        return node;
}

static void append_signature(GString *line, GDBusArgInfo **arguments)
{
        for (; arguments && *arguments; arguments++)
                g_string_append(line, (*arguments)->signature);
}

static void append_annotation(GString *line, GDBusAnnotationInfo **annotations, const char *name, const char *otherwise)
{
        const char *value = g_dbus_annotation_info_lookup(annotations, name);
        g_string_append_printf(line, " %s=%s", strrchr(name, '.') + 1, value ? value : otherwise);
}

static void add_method(GPtrArray *lines, const GDBusMethodInfo *method)
{
        GString *line = g_string_new("method ");

        g_string_append_printf(line, "%s (", method->name);
        append_signature(line, method->in_args);
        g_string_append(line, ") -> (");
        append_signature(line, method->out_args);
        g_string_append(line, ")");
        append_annotation(line, method->annotations, "org.freedesktop.DBus.Deprecated", "false");
        append_annotation(line, method->annotations, "org.freedesktop.DBus.Method.NoReply", "false");
        g_ptr_array_add(lines, g_string_free(line, FALSE));
}

static void add_property(GPtrArray *lines, const GDBusPropertyInfo *property)
{
        GString *line = g_string_new("property ");

        g_string_append_printf(line, "%s %s access=%u", property->name, property->signature, property->flags);
        append_annotation(line, property->annotations, EMITS_CHANGED, "true");
        append_annotation(line, property->annotations, "org.freedesktop.DBus.Deprecated", "false");
        g_ptr_array_add(lines, g_string_free(line, FALSE));
}

static void add_signal(GPtrArray *lines, const GDBusSignalInfo *signal)
{
        GString *line = g_string_new("signal ");

        g_string_append_printf(line, "%s (", signal->name);
        append_signature(line, signal->args);
        g_string_append(line, ")");
        g_ptr_array_add(lines, g_string_free(line, FALSE));
}

static int compare(gconstpointer a, gconstpointer b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All members, a line each, sorted. */
static char *describe(const GDBusInterfaceInfo *interface)
{
        g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

        for (GDBusMethodInfo **m = interface->methods; m && *m; m++)
                add_method(lines, *m);
        for (GDBusPropertyInfo **p = interface->properties; p && *p; p++)
                add_property(lines, *p);
        for (GDBusSignalInfo **s = interface->signals; s && *s; s++)
                add_signal(lines, *s);
        g_ptr_array_sort(lines, compare);
        g_ptr_array_add(lines, NULL);
        return g_strjoinv("\n", (char **)lines->pdata);
}

static void assert_as_documented(GDBusConnection *bus, const char *path, const char *interface)
{
        GDBusNodeInfo *live = live_node(bus, path);
        GDBusNodeInfo *documented = documented_node(interface);
        GDBusInterfaceInfo *live_interface = g_dbus_node_info_lookup_interface(live, interface);

        g_assert_nonnull(live_interface);
        g_autofree char *is = describe(live_interface);
        g_autofree char *should_be = describe(g_dbus_node_info_lookup_interface(documented, interface));
        g_assert_cmpstr(is, ==, should_be);
        g_dbus_node_info_unref(live);
        g_dbus_node_info_unref(documented);
}

/* Nothing of ours that is not documented may be there either. */
static void assert_only_interface(GDBusConnection *bus, const char *path, const char *interface)
{
        GDBusNodeInfo *live = live_node(bus, path);

        for (GDBusInterfaceInfo **i = live->interfaces; i && *i; i++)
                if (!g_str_has_prefix((*i)->name, "org.freedesktop.DBus."))
                        g_assert_cmpstr((*i)->name, ==, interface);
        g_dbus_node_info_unref(live);
}

static void test_introspection(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        assert_as_documented(f->bus, ROOT_PATH, MANAGER);
        assert_as_documented(f->bus, f->image, IMAGE);
        assert_as_documented(f->bus, f->volume, VOLUME);
        assert_only_interface(f->bus, ROOT_PATH, MANAGER);
        assert_only_interface(f->bus, f->image, IMAGE);
        assert_only_interface(f->bus, f->volume, VOLUME);
}

/* A client that walks the tree from the top finds every object. */
static void find_paths(GDBusConnection *bus, const char *path, GPtrArray *found)
{
        GDBusNodeInfo *node = live_node(bus, path);

        if (node->interfaces)
                g_ptr_array_add(found, g_strdup(path));
        for (GDBusNodeInfo **child = node->nodes; child && *child; child++) {
                g_autofree char *child_path = g_strconcat(streq(path, "/") ? "" : path, "/", (*child)->path, NULL);
                find_paths(bus, child_path, found);
        }
        g_dbus_node_info_unref(node);
}

static void test_walk(Fixture *f, gconstpointer userdata)
{
        g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);

        (void)userdata;
        find_paths(f->bus, "/", found);
        g_ptr_array_add(found, NULL);
        const char *const *paths = (const char *const *)found->pdata;
        g_assert_true(g_strv_contains(paths, ROOT_PATH));
        g_assert_true(g_strv_contains(paths, f->image));
        g_assert_true(g_strv_contains(paths, f->volume));
}

/* ---- objects ---- */

static GVariant *all_properties(GDBusConnection *bus, const char *path, const char *interface)
{
        g_autoptr(GVariant) reply = test_call_ok(bus, path, DBUS_PROPERTIES, "GetAll", g_variant_new("(s)", interface));
        return g_variant_get_child_value(reply, 0);
}

static void assert_all_present(GDBusConnection *bus, const char *path, const char *interface)
{
        GDBusNodeInfo *node = live_node(bus, path);
        g_autoptr(GVariant) all = all_properties(bus, path, interface);
        gsize n = 0;

        for (GDBusPropertyInfo **p = g_dbus_node_info_lookup_interface(node, interface)->properties; p && *p;
             p++, n++) {
                g_autoptr(GVariant) in_all = g_variant_lookup_value(all, (*p)->name, NULL);
                g_autoptr(GVariant) alone = test_property(bus, path, interface, (*p)->name);

                g_assert_nonnull(in_all);
                g_assert_nonnull(alone);
                g_assert_cmpstr(g_variant_get_type_string(in_all), ==, (*p)->signature);
                g_assert_true(g_variant_equal(in_all, alone));
        }
        g_assert_cmpuint(g_variant_n_children(all), ==, n);
        g_dbus_node_info_unref(node);
}

static void test_properties_present(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        assert_all_present(f->bus, ROOT_PATH, MANAGER);
        assert_all_present(f->bus, f->image, IMAGE);
        assert_all_present(f->bus, f->volume, VOLUME);
}

/* GetManagedObjects says the same as the objects themselves. */
static void assert_managed(GDBusConnection *bus, GVariant *objects, const char *path, const char *interface)
{
        g_autoptr(GVariant) interfaces = g_variant_lookup_value(objects, path, NULL);
        g_assert_nonnull(interfaces);
        g_autoptr(GVariant) managed = g_variant_lookup_value(interfaces, interface, NULL);
        g_assert_nonnull(managed);
        g_autoptr(GVariant) all = all_properties(bus, path, interface);
        g_autofree char *is = g_variant_print(managed, FALSE);
        g_autofree char *should_be = g_variant_print(all, FALSE);
        g_assert_cmpstr(is, ==, should_be);
}

/* g_variant_lookup_value() wants string keys; object paths are none. */
static GVariant *managed_objects(GDBusConnection *bus)
{
        g_autoptr(GVariant) reply = test_call_ok(bus, ROOT_PATH, DBUS_OBJECT_MANAGER, "GetManagedObjects", NULL);
        g_autoptr(GVariant) objects = g_variant_get_child_value(reply, 0);
        GVariantBuilder builder;
        GVariantIter iter;
        const char *path;
        GVariant *interfaces;

        g_variant_builder_init(&builder, G_VARIANT_TYPE("a{sv}"));
        g_variant_iter_init(&iter, objects);
        while (g_variant_iter_loop(&iter, "{&o@a{sa{sv}}}", &path, &interfaces)) {
                GVariantBuilder inner;
                GVariantIter inner_iter;
                const char *interface;
                GVariant *properties;

                g_variant_builder_init(&inner, G_VARIANT_TYPE("a{sv}"));
                g_variant_iter_init(&inner_iter, interfaces);
                while (g_variant_iter_loop(&inner_iter, "{&s@a{sv}}", &interface, &properties))
                        g_variant_builder_add(&inner, "{sv}", interface, properties);
                g_variant_builder_add(&builder, "{sv}", path, g_variant_builder_end(&inner));
        }
        return g_variant_ref_sink(g_variant_builder_end(&builder));
}

static void test_managed_objects(Fixture *f, gconstpointer userdata)
{
        g_autoptr(GVariant) objects = managed_objects(f->bus);

        (void)userdata;
        assert_managed(f->bus, objects, f->image, IMAGE);
        assert_managed(f->bus, objects, f->volume, VOLUME);
        /* The manager of objects does not list itself: two, and no third. */
        g_assert_cmpuint(g_variant_n_children(objects), ==, 2);
}

/* ---- what properties say ---- */

static void test_manager_properties(Fixture *f, gconstpointer userdata)
{
        g_autofree char *version = test_property_string(f->bus, ROOT_PATH, MANAGER, "Version");
        g_auto(GStrv) types = test_property_strings(f->bus, ROOT_PATH, MANAGER, "FilesystemTypes");

        (void)userdata;
        g_assert_true(g_ascii_isdigit(version[0]));
        g_assert_true(g_strv_contains((const char *const *)types, "ext4"));
        g_assert_true(g_strv_contains((const char *const *)types, "iso9660"));
        g_assert_false(g_strv_contains((const char *const *)types, "tmpfs"));
        g_assert_false(g_strv_contains((const char *const *)types, "overlay"));
        g_assert_cmpuint(test_property_number(f->bus, ROOT_PATH, MANAGER, "MaxImagesPerUser"), >, 0);
        g_assert_cmpuint(test_property_number(f->bus, ROOT_PATH, MANAGER, "MaxRequestsPerUser"), >, 0);
}

static guint64 number_in(const char *device, const char *attribute)
{
        g_autofree char *path = g_build_filename("/sys/class/block", device + strlen("/dev/"), attribute, NULL);
        g_autofree char *text = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        return g_ascii_strtoull(text, NULL, 10);
}

static void assert_string(GDBusConnection *bus, const char *path, const char *interface, const char *name,
                          const char *value)
{
        g_autofree char *is = test_property_string(bus, path, interface, name);
        g_assert_cmpstr(is, ==, value);
}

static void test_image_properties(Fixture *f, gconstpointer userdata)
{
        g_autofree char *device = test_property_string(f->bus, f->image, IMAGE, "Device");
        struct stat st, file;

        (void)userdata;
        g_assert_true(g_str_has_prefix(device, "/dev/loop"));
        g_assert_cmpint(stat(device, &st), ==, 0);
        g_assert_cmpint(stat(f->file, &file), ==, 0);
        g_assert_cmpuint(test_property_number(f->bus, f->image, IMAGE, "DeviceNumber"), ==, st.st_rdev);
        g_assert_cmpuint(test_property_number(f->bus, f->image, IMAGE, "DiskSequence"), ==,
                         number_in(device, "diskseq"));
        g_assert_cmpuint(test_property_number(f->bus, f->image, IMAGE, "Size"), ==, number_in(device, "size") * 512);
        g_assert_cmpuint(test_property_number(f->bus, f->image, IMAGE, "Size"), ==, file.st_size);
        g_assert_cmpuint(test_property_number(f->bus, f->image, IMAGE, "Offset"), ==, 0);
        g_assert_cmpuint(test_property_number(f->bus, f->image, IMAGE, "SectorSize"), ==, 512);
        g_assert_cmpuint(test_property_number(f->bus, f->image, IMAGE, "OwnerUID"), ==, 0);
        g_assert_true(test_property_bool(f->bus, f->image, IMAGE, "ReadOnly"));
        g_assert_cmpuint(number_in(device, "ro"), ==, 1);
        /* Nothing was mounted, so nothing will be unmounted. */
        g_assert_false(test_property_bool(f->bus, f->image, IMAGE, "AutoDetach"));
        assert_string(f->bus, f->image, IMAGE, "Id", strrchr(f->image, '/') + 1);
        assert_string(f->bus, f->image, IMAGE, "Name", "CONTRACT");
        assert_string(f->bus, f->image, IMAGE, "BackingFile", f->file);
        assert_string(f->bus, f->image, IMAGE, "PartitionTable", "");
        assert_string(f->bus, f->image, IMAGE, "State", "attached");
}

static void test_attached_at(Fixture *f, gconstpointer userdata)
{
        guint64 at = test_property_number(f->bus, f->image, IMAGE, "AttachedAt");
        guint64 now = (guint64)g_get_real_time();

        (void)userdata;
        g_assert_cmpuint(at, <=, now);
        g_assert_cmpuint(at + 60 * USEC_PER_SEC, >, now);
}

static void test_volume_properties(Fixture *f, gconstpointer userdata)
{
        g_autofree char *device = test_property_string(f->bus, f->image, IMAGE, "Device");
        g_autofree char *uuid = test_property_string(f->bus, f->volume, VOLUME, "UUID");
        g_auto(GStrv) mount_points = test_property_strings(f->bus, f->volume, VOLUME, "MountPoints");

        (void)userdata;
        assert_string(f->bus, f->volume, VOLUME, "Image", f->image);
        assert_string(f->bus, f->volume, VOLUME, "Device", device);
        assert_string(f->bus, f->volume, VOLUME, "Usage", "filesystem");
        assert_string(f->bus, f->volume, VOLUME, "Type", "ext4");
        assert_string(f->bus, f->volume, VOLUME, "Version", "1.0");
        assert_string(f->bus, f->volume, VOLUME, "Label", "CONTRACT");
        assert_string(f->bus, f->volume, VOLUME, "PartitionType", "");
        assert_string(f->bus, f->volume, VOLUME, "PartitionName", "");
        assert_string(f->bus, f->volume, VOLUME, "PartitionUUID", "");
        assert_string(f->bus, f->volume, VOLUME, "Obstacle", "");
        g_assert_true(g_uuid_string_is_valid(uuid));
        g_assert_cmpuint(g_strv_length(mount_points), ==, 0);
        g_assert_cmpuint(test_property_number(f->bus, f->volume, VOLUME, "Number"), ==, 0);
        g_assert_cmpuint(test_property_number(f->bus, f->volume, VOLUME, "Offset"), ==, 0);
        g_assert_cmpuint(test_property_number(f->bus, f->volume, VOLUME, "Size"), ==, 2 << 20);
        g_assert_true(test_property_bool(f->bus, f->volume, VOLUME, "ReadOnly"));
}

/* ---- what cannot be done ---- */

static char *error_name(const TestCall *call)
{
        g_assert_nonnull(call->error);
        return g_dbus_error_get_remote_error(call->error);
}

static void assert_no_property_writable(GDBusConnection *bus, const char *path, const char *interface)
{
        g_autoptr(GVariant) all = all_properties(bus, path, interface);
        GVariantIter iter;
        const char *name;
        GVariant *value;

        g_variant_iter_init(&iter, all);
        while (g_variant_iter_loop(&iter, "{&sv}", &name, &value)) {
                g_autoptr(TestCall) call =
                        test_call(bus, path, DBUS_PROPERTIES, "Set", g_variant_new("(ssv)", interface, name, value),
                                  (TestCallOptions){ 0 });
                g_autofree char *error = error_name(call);
                g_assert_cmpstr(error, ==, "org.freedesktop.DBus.Error.PropertyReadOnly");
        }
}

static void test_properties_are_read_only(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        assert_no_property_writable(f->bus, ROOT_PATH, MANAGER);
        assert_no_property_writable(f->bus, f->image, IMAGE);
        assert_no_property_writable(f->bus, f->volume, VOLUME);
}

static void assert_unknown(GDBusConnection *bus, const char *path, const char *interface)
{
        g_autoptr(TestCall) call = test_call(bus, path, DBUS_PROPERTIES, "GetAll", g_variant_new("(s)", interface),
                                             (TestCallOptions){ 0 });
        g_autofree char *error = error_name(call);
        g_assert_true(streq(error, "org.freedesktop.DBus.Error.UnknownObject") ||
                      streq(error, "org.freedesktop.DBus.Error.UnknownInterface"));
}

/* Object paths come from outside: nothing may be taken for an image that is not spelt exactly as one. */
static void test_unknown_objects(Fixture *f, gconstpointer userdata)
{
        static const char *const images[] = {
                "/org/loopmount1/image",
                "/org/loopmount1/image/0",
                "/org/loopmount1/image/x",
                "/org/loopmount1/image/_31",
                "/org/loopmount1/image/18446744073709551615",
                "/org/loopmount1/image/18446744073709551616",
                "/org/loopmount1/image/99999999999999999999999999",
        };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(images); i++)
                assert_unknown(f->bus, images[i], IMAGE);

        static const char *const suffixes[] = { "/volume",   "/volume/1", "/volume/00",         "/volume/x",
                                                "/volume/_", "/0",        "/volume/0/volume/0", "/volume/4294967296" };
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                g_autofree char *path = g_strconcat(f->image, suffixes[i], NULL);
                assert_unknown(f->bus, path, VOLUME);
        }
        g_autofree char *zero = g_strdup_printf("/org/loopmount1/image/0%s", strrchr(f->image, '/') + 1);
        assert_unknown(f->bus, zero, IMAGE);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add(path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)
        ADD("/contract/introspection", test_introspection);
        ADD("/contract/walk", test_walk);
        ADD("/contract/properties/present", test_properties_present);
        ADD("/contract/properties/managed-objects", test_managed_objects);
        ADD("/contract/properties/manager", test_manager_properties);
        ADD("/contract/properties/image", test_image_properties);
        ADD("/contract/properties/attached-at", test_attached_at);
        ADD("/contract/properties/volume", test_volume_properties);
        ADD("/contract/properties/read-only", test_properties_are_read_only);
        ADD("/contract/unknown-objects", test_unknown_objects);
        return g_test_run();
}
