/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon dies, of SIGKILL, at any point: nothing of it leaks, and the next one
 * takes over what is mounted, with its owner and options.
 */
#include "lib/ground.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define RECORDS "/run/loopmount/images"

static void kill_and_restart(TestGround *g)
{
        test_daemon_kill(g->daemon);
        test_ground_restart_daemon(g);
}

/* Everything that the objects say, without what may differ. */
static char *describe(GDBusConnection *bus)
{
        g_autoptr(GString) text = g_string_new(NULL);
        static const char *const interfaces[] = { IMAGE, VOLUME };

        for (size_t i = 0; i < ELEMENTSOF(interfaces); i++) {
                g_auto(GStrv) paths = test_objects(bus, interfaces[i]);
                for (char **path = paths; *path; path++) {
                        g_autoptr(GVariant) reply = test_call_ok(bus, *path, DBUS_PROPERTIES, "GetAll",
                                                                 g_variant_new("(s)", interfaces[i]));
                        g_autoptr(GVariant) all = g_variant_get_child_value(reply, 0);
                        GVariantIter iter;
                        const char *name;
                        GVariant *value;

                        g_variant_iter_init(&iter, all);
                        while (g_variant_iter_loop(&iter, "{&sv}", &name, &value)) {
                                g_autofree char *printed = g_variant_print(value, TRUE);
                                g_string_append_printf(text, "%s %s=%s\n", *path, name, printed);
                        }
                }
        }
        return g_strdup(text->str);
}

static bool no_images(gpointer userdata)
{
        g_auto(GStrv) images = test_objects(userdata, IMAGE);
        return g_strv_length(images) == 0;
}

static bool no_loops(gpointer userdata)
{
        (void)userdata;
        return test_count_loops() == 0;
}

/* ---- taking over ---- */

static void test_takes_over(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", "THIRD", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image =
                test_attach_path(g->ann, file, "{'read-only': <false>, 'volumes': <[uint32 1, 3]>}", &mount_points);
        g_autofree char *before = describe(g->root);
        g_autoptr(TestSnapshot) state = test_snapshot_take(0);

        (void)userdata;
        kill_and_restart(g);
        test_snapshot_wait(state, 0);
        g_autofree char *after = describe(g->root);
        g_assert_cmpstr(after, ==, before);
        test_assert_hello(TEST_ANN, mount_points[0]);

        /* It is still ann's, and still the same image to her. */
        g_autofree char *again =
                test_attach_path(g->ann, file, "{'read-only': <false>, 'volumes': <[uint32 1, 3]>}", NULL);
        g_assert_cmpstr(again, ==, image);
        g_autoptr(TestCall) stranger = test_simple_call(g->bob, image, IMAGE, "Detach");
        test_assert_failed(stranger, "NotAuthorized", "*");
        test_detach(g->ann, image);
        unlink(file);
}

static void test_takes_over_after_term(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        g_autofree char *before = describe(g->root);

        (void)userdata;
        test_daemon_stop(g->daemon);
        test_ground_restart_daemon(g);
        g_autofree char *after = describe(g->root);
        g_assert_cmpstr(after, ==, before);
        test_detach(g->ann, image);
        unlink(file);
}

/* What is unmounted later, by anybody, is noticed by the new one as well. */
static void test_still_watches(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);

        (void)userdata;
        kill_and_restart(g);
        g_assert_cmpint(umount2(mount_points[0], 0), ==, 0);
        test_signals_wait_removed(g->signals, image, IMAGE);
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

static void overwrite(const char *file, guint64 offset)
{
        static const char zeros[1024];
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_WRONLY);

        g_assert_cmpint(pwrite(fd, zeros, sizeof(zeros), (off_t)offset), ==, sizeof(zeros));
        g_assert_cmpint(fsync(fd), ==, 0);
}

