/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is told of a volume is what is in it: after it was unmounted, by whomever,
 * its type and its label are not those of before.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>

#include "lib/ground.h"

#define KEEP "{'read-only': <false>, 'auto-detach': <false>}"
#define MIB (UINT64_C(1) << 20)

static const char *const two_labels[] = { "FIRST", "SECOND", NULL };

static char *string_of(TestGround *g, const char *image, unsigned volume, const char *name)
{
        g_autofree char *path = test_volume_path(image, volume);

        return test_property_string(g->root, path, VOLUME, name);
}

static void assert_string(TestGround *g, const char *image, unsigned volume, const char *name, const char *value)
{
        g_autofree char *found = string_of(g, image, volume, name);

        g_assert_cmpstr(found, ==, value);
}

typedef struct Expected {
        TestGround *ground;
        const char *image;
        unsigned volume;
        const char *label;
} Expected;

/* From the moment on when it counts as unmounted it has its new label. */
static bool is_unmounted_and_known(gpointer userdata)
{
        const Expected *expected = userdata;
        g_autofree char *mount_point = test_mount_point_of(expected->ground->root, expected->image, expected->volume);

        if (!mount_point)
                assert_string(expected->ground, expected->image, expected->volume, "Label", expected->label);
        return !mount_point;
}

static void stop(TestGround *g)
{
        g_assert_cmpint(kill(g->daemon->pid, SIGSTOP), ==, 0);
}

static void go_on(TestGround *g)
{
        g_assert_cmpint(kill(g->daemon->pid, SIGCONT), ==, 0);
}

static void mount_again(TestGround *g, const char *image, unsigned volume, const char *mount_point)
{
        g_autofree char *path = test_volume_path(image, volume);
        g_autoptr(TestCall) call = test_simple_call(g->ann, path, VOLUME, "Mount");
        const char *found;

        test_assert_succeeded(call);
        g_variant_get_child(call->reply, 0, "&s", &found);
        g_assert_cmpstr(found, ==, mount_point);
}

/* ---- Root unmounts it, and changes it at once: the daemon has heard of neither. ---- */

static void test_foreign(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "dos", two_labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, KEEP, NULL);
        g_autofree char *volume = test_volume_path(image, 2);
        g_autofree char *node = test_device_of(g->ann, volume);
        g_autofree char *mount_point = test_mount_point_of(g->ann, image, 2);

        (void)userdata;
        for (unsigned i = 0; i < 4; i++) {
                g_autofree char *label = g_strdup_printf("NEW%u", i);
                Expected expected = { g, image, 2, label };

                stop(g);
                g_assert_cmpint(umount2(mount_point, 0), ==, 0);
                test_run("e2label", node, label, NULL);
                go_on(g);
                test_wait_quiet(is_unmounted_and_known, &expected, "the volume to be unmounted");
                g_free(mount_point);
                mount_point = g_strdup_printf("/run/media/ann/%s", label);
                mount_again(g, image, 2, mount_point);
        }
        test_detach(g->ann, image);
        unlink(file);
}

/* The next mount is by what is there now. */
static void test_mkfs(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "OLD", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, KEEP, &mount_points);
        g_autofree char *node = test_device_of(g->ann, image);
        Expected expected = { g, image, 0, "FRESH" };

        (void)userdata;
        stop(g);
        g_assert_cmpint(umount2(mount_points[0], 0), ==, 0);
        test_run("mke2fs", "-q", "-F", "-t", "ext2", "-L", "FRESH", node, NULL);
        go_on(g);
        test_wait_quiet(is_unmounted_and_known, &expected, "the volume to be unmounted");
        assert_string(g, image, 0, "Type", "ext2");
        test_detach(g->ann, image);
        unlink(file);
}

/* Rescan does not take it for mounted because nobody has told the daemon yet. */
static void test_rescan(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "OLD", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, KEEP, &mount_points);
        g_autofree char *node = test_device_of(g->ann, image);

        (void)userdata;
        stop(g);
        g_assert_cmpint(umount2(mount_points[0], 0), ==, 0);
        test_run("e2label", node, "NEW", NULL);
        g_autoptr(TestCall) call = test_simple_call_start(g->ann, image, IMAGE, "Rescan");
        g_dbus_connection_flush_sync(g->ann, NULL, NULL);
        go_on(g);
        test_call_wait(call);
        test_assert_succeeded(call);
        assert_string(g, image, 0, "Label", "NEW");
        g_autofree char *mount_point = test_mount_point_of(g->root, image, 0);
        g_assert_null(mount_point);
        test_detach(g->ann, image);
        unlink(file);
}

