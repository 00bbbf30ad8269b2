/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking things away: by Detach and Unmount, and behind the daemon's back with
 * umount(8) and losetup(8). Detach tells the truth: the device is gone, or it says
 * who holds it.
 */
#include "lib/fuse-file.h"
#include "lib/ground.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *const two_labels[] = { "FIRST", "SECOND", NULL };

static bool image_is_gone(gpointer userdata)
{
        (void)userdata;
        return test_count_loops() == 0;
}

static void assert_gone(TestGround *g, const char *image)
{
        test_signals_wait_removed(g->signals, image, IMAGE);
        /* When it is off the bus there is nothing left of it. */
        test_snapshot_assert(g->before, 0);
}

/* ---- busy ---- */

static void assert_busy(const TestCall *call)
{
        g_autofree char *pattern = g_strdup_printf("*%d*", getpid());
        test_assert_failed(call, "Busy", pattern);
}

static void test_busy(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *volume = test_volume_path(image, 0);
        g_autofree char *hello = g_build_filename(mount_points[0], "hello", NULL);
        int holder = test_open_as(TEST_ANN, hello, O_RDONLY);
        g_autoptr(TestSnapshot) before = test_snapshot_take(0);

        (void)userdata;
        /* Root may know who it is. */
        g_autoptr(TestCall) detach = test_simple_call(g->root, image, IMAGE, "Detach");
        assert_busy(detach);
        g_autoptr(TestCall) unmount = test_simple_call(g->root, volume, VOLUME, "Unmount");
        assert_busy(unmount);
        g_autoptr(TestCall) own = test_simple_call(g->ann, image, IMAGE, "Detach");
        test_assert_failed(own, "Busy", "*");
        test_snapshot_assert(before, 0);
        test_assert_hello(TEST_ANN, mount_points[0]);
        g_autofree char *state = test_property_string(g->ann, image, IMAGE, "State");
        g_assert_cmpstr(state, ==, "attached");

        close(holder);
        test_detach(g->ann, image);
        unlink(file);
}

/* A process of ann's own, in the folder: she is told its name and number. */
static void test_busy_by_own_process(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        const char *argv[] = { "setpriv",
                               "--reuid=61001",
                               "--regid=61001",
                               "--clear-groups",
                               "sh",
                               "-c",
                               "cd \"$0\" && echo && exec cat",
                               mount_points[0],
                               NULL };
        g_autoptr(GError) error = NULL;
        GPid pid;
        int in, out;
        char line;

        (void)userdata;
        g_spawn_async_with_pipes("/", (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                 &pid, &in, &out, NULL, &error);
        g_assert_no_error(error);
        g_assert_cmpint(read(out, &line, 1), ==, 1);

        g_autoptr(TestCall) busy = test_simple_call(g->ann, image, IMAGE, "Detach");
        g_autofree char *pattern = g_strdup_printf("*(pid %d)*", pid);
        test_assert_failed(busy, "Busy", pattern);
        close(in);
        g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
        close(out);
        test_detach(g->ann, image);
        unlink(file);
}

/* One of two is busy: both stay. */
static void test_half_busy(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", two_labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autoptr(TestSnapshot) before = test_snapshot_take(0);

        (void)userdata;
        for (unsigned i = 0; i < 2; i++) {
                int holder = test_open_as(TEST_ANN, mount_points[i], O_RDONLY | O_DIRECTORY);
                g_autoptr(TestCall) call = test_simple_call(g->root, image, IMAGE, "Detach");
                assert_busy(call);
                test_snapshot_assert(before, 0);
                close(holder);
        }
        test_detach(g->ann, image);
        unlink(file);
}

/* Somebody has the device itself open: that is said, and it goes when he lets go. */
static void test_device_held(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);
        g_autofree char *device = test_device_of(g->ann, image);
        int holder = test_open_as(TEST_ROOT, device, O_RDONLY);

        (void)userdata;
        g_autoptr(TestCall) call = test_simple_call(g->root, image, IMAGE, "Detach");
        assert_busy(call);
        g_autofree char *state = test_property_string(g->root, image, IMAGE, "State");
        g_assert_cmpstr(state, ==, "detaching");
        close(holder);
        assert_gone(g, image);
        unlink(file);
}

/* ---- by the API ---- */

