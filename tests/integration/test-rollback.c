/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All or nothing: whatever goes wrong in an Attach, and whenever its caller goes
 * away, nothing is left, and everybody else's requests go on.
 */
#include "lib/fuse-file.h"
#include "lib/ground.h"
#include "lib/latency.h"

#include <fcntl.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)

static void assert_attach_fails(TestGround *g, const char *file, const char *options, const char *error,
                                const char *pattern)
{
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);
        g_autoptr(TestCall) call = test_attach(g->ann, fd, options);

        test_assert_failed(call, error, pattern);
        test_snapshot_assert(g->before, 0);
        g_auto(GStrv) images = test_objects(g->root, IMAGE);
        g_assert_cmpuint(g_strv_length(images), ==, 0);
}

/* ---- bad images ---- */

static void test_nothing_in_it(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_empty("zeros.img", MIB, TEST_ANN);

        (void)userdata;
        assert_attach_fails(g, file, NULL, "InvalidImage", "*");
        unlink(file);
}

static void overwrite(const char *file, off_t offset, const void *bytes, size_t n_bytes)
{
        _cleanup_close_ int fd = test_open_as(TEST_ROOT, file, O_WRONLY);
        g_assert_cmpint(pwrite(fd, bytes, n_bytes, offset), ==, n_bytes);
}

/* libblkid takes it for ext4, the kernel does not. */
static void test_damaged(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("damaged.img", "DAMAGED", TEST_ANN);
        static const char zeros[6 * 1024] = { 0 };

        (void)userdata;
        /* The group descriptors, which follow the superblock. libblkid may check the sum of that. */
        overwrite(file, 2048, zeros, sizeof(zeros));
        assert_attach_fails(g, file, NULL, "InvalidImage", "*");
        /* Asked for or not, it is the same. */
        assert_attach_fails(g, file, "{'volumes': <[uint32 0]>}", "InvalidImage", "*");
        unlink(file);
}

static void test_truncated(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("truncated.img", "TRUNCATED", TEST_ANN);

        (void)userdata;
        test_image_resize(file, MIB);
        assert_attach_fails(g, file, NULL, "InvalidImage", "*");
        unlink(file);
}

static void test_unsupported(TestGround *g, gconstpointer userdata)
{
        g_autofree char *swap = test_image_empty("swap.img", MIB, TEST_ANN);
        g_autofree char *named = test_image_ext4("named.img", NULL, TEST_ANN);

        (void)userdata;
        test_run("mkswap", "-q", swap, NULL);
        assert_attach_fails(g, swap, NULL, "UnsupportedFilesystem", "*swap*");
        assert_attach_fails(g, named, "{'filesystem-type': <'squashfs'>}", "InvalidImage", "*squashfs*");
        unlink(swap);
        unlink(named);
}

/* One of three cannot be mounted: the others are there, and it says why; named, it fails all. */
static void test_one_of_three(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", "THIRD", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        static const char zeros[6 * 1024] = { 0 };
        g_auto(GStrv) mount_points = NULL;

        (void)userdata;
        overwrite(file, (off_t)(2 * 2 * MIB + 2048), zeros, sizeof(zeros));
        assert_attach_fails(g, file, "{'volumes': <[uint32 1, 2, 3]>}", "InvalidImage", "*volume 2*");

        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *second = test_volume_path(image, 2);
        g_autofree char *obstacle = test_property_string(g->ann, second, VOLUME, "Obstacle");
        g_assert_cmpuint(g_strv_length(mount_points), ==, 2);
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/FIRST");
        g_assert_cmpstr(mount_points[1], ==, "/run/media/ann/THIRD");
        g_assert_cmpstr(obstacle, !=, "");
        test_detach(g->ann, image);
        unlink(file);
}

/* ---- the folder for mount points ---- */

