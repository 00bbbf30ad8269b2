/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that hang, lie or go away: what a user gets then, that an image which
 * is stuck can be given up, and that nobody else waits for any of it.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/fuse-file.h"
#include "lib/ground.h"
#include "lib/latency.h"

#define MIB (UINT64_C(1) << 20)

/* What gives up has to come back in seconds; a load of other tests is allowed for. */
#define FORCE_MAX_USEC (INT64_C(10) * G_USEC_PER_SEC)

/* As little as a busy machine needs for what does not hang. */
#ifdef __SANITIZE_ADDRESS__
#define DEADLINE "[Limits]\nJobTimeoutSec=3\n"
#else
#define DEADLINE "[Limits]\nJobTimeoutSec=1\n"
#endif

/* ---- what the tests share ---- */

/* Another process reads a file of a mount, which may take for ever. */
static pid_t start_reader(const char *mount_point)
{
        g_autofree char *path = g_build_filename(mount_point, "hello", NULL);
        pid_t pid = fork();

        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                char byte;
                int fd = open(path, O_RDONLY | O_CLOEXEC);
                _exit(fd >= 0 && read(fd, &byte, 1) == 1 ? 0 : 1);
        }
        return pid;
}

/* Gives how it ended: 0 if it could read. */
static int reap(pid_t pid)
{
        int status;

        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        return status;
}

static char *state_of(GDBusConnection *bus, const char *image)
{
        return test_property_string(bus, image, IMAGE, "State");
}

static TestCall *force_start(GDBusConnection *bus, const char *image)
{
        return test_call_start(bus, image, IMAGE, "Detach", g_variant_new_parsed("({'force': <true>},)"),
                               (TestCallOptions){ 0 });
}

/* Gives the image up, which has to succeed, and soon. */
static void force(GDBusConnection *bus, const char *image)
{
        gint64 began = g_get_monotonic_time();
        g_autoptr(TestCall) call = force_start(bus, image);

        test_call_wait(call);
        test_assert_succeeded(call);
        gint64 taken = g_get_monotonic_time() - began;
        g_test_message("giving it up took %.2f s", (double)taken / G_USEC_PER_SEC);
        g_assert_cmpint(taken, <, FORCE_MAX_USEC);
}

static void assert_not_mounted(const char *image_path, GDBusConnection *bus, const char *mount_point)
{
        g_autofree char *shown = test_mount_point_of(bus, image_path, 0);

        g_assert_null(shown);
        g_assert_false(g_file_test(mount_point, G_FILE_TEST_EXISTS));
}

static void assert_limit(GDBusConnection *bus, uid_t uid)
{
        g_autofree char *file = test_image_ext4("surplus.img", "SURPLUS", uid);
        _cleanup_close_ int fd = test_open_as(uid, file, O_RDONLY);
        g_autoptr(TestCall) call = test_attach(bus, fd, NULL);

        test_assert_failed(call, "LimitExceeded", "*");
        unlink(file);
}

static void assert_goes(TestGround *g, const char *image)
{
        test_signals_wait_removed(g->signals, image, IMAGE);
        test_snapshot_wait(g->before, 0);
}

/* A file system of ann's on a FUSE file of hers, and how long the calls of others take before it hangs. */
typedef struct Hung {
        TestLatency usual;
        char *file;
        TestFuseFile *fuse;
        char *image;
        char *mount_point;
} Hung;

/* Gives the file, opened. */
static int hung_start(TestGround *g, Hung *hung)
{
        hung->usual = test_latency(g->bob, "before");
        hung->file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        hung->fuse = test_fuse_file_start("fuse", hung->file, TEST_ANN, true);
        return test_open_as(TEST_ANN, test_fuse_file_path(hung->fuse), O_RDONLY);
}

static void hung_attach(TestGround *g, Hung *hung, const char *options)
{
        g_auto(GStrv) mount_points = NULL;

        close(hung_start(g, hung));
        hung->image = test_attach_path(g->ann, test_fuse_file_path(hung->fuse), options, &mount_points);
        hung->mount_point = g_strdup(mount_points[0]);
}