/* The place where a mount has failed is somebody else's afterwards. */
static void test_leaves_others_alone(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_autofree char *sound = test_image_ext4("sound.img", "SECOND", TEST_ANN);
        g_autofree char *damaged = test_attach_path(g->ann, file, "{'volumes': <[uint32 1]>}", NULL);
        g_autofree char *volume = test_volume_path(damaged, 2);
        g_auto(GStrv) mount_points = NULL;

        (void)userdata;
        overwrite(file, test_property_number(g->ann, volume, VOLUME, "Offset") + 1024);
        g_autoptr(TestCall) mount = test_simple_call(g->ann, volume, VOLUME, "Mount");
        test_assert_failed(mount, "InvalidImage", "*");
        g_autofree char *image = test_attach_path(g->ann, sound, NULL, &mount_points);
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/SECOND");
        g_autoptr(TestSnapshot) state = test_snapshot_take(0);
        kill_and_restart(g);
        test_snapshot_assert(state, 0);
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(g->ann, image);
        test_detach(g->ann, damaged);
        unlink(file);
        unlink(sound);
}

/* Nothing was mounted and the one that held the device is dead: it is gone, and so is its record. */
static void test_nothing_mounted(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);

        (void)userdata;
        g_assert_nonnull(image);
        test_daemon_kill(g->daemon);
        /* As if it had just begun to mount. */
        g_assert_cmpint(g_mkdir_with_parents("/run/media/ann", 0700), ==, 0);
        test_ground_restart_daemon(g);
        test_wait_quiet(no_images, g->ann, "the image to be gone");
        test_snapshot_wait(g->before, 0);
        unlink(file);
}

/* It may go at any time. */
static bool is_attached(GDBusConnection *bus, const char *image)
{
        g_autoptr(GVariant) state = test_property(bus, image, IMAGE, "State");

        return state && streq(g_variant_get_string(state, NULL), "attached");
}

static bool is_not_attached(gpointer userdata)
{
        g_auto(GStrv) images = test_objects(userdata, IMAGE);

        return !*images || !is_attached(userdata, *images);
}

/* A stranger has it open as well: he keeps the device, but not the image. It goes when he closes it. */
static void test_nothing_mounted_but_open(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);
        g_autofree char *device = test_device_of(g->ann, image);
        _cleanup_close_ int stranger = open(device, O_RDONLY | O_CLOEXEC);

        (void)userdata;
        g_assert_cmpint(stranger, >=, 0);
        kill_and_restart(g);
        test_wait_quiet(is_not_attached, g->ann, "the image to be on its way");
        stranger = safe_close(stranger);
        test_wait_quiet(no_images, g->ann, "the image to be gone");
        test_snapshot_wait(g->before, 0);
        unlink(file);
}

/* ---- what happens while nobody is there ---- */

static void test_unmounted_meanwhile(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);

        (void)userdata;
        test_daemon_kill(g->daemon);
        g_assert_cmpint(umount2(mount_points[0], 0), ==, 0);
        g_assert_nonnull(image);
        test_ground_restart_daemon(g);
        test_wait_quiet(no_images, g->ann, "the image to be gone");
        test_snapshot_wait(g->before, 0);
        unlink(file);
}

typedef struct Unmounted {
        GDBusConnection *bus;
        const char *image;
        unsigned volume;
} Unmounted;

static bool is_unmounted(gpointer userdata)
{
        const Unmounted *unmounted = userdata;
        g_autofree char *mount_point = test_mount_point_of(unmounted->bus, unmounted->image, unmounted->volume);

        return !mount_point;
}

/* It is looked at before anybody is told of it. */
static void wait_unmounted(GDBusConnection *bus, const char *image, unsigned volume)
{
        Unmounted unmounted = { bus, image, volume };

        test_wait_quiet(is_unmounted, &unmounted, "the volume to be unmounted");
}