static void test_last_unmount(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "dos", two_labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        g_autofree char *first = test_volume_path(image, 1);
        g_autofree char *second = test_volume_path(image, 2);
        g_autoptr(TestCall) one = test_simple_call(g->ann, first, VOLUME, "Unmount");

        (void)userdata;
        test_assert_succeeded(one);
        g_assert_cmpuint(test_count_loops(), ==, 1);
        g_autoptr(TestCall) two = test_simple_call(g->ann, second, VOLUME, "Unmount");
        test_assert_succeeded(two);
        /* The reply says that all of it is done. */
        g_assert_cmpuint(test_count_loops(), ==, 0);
        assert_gone(g, image);
        unlink(file);
}

/* As soon as Attach has replied nothing of the daemon's own is in the way of Detach. */
static void test_at_once(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "1", "2", "3", "4", "5", "6", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);

        (void)userdata;
        for (unsigned i = 0; i < 50; i++) {
                g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
                test_detach(g->ann, image);
                test_snapshot_assert(g->before, 0);
        }
        unlink(file);
}

static void test_stays_if_asked(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'auto-detach': <false>}", NULL);
        g_autofree char *volume = test_volume_path(image, 0);
        g_autoptr(TestCall) unmounted = test_simple_call(g->ann, volume, VOLUME, "Unmount");

        (void)userdata;
        test_assert_succeeded(unmounted);
        g_assert_cmpuint(test_count_loops(), ==, 1);
        g_assert_false(test_property_bool(g->ann, image, IMAGE, "AutoDetach"));
        g_autoptr(GVariant) mounted =
                test_call_ok(g->ann, volume, VOLUME, "Mount", g_variant_new_parsed("(@a{sv} {},)"));
        g_assert_nonnull(mounted);
        test_detach(g->ann, image);
        unlink(file);
}

static void test_detach_all(TestGround *g, gconstpointer userdata)
{
        g_autofree char *first = test_image_ext4("first.img", "FIRST", TEST_ANN);
        g_autofree char *second = test_image_ext4("second.img", "SECOND", TEST_ANN);
        g_autofree char *bobs = test_image_ext4("bobs.img", "BOBS", TEST_BOB);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *one = test_attach_path(g->ann, first, NULL, &mount_points);
        g_autofree char *two = test_attach_path(g->ann, second, NULL, NULL);
        g_autofree char *other = test_attach_path(g->bob, bobs, NULL, NULL);
        int holder = test_open_as(TEST_ANN, mount_points[0], O_RDONLY | O_DIRECTORY);

        (void)userdata;
        /* The busy one is told of, the other one goes all the same. */
        g_autoptr(TestCall) some = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_failed(some, "Busy", "*");
        g_auto(GStrv) left = test_objects(g->root, IMAGE);
        g_assert_cmpuint(g_strv_length(left), ==, 2);
        g_assert_false(g_strv_contains((const char *const *)left, two));
        g_assert_true(g_strv_contains((const char *const *)left, one));

        close(holder);
        g_autoptr(TestCall) all = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(all);
        g_auto(GStrv) bobs_only = test_objects(g->root, IMAGE);
        g_assert_cmpuint(g_strv_length(bobs_only), ==, 1);
        g_assert_cmpstr(bobs_only[0], ==, other);
        test_detach(g->bob, other);
        unlink(first);
        unlink(second);
        unlink(bobs);
}

/* More images than requests that ann may have under way: all go, or it is said that some did not. */
static void test_detach_many(TestGround *g, gconstpointer userdata)
{
        g_autofree char *original = test_image_squashfs("original.img", TEST_ANN);

        for (unsigned i = 0; i < 10; i++) {
                _cleanup_close_ int fd = test_image_memfd(original, false);
                g_autoptr(TestCall) call = test_attach(g->ann, fd, NULL);
                test_assert_succeeded(call);
        }
        (void)userdata;
        g_autoptr(TestCall) all = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(all);
        g_assert_cmpuint(test_count_loops(), ==, 0);
        unlink(original);
}

/* ---- behind its back ---- */

static bool is_no_more(gpointer userdata)
{
        return access(userdata, F_OK) < 0;
}

static void unmount_by_root(const char *mount_point, int flags)
{
        if (umount2(mount_point, flags | UMOUNT_NOFOLLOW) < 0)
                g_error("umount %s: %s", mount_point, g_strerror(errno));
}

static void test_foreign_unmount(TestGround *g, gconstpointer flags)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);

        unmount_by_root(mount_points[0], GPOINTER_TO_INT(flags));
        assert_gone(g, image);
        unlink(file);
}