static void hung_stop(Hung *hung)
{
        test_fuse_file_stop(hung->fuse);
        unlink(hung->file);
        g_free(hung->file);
        g_free(hung->image);
        g_free(hung->mount_point);
}

/* ---- hanging, and the others ---- */

/* Attaches what is silent by now, or will be; @fd: the file, opened before. */
static void assert_times_out(TestGround *g, Hung *hung, int fd, const char *what)
{
        g_autofree char *when = g_strdup_printf("while %s hangs", what);
        g_autoptr(TestCall) call = test_attach_start(g->ann, fd, "{'direct-io': <'yes'>}");

        close(fd);
        test_wait_quiet(test_fuse_file_has_stuck, hung->fuse, what);
        test_latency_assert(g->bob, &hung->usual, when);
        test_call_wait(call);
        test_assert_failed(call, "Timeout", "*");
        test_latency_assert(g->bob, &hung->usual, "while its child is stuck");
        test_fuse_file_resume(hung->fuse);
        test_snapshot_wait(g->before, 0);
        hung_stop(hung);
}

static void test_hangs_at_stat(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };

        (void)userdata;
        int fd = hung_start(g, &hung);
        test_fuse_file_silence_stat(hung.fuse);
        g_autoptr(TestCall) call = test_attach_start(g->ann, fd, NULL);
        g_autoptr(TestCall) find = test_call_start(g->ann, ROOT_PATH, MANAGER, "FindByFile", g_variant_new("(h)", 0),
                                                   (TestCallOptions){ .fd = fd });
        test_wait_quiet(test_fuse_file_has_stuck, hung.fuse, "stat(2) to be stuck");
        test_latency_assert(g->bob, &hung.usual, "while stat(2) hangs");
        test_call_wait(call);
        test_call_wait(find);
        test_assert_failed(call, "Timeout", "*");
        test_assert_failed(find, "Timeout", "*");
        test_fuse_file_resume(hung.fuse);
        close(fd);
        test_snapshot_wait(g->before, 0);
        hung_stop(&hung);
}

static void test_hangs_at_open(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };

        (void)userdata;
        int fd = hung_start(g, &hung);
        test_fuse_file_silence_open(hung.fuse);
        assert_times_out(g, &hung, fd, "the probe's open(2)");
}

static void test_hangs_at_first_read(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };

        (void)userdata;
        int fd = hung_start(g, &hung);
        test_fuse_file_silence(hung.fuse, 0);
        assert_times_out(g, &hung, fd, "the probe");
}

static void test_hangs_at_bind(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };

        (void)userdata;
        int fd = hung_start(g, &hung);
        test_fuse_file_silence_fsync(hung.fuse);
        assert_times_out(g, &hung, fd, "LOOP_CONFIGURE");
}

static void test_hangs_at_mount(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };

        (void)userdata;
        int fd = hung_start(g, &hung);
        test_fuse_file_silence_at_fsync(hung.fuse);
        assert_times_out(g, &hung, fd, "the mounting");
}

/* Who enters gets an error; who enters again and again has no further child made for it. */
static void test_hangs_when_entered(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };

        (void)userdata;
        hung_attach(g, &hung, "{'on-access': <true>, 'direct-io': <'yes'>}");
        test_fuse_file_silence(hung.fuse, 0);
        for (unsigned i = 0; i < 3; i++) {
                pid_t reader = start_reader(hung.mount_point);

                if (i == 0) {
                        test_wait_quiet(test_fuse_file_has_stuck, hung.fuse, "the mounting to be stuck");
                        test_latency_assert(g->bob, &hung.usual, "while somebody enters what hangs");
                }
                g_assert_cmpint(reap(reader), !=, 0);
        }
        g_autoptr(TestSnapshot) now = test_snapshot_take(g->daemon->pid);
        g_assert_cmpuint(test_snapshot_count(now, "child"), ==, 1);
        test_fuse_file_resume(hung.fuse);
        test_detach(g->root, hung.image);
        test_snapshot_wait(g->before, 0);
        hung_stop(&hung);
}

