/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Volumes that are mounted when they are entered, and unmounted when they were not
 * used for some time. Whoever enters gets in, or an error; nobody hangs, whatever
 * becomes of the daemon.
 */
#include "lib/ground.h"
#include "lib/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ON_ACCESS "{'on-access': <true>}"
#define ON_ACCESS_FOR_A_SECOND "{'on-access': <true>, 'idle-timeout': <uint64 1000000>}"
#define ON_ACCESS_FOR_EVER "{'on-access': <true>, 'idle-timeout': <uint64 0>}"

static const char *const two_labels[] = { "FIRST", "SECOND", NULL };

/* ---- What there is ---- */

/* A file system of a loop device, not only a trigger. */
static unsigned count_mounted(void)
{
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        unsigned n = 0;

        for (char **line = lines; *line; line++)
                n += strstr(*line, " /run/media/ann/") && strstr(*line, " /dev/loop");
        return n;
}

/* Desktops do not list it: they would enter it. */
static bool is_hidden(const char *fs_type)
{
        const char *const argv[] = { "findmnt", "--mtab", "--raw", "--noheadings", "--output", "OPTIONS",
                                     "--types", fs_type,  NULL };
        g_autofree char *output = NULL;

        g_assert_true(
                g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &output, NULL, NULL, NULL));
        return strstr(output, "x-gvfs-hide");
}

static bool is_waiting(GDBusConnection *bus, const char *image, unsigned number)
{
        g_autofree char *volume = test_volume_path(image, number);
        return test_property_bool(bus, volume, VOLUME, "Waiting");
}

static bool nothing_is_mounted(gpointer userdata)
{
        (void)userdata;
        return count_mounted() == 0;
}

static bool something_is_mounted(gpointer userdata)
{
        return !nothing_is_mounted(userdata);
}

typedef struct Waiting {
        GDBusConnection *bus;
        const char *image;
} Waiting;

static bool waits(gpointer userdata)
{
        const Waiting *waiting = userdata;
        return nothing_is_mounted(NULL) && is_waiting(waiting->bus, waiting->image, 0);
}

static void wait_until_waiting(TestGround *g, const char *image)
{
        test_wait_quiet(waits, &(Waiting){ g->ann, image }, "the volume to be unmounted");
}

static bool has_no_images(gpointer userdata)
{
        g_auto(GStrv) images = test_objects(userdata, IMAGE);
        return g_strv_length(images) == 0;
}

static bool one_is_left(gpointer userdata)
{
        g_auto(GStrv) images = test_objects(userdata, IMAGE);
        return g_strv_length(images) == 1;
}

/* ---- Entering ---- */

static void test_enter(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, &mount_points);
        g_autofree char *volume = test_volume_path(image, 0);
        g_autoptr(GDir) parent = g_dir_open("/run/media/ann", 0, NULL);
        const char *name;

        (void)userdata;
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/LABEL");
        g_assert_true(is_waiting(g->ann, image, 0));
        g_assert_true(is_hidden("autofs"));
        g_assert_true(test_property_bool(g->ann, image, IMAGE, "OnAccess"));
        g_assert_cmpuint(test_property_number(g->ann, image, IMAGE, "IdleTimeout"), ==, 5 * 60 * USEC_PER_SEC);
        g_autofree char *shown = test_mount_point_of(g->ann, image, 0);
        g_assert_cmpstr(shown, ==, mount_points[0]);

        /* Looking at it from outside is not entering. */
        while ((name = g_dir_read_name(parent))) {
                g_autofree char *path = g_build_filename("/run/media/ann", name, NULL);
                struct stat st;

                g_assert_cmpint(lstat(path, &st), ==, 0);
        }
        g_assert_cmpuint(count_mounted(), ==, 0);

        test_signals_clear(g->signals);
        test_assert_hello(TEST_ANN, mount_points[0]);
        g_assert_cmpuint(count_mounted(), ==, 1);
        g_assert_true(is_hidden("autofs"));
        g_assert_false(is_hidden("ext4"));
        g_autoptr(GVariant) changed = test_signals_wait_changed(g->signals, volume, VOLUME, "Waiting");
        g_assert_false(g_variant_get_boolean(changed));
        g_autofree char *options = test_mount_options(mount_points[0]);
        g_assert_nonnull(strstr(options, ",nosuid,"));
        test_detach(g->ann, image);
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