/* ---- It was changed while it was mounted. ---- */

static void test_own(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "OLD", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, KEEP, NULL);
        g_autofree char *node = test_device_of(g->ann, image);
        g_autofree char *volume = test_volume_path(image, 0);

        (void)userdata;
        test_run("e2label", node, "NEW", NULL);
        test_signals_clear(g->signals);
        g_autoptr(TestCall) call = test_simple_call(g->ann, volume, VOLUME, "Unmount");
        test_assert_succeeded(call);
        assert_string(g, image, 0, "Label", "NEW");
        /* It is another object now. Of the one that it was nobody is told that it is unmounted. */
        test_signals_wait_added(g->signals, volume, VOLUME);
        for (unsigned i = 0; i < g->signals->items->len; i++) {
                const TestSignal *signal = g->signals->items->pdata[i];

                g_assert_false(streq(signal->member, "PropertiesChanged") && streq(signal->path, volume));
        }
        mount_again(g, image, 0, "/run/media/ann/NEW");
        test_detach(g->ann, image);
        unlink(file);
}

/* Nothing has changed: then it is the same object. */
static void test_unchanged(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, KEEP, NULL);
        g_autofree char *volume = test_volume_path(image, 0);

        (void)userdata;
        for (unsigned i = 0; i < 3; i++) {
                test_signals_clear(g->signals);
                g_autoptr(TestCall) call = test_simple_call(g->ann, volume, VOLUME, "Unmount");
                test_assert_succeeded(call);
                g_autoptr(GVariant) value = test_signals_wait_changed(g->signals, volume, VOLUME, "MountPoints");
                g_assert_cmpuint(g_variant_n_children(value), ==, 0);
                g_assert_cmpuint(test_signals_count(g->signals, "InterfacesRemoved", volume, VOLUME), ==, 0);
                mount_again(g, image, 0, "/run/media/ann/LABEL");
        }
        test_detach(g->ann, image);
        unlink(file);
}

/* ---- It is unmounted because nobody has used it, and mounted by what is there now. ---- */

static bool is_waiting(gpointer volume)
{
        g_autoptr(GDBusConnection) root = test_connect_as(TEST_ROOT);

        return test_property_bool(root, volume, VOLUME, "Waiting");
}

static void test_on_access(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "OLD", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(
                g->ann, file, "{'on-access': <true>, 'idle-timeout': <uint64 1000000>, 'read-only': <false>}",
                &mount_points);
        g_autofree char *node = test_device_of(g->ann, image);
        g_autofree char *volume = test_volume_path(image, 0);

        (void)userdata;
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_run("e2label", node, "NEW", NULL);
        test_wait_quiet(is_waiting, volume, "the volume to expire");
        assert_string(g, image, 0, "Label", "NEW");
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(g->ann, image);
        unlink(file);
}

/* ---- It cannot be read. ---- */

/* Gives the table of @file the entries of @other's, which has more of them than may be. */
static void copy_table(const char *other, const char *file)
{
        char bytes[66];
        _cleanup_close_ int from = open(other, O_RDONLY | O_CLOEXEC), to = open(file, O_WRONLY | O_CLOEXEC);

        g_assert_cmpint(pread(from, bytes, sizeof(bytes), 446), ==, sizeof(bytes));
        g_assert_cmpint(pwrite(to, bytes, sizeof(bytes), 446), ==, sizeof(bytes));
}

static void test_unreadable(TestGround *g, gconstpointer userdata)
{
        static const char *const one_label[] = { "FIRST", NULL };
        g_autofree char *file = test_image_partitioned("one.img", "dos", one_label, TEST_ANN);
        g_autofree char *other = test_image_partitioned("two.img", "dos", two_labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, KEEP, NULL);
        g_autofree char *volume = test_volume_path(image, 1);

        (void)userdata;
        copy_table(other, file);
        g_autoptr(TestCall) call = test_simple_call(g->ann, volume, VOLUME, "Unmount");
        test_assert_succeeded(call);
        g_autofree char *mount_point = test_mount_point_of(g->root, image, 1);
        g_assert_null(mount_point);
        assert_string(g, image, 1, "Type", "");
        assert_string(g, image, 1, "Label", "");
        g_autofree char *obstacle = string_of(g, image, 1, "Obstacle");
        g_assert_true(g_pattern_match_simple("*could not be read*", obstacle));
        test_detach(g->ann, image);
        unlink(file);
        unlink(other);
}

