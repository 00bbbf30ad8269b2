/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What udevd and the daemon do for each other: tags and properties of our devices,
 * Attach that waits for udevd, and what root changes on an attached image's device
 * (partitions, a new file system) while it is attached.
 */
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "lib/fuse-file.h"
#include "lib/ground.h"

#define MIB (UINT64_C(1) << 20)
/* Longer than the daemon lets changes of mounts pass, and the look behind that. */
#define REST_USEC 300000

static const char *const two_labels[] = { "FIRST", "SECOND", NULL };

/* What udevd has in its database, "KEY=value" lines, without waiting for anything. */
static char *udev_properties(const char *device)
{
        const char *argv[] = { "udevadm", "info", "--query=property", "--name", device, NULL };
        char *text = NULL;

        g_assert_cmpint(test_run_as(TEST_ROOT, argv, &text, NULL), ==, 0);
        return text;
}

static void assert_line(const char *text, const char *line)
{
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        if (!g_strv_contains((const char *const *)lines, line)) {
                g_test_message("%s", text);
                g_error("no %s among the properties", line);
        }
}

/* Tagged, left alone by desktops, and not looked into. */
static void assert_ours(const char *properties)
{
        assert_line(properties, "UDISKS_IGNORE=1");
        const char *tags = strstr(properties, "CURRENT_TAGS=");
        g_assert_nonnull(tags);
        g_autofree char *current = g_strndup(tags, strcspn(tags, "\n"));
        g_assert_nonnull(strstr(current, ":loopmount:"));
        g_assert_null(strstr(properties, "ID_FS_"));
        g_assert_null(strstr(properties, "/dev/disk/by-label"));
        g_assert_null(strstr(properties, "/dev/disk/by-uuid"));
}

static void test_settled(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", two_labels, TEST_ANN);

        (void)userdata;
        /* Several times: once is luck. */
        for (unsigned i = 0; i < 10; i++) {
                g_autofree char *image = test_attach_path(g->ann, file, "{'settle': <true>}", NULL);
                g_autofree char *disk = test_device_of(g->ann, image);
                g_autofree char *volume = test_volume_path(image, 2);
                g_autofree char *partition = test_device_of(g->ann, volume);
                g_autofree char *of_disk = udev_properties(disk);
                g_autofree char *of_partition = udev_properties(partition);

                assert_ours(of_disk);
                assert_ours(of_partition);
                test_detach(g->ann, image);
        }
        unlink(file);
}

static bool has_label(gpointer userdata)
{
        g_autofree char *properties = udev_properties(userdata);

        return strstr(properties, "ID_FS_LABEL=LABEL");
}

/* What root binds is not ours, and has none of it. */
static void assert_roots_is_not_ours(const char *file)
{
        const char *argv[] = { "losetup", "--find", "--show", file, NULL };
        g_autofree char *device = NULL;

        g_assert_cmpint(test_run_as(TEST_ROOT, argv, &device, NULL), ==, 0);
        g_strchomp(device);
        /* Not "udevadm settle": udevd may be waiting for another device, which hangs. */
        test_wait_quiet(has_label, device, "udevd to have seen root's device");
        g_autofree char *properties = udev_properties(device);
        g_assert_null(strstr(properties, "UDISKS_IGNORE"));
        /* TAGS also tells what the device was in an earlier life. */
        const char *tags = strstr(properties, "CURRENT_TAGS=");
        g_autofree char *current = tags ? g_strndup(tags, strcspn(tags, "\n")) : g_strdup("");
        g_assert_null(strstr(current, ":loopmount:"));
        test_run("losetup", "--detach", device, NULL);
}

static void test_others(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);

        (void)userdata;
        assert_roots_is_not_ours(file);
        test_snapshot_wait(g->before, 0);
        unlink(file);
}

/* ---- markers that are left behind ---- */

static unsigned count_markers(void)
{
        g_autoptr(GDir) dir = g_dir_open("/run/loopmount/devices", 0, NULL);
        unsigned n = 0;

        while (dir && g_dir_read_name(dir))
                n++;
        return n;
}

static bool is_one_marker(gpointer userdata)
{
        (void)userdata;
        return count_markers() == 1;
}

static unsigned count_loop_devices(void)
{
        g_autoptr(GDir) dir = g_dir_open("/sys/block", 0, NULL);
        const char *name;
        unsigned n = 0;

        while (dir && (name = g_dir_read_name(dir)))
                n += g_str_has_prefix(name, "loop");
        return n;
}

/* As a child that died leaves one, and as one that is left of an attachment that is over. */
static void leave_markers(bool also_claim)
{
        int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), free = ioctl(control, LOOP_CTL_GET_FREE);
        g_autofree char *claim = g_strdup_printf("/run/loopmount/devices/loop%d", free);
        g_autofree char *marker = g_strdup_printf("%s-1", claim);

        g_assert_cmpint(free, >=, 0);
        close(control);
        if (also_claim)
                g_assert_true(g_file_set_contents(claim, "", 0, NULL));
        g_assert_true(g_file_set_contents(marker, "", 0, NULL));
}