/* Each volume for itself; with what was wished for. */
static void test_enter_one(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", two_labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(
                g->ann, file,
                "{'on-access': <true>, 'read-only': <false>, 'name': <'mine'>, 'mount-options': <'noatime'>}",
                &mount_points);

        (void)userdata;
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/mine");
        g_assert_cmpstr(mount_points[1], ==, "/run/media/ann/mine 2");
        test_assert_hello(TEST_ANN, mount_points[1]);
        g_assert_cmpuint(count_mounted(), ==, 1);
        g_assert_true(is_waiting(g->ann, image, 1));
        g_assert_false(is_waiting(g->ann, image, 2));
        g_autofree char *options = test_mount_options("/run/media/ann/mine 2");
        g_assert_nonnull(strstr(options, ",noatime,"));
        test_detach(g->ann, image);
        unlink(file);
}

/* Others may not go there. */
static void test_enter_by_others(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);

        (void)userdata;
        g_assert_cmpint(test_open_errno_as(TEST_BOB, "/run/media/ann/LABEL", O_RDONLY | O_DIRECTORY), ==, EACCES);
        g_assert_cmpuint(count_mounted(), ==, 0);
        test_assert_hello(TEST_ROOT, "/run/media/ann/LABEL");
        g_assert_cmpuint(count_mounted(), ==, 1);
        test_detach(g->ann, image);
        unlink(file);
}

/* Messages that bring files in the wrong place, or none, take nothing away that is ours. */
static void test_enter_behind_malformed(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS_FOR_A_SECOND, NULL);
        /* If nobody answers it would wait for ever. */
        const char *const enter[] = { "timeout", "--signal=KILL", "60", "ls", "/run/media/ann/LABEL", NULL };
        g_autoptr(TestCall) find =
                test_call(g->bob, ROOT_PATH, MANAGER, "FindByFile", g_variant_new("(s)", "x"), (TestCallOptions){ 0 });
        g_autoptr(TestCall) attach =
                test_call(g->bob, ROOT_PATH, MANAGER, "Attach", g_variant_new("(s)", "x"), (TestCallOptions){ 0 });

        (void)userdata;
        g_assert_error(find->error, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS);
        g_assert_error(attach->error, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS);
        g_assert_cmpint(test_run_as(TEST_ANN, enter, NULL, NULL), ==, 0);
        g_assert_cmpuint(count_mounted(), ==, 1);
        wait_until_waiting(g, image);
        test_detach(g->ann, image);
        unlink(file);
}

static gpointer enter_often(gpointer userdata)
{
        for (unsigned i = 0; i < 50; i++) {
                int fd = open(userdata, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                if (fd >= 0)
                        close(fd);
        }
        return NULL;
}

static void test_enter_at_the_same_time(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        char path[] = "/run/media/ann/LABEL";
        GThread *threads[8];

        (void)userdata;
        for (unsigned round = 0; round < 5; round++) {
                g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);

                for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                        threads[i] = g_thread_new("enter", enter_often, path);
                if (round % 2 == 0)
                        test_wait_quiet(something_is_mounted, NULL, "the volume to be mounted");
                /* In use for a moment, or not. */
                g_autoptr(TestCall) call = test_simple_call(g->ann, image, IMAGE, "Detach");
                for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                        g_thread_join(threads[i]);
                if (call->error)
                        test_detach(g->ann, image);
                test_snapshot_assert(g->before, 0);
        }
        unlink(file);
}

/* While it is being attached somebody may be there already. */
static gpointer enter_until_it_works(gpointer userdata)
{
        int fd = -1;

        for (unsigned i = 0; fd < 0 && i < 20000; i++) {
                fd = open(userdata, O_RDONLY | O_CLOEXEC);
                g_usleep(200);
        }
        return GINT_TO_POINTER(fd);
}

static void test_enter_early(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        char path[] = "/run/media/ann/LABEL/hello";
        GThread *thread = g_thread_new("enter", enter_until_it_works, path);
        g_autofree char *image = test_attach_path(g->ann, file, "{'on-access': <true>, 'settle': <true>}", NULL);
        int fd = GPOINTER_TO_INT(g_thread_join(thread));

        (void)userdata;
        g_assert_cmpint(fd, >=, 0);
        close(fd);
        test_detach(g->ann, image);
        unlink(file);
}

/* ---- What cannot be mounted ---- */