static void test_folder_is_not_roots(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *elsewhere = test_folder("elsewhere");
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        (void)userdata;
        /* Somebody has put a link, or a folder of ann's, in its place. */
        g_assert_cmpint(g_mkdir_with_parents("/run/media", 0755), ==, 0);
        g_assert_cmpint(symlink(elsewhere, "/run/media/ann"), ==, 0);
        g_autoptr(TestCall) link = test_attach(g->ann, fd, NULL);
        test_assert_failed(link, "Failed", "*/run/media/ann*");
        g_assert_cmpint(unlink("/run/media/ann"), ==, 0);

        g_assert_cmpint(mkdir("/run/media/ann", 0700), ==, 0);
        g_assert_cmpint(chown("/run/media/ann", TEST_ANN, TEST_ANN), ==, 0);
        g_autoptr(TestCall) own = test_attach(g->ann, fd, NULL);
        test_assert_failed(own, "Failed", "*/run/media/ann*");
        g_assert_cmpint(rmdir("/run/media/ann"), ==, 0);
        g_assert_cmpint(rmdir(elsewhere), ==, 0);
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

/* ---- the caller goes ---- */

typedef struct Departure {
        GDBusConnection *bus;
        bool gone;
} Departure;

static gboolean on_time_to_go(gpointer userdata)
{
        Departure *departure = userdata;
        g_dbus_connection_close_sync(departure->bus, NULL, NULL);
        departure->gone = true;
        return G_SOURCE_REMOVE;
}

static void leave_during_attach(TestGround *g, int fd, unsigned msec)
{
        Departure departure = { .bus = test_connect_as(TEST_ANN) };
        TestCall *call = test_attach_start(departure.bus, fd, NULL);

        g_dbus_connection_flush_sync(departure.bus, NULL, NULL);
        g_timeout_add(msec, on_time_to_go, &departure);
        test_wait_flag(&departure.gone, "the caller to go");
        test_call_wait(call);
        test_call_free(call);
        g_object_unref(departure.bus);

        /* It was in time, or the image was attached already and stays. */
        g_autoptr(TestCall) all = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(all);
        test_snapshot_wait(g->before, 0);
}

static void test_caller_goes(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        (void)userdata;
        for (unsigned msec = 0; msec < 30; msec++)
                leave_during_attach(g, fd, msec);
        unlink(file);
}

/* ---- a file that keeps silent ---- */

static void test_silent_while_probing(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        g_autoptr(TestSnapshot) before = test_snapshot_take(0);
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_fuse_file_silence(fuse, 0);
        g_autoptr(TestCall) call = test_attach_start(g->ann, fd, NULL);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "the probe to be stuck");
        test_latency_assert(g->bob, &usual, "while the probe hangs");
        test_call_wait(call);
        test_assert_failed(call, "Timeout", "*");
        test_latency_assert(g->bob, &usual, "while its child is stuck");

        /* When the kernel lets go of it, it is gone without a trace. */
        test_fuse_file_resume(fuse);
        test_snapshot_wait(before, 0);
        g_autoptr(TestCall) again = test_attach(g->ann, fd, NULL);
        test_assert_succeeded(again);
        const char *image;
        g_variant_get_child(again->reply, 0, "&o", &image);
        test_detach(g->ann, image);
        close(fd);
        test_fuse_file_stop(fuse);
        unlink(file);
}

/* The caller does not wait that long. */
static void test_silent_and_caller_goes(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        GDBusConnection *visitor = test_connect_as(TEST_ANN);
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_fuse_file_silence(fuse, 0);
        TestCall *call = test_attach_start(visitor, fd, NULL);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "the probe to be stuck");
        test_disconnect(visitor);
        test_call_wait(call);
        test_call_free(call);
        test_latency_assert(g->bob, &usual, "while a probe hangs whose caller is gone");
        test_fuse_file_resume(fuse);
        close(fd);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
}

/* Silent from the moment on when the loop device is there: the mounting hangs. */
static void test_silent_while_mounting(TestGround *g, gconstpointer userdata)
{
        g_autofree char *earlier = test_image_ext4("earlier.img", "EARLIER", TEST_BOB);
        g_autofree char *bobs = test_attach_path(g->bob, earlier, NULL, NULL);
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_fuse_file_silence_at_fsync(fuse);
        g_autoptr(TestCall) call = test_attach_start(g->ann, fd, "{'direct-io': <'yes'>}");
        close(fd);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "the mounting to be stuck");
        /* What was there before it began can go, too: nothing of it is held by who hangs. */
        test_detach(g->bob, bobs);
        test_latency_assert(g->bob, &usual, "while the mounting hangs");
        test_call_wait(call);
        test_assert_failed(call, "Timeout", "*");
        test_latency_assert(g->bob, &usual, "while its child is stuck");
        test_fuse_file_resume(fuse);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
        unlink(earlier);
}

