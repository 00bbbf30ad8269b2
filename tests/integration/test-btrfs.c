/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's registry of btrfs devices: a user's image that has the UUIDs of root's
 * array, and a higher generation, must neither become part of the array nor keep root
 * from mounting it. Root's array has two devices, and is mounted by either.
 */
#include "lib/ground.h"
#include "lib/rules.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* Where these are in the superblock: struct btrfs_super_block in fs/btrfs/fs.h. */
#define SUPERBLOCK_OFFSET 65536
#define SUPERBLOCK_SIZE 4096
#define CHECKSUM_SIZE 32
#define MAGIC_OFFSET 64
#define GENERATION_OFFSET 72
#define HIGH_GENERATION UINT64_C(100000)

/* What mkfs.btrfs makes of the first device of the array before there is a second one. It can be mounted alone. */
#define SINGLE "single.img"
/* A copy of the first device, which cannot. */
#define COPY "copy.img"

typedef struct Array {
        char *devices[2];
} Array;

static char *run_shell(const char *command)
{
        const char *argv[] = { "sh", "-ec", command, NULL };
        char *output = NULL;
        g_autofree char *errors = NULL;

        if (test_run_as(TEST_ROOT, argv, &output, &errors) != 0)
                g_error("%s: %s", command, errors);
        return output;
}

/* ---- the array, and images that claim to be of it ---- */

static uint32_t crc32c(const uint8_t *bytes, size_t n)
{
        uint32_t crc = UINT32_MAX;

        for (size_t i = 0; i < n; i++) {
                crc ^= bytes[i];
                for (unsigned bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
        }
        return ~crc;
}

/* With a generation of 0 it is none: its magic number is gone. */
static void set_generation(const char *path, uint64_t value)
{
        uint8_t superblock[SUPERBLOCK_SIZE];
        uint64_t generation = GUINT64_TO_LE(value);
        uint32_t checksum;
        _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);

        g_assert_cmpint(pread(fd, superblock, sizeof(superblock), SUPERBLOCK_OFFSET), ==, sizeof(superblock));
        memcpy(superblock + GENERATION_OFFSET, &generation, sizeof(generation));
        memcpy(superblock + MAGIC_OFFSET, value > 0 ? "_BHRfS_M" : "\0\0\0\0\0\0\0", 8);
        checksum = GUINT32_TO_LE(crc32c(superblock + CHECKSUM_SIZE, sizeof(superblock) - CHECKSUM_SIZE));
        memcpy(superblock, &checksum, sizeof(checksum));
        g_assert_cmpint(pwrite(fd, superblock, sizeof(superblock), SUPERBLOCK_OFFSET), ==, sizeof(superblock));
}

static int registry_call(const char *device, unsigned long request)
{
        struct btrfs_ioctl_vol_args arguments = { 0 };
        _cleanup_close_ int control = open("/dev/btrfs-control", O_RDWR | O_CLOEXEC);

        g_assert_cmpint(control, >=, 0);
        g_strlcpy(arguments.name, device, sizeof(arguments.name));
        return ioctl(control, request, &arguments);
}

static bool is_known_to_udev(gpointer device)
{
        const char *argv[] = { "udevadm", "info", "--query=property", device, NULL };
        g_autofree char *output = NULL, *errors = NULL;

        return test_run_as(TEST_ROOT, argv, &output, &errors) == 0 && strstr(output, "ID_FS_TYPE=btrfs");
}