static void overwrite(const char *file, off_t offset, const void *bytes, size_t n)
{
        int fd = test_open_as(TEST_ANN, file, O_WRONLY);

        g_assert_cmpint(pwrite(fd, bytes, n, offset), ==, (ssize_t)n);
        g_assert_cmpint(fsync(fd), ==, 0);
        close(fd);
}

static void test_damaged(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);
        g_autofree char *volume = test_volume_path(image, 0);
        g_autofree char *contents = NULL;
        static const char zeros[1024];

        (void)userdata;
        g_assert_true(g_file_get_contents(file, &contents, NULL, NULL));
        overwrite(file, 1024, zeros, sizeof(zeros));
        for (unsigned i = 0; i < 3; i++)
                g_assert_cmpint(test_open_errno_as(TEST_ANN, "/run/media/ann/LABEL/hello", O_RDONLY), ==, EIO);
        g_autofree char *obstacle = test_property_string(g->ann, volume, VOLUME, "Obstacle");
        g_assert_nonnull(strstr(obstacle, "mounting it as ext4 failed"));
        g_assert_true(is_waiting(g->ann, image, 0));

        overwrite(file, 1024, contents + 1024, sizeof(zeros));
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        test_detach(g->ann, image);
        unlink(file);
}

/* ---- When it is not used ---- */

static void test_idle(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS_FOR_A_SECOND, NULL);
        g_autoptr(TestSnapshot) waiting = test_snapshot_take(0);

        (void)userdata;
        for (unsigned i = 0; i < 2; i++) {
                test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
                wait_until_waiting(g, image);
                test_snapshot_assert(waiting, 0);
        }
        test_detach(g->ann, image);
        unlink(file);
}

static bool other_waits(gpointer userdata)
{
        const Waiting *waiting = userdata;
        return is_waiting(waiting->bus, waiting->image, 0);
}

/* What is in use stays, and goes when it is not any more; what is never to be unmounted is not. */
static void test_in_use(TestGround *g, gconstpointer userdata)
{
        g_autofree char *used_file = test_image_ext4("used.img", "USED", TEST_ANN);
        g_autofree char *other_file = test_image_ext4("other.img", "OTHER", TEST_ANN);
        g_autofree char *kept_file = test_image_ext4("kept.img", "KEPT", TEST_ANN);
        g_autofree char *used = test_attach_path(g->ann, used_file, ON_ACCESS_FOR_A_SECOND, NULL);
        g_autofree char *other = test_attach_path(g->ann, other_file, ON_ACCESS_FOR_A_SECOND, NULL);
        g_autofree char *kept = test_attach_path(g->ann, kept_file, ON_ACCESS_FOR_EVER, NULL);
        int holder = test_open_as(TEST_ANN, "/run/media/ann/USED/hello", O_RDONLY);

        (void)userdata;
        test_assert_hello(TEST_ANN, "/run/media/ann/KEPT");
        /* As long as it takes with one that nobody uses. */
        test_assert_hello(TEST_ANN, "/run/media/ann/OTHER");
        test_wait_quiet(other_waits, &(Waiting){ g->ann, other }, "the other one to be unmounted");
        g_assert_cmpuint(count_mounted(), ==, 2);
        close(holder);
        test_wait_quiet(other_waits, &(Waiting){ g->ann, used }, "what was used to be unmounted");
        g_assert_false(is_waiting(g->ann, kept, 0));
        test_detach(g->ann, used);
        test_detach(g->ann, other);
        test_detach(g->ann, kept);
        unlink(used_file);
        unlink(other_file);
        unlink(kept_file);
}

/* ---- Taking it away ---- */