static void test_caller_goes_while_mounting(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        GDBusConnection *visitor = test_connect_as(TEST_ANN);
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_fuse_file_silence_at_fsync(fuse);
        TestCall *call = test_attach_start(visitor, fd, "{'direct-io': <'yes'>}");
        close(fd);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "the mounting to be stuck");
        test_disconnect(visitor);
        test_call_wait(call);
        test_call_free(call);
        test_latency_assert(g->bob, &usual, "while a mounting hangs whose caller is gone");
        test_fuse_file_resume(fuse);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
}

/*
 * Silent when it is attached and mounted already: reading hangs, which is the
 * reader's affair; Detach, and SIGTERM, must not.
 */
static void test_silent_after_mounting(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        g_autoptr(TestCall) attached = test_attach(g->ann, fd, NULL);
        const char *image;
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_assert_succeeded(attached);
        g_variant_get_child(attached->reply, 0, "&o", &image);
        close(fd);
        test_fuse_file_silence(fuse, 0);
        g_autoptr(TestCall) detached = test_simple_call(g->ann, image, IMAGE, "Detach");
        test_latency_assert(g->bob, &usual, "while a mounted file is silent");
        test_fuse_file_resume(fuse);
        if (detached->error) {
                g_autofree char *name = g_dbus_error_get_remote_error(detached->error);
                g_assert_true(streq(name, ERROR_PREFIX "Timeout") || streq(name, ERROR_PREFIX "Busy"));
                test_signals_wait_removed(g->signals, image, IMAGE);
        }
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
}

#define MANY 4u

/* Each in an open(2) of its own: of those who wait for the same page, all but one can be killed. */
static bool all_are_stuck(gpointer fuse)
{
        return test_fuse_file_n_stuck(fuse) == MANY;
}

/* As many silent files as ann may have requests: bob has his own. */
static void test_many_silent(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        TestCall *calls[MANY];
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_fuse_file_silence_open(fuse);
        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                calls[i] = test_attach_start(g->ann, fd, NULL);
        test_wait_quiet(all_are_stuck, fuse, "the probes to be stuck");
        g_autoptr(TestCall) surplus = test_attach(g->ann, fd, NULL);
        test_assert_failed(surplus, "LimitExceeded", "*");
        test_latency_assert(g->bob, &usual, "while four probes hang");
        for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
                test_call_wait(calls[i]);
                test_assert_failed(calls[i], "Timeout", "*");
                test_call_free(calls[i]);
        }

        /* Their children are not dead: ann may not pile up more and more of them. */
        g_autoptr(TestCall) more = test_attach(g->ann, fd, NULL);
        test_assert_failed(more, "LimitExceeded", "*");
        test_fuse_file_resume(fuse);
        close(fd);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/rollback/image/nothing", NULL, test_nothing_in_it);
        TEST_ADD("/rollback/image/damaged", NULL, test_damaged);
        TEST_ADD("/rollback/image/truncated", NULL, test_truncated);
        TEST_ADD("/rollback/image/unsupported", NULL, test_unsupported);
        TEST_ADD("/rollback/image/one-of-three", NULL, test_one_of_three);
        TEST_ADD("/rollback/folder", NULL, test_folder_is_not_roots);
        TEST_ADD("/rollback/caller-goes", NULL, test_caller_goes);
        TEST_ADD("/rollback/silent/probe", "[Limits]\nJobTimeoutSec=1\n", test_silent_while_probing);
        TEST_ADD("/rollback/silent/caller-goes", "[Limits]\nJobTimeoutSec=1\n", test_silent_and_caller_goes);
        TEST_ADD("/rollback/silent/mount", "[Limits]\nJobTimeoutSec=1\n", test_silent_while_mounting);
        TEST_ADD("/rollback/silent/mount/caller-goes", NULL, test_caller_goes_while_mounting);
        TEST_ADD("/rollback/silent/mounted", "[Limits]\nJobTimeoutSec=1\n", test_silent_after_mounting);
        TEST_ADD("/rollback/silent/many", "[Limits]\nJobTimeoutSec=2\nMaxRequestsPerUser=4\n", test_many_silent);
        return g_test_run();
}