/* Three hang, and no further file of ann's is looked at; what she has can still be taken away. */
static void test_hang_together(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("plain.img", "PLAIN", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        TestFuseFile *fuses[3];
        TestCall *calls[3];
        int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        (void)userdata;
        for (size_t i = 0; i < G_N_ELEMENTS(fuses); i++) {
                g_autofree char *name = g_strdup_printf("fuse-%zu", i);

                fuses[i] = test_fuse_file_start(name, file, TEST_ANN, true);
                int hanging = test_open_as(TEST_ANN, test_fuse_file_path(fuses[i]), O_RDONLY);
                test_fuse_file_silence_stat(fuses[i]);
                calls[i] = test_attach_start(g->ann, hanging, NULL);
                close(hanging);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(fuses); i++) {
                test_call_wait(calls[i]);
                test_assert_failed(calls[i], "Timeout", "*");
                test_call_free(calls[i]);
        }
        g_autoptr(TestCall) surplus = test_attach(g->ann, fd, NULL);
        test_assert_failed(surplus, "LimitExceeded", "*hang in the kernel*");
        test_detach(g->ann, image);
        for (size_t i = 0; i < G_N_ELEMENTS(fuses); i++)
                test_fuse_file_resume(fuses[i]);
        test_snapshot_wait(g->before, 0);
        for (size_t i = 0; i < G_N_ELEMENTS(fuses); i++)
                test_fuse_file_stop(fuses[i]);
        close(fd);
        unlink(file);
}

/* ---- giving up ---- */

/* A reader hangs, so the mount is busy: no ordinary detach. */
static void test_force_with_stuck_reader(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };

        (void)userdata;
        hung_attach(g, &hung, "{'direct-io': <'yes'>}");
        test_fuse_file_silence(hung.fuse, 0);
        pid_t reader = start_reader(hung.mount_point);
        test_wait_quiet(test_fuse_file_has_stuck, hung.fuse, "the reader to be stuck");
        g_autoptr(TestCall) detach = test_simple_call(g->ann, hung.image, IMAGE, "Detach");
        test_assert_failed(detach, "Busy", "*");
        test_latency_assert(g->bob, &hung.usual, "while a reader is stuck");

        force(g->ann, hung.image);
        assert_not_mounted(hung.image, g->ann, hung.mount_point);
        g_autofree char *state = state_of(g->ann, hung.image);
        g_assert_cmpstr(state, ==, "detaching");
        assert_limit(g->ann, TEST_ANN);
        test_latency_assert(g->bob, &hung.usual, "while it is given up");

        test_fuse_file_resume(hung.fuse);
        g_assert_cmpint(reap(reader), ==, 0);
        assert_goes(g, hung.image);
        hung_stop(&hung);
}

/* Hangs in the release: something is to be written back. */
static TestCall *start_stuck_detach(TestGround *g, Hung *hung)
{
        g_autofree char *written = NULL;

        hung_attach(g, hung, "{'read-only': <false>}");
        written = g_build_filename(hung->mount_point, "written", NULL);
        g_assert_cmpint(test_write_as(TEST_ROOT, written, "not in the file yet"), ==, 0);
        test_fuse_file_silence_write(hung->fuse);
        TestCall *call = test_simple_call_start(g->ann, hung->image, IMAGE, "Detach");
        test_wait_quiet(test_fuse_file_has_stuck, hung->fuse, "the release to be stuck");
        return call;
}