static TestFuseFile *start_stuck_bind(TestGround *g, const char *name, const char *file, TestCall **ret)
{
        TestFuseFile *fuse = test_fuse_file_start(name, file, TEST_ANN, true);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);

        test_fuse_file_silence_fsync(fuse);
        *ret = test_attach_start(g->ann, fd, NULL);
        close(fd);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "a bind to be stuck");
        return fuse;
}

/*
 * Two of ann's binds hang, and one comes back when its child was killed: its marker goes, although the other one's has
 * to stay. What is left behind makes no new devices, and marks none of root's.
 */
static void test_stale_markers(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *bobs = test_image_ext4("bobs.img", "BOBS", TEST_BOB);
        g_autoptr(TestCall) one = NULL, two = NULL;
        TestFuseFile *stays = start_stuck_bind(g, "stays", file, &one);
        TestFuseFile *returns = start_stuck_bind(g, "returns", file, &two);
        unsigned n;

        (void)userdata;
        test_call_wait(one);
        test_call_wait(two);
        test_assert_failed(one, "Timeout", "*");
        test_assert_failed(two, "Timeout", "*");
        g_assert_cmpuint(count_markers(), ==, 2);
        test_fuse_file_resume(returns);
        test_wait_quiet(is_one_marker, NULL, "the marker to go");
        /* Until now root's losetup(8) would hang, too: the kernel takes the device for free. */
        test_fuse_file_resume(stays);
        test_snapshot_wait(g->before, 0);

        n = count_loop_devices();
        for (unsigned i = 0; i < 8; i++) {
                g_autofree char *image = NULL;

                leave_markers(true);
                image = test_attach_path(g->bob, bobs, NULL, NULL);
                test_detach(g->bob, image);
        }
        g_assert_cmpuint(count_loop_devices(), ==, n);
        leave_markers(false);
        assert_roots_is_not_ours(file);
        test_run("sh", "-c", "rm -f /run/loopmount/devices/loop*-1", NULL);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(stays);
        test_fuse_file_stop(returns);
        unlink(file);
        unlink(bobs);
}

/* ---- changes ---- */

typedef struct Wish {
        GDBusConnection *bus;
        const char *volume;
        const char *property;
        const char *value; /* NULL: that there is no such volume */
} Wish;

static bool has_value(gpointer userdata)
{
        const Wish *wish = userdata;
        g_autoptr(GVariant) value = test_property(wish->bus, wish->volume, VOLUME, wish->property);

        if (!value || !wish->value)
                return !value && !wish->value;
        return g_strcmp0(g_variant_get_string(value, NULL), wish->value) == 0;
}

static void run_sfdisk(const char *script, const char *options, const char *device)
{
        g_autofree char *command = g_strdup_printf("printf '%s' | sfdisk --quiet --no-reread --no-tell-kernel %s %s",
                                                   script, options, device);
        test_run("sh", "-c", command, NULL);
}

static void test_repartition(TestGround *g, gconstpointer table)
{
        g_autofree char *file = test_image_partitioned("parts.img", table, two_labels, TEST_ANN);
        test_image_resize(file, 16 * MIB);
        if (streq(table, "gpt"))
                test_run("sfdisk", "--quiet", "--relocate", "gpt-bak-std", file, NULL);
        g_autofree char *image =
                test_attach_path(g->ann, file, "{'read-only': <false>, 'mount': <false>, 'settle': <true>}", NULL);
        g_autofree char *disk = test_device_of(g->ann, image);
        g_autofree char *third = test_volume_path(image, 3);
        g_autofree char *node = g_strconcat(disk, "p3", NULL);

        run_sfdisk("start=12288, size=2048\\n", "--append", disk);
        test_signals_wait_added(g->signals, third, VOLUME);
        Wish there = { g->ann, third, "Device", node };
        test_wait_quiet(has_value, &there, "the new partition to have a device");
        g_assert_cmpuint(test_property_number(g->ann, third, VOLUME, "Offset"), ==, 6 * MIB);
        g_assert_cmpuint(test_property_number(g->ann, third, VOLUME, "Size"), ==, MIB);

        /* A file system on it. */
        test_run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "THIRD", node, NULL);
        Wish typed = { g->ann, third, "Label", "THIRD" };
        test_wait_quiet(has_value, &typed, "the new file system to be seen");
        g_autoptr(GVariant) mounted =
                test_call_ok(g->ann, third, VOLUME, "Mount", g_variant_new_parsed("(@a{sv} {},)"));
        g_assert_nonnull(mounted);
        g_autoptr(TestCall) unmounted = test_simple_call(g->ann, third, VOLUME, "Unmount");
        test_assert_succeeded(unmounted);

        /* And away with it; the others are as they were. */
        g_autofree char *command = g_strdup_printf("sfdisk --quiet --no-reread --no-tell-kernel --delete %s 3", disk);
        test_run("sh", "-c", command, NULL);
        Wish gone = { g->ann, third, "Device", NULL };
        test_wait_quiet(has_value, &gone, "the deleted partition to go");
        g_autofree char *first = test_volume_path(image, 1);
        g_autofree char *label = test_property_string(g->ann, first, VOLUME, "Label");
        g_assert_cmpstr(label, ==, "FIRST");
        test_detach(g->ann, image);
        unlink(file);
}