static void test_umount(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_foreign_unmount(g, GINT_TO_POINTER(0));
}

/* By the user herself, with the plain tool; and by nobody else. */
static void test_umount_by_user(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "MY DISK", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        const char *argv[] = { "umount", mount_points[0], NULL };
        g_autofree char *words = NULL;

        (void)userdata;
        g_assert_cmpint(test_run_as(TEST_BOB, argv, NULL, &words), !=, 0);
        test_assert_hello(TEST_ANN, mount_points[0]);
        g_assert_cmpint(test_run_as(TEST_ANN, argv, NULL, NULL), ==, 0);
        /* When umount(8) is back, it is done. */
        test_snapshot_assert(g->before, 0);
        assert_gone(g, image);
        unlink(file);
}

static void test_umount_lazy(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_foreign_unmount(g, GINT_TO_POINTER(MNT_DETACH));
}

static void test_umount_of_one(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", two_labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *first = test_volume_path(image, 1);

        (void)userdata;
        test_signals_clear(g->signals);
        unmount_by_root(mount_points[0], 0);
        g_autoptr(GVariant) changed = test_signals_wait_changed(g->signals, first, VOLUME, "MountPoints");
        g_autofree char *text = g_variant_print(changed, FALSE);
        g_assert_cmpstr(text, ==, "[]");
        test_wait_quiet(is_no_more, mount_points[0], "the mount point to go");
        test_assert_hello(TEST_ANN, mount_points[1]);

        unmount_by_root(mount_points[1], 0);
        assert_gone(g, image);
        unlink(file);
}

static void test_umount_without_auto_detach(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, "{'auto-detach': <false>}", &mount_points);
        g_autofree char *volume = test_volume_path(image, 0);

        (void)userdata;
        test_signals_clear(g->signals);
        unmount_by_root(mount_points[0], 0);
        g_autoptr(GVariant) changed = test_signals_wait_changed(g->signals, volume, VOLUME, "MountPoints");
        g_assert_cmpuint(g_variant_n_children(changed), ==, 0);
        test_wait_quiet(is_no_more, mount_points[0], "the mount point to go");
        g_assert_cmpuint(test_count_loops(), ==, 1);
        test_detach(g->ann, image);
        unlink(file);
}

/*
 * losetup(8) cannot take a device from somebody who has it open, though it says so:
 * the image is as good as before, and goes when its owner wants it to.
 */
static void test_losetup_detach(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);
        g_autofree char *volume = test_volume_path(image, 0);
        g_autofree char *device = test_device_of(g->ann, image);

        (void)userdata;
        test_run("losetup", "--detach", device, NULL);
        g_autoptr(GVariant) mounted =
                test_call_ok(g->ann, volume, VOLUME, "Mount", g_variant_new_parsed("(@a{sv} {},)"));
        const char *mount_point;
        g_variant_get(mounted, "(&s)", &mount_point);
        test_assert_hello(TEST_ANN, mount_point);
        test_detach(g->ann, image);
        assert_gone(g, image);
        unlink(file);
}

/* A folder that somebody has put something into, and one of the same name that is not ours, stay. */
static void test_mount_point_is_not_ours(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = test_image_ext4("other.img", "OTHER", TEST_ANN);
        g_auto(GStrv) numbered = NULL;
        g_autofree char *keep = test_attach_path(g->ann, other, NULL, NULL);
        struct stat st;

        (void)userdata;
        g_assert_cmpint(mkdir("/run/media/ann/LABEL", 0755), ==, 0);
        g_assert_cmpint(mkdir("/run/media/ann/LABEL/something", 0755), ==, 0);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &numbered);
        g_assert_cmpstr(numbered[0], ==, "/run/media/ann/LABEL 2");
        test_detach(g->ann, image);
        g_assert_cmpint(stat("/run/media/ann/LABEL/something", &st), ==, 0);
        test_run("rm", "-r", "/run/media/ann/LABEL", NULL);
        test_detach(g->ann, keep);
        unlink(file);
        unlink(other);
}

/* Something else is mounted on top of ours: that is no reason to unmount it, or to lie about it. */
static void test_mounted_over(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);

        (void)userdata;
        g_assert_cmpint(mount("tmpfs", mount_points[0], "tmpfs", 0, NULL), ==, 0);
        g_autoptr(TestCall) call = test_simple_call(g->ann, image, IMAGE, "Detach");
        test_assert_failed(call, "Busy", "*");
        unmount_by_root(mount_points[0], 0);
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(g->ann, image);
        unlink(file);
}