/* What was done before it failed is on record: the next daemon has the same size. */
static void test_failed_refresh(TestGround *g, gconstpointer userdata)
{
        static const char *const one_label[] = { "FIRST", NULL };
        g_autofree char *file = test_image_partitioned("one.img", "dos", one_label, TEST_ANN);
        g_autofree char *other = test_image_partitioned("two.img", "dos", two_labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, KEEP, NULL);
        guint64 size = test_property_number(g->ann, image, IMAGE, "Size") + MIB;

        (void)userdata;
        copy_table(other, file);
        test_image_resize(file, size);
        g_autoptr(TestCall) call = test_simple_call(g->ann, image, IMAGE, "SetCapacity");
        test_assert_failed(call, "LimitExceeded", "*");
        g_assert_cmpuint(test_property_number(g->ann, image, IMAGE, "Size"), ==, size);
        test_daemon_kill(g->daemon);
        test_ground_restart_daemon(g);
        g_assert_cmpuint(test_property_number(g->ann, image, IMAGE, "Size"), ==, size);
        test_detach(g->ann, image);
        unlink(file);
        unlink(other);
}

/* ---- What was in the way. ---- */

/* The group descriptors of the second volume; without them it cannot be mounted. */
#define DAMAGE_OFFSET (2 * 2 * MIB + 2048)

static void change_bytes(const char *path, void *bytes, size_t n_bytes, bool take)
{
        _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
        static const char zeros[6 * 1024];

        if (take)
                g_assert_cmpint(pread(fd, bytes, n_bytes, DAMAGE_OFFSET), ==, n_bytes);
        g_assert_cmpint(pwrite(fd, take ? zeros : bytes, n_bytes, DAMAGE_OFFSET), ==, n_bytes);
        g_assert_cmpint(fsync(fd), ==, 0);
}

static void test_obstacle(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "dos", two_labels, TEST_ANN);
        char bytes[6 * 1024];

        (void)userdata;
        change_bytes(file, bytes, sizeof(bytes), true);
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>, 'settle': <true>}", NULL);
        g_autofree char *volume = test_volume_path(image, 2);
        g_autofree char *obstacle = test_property_string(g->ann, volume, VOLUME, "Obstacle");
        g_assert_true(g_str_has_prefix(obstacle, "mounting it as ext4 failed"));
        change_bytes(file, bytes, sizeof(bytes), false);
        test_signals_clear(g->signals);
        g_autoptr(TestCall) call = test_simple_call(g->ann, image, IMAGE, "Rescan");
        test_assert_succeeded(call);
        g_autoptr(GVariant) value = test_signals_wait_changed(g->signals, volume, VOLUME, "Obstacle");
        g_assert_cmpstr(g_variant_get_string(value, NULL), ==, "");
        /* Whoever asks for all volumes gets it. */
        g_autofree char *again = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);
        g_assert_cmpstr(again, ==, image);
        g_autofree char *mount_point = test_mount_point_of(g->root, image, 2);
        g_assert_cmpstr(mount_point, ==, "/run/media/ann/SECOND");
        test_detach(g->ann, image);
        unlink(file);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/identity/foreign", NULL, test_foreign);
        TEST_ADD("/identity/mkfs", NULL, test_mkfs);
        TEST_ADD("/identity/rescan", NULL, test_rescan);
        TEST_ADD("/identity/own", NULL, test_own);
        TEST_ADD("/identity/unchanged", NULL, test_unchanged);
        TEST_ADD("/identity/on-access", NULL, test_on_access);
        TEST_ADD("/identity/unreadable", "[Limits]\nMaxVolumesPerImage=1\n", test_unreadable);
        TEST_ADD("/identity/failed-refresh", "[Limits]\nMaxVolumesPerImage=1\n", test_failed_refresh);
        TEST_ADD("/identity/obstacle", NULL, test_obstacle);
        return g_test_run();
}