/* The array is unmounted and registered; "whose" is its one file. Both images are ann's. */
static void make_array(Array *array)
{
        g_autofree char *first = test_image_empty("first.img", 200 << 20, TEST_ROOT);
        g_autofree char *second = test_image_empty("second.img", 200 << 20, TEST_ROOT);
        g_autofree char *single = test_path(SINGLE), *copy = test_path(COPY), *folder = test_folder("array");

        test_run("mkfs.btrfs", "-q", "-f", "-m", "single", "-d", "single", first, NULL);
        test_run("cp", "--sparse=always", first, single, NULL);
        g_autofree char *attach = g_strdup_printf("losetup -f --show '%s'; losetup -f --show '%s'", first, second);
        g_autofree char *output = run_shell(attach);
        g_auto(GStrv) lines = g_strsplit(output, "\n", 0);
        array->devices[0] = g_strdup(lines[0]);
        array->devices[1] = g_strdup(lines[1]);
        g_autofree char *build = g_strdup_printf("mount %s '%s'; cd '%s'\n"
                                                 "btrfs -q device add -f %s .\n"
                                                 "btrfs -q balance start -f -mconvert=raid1 -dconvert=raid1 .\n"
                                                 "echo root >whose; cd /; umount '%s'",
                                                 lines[0], folder, folder, lines[1], folder);
        g_free(run_shell(build));
        test_run("cp", "--sparse=always", first, copy, NULL);
        test_run("chown", "ann", single, copy, NULL);
        set_generation(copy, HIGH_GENERATION);
        /* udev looked at them when they were empty. Now its rules register them. */
        for (size_t i = 0; i < 2; i++) {
                test_run("udevadm", "trigger", "--action=change", array->devices[i], NULL);
                test_wait_quiet(is_known_to_udev, array->devices[i], "udev to know the array");
        }
}

static void end_array(Array *array)
{
        for (size_t i = 0; i < 2; i++) {
                g_autofree char *file =
                        g_strdup_printf("/sys/block/%s/loop/backing_file", array->devices[i] + strlen("/dev/"));

                test_run("losetup", "-d", array->devices[i], NULL);
                test_wait_quiet(test_is_gone, file, "the array's device to be free");
                (void)registry_call(array->devices[i], BTRFS_IOC_FORGET_DEV);
                g_free(array->devices[i]);
        }
        g_autofree char *remove = g_strdup_printf("cd '%s'; rm first.img second.img " SINGLE " " COPY "; rmdir array",
                                                  g_getenv("LOOPMOUNT_TEST_DIR"));
        g_free(run_shell(remove));
}

/* Registers the device, and tells whether all others of its array are registered. */
static bool is_ready(gpointer device)
{
        return registry_call(device, BTRFS_IOC_DEVICES_READY) == 0;
}

/* Root mounts it by one of its devices, finds root's file and no errors. udev may take a moment to register them. */
static void assert_mounts(const Array *array, unsigned device)
{
        g_autofree char *folder = test_path("array"), *whose = g_build_filename(folder, "whose", NULL);

        test_wait_quiet(is_ready, array->devices[device], "the array to be registered");
        test_run("mount", "-t", "btrfs", array->devices[device], folder, NULL);
        g_autofree char *text = test_read_as(TEST_ROOT, whose);
        g_assert_cmpstr(text, ==, "root\n");
        test_run("btrfs", "device", "stats", "--check", folder, NULL);
        test_run("umount", folder, NULL);
}

/* ---- the tests ---- */

/* Who may mount, but not with this driver. */
static void test_not_permitted(TestGround *g, gconstpointer userdata)
{
        const Array *array = userdata;
        g_autofree char *copy = test_path(COPY);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, copy, O_RDWR);

        test_rules_set("polkit.addRule(function(action, subject) {\n"
                       "        if (['org.loopmount1.attach', 'org.loopmount1.mount'].indexOf(action.id) >= 0)\n"
                       "                return polkit.Result.YES;\n"
                       "});\n");
        g_autoptr(TestCall) call = test_attach(g->ann, fd, NULL);
        test_assert_failed(call, "NotAuthorized", "*");
        test_rules_set_usual();
        for (unsigned device = 0; device < 2; device++)
                assert_mounts(array, device);
}

static void assert_refused(TestGround *g)
{
        g_autofree char *copy = test_path(COPY);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, copy, O_RDWR);
        g_autoptr(TestCall) call = test_attach(g->ann, fd, NULL);

        test_assert_failed(call, "Failed", "*btrfs*");
}