/* The file system is mounted a second time, elsewhere, by root. */
static void test_mounted_twice(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *elsewhere = test_folder("elsewhere");

        (void)userdata;
        g_assert_cmpint(mount(mount_points[0], elsewhere, NULL, MS_BIND, NULL), ==, 0);
        g_autoptr(TestCall) call = test_simple_call(g->ann, image, IMAGE, "Detach");
        test_assert_failed(call, "Busy", "*");
        test_assert_hello(TEST_ROOT, elsewhere);
        unmount_by_root(elsewhere, 0);
        /* It was unmounted where the daemon had mounted it, or it was not: either way it can go now. */
        g_auto(GStrv) images = test_objects(g->root, IMAGE);
        if (g_strv_length(images) > 0) {
                g_autoptr(TestCall) again = test_simple_call(g->ann, image, IMAGE, "Detach");
                if (again->error)
                        assert_gone(g, image);
        }
        test_wait_quiet(image_is_gone, NULL, "the loop device to go");
        rmdir(elsewhere);
        unlink(file);
}

/* ---- others' devices ---- */

static void test_others_devices(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        const char *argv[] = { "losetup", "--find", "--show", "--read-only", file, NULL };
        g_autofree char *device = NULL;

        (void)userdata;
        g_assert_cmpint(test_run_as(TEST_ROOT, argv, &device, NULL), ==, 0);
        g_strchomp(device);
        g_auto(GStrv) images = test_objects(g->root, IMAGE);
        g_assert_cmpuint(g_strv_length(images), ==, 0);

        /* The same file, attached by others: none of our business either. */
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        g_autofree char *ours = test_device_of(g->ann, image);
        g_assert_cmpstr(ours, !=, device);
        g_autoptr(TestCall) all = test_simple_call(g->root, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(all);
        test_daemon_stop(g->daemon);
        test_ground_restart_daemon(g);
        g_assert_cmpuint(test_count_loops(), >=, 1);
        g_auto(GStrv) after = test_objects(g->ann, IMAGE);
        if (g_strv_length(after) > 0)
                test_detach(g->ann, after[0]);
        g_assert_cmpuint(test_count_loops(), ==, 1);
        test_run("losetup", "--detach", device, NULL);
        test_wait_quiet(image_is_gone, NULL, "the device of others to go");
        unlink(file);
}

/* ---- A file system that is still there when it was unmounted ---- */

static TestCall *mount_with(TestGround *g, const char *volume, const char *options)
{
        return test_call(g->ann, volume, VOLUME, "Mount", g_variant_new_parsed(options), (TestCallOptions){ 0 });
}

static void unmount(TestGround *g, const char *volume)
{
        g_autoptr(TestCall) call = test_simple_call(g->ann, volume, VOLUME, "Unmount");

        test_assert_succeeded(call);
}

static bool is_unmounted(gpointer userdata)
{
        (void)userdata;
        return access("/run/media/ann/LABEL", F_OK) < 0;
}

/* A copy of the mount in another user's namespace is in nobody's way. */
static void test_pinned(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>, 'auto-detach': <false>}", NULL);
        g_autofree char *volume = test_volume_path(image, 0);

        (void)userdata;
        GPid pin = test_pin_mounts(TEST_BOB);
        unmount(g, volume);
        g_autoptr(TestCall) again = mount_with(g, volume, "({'mount-options': <'nodelalloc'>},)");
        test_assert_succeeded(again);
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        test_unpin_mounts(pin);
        test_detach(g->ann, image);
        unlink(file);
}

