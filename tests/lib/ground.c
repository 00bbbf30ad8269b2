/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rules are set once: polkitd outlives the tests of a program. */
#include "lib/ground.h"

#include "lib/rules.h"

void test_ground_set_up(TestGround *ground, gconstpointer configuration)
{
        static bool rules_set;

        if (!rules_set)
                test_rules_set_usual();
        rules_set = true;
        ground->daemon = test_daemon_start(configuration);
        ground->before = test_snapshot_take(0);
        ground->root = test_connect_as(TEST_ROOT);
        ground->ann = test_connect_as(TEST_ANN);
        ground->bob = test_connect_as(TEST_BOB);
        ground->signals = test_signals_new(ground->root);
}

void test_ground_tear_down(TestGround *ground, gconstpointer configuration)
{
        (void)configuration;
        test_signals_free(ground->signals);
        g_auto(GStrv) images = test_objects(ground->root, IMAGE);
        g_auto(GStrv) volumes = test_objects(ground->root, VOLUME);
        g_assert_cmpuint(g_strv_length(images), ==, 0);
        g_assert_cmpuint(g_strv_length(volumes), ==, 0);
        test_snapshot_assert(ground->before, 0);
        test_disconnect(ground->root);
        test_disconnect(ground->ann);
        test_disconnect(ground->bob);
        test_daemon_stop(ground->daemon);
        test_snapshot_assert(ground->before, 0);
        test_snapshot_free(ground->before);
}

void test_ground_restart_daemon(TestGround *ground)
{
        ground->daemon = test_daemon_start_again();
}

void test_detach(GDBusConnection *bus, const char *image)
{
        g_autoptr(TestCall) call = test_simple_call(bus, image, IMAGE, "Detach");
        test_assert_succeeded(call);
}

void test_assert_hello(uid_t uid, const char *mount_point)
{
        g_autofree char *path = g_build_filename(mount_point, "hello", NULL);
        g_autofree char *text = test_read_as(uid, path);
        g_assert_cmpstr(text, ==, TEST_HELLO);
}

bool test_has_hello(gpointer mount_point)
{
        g_autofree char *path = g_build_filename(mount_point, "hello", NULL);

        return access(path, F_OK) == 0;
}

/* mountinfo writes blanks as \040. */
static char *as_in_mountinfo(const char *path)
{
        g_auto(GStrv) parts = g_strsplit(path, " ", -1);
        return g_strjoinv("\\040", parts);
}

char *test_mount_options(const char *mount_point)
{
        g_autofree char *wanted = as_in_mountinfo(mount_point);
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        char *options = NULL;

        for (char **line = lines; *line; line++) {
                g_auto(GStrv) field = g_strsplit(*line, " ", -1);
                unsigned n = g_strv_length(field);
                if (n <= 6 || !streq(field[4], wanted))
                        continue;
                /* What comes later is on top. */
                g_free(options);
                options = g_strdup_printf(",%s,%s,", field[5], field[n - 1]);
        }
        if (!options)
                g_error("nothing is mounted at %s", mount_point);
        return options;
}

char *test_device_of(GDBusConnection *bus, const char *object)
{
        return test_property_string(bus, object, strstr(object, "/volume/") ? VOLUME : IMAGE, "Device");
}

char *test_mount_point_of(GDBusConnection *bus, const char *image, unsigned volume)
{
        g_autofree char *path = test_volume_path(image, volume);
        g_auto(GStrv) mount_points = test_property_strings(bus, path, VOLUME, "MountPoints");
        return g_strdup(mount_points[0]);
}

unsigned test_count_loops(void)
{
        g_autoptr(TestSnapshot) snapshot = test_snapshot_take(0);
        return test_snapshot_count(snapshot, "loop ");
}