static void test_detach_waiting(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", two_labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);

        (void)userdata;
        g_assert_cmpuint(test_count_loops(), ==, 1);
        test_detach(g->ann, image);
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

/* Busy as ever; and then it still works. */
static void test_detach_busy(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", two_labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);
        int holder = test_open_as(TEST_ANN, "/run/media/ann/SECOND/hello", O_RDONLY);

        (void)userdata;
        test_assert_hello(TEST_ANN, "/run/media/ann/FIRST");
        g_autoptr(TestSnapshot) mounted = test_snapshot_take(0);
        g_autoptr(TestCall) busy = test_simple_call(g->ann, image, IMAGE, "Detach");
        test_assert_failed(busy, "Busy", "*");
        test_snapshot_assert(mounted, 0);
        close(holder);

        /* Unmounted is waiting. */
        g_autofree char *first = test_volume_path(image, 1);
        g_autofree char *second = test_volume_path(image, 2);
        g_autoptr(TestCall) one = test_simple_call(g->ann, first, VOLUME, "Unmount");
        g_autoptr(TestCall) two = test_simple_call(g->ann, second, VOLUME, "Unmount");
        test_assert_succeeded(one);
        test_assert_succeeded(two);
        g_assert_true(is_waiting(g->ann, image, 1));
        g_autoptr(TestCall) again = test_simple_call(g->ann, first, VOLUME, "Unmount");
        test_assert_failed(again, "NotMounted", "*");
        test_assert_hello(TEST_ANN, "/run/media/ann/FIRST");
        g_autoptr(GVariant) mounted_by_call =
                test_call_ok(g->ann, second, VOLUME, "Mount", g_variant_new_parsed("(@a{sv} {},)"));
        g_assert_nonnull(mounted_by_call);
        g_assert_cmpuint(count_mounted(), ==, 2);
        test_detach(g->ann, image);
        unlink(file);
}

static void test_umount(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);

        (void)userdata;
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        g_assert_cmpint(umount2("/run/media/ann/LABEL", 0), ==, 0);
        wait_until_waiting(g, image);
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        g_assert_cmpint(umount2("/run/media/ann/LABEL", 0), ==, 0);
        wait_until_waiting(g, image);
        /* The trigger: then there is nothing left that could be entered. */
        g_assert_cmpint(umount2("/run/media/ann/LABEL", MNT_DETACH), ==, 0);
        test_wait_quiet(has_no_images, g->ann, "the image to go");
        test_snapshot_wait(g->before, 0);
        unlink(file);
}

/* ---- The same file again ---- */

static void test_again(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);
        g_autofree char *same = test_attach_path(g->ann, file, ON_ACCESS, NULL);
        g_autofree char *plain = test_attach_path(g->ann, file, NULL, &mount_points);
        int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        (void)userdata;
        g_assert_cmpstr(image, ==, same);
        g_assert_cmpstr(image, ==, plain);
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/LABEL");
        g_assert_cmpuint(count_mounted(), ==, 0);
        g_autoptr(TestCall) other = test_attach(g->ann, fd, ON_ACCESS_FOR_EVER);
        test_assert_failed(other, "AlreadyAttached", "*");
        test_detach(g->ann, image);
        close(fd);
        unlink(file);
}

static void test_arguments(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        (void)userdata;
        g_autoptr(TestCall) unmounted = test_attach(g->ann, fd, "{'on-access': <true>, 'mount': <false>}");
        test_assert_failed(unmounted, "InvalidArgs", "*on-access*");
        g_autoptr(TestCall) alone = test_attach(g->ann, fd, "{'idle-timeout': <uint64 5>}");
        test_assert_failed(alone, "InvalidArgs", "*idle-timeout*");
        g_autoptr(TestCall) long_time =
                test_attach(g->ann, fd, "{'on-access': <true>, 'idle-timeout': <uint64 18446744073709551615>}");
        test_assert_failed(long_time, "InvalidArgs", "*idle-timeout*");
        g_autoptr(TestCall) options = test_attach(g->ann, fd, "{'on-access': <true>, 'mount-options': <'nonsense'>}");
        test_assert_failed(options, "OptionNotPermitted", "*nonsense*");
        close(fd);
        unlink(file);
}

static void test_limit(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", two_labels, TEST_ANN);
        int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        (void)userdata;
        g_autoptr(TestCall) two = test_attach(g->ann, fd, ON_ACCESS);
        test_assert_failed(two, "LimitExceeded", "*on access*");
        g_autofree char *image = test_attach_path(g->ann, file, "{'on-access': <true>, 'volumes': <[uint32 1]>}", NULL);
        test_detach(g->ann, image);
        close(fd);
        unlink(file);
}

/* Each trigger is kept by the service manager, which has room for 256 of a user's. */
static void test_store_limit(TestGround *g, gconstpointer userdata)
{
        char *labels[129] = { NULL };

        (void)userdata;
        for (unsigned i = 0; i < 128; i++)
                labels[i] = g_strdup_printf("V%u", i);
        g_autofree char *file = test_image_partitioned("many.img", "gpt", (const char *const *)labels, TEST_ANN);
        g_autofree char *other = test_path("more.img");
        test_run("cp", "--preserve=ownership", file, other, NULL);
        int fd = test_open_as(TEST_ANN, other, O_RDONLY);
        g_free(test_attach_path(g->ann, file, ON_ACCESS, NULL));
        g_autoptr(TestCall) surplus = test_attach(g->ann, fd, ON_ACCESS);

        test_assert_failed(surplus, "LimitExceeded", "*kept over a restart*");
        g_autoptr(TestCall) mounted = test_attach(g->ann, fd, "{'mount': <false>}");
        test_assert_succeeded(mounted);
        g_autoptr(TestCall) all = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(all);
        close(fd);
        unlink(file);
        unlink(other);
        for (unsigned i = 0; i < 128; i++)
                g_free(labels[i]);
}