/* What an open file keeps is mounted again as it was; with other options it cannot be, and is not. */
static void test_kept(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>, 'auto-detach': <false>}", NULL);
        g_autofree char *volume = test_volume_path(image, 0), *node = test_device_of(g->ann, image);
        g_autofree char *elsewhere = test_folder("elsewhere");
        int holder = test_open_as(TEST_ANN, "/run/media/ann/LABEL/hello", O_RDONLY);

        (void)userdata;
        g_assert_cmpint(umount2("/run/media/ann/LABEL", MNT_DETACH), ==, 0);
        test_wait_quiet(is_unmounted, NULL, "the mount point to go");
        g_autoptr(TestCall) again = mount_with(g, volume, "({'mount-options': <'noatime'>},)");
        test_assert_succeeded(again);
        g_assert_cmpint(test_write_as(TEST_ROOT, "/run/media/ann/LABEL/new", "text"), ==, 0);
        g_autofree char *options = test_mount_options("/run/media/ann/LABEL");
        g_assert_nonnull(strstr(options, ",nosuid,nodev,noatime"));
        unmount(g, volume);

        g_autoptr(TestCall) other = mount_with(g, volume, "({'mount-options': <'nodelalloc'>},)");
        test_assert_failed(other, "Failed", "*mounted from elsewhere*");
        g_autoptr(TestCall) read_only = mount_with(g, volume, "({'mount-options': <'ro'>},)");
        test_assert_failed(read_only, "Failed", "*mounted from elsewhere*");

        /* What root has mounted may have any options. */
        g_assert_cmpint(mount(node, elsewhere, "ext4", 0, "errors=remount-ro"), ==, 0);
        g_autoptr(TestCall) roots = mount_with(g, volume, "(@a{sv} {},)");
        test_assert_failed(roots, "Failed", "*mounted from elsewhere*");
        g_assert_cmpint(umount2(elsewhere, 0), ==, 0);
        close(holder);
        test_detach(g->ann, image);
        test_snapshot_wait(g->before, 0);
        unlink(file);
        rmdir(elsewhere);
}

/* ---- The child that releases dies. ---- */

/* Signals the daemon's children of that name. */
static unsigned signal_children(TestGround *g, const char *name, int signal)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/children", g->daemon->pid, g->daemon->pid);
        g_autofree char *text = NULL;
        unsigned n = 0;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_auto(GStrv) pids = g_strsplit(g_strchomp(text), " ", -1);
        for (char **pid = pids; *pid; pid++) {
                g_autofree char *comm_path = g_strdup_printf("/proc/%s/comm", *pid), *comm = NULL;

                if (!**pid || !g_file_get_contents(comm_path, &comm, NULL, NULL) || !streq(g_strchomp(comm), name))
                        continue;
                g_assert_cmpint(kill(atoi(*pid), signal), ==, 0);
                n++;
        }
        return n;
}

static void assert_state(TestGround *g, const char *image, const char *state)
{
        g_autofree char *found = test_property_string(g->root, image, IMAGE, "State");

        g_assert_cmpstr(found, ==, state);
}