/* The child hangs where nobody reaches it; it is killed in vain, and another one gives up in its place. */
static void test_force_over_stuck_release(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };
        g_autoptr(TestCall) detach = start_stuck_detach(g, &hung);

        (void)userdata;
        force(g->ann, hung.image);
        test_call_wait(detach);
        test_assert_failed(detach, "Cancelled", "*");
        assert_not_mounted(hung.image, g->ann, hung.mount_point);
        assert_limit(g->ann, TEST_ANN);
        test_latency_assert(g->bob, &hung.usual, "while a release is stuck");
        /* Once more does no harm. */
        force(g->root, hung.image);

        test_fuse_file_resume(hung.fuse);
        assert_goes(g, hung.image);
        hung_stop(&hung);
}

/* Straight away: the child that gives up is the one that hangs. */
static void test_force_hangs_itself(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };

        (void)userdata;
        hung_attach(g, &hung, "{'read-only': <false>}");
        g_autofree char *written = g_build_filename(hung.mount_point, "written", NULL);
        g_assert_cmpint(test_write_as(TEST_ROOT, written, "not in the file yet"), ==, 0);
        test_fuse_file_silence_write(hung.fuse);
        force(g->ann, hung.image);
        g_autofree char *state = state_of(g->ann, hung.image);
        g_assert_cmpstr(state, ==, "stuck");
        assert_not_mounted(hung.image, g->ann, hung.mount_point);
        assert_limit(g->ann, TEST_ANN);
        test_latency_assert(g->bob, &hung.usual, "while an image is stuck");
        test_fuse_file_resume(hung.fuse);
        assert_goes(g, hung.image);
        hung_stop(&hung);
}

/* A detach that ran out of time is finished when the kernel comes back. */
static void test_timed_out_detach_is_finished(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };
        g_autoptr(TestCall) detach = start_stuck_detach(g, &hung);

        (void)userdata;
        test_call_wait(detach);
        test_assert_failed(detach, "Timeout", "*");
        g_autofree char *state = state_of(g->ann, hung.image);
        g_assert_cmpstr(state, ==, "stuck");
        test_fuse_file_resume(hung.fuse);
        assert_goes(g, hung.image);
        hung_stop(&hung);
}

/* The daemon dies; the next one takes over what the kernel still holds, and is not held up by it. */
static void test_restart_while_stuck(TestGround *g, gconstpointer userdata)
{
        Hung hung = { 0 };

        (void)userdata;
        hung_attach(g, &hung, "{'read-only': <false>}");
        g_autofree char *written = g_build_filename(hung.mount_point, "written", NULL);
        g_assert_cmpint(test_write_as(TEST_ROOT, written, "not in the file yet"), ==, 0);
        test_fuse_file_silence_write(hung.fuse);
        force(g->ann, hung.image);
        g->daemon = test_daemon_kill(g->daemon);
        test_ground_restart_daemon(g);
        test_latency_assert(g->bob, &hung.usual, "behind a restart while an image is stuck");
        force(g->ann, hung.image);
        test_signals_clear(g->signals);
        test_fuse_file_resume(hung.fuse);
        assert_goes(g, hung.image);
        hung_stop(&hung);
}

/* Not stuck, but in use: it goes from the folder now, and all of it with the last user. */
static void test_force_busy(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>}", &mount_points);
        g_autofree char *hello = g_build_filename(mount_points[0], "hello", NULL);
        int holder = test_open_as(TEST_ANN, hello, O_RDONLY);
        char byte;

        (void)userdata;
        force(g->ann, image);
        assert_not_mounted(image, g->ann, mount_points[0]);
        g_autofree char *state = state_of(g->ann, image);
        g_assert_cmpstr(state, ==, "detaching");
        g_assert_cmpint(pread(holder, &byte, 1, 0), ==, 1);
        assert_limit(g->ann, TEST_ANN);
        close(holder);
        assert_goes(g, image);
        unlink(file);
}

/* Somebody has the device open. */
static void test_force_busy_device(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        g_autofree char *device = test_device_of(g->ann, image);
        int holder = open(device, O_RDONLY | O_CLOEXEC);

        (void)userdata;
        g_assert_cmpint(holder, >=, 0);
        force(g->ann, image);
        g_autofree char *state = state_of(g->ann, image);
        g_assert_cmpstr(state, ==, "detaching");
        close(holder);
        assert_goes(g, image);
        unlink(file);
}