static void test_repartition_gpt(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_repartition(g, "gpt");
}

static void test_repartition_dos(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_repartition(g, "dos");
}

/* While one volume is mounted another one is made, and the mounted one does not notice. */
static void test_repartition_mounted(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "dos", two_labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;

        (void)userdata;
        test_image_resize(file, 16 * MIB);
        g_autofree char *image = test_attach_path(
                g->ann, file, "{'read-only': <false>, 'volumes': <[uint32 1]>, 'settle': <true>}", &mount_points);
        g_autofree char *disk = test_device_of(g->ann, image);
        g_autofree char *third = test_volume_path(image, 3);
        g_autofree char *node = g_strconcat(disk, "p3", NULL);

        run_sfdisk("start=12288, size=2048\\n", "--append", disk);
        Wish there = { g->ann, third, "Device", node };
        test_wait_quiet(has_value, &there, "the new partition to have a device");
        g_autofree char *still = test_mount_point_of(g->ann, image, 1);
        g_assert_cmpstr(still, ==, mount_points[0]);
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(g->ann, image);
        unlink(file);
}

static void test_format(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_empty("empty.img", 4 * MIB, TEST_ANN);
        g_autofree char *image =
                test_attach_path(g->ann, file, "{'read-only': <false>, 'mount': <false>, 'settle': <true>}", NULL);
        g_autofree char *disk = test_device_of(g->ann, image);
        g_autofree char *volume = test_volume_path(image, 0);
        g_autofree char *type = test_property_string(g->ann, volume, VOLUME, "Type");

        (void)userdata;
        g_assert_cmpstr(type, ==, "");
        test_run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "FORMATTED", disk, NULL);
        Wish typed = { g->ann, volume, "Label", "FORMATTED" };
        test_wait_quiet(has_value, &typed, "the new file system to be seen");
        g_autofree char *obstacle = test_property_string(g->ann, volume, VOLUME, "Obstacle");
        g_assert_cmpstr(obstacle, ==, "");
        test_detach(g->ann, image);
        unlink(file);
}

/* The same without udevd's help, or in haste: Rescan replies when it has been published. */
static void test_rescan(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_empty("empty.img", 4 * MIB, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>, 'mount': <false>}", NULL);
        g_autofree char *volume = test_volume_path(image, 0);

        (void)userdata;
        /* Through the file: nobody else hears of that. */
        test_run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "RESCANNED", file, NULL);
        g_autoptr(TestCall) rescan = test_simple_call(g->ann, image, IMAGE, "Rescan");
        test_assert_succeeded(rescan);
        g_autofree char *label = test_property_string(g->ann, volume, VOLUME, "Label");
        g_assert_cmpstr(label, ==, "RESCANNED");
        test_detach(g->ann, image);
        unlink(file);
}

/* An attach that has mounted waits for udevd, and has told nobody yet; others are mounted, and all that is known. */
static void test_unmounted_meanwhile(TestGround *g, gconstpointer userdata)
{
        static char mount_point[] = "/run/media/ann/LABEL";
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = test_image_squashfs("other.img", TEST_ANN);
        g_autofree char *beside = test_attach_path(g->ann, other, NULL, NULL);
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);
        g_autofree char *folder = test_folder("foreign");
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        (void)userdata;
        g_usleep(REST_USEC);
        g_assert_cmpint(mount("tmpfs", folder, "tmpfs", 0, "size=4k"), ==, 0);
        g_assert_cmpint(umount2(folder, 0), ==, 0);
        g_usleep(REST_USEC);
        test_run("udevadm", "control", "--stop-exec-queue", NULL);
        g_autoptr(TestCall) call = test_attach_start(g->ann, fd, "{'settle': <true>}");
        test_wait_quiet(test_has_hello, mount_point, "it to be mounted");
        g_assert_cmpint(umount2(mount_point, UMOUNT_NOFOLLOW), ==, 0);
        g_usleep(REST_USEC);
        test_run("udevadm", "control", "--start-exec-queue", NULL);
        test_call_wait(call);
        test_assert_succeeded(call);
        test_wait_quiet(test_is_gone, mount_point, "the daemon to see that it was unmounted");
        test_detach(g->ann, image);
        test_detach(g->ann, beside);
        rmdir(folder);
        unlink(file);
        unlink(other);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/udev/stale-markers", "[Limits]\nJobTimeoutSec=1\n", test_stale_markers);
        TEST_ADD("/udev/settled", NULL, test_settled);
        TEST_ADD("/udev/others", NULL, test_others);
        TEST_ADD("/udev/repartition/gpt", NULL, test_repartition_gpt);
        TEST_ADD("/udev/repartition/dos", NULL, test_repartition_dos);
        TEST_ADD("/udev/repartition/mounted", NULL, test_repartition_mounted);
        TEST_ADD("/udev/format", NULL, test_format);
        TEST_ADD("/udev/rescan", NULL, test_rescan);
        TEST_ADD("/udev/unmounted-meanwhile", NULL, test_unmounted_meanwhile);
        return g_test_run();
}
