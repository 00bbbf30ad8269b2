/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a user could do to the daemon, and through it to others: files whose file
 * system answers nobody at the worst moment, a device that is exchanged under an
 * image, a foot in the door of a mount that is about to be taken back.
 */
#include <fcntl.h>
#include <linux/blkpg.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "lib/fuse-file.h"
#include "lib/ground.h"
#include "lib/latency.h"

/* ---- files that do not answer ---- */

/*
 * Each close(2) of a FUSE file asks its server. Nothing that ann calls, and may or
 * may not call, leaves a descriptor of hers for the daemon itself to close.
 */
static void test_flush(TestGround *g, gconstpointer userdata)
{
        static const char *const bodies[] = { "(@h 0, @a{sv} {})", "(@h 0, {'x': <1>})", "(@h 0,)", "(@h 0, 'x')",
                                              "('x',)" };
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, false);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_fuse_file_silence_flush(fuse);
        for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
                g_autoptr(TestCall) attach = test_call(g->ann, ROOT_PATH, MANAGER, "Attach",
                                                       g_variant_new_parsed(bodies[i]), (TestCallOptions){ .fd = fd });
                test_call_free(test_call(g->ann, ROOT_PATH, MANAGER, "FindByFile", g_variant_new_parsed(bodies[i]),
                                         (TestCallOptions){ .fd = fd }));
                g_autoptr(TestCall) elsewhere =
                        test_call(g->ann, ROOT_PATH "/image/1", MANAGER, "Attach", g_variant_new_parsed(bodies[i]),
                                  (TestCallOptions){ .fd = fd });
                g_autoptr(TestCall) property =
                        test_call(g->ann, ROOT_PATH, DBUS_PROPERTIES, "GetAll", g_variant_new_parsed(bodies[i]),
                                  (TestCallOptions){ .fd = fd });
                g_assert_nonnull(attach->error);
                g_assert_nonnull(elsewhere->error);
                g_assert_nonnull(property->error);
        }
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "a close to be stuck");
        test_latency_assert(g->bob, &usual, "while closes are stuck");
        test_fuse_file_resume(fuse);
        close(fd);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
}

/* The close lives on, with all of a killed daemon's descriptors; the next daemon does not wait for it. */
static void test_flush_outlives_daemon(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, false);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);

        (void)userdata;
        test_fuse_file_silence_flush(fuse);
        g_autoptr(TestCall) attach = test_attach(g->ann, fd, NULL);
        g_assert_nonnull(attach->error);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "a close to be stuck");
        test_daemon_kill_alone(g->daemon);
        test_ground_restart_daemon(g);
        (void)test_latency(g->bob, "with the next daemon");
        test_fuse_file_resume(fuse);
        close(fd);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
}

/* A FUSE file system of ann's lies on top of her mount: the daemon does not ask it, and root need not be let in. */
static void test_covered(TestGround *g, bool others)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *second = test_image_ext4("second.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, others);
        g_autofree char *folder = g_path_get_dirname(test_fuse_file_path(fuse));
        g_auto(GStrv) mount_points = NULL;

        test_run("mount", "--bind", folder, "/run/media/ann/LABEL", NULL);
        if (others)
                test_fuse_file_silence_stat(fuse);
        g_autofree char *other = test_attach_path(g->ann, second, NULL, &mount_points);
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/LABEL 2");
        g_autoptr(TestCall) detach = test_simple_call(g->ann, image, IMAGE, "Detach");
        test_assert_failed(detach, "Busy", "*");
        test_fuse_file_resume(fuse);
        g_assert_cmpint(umount2("/run/media/ann/LABEL", 0), ==, 0);
        test_detach(g->ann, image);
        test_detach(g->ann, other);
        test_fuse_file_stop(fuse);
        unlink(second);
        unlink(file);
}

static void test_covered_by_silent(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_covered(g, true);
}

static void test_covered_by_private(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_covered(g, false);
}

/* LOOP_CONFIGURE hangs, and its device with it: the next one takes another. */
static void test_bind(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_fuse_file_silence_fsync(fuse);
        g_autoptr(TestCall) call = test_attach_start(g->ann, fd, NULL);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "the binding to be stuck");
        test_latency_assert(g->bob, &usual, "while LOOP_CONFIGURE hangs");
        test_call_wait(call);
        test_assert_failed(call, "Timeout", "*");
        test_latency_assert(g->bob, &usual, "while its child is stuck");
        test_fuse_file_resume(fuse);
        close(fd);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
}

/* ---- a device that is exchanged ---- */