/* ---- The daemon ends ---- */

typedef struct Fixture {
        TestGround ground;
        TestStore *store;
} Fixture;

static void set_up(Fixture *f, gconstpointer userdata)
{
        f->store = test_store_new();
        test_ground_set_up(&f->ground, userdata);
}

static void tear_down(Fixture *f, gconstpointer userdata)
{
        test_ground_tear_down(&f->ground, userdata);
        g_assert_cmpuint(test_store_count(f->store), ==, 0);
        test_store_free(f->store);
}

/* Calls are answered when all is taken over. */
static void start_again(Fixture *f)
{
        f->ground.daemon = test_store_start_daemon(f->store);
        g_auto(GStrv) images = test_objects(f->ground.root, IMAGE);
        g_assert_cmpuint(g_strv_length(images), ==, 1);
}

static void test_restart(Fixture *f, gconstpointer userdata)
{
        TestGround *g = &f->ground;
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", two_labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS_FOR_A_SECOND, NULL);

        (void)userdata;
        for (unsigned i = 0; i < 2; i++) {
                test_assert_hello(TEST_ANN, "/run/media/ann/FIRST");
                if (i % 2 == 0)
                        test_daemon_stop(g->daemon);
                else
                        test_daemon_kill(g->daemon);
                /* Not to be had, but no reason to hang. */
                g_assert_cmpint(test_open_errno_as(TEST_ANN, "/run/media/ann/SECOND", O_RDONLY), ==,
                                i % 2 == 0 ? EACCES : ENOENT);
                start_again(f);
                test_assert_hello(TEST_ANN, "/run/media/ann/SECOND");
                test_wait_quiet(nothing_is_mounted, NULL, "both to be unmounted");
        }
        test_detach(g->ann, image);
        unlink(file);
}

/*
 * Somebody's namespace keeps the file system when it was unmounted here: that does not keep its owner out of it, also
 * not when the daemon has been restarted meanwhile.
 */
static void test_pinned(Fixture *f, gconstpointer userdata)
{
        TestGround *g = &f->ground;
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(
                g->ann, file, "{'on-access': <true>, 'idle-timeout': <uint64 1000000>, 'read-only': <false>}", NULL);

        (void)userdata;
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        GPid pin = test_pin_mounts(TEST_BOB);
        wait_until_waiting(g, image);
        test_daemon_kill(g->daemon);
        start_again(f);
        for (unsigned i = 0; i < 2; i++) {
                test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
                wait_until_waiting(g, image);
        }
        test_unpin_mounts(pin);
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        test_detach(g->ann, image);
        test_snapshot_wait(g->before, 0);
        unlink(file);
}

typedef struct Walk {
        pid_t thread; /* its number */
        int error;
} Walk;

static gpointer walk(gpointer userdata)
{
        Walk *walk = userdata;
        int fd;

        g_atomic_int_set(&walk->thread, gettid());
        fd = open("/run/media/ann/LABEL", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        walk->error = fd < 0 ? errno : 0;
        if (fd >= 0)
                close(fd);
        return NULL;
}

/* It is in the kernel, and does not come back. */
static bool is_held(gpointer userdata)
{
        Walk *walk = userdata;
        g_autofree char *path = g_strdup_printf("/proc/self/task/%d/wchan", g_atomic_int_get(&walk->thread));
        g_autofree char *where = NULL;

        return g_file_get_contents(path, &where, NULL, NULL) && strstr(where, "autofs");
}

static GThread *start_walk(Walk *walk_of)
{
        GThread *thread = g_thread_new("walk", walk, walk_of);

        test_wait_quiet(is_held, walk_of, "somebody to wait for the daemon");
        return thread;
}

/* Somebody waits for a daemon that dies: the next one lets him go. */
static void test_killed_while_entering(Fixture *f, gconstpointer userdata)
{
        TestGround *g = &f->ground;
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);
        Walk walk_of = { 0 };

        (void)userdata;
        kill(g->daemon->pid, SIGSTOP);
        GThread *thread = start_walk(&walk_of);
        test_daemon_kill(g->daemon);
        start_again(f);
        g_thread_join(thread);
        g_assert_cmpint(walk_of.error, ==, ENOENT);
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        test_detach(g->ann, image);
        unlink(file);
}