/* Before it has begun: all is as it was, and not stuck. */
static void test_child_dies_before(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = test_image_squashfs("other.img", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        /* Its child waits for the next job. */
        g_autofree char *before = test_attach_path(g->ann, other, NULL, NULL);

        (void)userdata;
        test_detach(g->ann, before);
        g_assert_cmpuint(signal_children(g, "idle", SIGSTOP), >, 0);
        g_autoptr(TestCall) call = test_simple_call_start(g->ann, image, IMAGE, "Detach");
        /* Behind it: the child has its order now. */
        g_autofree char *name = test_property_string(g->ann, image, IMAGE, "Name");
        g_assert_nonnull(name);
        signal_children(g, "idle", SIGKILL);
        test_call_wait(call);
        test_assert_failed(call, "Failed", "*");
        assert_state(g, image, "attached");
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(g->ann, image);
        test_snapshot_wait(g->before, 0);
        unlink(file);
        unlink(other);
}

typedef struct Slow {
        TestFuseFile *fuse;
        char *file, *image, *volume;
} Slow;

/* ann has attached a file whose server can be made not to answer fsync(2). */
static Slow attach_slow(TestGround *g)
{
        Slow slow = { .file = test_image_ext4("file.img", "LABEL", TEST_ANN) };

        slow.fuse = test_fuse_file_start("fuse", slow.file, TEST_ANN, true);
        slow.image = test_attach_path(g->ann, test_fuse_file_path(slow.fuse),
                                      "{'read-only': <false>, 'auto-detach': <false>}", NULL);
        slow.volume = test_volume_path(slow.image, 0);
        g_assert_cmpint(test_write_as(TEST_ROOT, "/run/media/ann/LABEL/new", "text"), ==, 0);
        return slow;
}

/* While what was written is synced, which is behind the unmount, the child is killed. */
static void kill_in_write_back(TestGround *g, Slow *slow, TestCall *call)
{
        test_wait_quiet(test_fuse_file_has_stuck, slow->fuse, "the child to write back");
        g_assert_cmpuint(signal_children(g, "release", SIGKILL), ==, 1);
        test_fuse_file_resume(slow->fuse);
        test_call_wait(call);
        test_assert_failed(call, "Failed", "*");
}

static void slow_done(Slow *slow)
{
        test_fuse_file_stop(slow->fuse);
        unlink(slow->file);
        g_free(slow->file);
        g_free(slow->image);
        g_free(slow->volume);
}

static bool volume_is_unmounted(gpointer userdata)
{
        g_autoptr(GDBusConnection) root = test_connect_as(TEST_ROOT);
        g_auto(GStrv) mount_points = test_property_strings(root, userdata, VOLUME, "MountPoints");

        return mount_points && !*mount_points;
}

/* An image that is to stay attached does. */
static void test_child_dies_unmounting(TestGround *g, gconstpointer userdata)
{
        Slow slow = attach_slow(g);

        (void)userdata;
        test_fuse_file_silence_fsync(slow.fuse);
        g_autoptr(TestCall) call = test_simple_call_start(g->ann, slow.volume, VOLUME, "Unmount");
        kill_in_write_back(g, &slow, call);
        assert_state(g, slow.image, "attached");
        test_wait_quiet(volume_is_unmounted, slow.volume, "the unmount to be noticed");
        g_autoptr(TestCall) again = test_simple_call(g->ann, slow.volume, VOLUME, "Mount");
        test_assert_succeeded(again);
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        test_detach(g->ann, slow.image);
        slow_done(&slow);
}

/* One that was to go has no mount and no descriptor any more: it goes. */
static void test_child_dies_releasing(TestGround *g, gconstpointer userdata)
{
        Slow slow = attach_slow(g);

        (void)userdata;
        test_signals_clear(g->signals);
        test_fuse_file_silence_fsync(slow.fuse);
        g_autoptr(TestCall) call = test_simple_call_start(g->ann, slow.image, IMAGE, "Detach");
        kill_in_write_back(g, &slow, call);
        test_signals_wait_removed(g->signals, slow.image, IMAGE);
        /* Not stuck in between. */
        for (unsigned i = 0; i < g->signals->items->len; i++) {
                const TestSignal *signal = g->signals->items->pdata[i];
                g_autofree char *text = g_variant_print(signal->parameters, FALSE);

                g_assert_null(strstr(text, "stuck"));
        }
        slow_done(&slow);
        test_snapshot_wait(g->before, 0);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/detach/busy/file", NULL, test_busy);
        TEST_ADD("/detach/busy/own-process", NULL, test_busy_by_own_process);
        TEST_ADD("/detach/busy/half", NULL, test_half_busy);
        TEST_ADD("/detach/busy/device", NULL, test_device_held);
        TEST_ADD("/detach/busy/mounted-over", NULL, test_mounted_over);
        TEST_ADD("/detach/busy/mounted-twice", NULL, test_mounted_twice);
        TEST_ADD("/detach/unmount/last", NULL, test_last_unmount);
        TEST_ADD("/detach/unmount/stays", NULL, test_stays_if_asked);
        TEST_ADD("/detach/at-once", NULL, test_at_once);
        TEST_ADD("/detach/all", NULL, test_detach_all);
        TEST_ADD("/detach/all/many", "[Limits]\nMaxRequestsPerUser=4\n", test_detach_many);
        TEST_ADD("/detach/foreign/umount", NULL, test_umount);
        TEST_ADD("/detach/foreign/umount-by-user", NULL, test_umount_by_user);
        TEST_ADD("/detach/foreign/umount-lazy", NULL, test_umount_lazy);
        TEST_ADD("/detach/foreign/umount-of-one", NULL, test_umount_of_one);
        TEST_ADD("/detach/foreign/umount-stays", NULL, test_umount_without_auto_detach);
        TEST_ADD("/detach/foreign/losetup", NULL, test_losetup_detach);
        TEST_ADD("/detach/foreign/folder", NULL, test_mount_point_is_not_ours);
        TEST_ADD("/detach/foreign/devices", NULL, test_others_devices);
        TEST_ADD("/detach/again/pinned", NULL, test_pinned);
        TEST_ADD("/detach/again/kept", NULL, test_kept);
        TEST_ADD("/detach/child-dies/before", NULL, test_child_dies_before);
        TEST_ADD("/detach/child-dies/unmounting", NULL, test_child_dies_unmounting);
        TEST_ADD("/detach/child-dies/releasing", NULL, test_child_dies_releasing);
        return g_test_run();
}