static void test_exchanged_partition(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "dos", labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);
        g_autofree char *disk = test_device_of(g->ann, image);
        g_autofree char *volume = test_volume_path(image, 1);
        g_autofree char *second = test_volume_path(image, 2);
        long long start = (long long)test_property_number(g->ann, second, VOLUME, "Offset");

        (void)userdata;
        test_change_partition(disk, BLKPG_DEL_PARTITION, &(struct blkpg_partition){ .pno = 1 });
        test_change_partition(disk, BLKPG_DEL_PARTITION, &(struct blkpg_partition){ .pno = 2 });
        test_change_partition(disk, BLKPG_ADD_PARTITION,
                              &(struct blkpg_partition){ .pno = 1, .start = start, .length = 1 << 20 });
        g_autoptr(TestCall) call = test_simple_call(g->ann, volume, VOLUME, "Mount");
        test_assert_failed(call, "InvalidImage", "*not what it was*");
        test_detach(g->ann, image);
        unlink(file);
}

/* ---- a foot in the door ---- */

/*
 * The caller leaves while udevd is waited for; somebody is inside of the mount
 * already. It goes from the tree, the device is shown, and counts, until he leaves.
 */
static void test_foot_in_the_door(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        int fd = test_open_as(TEST_ANN, file, O_RDONLY), foot;
        GDBusConnection *visitor = test_connect_as(TEST_ANN);

        (void)userdata;
        test_run("udevadm", "control", "--stop-exec-queue", NULL);
        TestCall *call = test_attach_start(visitor, fd, "{'settle': <true>}");
        test_wait_quiet(test_has_hello, (gpointer) "/run/media/ann/LABEL", "the mount");
        foot = open("/run/media/ann/LABEL/hello", O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(foot, >=, 0);
        test_disconnect(visitor);
        test_call_wait(call);
        test_call_free(call);
        test_wait_quiet(test_is_gone, (gpointer) "/run/media/ann/LABEL", "the mount to go");
        test_run("udevadm", "control", "--start-exec-queue", NULL);

        g_auto(GStrv) images = test_objects(g->ann, IMAGE);
        for (unsigned i = 0; i < 100 && !images[0]; i++) {
                test_dispatch();
                g_usleep(100 * 1000);
                g_strfreev(images);
                images = test_objects(g->ann, IMAGE);
        }
        g_assert_nonnull(images[0]);
        g_autofree char *state = test_property_string(g->ann, images[0], IMAGE, "State");
        g_assert_cmpstr(state, ==, "detaching");
        g_autoptr(TestCall) surplus = test_attach(g->ann, fd, NULL);
        test_assert_failed(surplus, "LimitExceeded", "*");
        close(foot);
        test_signals_wait_removed(g->signals, images[0], IMAGE);
        close(fd);
        unlink(file);
}

/* What an earlier call has mounted stays when a later one, for another volume of the same image, is taken back. */
static void test_second_call_taken_back(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "dos", labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'volumes': <[uint32 1]>}", NULL);
        int fd = test_open_as(TEST_ANN, file, O_RDONLY);
        GDBusConnection *visitor = test_connect_as(TEST_ANN);

        (void)userdata;
        test_run("udevadm", "control", "--stop-exec-queue", NULL);
        TestCall *call = test_attach_start(visitor, fd, "{'volumes': <[uint32 2]>, 'settle': <true>}");
        test_wait_quiet(test_has_hello, (gpointer) "/run/media/ann/SECOND", "the second mount");
        test_disconnect(visitor);
        test_call_wait(call);
        test_call_free(call);
        test_wait_quiet(test_is_gone, (gpointer) "/run/media/ann/SECOND", "the second mount to go");
        test_run("udevadm", "control", "--start-exec-queue", NULL);
        test_assert_hello(TEST_ANN, "/run/media/ann/FIRST");
        g_autofree char *first = test_mount_point_of(g->ann, image, 1);
        g_assert_cmpstr(first, ==, "/run/media/ann/FIRST");
        test_detach(g->ann, image);
        close(fd);
        unlink(file);
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/hostile/flush", NULL, test_flush);
        TEST_ADD("/hostile/flush/outlives-daemon", NULL, test_flush_outlives_daemon);
        TEST_ADD("/hostile/covered/silent", NULL, test_covered_by_silent);
        TEST_ADD("/hostile/covered/private", NULL, test_covered_by_private);
        TEST_ADD("/hostile/bind", "[Limits]\nJobTimeoutSec=1\n", test_bind);
        TEST_ADD("/hostile/exchanged-partition", NULL, test_exchanged_partition);
        TEST_ADD("/hostile/foot-in-the-door", "[Limits]\nMaxImagesPerUser=1\n", test_foot_in_the_door);
        TEST_ADD("/hostile/second-call-taken-back", NULL, test_second_call_taken_back);
        return g_test_run();
}