/* The same where the daemon is told to end: he need not wait for the next one. */
static void test_stopped_while_entering(Fixture *f, gconstpointer userdata)
{
        TestGround *g = &f->ground;
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);
        Walk walk_of = { 0 };

        (void)userdata;
        kill(g->daemon->pid, SIGSTOP);
        GThread *thread = start_walk(&walk_of);
        kill(g->daemon->pid, SIGTERM);
        kill(g->daemon->pid, SIGCONT);
        test_daemon_wait_end(g->daemon);
        g_thread_join(thread);
        start_again(f);
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        test_detach(g->ann, image);
        unlink(file);
}

/* Without a service manager the device goes with the daemon, unless it is mounted; and the trigger with the device. */
static void test_restart_without_store(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other_file = test_image_ext4("other.img", "OTHER", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);
        g_autofree char *other = test_attach_path(g->ann, other_file, ON_ACCESS, NULL);

        (void)userdata;
        test_assert_hello(TEST_ANN, "/run/media/ann/OTHER");
        test_daemon_kill(g->daemon);
        test_ground_restart_daemon(g);
        test_wait_quiet(one_is_left, g->root, "the image that is not mounted to go");
        test_assert_hello(TEST_ANN, "/run/media/ann/OTHER");
        g_assert_cmpint(umount2("/run/media/ann/OTHER", 0), ==, 0);
        test_wait_quiet(has_no_images, g->root, "the other image to go");
        test_snapshot_wait(g->before, 0);
        (void)image;
        (void)other;
        unlink(file);
        unlink(other_file);
}

/* At shutdown a program of its own takes all away, when the daemon is gone. */
static void test_shutdown(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", two_labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, ON_ACCESS, NULL);
        const char *argv[] = { g_getenv("LOOPMOUNTD"), "--detach-all", NULL };

        (void)userdata;
        (void)image;
        test_assert_hello(TEST_ANN, "/run/media/ann/FIRST");
        test_daemon_kill(g->daemon);
        g_assert_cmpint(test_run_as(TEST_ROOT, argv, NULL, NULL), ==, 0);
        test_snapshot_wait(g->before, 0);
        test_ground_restart_daemon(g);
        unlink(file);
}

#define ADD_STORED(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/on-access/enter", NULL, test_enter);
        TEST_ADD("/on-access/enter/one", NULL, test_enter_one);
        TEST_ADD("/on-access/enter/others", NULL, test_enter_by_others);
        TEST_ADD("/on-access/enter/malformed", NULL, test_enter_behind_malformed);
        TEST_ADD("/on-access/enter/same-time", NULL, test_enter_at_the_same_time);
        TEST_ADD("/on-access/enter/early", NULL, test_enter_early);
        TEST_ADD("/on-access/damaged", NULL, test_damaged);
        TEST_ADD("/on-access/idle", NULL, test_idle);
        TEST_ADD("/on-access/in-use", NULL, test_in_use);
        TEST_ADD("/on-access/detach/waiting", NULL, test_detach_waiting);
        TEST_ADD("/on-access/detach/busy", NULL, test_detach_busy);
        TEST_ADD("/on-access/umount", NULL, test_umount);
        TEST_ADD("/on-access/again", NULL, test_again);
        TEST_ADD("/on-access/arguments", NULL, test_arguments);
        TEST_ADD("/on-access/store-limit", "[Limits]\nMaxImagesPerUser=1000\n", test_store_limit);
        TEST_ADD("/on-access/limit", "[Limits]\nMaxImagesPerUser=1\n", test_limit);
        ADD_STORED("/on-access/restart", test_restart);
        ADD_STORED("/on-access/pinned", test_pinned);
        ADD_STORED("/on-access/restart/killed-while-entering", test_killed_while_entering);
        ADD_STORED("/on-access/restart/stopped-while-entering", test_stopped_while_entering);
        TEST_ADD("/on-access/restart/without-store", NULL, test_restart_without_store);
        TEST_ADD("/on-access/shutdown", NULL, test_shutdown);
        return g_test_run();
}