static void test_half_unmounted_meanwhile(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "dos", labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);

        (void)userdata;
        test_daemon_kill(g->daemon);
        g_assert_cmpint(umount2(mount_points[0], 0), ==, 0);
        test_ground_restart_daemon(g);
        wait_unmounted(g->ann, image, 1);
        g_autofree char *second = test_mount_point_of(g->ann, image, 2);
        g_assert_cmpstr(second, ==, mount_points[1]);
        test_wait_quiet(test_is_gone, mount_points[0], "the mount point to go");
        test_detach(g->ann, image);
        unlink(file);
}

/* The number of the device is somebody else's by now: nothing of his may be shown or touched. */
static void test_device_reused_meanwhile(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = test_image_ext4("other.img", "OTHER", TEST_BOB);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *device = test_device_of(g->ann, image);

        (void)userdata;
        test_daemon_kill(g->daemon);
        g_assert_cmpint(umount2(mount_points[0], 0), ==, 0);
        test_wait_quiet(no_loops, NULL, "the kernel to have done with the device");
        test_run("losetup", "--read-only", device, other, NULL);
        test_run("mount", "-o", "ro", device, mount_points[0], NULL);
        test_ground_restart_daemon(g);
        test_wait_quiet(no_images, g->root, "the image to be gone");
        test_assert_hello(TEST_ROOT, mount_points[0]);
        g_assert_cmpuint(test_count_loops(), ==, 1);

        test_run("umount", mount_points[0], NULL);
        test_run("losetup", "--detach", device, NULL);
        test_run("rm", "-rf", "/run/media/ann", NULL);
        test_snapshot_wait(g->before, 0);
        unlink(file);
        unlink(other);
}

/* ---- another mount of root's is where ours was ---- */

/* With a file, so that it cannot be taken for anything else. */
static void mount_roots(const char *path)
{
        g_autofree char *file = g_build_filename(path, "roots", NULL);

        test_run("mount", "-t", "tmpfs", "-o", "size=64k", "roots", path, NULL);
        g_assert_true(g_file_set_contents(file, "", -1, NULL));
}

static void assert_roots_is_at(const char *path)
{
        g_autofree char *file = g_build_filename(path, "roots", NULL);

        g_assert_true(g_file_test(file, G_FILE_TEST_EXISTS));
}

static void unmount_roots(const char *path)
{
        test_run("umount", path, NULL);
        g_assert_cmpint(rmdir(path), ==, 0);
}

/* Of two volumes one was unmounted meanwhile. The next mount has its place, and its number. */
static void test_other_mount(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "dos", labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);

        (void)userdata;
        test_daemon_kill(g->daemon);
        g_assert_cmpint(umount2(mount_points[0], 0), ==, 0);
        mount_roots(mount_points[0]);
        test_ground_restart_daemon(g);
        wait_unmounted(g->ann, image, 1);
        assert_roots_is_at(mount_points[0]);
        test_detach(g->ann, image);
        assert_roots_is_at(mount_points[0]);
        unmount_roots(mount_points[0]);
        rmdir("/run/media/ann");
        unlink(file);
}

static char *record_of(const char *image)
{
        return g_build_filename(RECORDS, strrchr(image, '/') + 1, NULL);
}

/* Changes the first @from in a record, up to the end of its line. */
static void change_record(const char *path, const char *from, const char *to)
{
        g_autofree char *text = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        char *line = strstr(text, from);
        g_assert_nonnull(line);
        g_autofree char *rest = g_strdup(line + 1 + strcspn(line + 1, "\n"));
        *line = 0;
        g_autofree char *changed = g_strconcat(text, to, rest, NULL);
        g_assert_true(g_file_set_contents(path, changed, -1, NULL));
}