/* Nobody is in the way: it is like any other detach. */
static void test_force_idle(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "dos", labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);

        (void)userdata;
        force(g->ann, image);
        test_snapshot_assert(g->before, 0);
        g_auto(GStrv) images = test_objects(g->ann, IMAGE);
        g_assert_cmpuint(g_strv_length(images), ==, 0);
        unlink(file);
}

/* Others need the administrator for it, as for any detach. */
static void test_force_by_others(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        g_autoptr(TestCall) bobs = force_start(g->bob, image);

        (void)userdata;
        test_call_wait(bobs);
        test_assert_failed(bobs, "NotAuthorized", "*");
        g_autofree char *state = state_of(g->ann, image);
        g_assert_cmpstr(state, ==, "attached");
        force(g->root, image);
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

static void test_force_all(TestGround *g, gconstpointer userdata)
{
        g_autofree char *one = test_image_ext4("one.img", "ONE", TEST_ANN);
        g_autofree char *two = test_image_ext4("two.img", "TWO", TEST_ANN);
        g_autofree char *bobs = test_image_ext4("bobs.img", "BOBS", TEST_BOB);
        g_autofree char *first = test_attach_path(g->ann, one, NULL, NULL);
        g_autofree char *second = test_attach_path(g->ann, two, NULL, NULL);
        g_autofree char *of_bob = test_attach_path(g->bob, bobs, NULL, NULL);
        int holder = test_open_as(TEST_ANN, "/run/media/ann/ONE/hello", O_RDONLY);

        (void)userdata;
        g_autoptr(TestCall) all = test_call(g->ann, ROOT_PATH, MANAGER, "DetachAll",
                                            g_variant_new_parsed("({'force': <true>},)"), (TestCallOptions){ 0 });
        test_assert_succeeded(all);
        g_assert_false(g_file_test("/run/media/ann", G_FILE_TEST_EXISTS));
        test_assert_hello(TEST_BOB, "/run/media/bob/BOBS");
        close(holder);
        test_signals_wait_removed(g->signals, first, IMAGE);
        test_signals_wait_removed(g->signals, second, IMAGE);
        test_detach(g->bob, of_bob);
        unlink(one);
        unlink(two);
        unlink(bobs);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/hung/stat", DEADLINE, test_hangs_at_stat);
        TEST_ADD("/hung/open", DEADLINE, test_hangs_at_open);
        TEST_ADD("/hung/first-read", DEADLINE, test_hangs_at_first_read);
        TEST_ADD("/hung/bind", DEADLINE, test_hangs_at_bind);
        TEST_ADD("/hung/mount", DEADLINE, test_hangs_at_mount);
        TEST_ADD("/hung/together", DEADLINE, test_hang_together);
        TEST_ADD("/hung/entered", DEADLINE "MaxRequestsPerUser=1\n", test_hangs_when_entered);
        TEST_ADD("/hung/force/reader", "[Limits]\nMaxImagesPerUser=1\n", test_force_with_stuck_reader);
        TEST_ADD("/hung/force/release", "[Limits]\nMaxImagesPerUser=1\n", test_force_over_stuck_release);
        TEST_ADD("/hung/force/itself", "[Limits]\nMaxImagesPerUser=1\n", test_force_hangs_itself);
        TEST_ADD("/hung/force/restart", DEADLINE, test_restart_while_stuck);
        TEST_ADD("/hung/force/busy", "[Limits]\nMaxImagesPerUser=1\n", test_force_busy);
        TEST_ADD("/hung/force/busy-device", NULL, test_force_busy_device);
        TEST_ADD("/hung/force/idle", NULL, test_force_idle);
        TEST_ADD("/hung/force/others", NULL, test_force_by_others);
        TEST_ADD("/hung/force/all", NULL, test_force_all);
        TEST_ADD("/hung/detach", DEADLINE, test_timed_out_detach_is_finished);
        return g_test_run();
}