static void test_failed(TestGround *g, gconstpointer userdata)
{
        const Array *array = userdata;

        for (unsigned device = 0; device < 2; device++) {
                g_autofree char *copy = test_path(COPY);

                assert_refused(g);
                assert_mounts(array, device);
                assert_refused(g);
                /* The same loop device again. Nobody sees that it is a btrfs before root mounts the array. */
                set_generation(copy, 0);
                g_autofree char *image =
                        test_attach_path(g->ann, copy, "{'read-only': <false>, 'mount': <false>}", NULL);
                set_generation(copy, HIGH_GENERATION);
                assert_mounts(array, device);
                test_detach(g->ann, image);
        }
}

static bool no_images(gpointer userdata)
{
        g_auto(GStrv) images = test_objects(userdata, IMAGE);
        return g_strv_length(images) == 0;
}

/* The driver has a name for it that is no device's. A udevd of another container may tell it the device's own. */
static bool has_own_name(const char *mount_point, const char *device)
{
        const char *argv[] = { "findmnt", "-n", "-o", "SOURCE", mount_point, NULL };
        g_autofree char *output = NULL, *errors = NULL, *own = g_strconcat(device, ".", NULL);

        g_assert_cmpint(test_run_as(TEST_ANN, argv, &output, &errors), ==, 0);
        return g_str_has_prefix(output, own) && access(g_strchomp(output), F_OK) < 0;
}

/* An image that can be mounted, and is unmounted by the daemon or by somebody else. */
static void test_mounted(TestGround *g, gconstpointer userdata)
{
        g_autofree char *single = test_path(SINGLE);
        unsigned n_own = 0;
        Array *array = (Array *)userdata;

        for (unsigned i = 0; i < 4 || (n_own == 0 && i < 40); i++) {
                g_auto(GStrv) mount_points = NULL;
                g_autofree char *image = test_attach_path(g->ann, single, "{'read-only': <false>}", &mount_points);
                g_autofree char *device = test_device_of(g->ann, image);

                n_own += has_own_name(mount_points[0], device);
                if (i % 4 < 2)
                        test_detach(g->ann, image);
                else
                        test_run("umount", mount_points[0], NULL);
                test_wait(no_images, g->root, "the image to be gone");
                assert_mounts(array, i % 2);
        }
        g_assert_cmpuint(n_own, >, 0);
}

/* An entry that a process of the daemon has left that was killed with it. */
static void test_crash(TestGround *g, gconstpointer userdata)
{
        g_autofree char *copy = test_path(COPY);
        Array *array = (Array *)userdata;

        for (unsigned i = 0; i < 2; i++) {
                g_autofree char *image =
                        test_attach_path(g->ann, copy, "{'read-only': <false>, 'mount': <false>}", NULL);
                g_autofree char *volume = test_volume_path(image, 0), *device = test_device_of(g->ann, image);
                g_autoptr(TestCall) call = test_simple_call(g->ann, volume, VOLUME, "Mount");

                test_assert_failed(call, "Failed", "*btrfs*");
                g_assert_cmpint(registry_call(device, BTRFS_IOC_SCAN_DEV), ==, 0);
                test_daemon_kill(g->daemon);
                test_ground_restart_daemon(g);
                test_wait(no_images, g->root, "the image to be gone");
                assert_mounts(array, i);
        }
}

/* Before the daemon starts, which does not stay for ever without an image. */
static void set_up(TestGround *g, gconstpointer userdata)
{
        make_array((Array *)userdata);
        test_ground_set_up(g, NULL);
}

static void tear_down(TestGround *g, gconstpointer userdata)
{
        test_ground_tear_down(g, NULL);
        end_array((Array *)userdata);
}

int main(int argc, char *argv[])
{
        static Array array;

        g_test_init(&argc, &argv, NULL);
        g_test_add("/btrfs/not-permitted", TestGround, &array, set_up, test_not_permitted, tear_down);
        g_test_add("/btrfs/failed", TestGround, &array, set_up, test_failed, tear_down);
        g_test_add("/btrfs/mounted", TestGround, &array, set_up, test_mounted, tear_down);
        g_test_add("/btrfs/crash", TestGround, &array, set_up, test_crash, tear_down);
        return g_test_run();
}