/* The daemon died while it was attaching: it does not know which mount it has made, but its device is known. */
static void test_other_mount_while_attaching(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "dos", labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *record = record_of(image);

        (void)userdata;
        test_daemon_kill(g->daemon);
        g_assert_cmpint(umount2(mount_points[0], 0), ==, 0);
        mount_roots(mount_points[0]);
        change_record(record, "STATE=", "STATE=attaching");
        for (size_t i = 0; i < 2; i++)
                change_record(record, "\nMOUNT_ID=", "\nTAKEN_OUT=");
        test_ground_restart_daemon(g);
        test_wait_quiet(no_images, g->ann, "the image to be gone");
        assert_roots_is_at(mount_points[0]);
        unmount_roots(mount_points[0]);
        rmdir("/run/media/ann");
        test_snapshot_wait(g->before, 0);
        unlink(file);
}

/* ---- what the records say ---- */

/* A later version has written it, and this one has come back. */
static void test_record_of_later_version(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *record = record_of(image);

        (void)userdata;
        test_daemon_kill(g->daemon);
        change_record(record, "STATE=", "STATE=growing");
        test_ground_restart_daemon(g);
        g_assert_true(no_images(g->ann));
        g_assert_true(g_file_test(record, G_FILE_TEST_EXISTS));
        test_assert_hello(TEST_ANN, mount_points[0]);

        /* The later version comes back, too. */
        test_daemon_kill(g->daemon);
        change_record(record, "STATE=", "STATE=attached");
        test_ground_restart_daemon(g);
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(g->ann, image);

        /* Nothing is left of it but the record. */
        g_autofree char *again = test_attach_path(g->ann, file, NULL, NULL);
        g_autofree char *stale = record_of(again);
        test_daemon_kill(g->daemon);
        test_run("umount", "/run/media/ann/LABEL", NULL);
        test_wait_quiet(no_loops, NULL, "the kernel to have done with the device");
        change_record(stale, "STATE=", "STATE=growing");
        test_ground_restart_daemon(g);
        g_assert_true(no_images(g->ann));
        g_assert_false(g_file_test(stale, G_FILE_TEST_EXISTS));
        test_run("rm", "-rf", "/run/media/ann", NULL);
        unlink(file);
}

static void test_records_are_not_trusted(TestGround *g, gconstpointer userdata)
{
        static const char *const nonsense[] = { "", "\n", "nonsense", "id=1\n", "\xff\xff\xff", "[Image]\nid=99\n" };

        (void)userdata;
        test_daemon_kill(g->daemon);
        g_assert_cmpint(g_mkdir_with_parents(RECORDS, 0755), ==, 0);
        for (size_t i = 0; i < ELEMENTSOF(nonsense); i++) {
                g_autofree char *path = g_strdup_printf(RECORDS "/%zu", 900000 + i);
                g_assert_true(g_file_set_contents(path, nonsense[i], -1, NULL));
        }
        g_assert_true(g_file_set_contents(RECORDS "/not-a-number", "x", -1, NULL));
        test_ground_restart_daemon(g);
        g_auto(GStrv) images = test_objects(g->root, IMAGE);
        g_assert_cmpuint(g_strv_length(images), ==, 0);

        /* And it works. */
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        test_detach(g->ann, image);
        unlink(file);
        unlink(RECORDS "/not-a-number");
}

/* ---- at any point ---- */

typedef struct Killing {
        pid_t pid;
        bool killed;
} Killing;

static gboolean on_time_to_kill(gpointer userdata)
{
        Killing *killing = userdata;
        kill(killing->pid, SIGKILL);
        killing->killed = true;
        return G_SOURCE_REMOVE;
}

typedef struct Remains {
        GDBusConnection *bus;
        const TestSnapshot *nothing;
        unsigned n_mounts; /* of all of it */
} Remains;

static bool is_all_or_nothing(gpointer userdata)
{
        const Remains *remains = userdata;
        g_auto(GStrv) images = test_objects(remains->bus, IMAGE);
        g_autoptr(TestSnapshot) now = test_snapshot_take(0);
        g_autofree char *difference = test_snapshot_difference(remains->nothing, now);

        if (!*images)
                return !difference;
        return is_attached(remains->bus, *images) &&
               test_snapshot_count(now, "mount /run/media/ann/") == remains->n_mounts;
}

/* What the new daemon has found is all there, and still ann's, who detaches it; or it goes by itself. */
static void clean_up_after_crash(TestGround *g, unsigned n_mounts)
{
        Remains remains = { g->ann, g->before, n_mounts };

        test_wait_quiet(is_all_or_nothing, &remains, "all of the image, or nothing");
        g_auto(GStrv) images = test_objects(g->ann, IMAGE);
        g_assert_cmpuint(g_strv_length(images), <=, 1);
        if (*images) {
                g_assert_cmpuint(test_property_number(g->ann, *images, IMAGE, "OwnerUID"), ==, TEST_ANN);
                test_detach(g->ann, *images);
        }
        test_snapshot_wait(g->before, 0);
}

static void kill_during(TestGround *g, TestCall *call, unsigned msec, unsigned n_mounts)
{
        Killing killing = { .pid = g->daemon->pid };

        if (msec == 0)
                on_time_to_kill(&killing);
        else
                g_timeout_add(msec, on_time_to_kill, &killing);
        test_wait_flag(&killing.killed, "the time to kill");
        test_daemon_wait_killed(g->daemon);
        test_call_wait(call);
        test_ground_restart_daemon(g);
        clean_up_after_crash(g, n_mounts);
}

/* From before the first step until after the last one: each millisecond of an attach. */
#define LONGEST_MSEC 40u

static void test_during_attach(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", "THIRD", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);
        unsigned n_done = 0;

        (void)userdata;
        for (unsigned msec = 0; msec <= LONGEST_MSEC; msec++) {
                g_autoptr(TestCall) call = test_attach_start(g->ann, fd, NULL);
                /* It is on its way: what is flushed has left this process. */
                g_dbus_connection_flush_sync(g->ann, NULL, NULL);
                kill_during(g, call, msec, 3);
                n_done += call->error == NULL;
        }
        g_test_message("%u of %u were finished before", n_done, LONGEST_MSEC + 1);
        unlink(file);
}

static void test_during_detach(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);

        (void)userdata;
        for (unsigned msec = 0; msec <= LONGEST_MSEC; msec += 2) {
                g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
                g_autoptr(TestCall) call = test_call_start(
                        g->ann, image, IMAGE, "Detach", g_variant_new_parsed("(@a{sv} {},)"), (TestCallOptions){ 0 });
                g_dbus_connection_flush_sync(g->ann, NULL, NULL);
                kill_during(g, call, msec, 2);
        }
        unlink(file);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/crash/takes-over", NULL, test_takes_over);
        TEST_ADD("/crash/takes-over/term", NULL, test_takes_over_after_term);
        TEST_ADD("/crash/still-watches", NULL, test_still_watches);
        TEST_ADD("/crash/leaves-others-alone", NULL, test_leaves_others_alone);
        TEST_ADD("/crash/nothing-mounted", NULL, test_nothing_mounted);
        TEST_ADD("/crash/nothing-mounted/open", NULL, test_nothing_mounted_but_open);
        TEST_ADD("/crash/meanwhile/unmounted", NULL, test_unmounted_meanwhile);
        TEST_ADD("/crash/meanwhile/half-unmounted", NULL, test_half_unmounted_meanwhile);
        TEST_ADD("/crash/meanwhile/device-reused", NULL, test_device_reused_meanwhile);
        TEST_ADD("/crash/other-mount", NULL, test_other_mount);
        TEST_ADD("/crash/other-mount/attaching", NULL, test_other_mount_while_attaching);
        TEST_ADD("/crash/records/later", NULL, test_record_of_later_version);
        TEST_ADD("/crash/records", NULL, test_records_are_not_trusted);
        TEST_ADD("/crash/during/attach", NULL, test_during_attach);
        TEST_ADD("/crash/during/detach", NULL, test_during_detach);
        return g_test_run();
}
