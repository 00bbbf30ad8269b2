/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attaching, from a file to a mount point that its owner can read, on real loop
 * devices: file systems, partitions, names, kinds of files, and what is visible on
 * the bus while it happens.
 */
#include "base/paths.h"
#include "lib/fuse-file.h"
#include "lib/ground.h"

#include <fcntl.h>
#include <linux/blkpg.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)

/* ---- file systems ---- */

static char *make_image(const char *type, const char *name, uid_t owner)
{
        if (streq(type, "ext4"))
                return test_image_ext4(name, NULL, owner);
        if (streq(type, "squashfs"))
                return test_image_squashfs(name, owner);
        if (streq(type, "erofs"))
                return test_image_erofs(name, owner);
        if (streq(type, "xfs"))
                return test_image_xfs(name, NULL, owner);
        return test_image_btrfs(name, NULL, owner);
}

static void assert_mount_options(const char *mount_point, bool read_only)
{
        g_autofree char *options = test_mount_options(mount_point);

        g_test_message("%s", options);
        g_assert_nonnull(strstr(options, ",nosuid,"));
        g_assert_nonnull(strstr(options, ",nodev,"));
        if (read_only)
                g_assert_nonnull(strstr(options, ",ro,"));
        else
                g_assert_null(strstr(options, ",ro,"));
}

/* The mount point and its parents: root's, to be searched by the owner and nobody else. */
static void assert_private(const char *mount_point)
{
        struct stat st;

        g_assert_cmpint(stat("/run/media/ann", &st), ==, 0);
        g_assert_cmpuint(st.st_uid, ==, 0);
        g_assert_cmpuint(st.st_mode & 07, ==, 0);
        g_assert_cmpint(test_open_errno_as(TEST_ANN, mount_point, O_RDONLY | O_DIRECTORY), ==, 0);
        g_assert_cmpint(test_open_errno_as(TEST_BOB, mount_point, O_RDONLY | O_DIRECTORY), ==, EACCES);
        /* Nobody but the daemon makes or takes away folders there. */
        g_autofree char *other = g_strdup("/run/media/ann/other");
        g_assert_cmpint(test_write_as(TEST_ANN, other, "x"), ==, EACCES);
}

static void test_filesystem(TestGround *g, gconstpointer userdata)
{
        static const char *const types[] = { "ext4", "squashfs", "erofs", "xfs", "btrfs" };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                g_autofree char *file = make_image(types[i], "image.img", TEST_ANN);
                g_autofree char *before = test_image_checksum(file);
                g_auto(GStrv) mount_points = NULL;
                g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
                g_autofree char *volume = test_volume_path(image, 0);
                g_autofree char *type = test_property_string(g->ann, volume, VOLUME, "Type");

                g_test_message("%s", types[i]);
                g_assert_cmpuint(g_strv_length(mount_points), ==, 1);
                g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/image.img");
                g_assert_cmpstr(type, ==, types[i]);
                g_assert_true(test_property_bool(g->ann, image, IMAGE, "AutoDetach"));
                test_assert_hello(TEST_ANN, mount_points[0]);
                assert_mount_options(mount_points[0], true);
                assert_private(mount_points[0]);

                test_detach(g->ann, image);
                test_snapshot_assert(g->before, 0);
                /* Looking at an image does not change it. */
                g_autofree char *after = test_image_checksum(file);
                g_assert_cmpstr(after, ==, before);
                unlink(file);
        }
}

static void test_writable(TestGround *g, gconstpointer userdata)
{
        static const char *const types[] = { "ext4", "xfs", "btrfs" };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                g_autofree char *file = make_image(types[i], "image.img", TEST_ANN);
                g_auto(GStrv) mount_points = NULL, again = NULL;
                g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>}", &mount_points);
                g_autofree char *written = g_build_filename(mount_points[0], "written", NULL);

                g_test_message("%s", types[i]);
                assert_mount_options(mount_points[0], false);
                g_assert_false(test_property_bool(g->ann, image, IMAGE, "ReadOnly"));
                g_assert_cmpint(test_write_as(TEST_ROOT, written, "kept"), ==, 0);
                test_detach(g->ann, image);

                g_autofree char *second = test_attach_path(g->ann, file, NULL, &again);
                g_autofree char *path = g_build_filename(again[0], "written", NULL);
                g_autofree char *text = test_read_as(TEST_ROOT, path);
                g_assert_cmpstr(text, ==, "kept");
                test_detach(g->ann, second);
                unlink(file);
        }
}

/* Read-write was not asked for, so a descriptor that would allow it changes nothing. */
static void test_read_only_by_default(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("image.img", NULL, TEST_ANN);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDWR);
        g_autoptr(TestCall) call = test_attach(g->ann, fd, NULL);
        const char *image;

        (void)userdata;
        test_assert_succeeded(call);
        g_variant_get_child(call->reply, 0, "&o", &image);
        g_assert_true(test_property_bool(g->ann, image, IMAGE, "ReadOnly"));
        g_autofree char *device = test_device_of(g->ann, image);
        g_autofree char *attribute = g_strdup_printf("/sys/class/block/%s/ro", device + strlen("/dev/"));
        g_autofree char *ro = test_read_as(TEST_ROOT, attribute);
        g_assert_cmpstr(ro, ==, "1\n");
        test_detach(g->ann, image);
        unlink(file);
}

/* ---- partitions ---- */

static void assert_partition(TestGround *g, const char *image, unsigned number, const char *label)
{
        g_autofree char *volume = test_volume_path(image, number);
        g_autofree char *is = test_property_string(g->ann, volume, VOLUME, "Label");
        g_autofree char *device = test_property_string(g->ann, volume, VOLUME, "Device");
        g_autofree char *disk = test_property_string(g->ann, image, IMAGE, "Device");
        g_autofree char *wanted = g_strdup_printf("%sp%u", disk, number);
        struct stat st;

        g_assert_cmpstr(is, ==, label);
        g_assert_cmpstr(device, ==, wanted);
        g_assert_cmpint(stat(device, &st), ==, 0);
        g_assert_true(S_ISBLK(st.st_mode));
        g_assert_cmpuint(test_property_number(g->ann, volume, VOLUME, "Offset"), ==, number * 2 * MIB);
        g_assert_cmpuint(test_property_number(g->ann, volume, VOLUME, "Size"), ==, 2 * MIB);
}

static void test_partitions(TestGround *g, gconstpointer table)
{
        static const char *const labels[] = { "FIRST", "SECOND", "THIRD", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", table, labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *found = test_property_string(g->ann, image, IMAGE, "PartitionTable");

        g_assert_cmpstr(found, ==, table);
        g_assert_cmpuint(g_strv_length(mount_points), ==, 3);
        for (unsigned i = 0; i < 3; i++) {
                g_autofree char *wanted = g_strconcat("/run/media/ann/", labels[i], NULL);
                g_assert_cmpstr(mount_points[i], ==, wanted);
                test_assert_hello(TEST_ANN, mount_points[i]);
                assert_partition(g, image, i + 1, labels[i]);
        }
        /* The table itself is no volume. */
        g_autofree char *whole = test_volume_path(image, 0);
        g_autoptr(GVariant) none = test_property(g->ann, whole, VOLUME, "Type");
        g_assert_null(none);
        test_detach(g->ann, image);
        unlink(file);
}

/* Every record that is written is renamed to its name. */
static unsigned attach_and_count_records(TestGround *g, const char *file)
{
        _cleanup_close_ int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        char events[16384];
        ssize_t size;
        unsigned n = 0;

        g_assert_cmpint(inotify_add_watch(watch, RUN_IMAGES_DIR, IN_MOVED_TO), >=, 0);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        test_detach(g->ann, image);
        size = read(watch, events, sizeof(events));
        g_assert_cmpint(size, >, 0);
        for (size_t i = 0; i < (size_t)size; n++)
                i += sizeof(struct inotify_event) + ((struct inotify_event *)(events + i))->len;
        return n;
}

/* The daemon writes them itself, and is not there for others meanwhile. */
static void test_as_many_records(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "A", "B", "C", "D", "E", "F", NULL };
        g_autofree char *one = test_image_ext4("one.img", "ONE", TEST_ANN);
        g_autofree char *six = test_image_partitioned("six.img", "gpt", labels, TEST_ANN);

        (void)userdata;
        g_assert_cmpuint(attach_and_count_records(g, six), ==, attach_and_count_records(g, one));
        unlink(one);
        unlink(six);
}

/*
 * A kernel without a parser for the table makes no partitions, and ours may be one
 * with: so they are taken away, and it has no reason to look once more.
 */
static void test_without_parser(TestGround *g, gconstpointer userdata)
{
        static const char *const tables[] = { "gpt", "dos" }, *const labels[] = { "FIRST", "SECOND", NULL };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(tables); i++) {
                g_autofree char *file = test_image_partitioned("parts.img", tables[i], labels, TEST_ANN);
                g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);
                g_autofree char *disk = test_device_of(g->ann, image);
                g_autofree char *second = test_volume_path(image, 2);

                for (int number = 1; number <= 2; number++)
                        test_change_partition(disk, BLKPG_DEL_PARTITION, &(struct blkpg_partition){ .pno = number });
                g_autoptr(TestCall) rescan = test_simple_call(g->ann, image, IMAGE, "Rescan");
                test_assert_succeeded(rescan);
                assert_partition(g, image, 1, "FIRST");
                assert_partition(g, image, 2, "SECOND");
                g_autoptr(TestCall) mount = test_simple_call(g->ann, second, VOLUME, "Mount");
                test_assert_succeeded(mount);
                test_assert_hello(TEST_ANN, "/run/media/ann/SECOND");
                test_detach(g->ann, image);
                unlink(file);
        }
}

/* Whether the kernel looks for partitions in the image. */
static bool is_scanned(TestGround *g, const char *image)
{
        g_autofree char *disk = test_device_of(g->ann, image);
        g_autofree char *path = g_strdup_printf("/sys/block/%s/loop/partscan", disk + strlen("/dev/"));
        g_autofree char *text = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        return text[0] == '1';
}

/* How many partitions the kernel has of @disk, "/dev/loop3". */
static unsigned count_partitions(const char *disk)
{
        const char *name = disk + strlen("/dev/");
        g_autofree char *path = g_build_filename("/sys/block", name, NULL);
        g_autofree char *prefix = g_strconcat(name, "p", NULL);
        g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
        const char *entry;
        unsigned n = 0;

        g_assert_nonnull(folder);
        while ((entry = g_dir_read_name(folder)))
                n += g_str_has_prefix(entry, prefix);
        return n;
}

static void assert_scanned(TestGround *g, char *file, bool scanned, unsigned n_partitions)
{
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);
        g_autofree char *disk = test_device_of(g->ann, image);

        g_assert_true(is_scanned(g, image) == scanned);
        g_assert_cmpuint(count_partitions(disk), ==, n_partitions);
        test_detach(g->ann, image);
        unlink(file);
        g_free(file);
}

/* A file system may look like a table of 255 partitions to the kernel; a blank image may get a table yet. */
static void test_scan(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        /* Its volume descriptors are behind the table. */
        g_autofree char *hybrid = test_image_partitioned("hybrid.img", "gpt", labels, TEST_ANN);
        static const char descriptors[4096] = {
                [0] = 1, 'C', 'D', '0', '0', '1', 1, [2048] = '\xff', 'C', 'D', '0', '0', '1', 1
        };
        _cleanup_close_ int fd = open(hybrid, O_WRONLY | O_CLOEXEC);

        (void)userdata;
        g_assert_cmpint(pwrite(fd, descriptors, sizeof(descriptors), 32768), ==, sizeof(descriptors));
        assert_scanned(g, test_image_ext4("ext4.img", "LABEL", TEST_ANN), false, 0);
        assert_scanned(g, test_image_empty("blank.img", 4 * MIB, TEST_ANN), true, 0);
        assert_scanned(g, test_image_partitioned("parts.img", "gpt", labels, TEST_ANN), true, 2);
        assert_scanned(g, g_steal_pointer(&hybrid), true, 2);
}

/* A file system gives way to a table: the partitions go with the device all the same. */
static void test_scan_later(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *parts = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *source = g_strconcat("if=", parts, NULL), *target = g_strconcat("of=", file, NULL);
        struct stat st;

        (void)userdata;
        g_assert_cmpint(stat(parts, &st), ==, 0);
        test_image_resize(file, (uint64_t)st.st_size);
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);
        g_autofree char *disk = test_device_of(g->ann, image);
        g_assert_false(is_scanned(g, image));
        test_run("dd", source, target, "bs=1M", "conv=notrunc,fsync", "status=none", NULL);
        g_autoptr(TestCall) rescan = test_simple_call(g->ann, image, IMAGE, "Rescan");
        test_assert_succeeded(rescan);
        g_assert_true(is_scanned(g, image));
        assert_partition(g, image, 1, "FIRST");
        assert_partition(g, image, 2, "SECOND");
        test_detach(g->ann, image);
        g_assert_cmpuint(count_partitions(disk), ==, 0);
        unlink(file);
        unlink(parts);
}

/* What the kernel sees and the probe does not counts, too. */
static void test_scan_limit(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", NULL);
        g_autofree char *disk = test_device_of(g->ann, image);

        (void)userdata;
        for (int number = 7; number <= 8; number++)
                test_change_partition(
                        disk, BLKPG_ADD_PARTITION,
                        &(struct blkpg_partition){ .pno = number, .start = 4096 * number, .length = 4096 });
        g_assert_cmpuint(count_partitions(disk), ==, 4);
        g_autoptr(TestCall) rescan = test_simple_call(g->ann, image, IMAGE, "Rescan");
        test_assert_succeeded(rescan);
        g_assert_cmpuint(count_partitions(disk), ==, 2);
        assert_partition(g, image, 1, "FIRST");
        assert_partition(g, image, 2, "SECOND");
        test_detach(g->ann, image);
        unlink(file);
}

static void test_partition_gpt(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_partitions(g, "gpt");
}

static void test_partition_dos(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_partitions(g, "dos");
}

static void test_chosen_volumes(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", "THIRD", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, "{'volumes': <[uint32 3, 1]>}", &mount_points);
        g_autofree char *second = test_mount_point_of(g->ann, image, 2);

        (void)userdata;
        g_assert_cmpuint(g_strv_length(mount_points), ==, 2);
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/THIRD");
        g_assert_cmpstr(mount_points[1], ==, "/run/media/ann/FIRST");
        g_assert_null(second);
        test_detach(g->ann, image);

        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);
        g_autoptr(TestCall) missing = test_attach(g->ann, fd, "{'volumes': <[uint32 1, 7]>}");
        test_assert_failed(missing, "InvalidArgs", "*7*");
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

static void test_without_scan(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "dos", labels, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'partition-scan': <false>, 'mount': <false>}", NULL);
        g_autoptr(TestSnapshot) snapshot = test_snapshot_take(0);

        (void)userdata;
        g_assert_cmpuint(test_snapshot_count(snapshot, "partition "), ==, 0);
        test_detach(g->ann, image);

        /* A part of a file is an image, too. */
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *part =
                test_attach_path(g->ann, file, "{'offset': <uint64 2097152>, 'size': <uint64 2097152>}", &mount_points);
        test_assert_hello(TEST_ANN, mount_points[0]);
        g_assert_cmpuint(test_property_number(g->ann, part, IMAGE, "Offset"), ==, 2 * MIB);
        g_assert_cmpuint(test_property_number(g->ann, part, IMAGE, "Size"), ==, 2 * MIB);
        test_detach(g->ann, part);
        unlink(file);
}

/* ---- names of mount points ---- */

static void test_equal_labels(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "SAME", "SAME", "SAME", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_autofree char *other = test_image_ext4("other.img", "SAME", TEST_ANN);
        g_auto(GStrv) mount_points = NULL, others = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *second = test_attach_path(g->ann, other, NULL, &others);

        (void)userdata;
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/SAME");
        g_assert_cmpstr(mount_points[1], ==, "/run/media/ann/SAME 2");
        g_assert_cmpstr(mount_points[2], ==, "/run/media/ann/SAME 3");
        g_assert_cmpstr(others[0], ==, "/run/media/ann/SAME 4");
        for (unsigned i = 0; i < 3; i++)
                test_assert_hello(TEST_ANN, mount_points[i]);
        test_assert_hello(TEST_ANN, others[0]);
        test_detach(g->ann, image);

        /* What has become free is used again. */
        g_auto(GStrv) again = NULL;
        g_autofree char *third = test_attach_path(g->ann, file, "{'volumes': <[uint32 2]>}", &again);
        g_assert_cmpstr(again[0], ==, "/run/media/ann/SAME");
        test_detach(g->ann, third);
        test_detach(g->ann, second);
        unlink(file);
        unlink(other);
}

/* Whatever is written in an image, its mount point is a folder right below /run/media/ann. */
static void assert_harmless_name(const char *mount_point)
{
        g_autofree char *parent = g_path_get_dirname(mount_point);
        g_autofree char *name = g_path_get_basename(mount_point);

        g_assert_cmpstr(parent, ==, "/run/media/ann");
        g_assert_true(g_utf8_validate(name, -1, NULL));
        g_assert_cmpuint(strlen(name), <=, 255);
        g_assert_cmpint(name[0], !=, '.');
        for (const char *c = name; *c; c++)
                g_assert_false(g_ascii_iscntrl(*c));
}

static void test_hostile_names(TestGround *g, gconstpointer userdata)
{
        static const char *const names[] = { "..",
                                             ".",
                                             "/",
                                             "../../etc",
                                             "a/b",
                                             "a\nb",
                                             "%n%s%x",
                                             "\xff\xfe",
                                             " ",
                                             "\x1b[31m",
                                             "-rf",
                                             ".hidden",
                                             "a\tb",
                                             "\\040",
                                             "x\xc2\x85",
                                             ("\xe2\x80\xae"
                                              "gnp"),
                                             "#x" };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                g_autofree char *file = test_image_ext4("file.img", names[i], TEST_ANN);
                g_auto(GStrv) mount_points = NULL;
                g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
                g_autofree char *volume = test_volume_path(image, 0);
                g_autofree char *label = test_property_string(g->ann, volume, VOLUME, "Label");

                g_test_message("%s -> %s", label, mount_points[0]);
                assert_harmless_name(mount_points[0]);
                test_assert_hello(TEST_ANN, mount_points[0]);
                for (const char *c = label; *c; c++)
                        g_assert_false(g_ascii_iscntrl(*c));
                test_detach(g->ann, image);
                test_snapshot_assert(g->before, 0);
                unlink(file);
        }
}

static void test_wished_name(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL, long_one = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, "{'name': <'my disk'>}", &mount_points);

        (void)userdata;
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/my disk");
        test_detach(g->ann, image);

        g_autoptr(GString) name = g_string_new(NULL);
        for (unsigned i = 0; i < 100; i++)
                g_string_append(name, "\xc3\xa4x");
        g_autofree char *options = g_strdup_printf("{'name': <'%s'>}", name->str);
        g_autofree char *second = test_attach_path(g->ann, file, options, &long_one);
        assert_harmless_name(long_one[0]);
        test_detach(g->ann, second);
        unlink(file);
}

static void test_without_label(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("My Backup.2024.img", NULL, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *name = test_property_string(g->ann, image, IMAGE, "Name");

        (void)userdata;
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/My Backup.2024.img");
        g_assert_cmpstr(name, ==, "My Backup.2024.img");
        test_detach(g->ann, image);
        unlink(file);
}

/* ---- kinds of files ---- */

static void attach_and_read(TestGround *g, int fd)
{
        g_autoptr(TestCall) call = test_attach(g->ann, fd, NULL);
        g_auto(GStrv) mount_points = NULL;
        const char *image;

        test_assert_succeeded(call);
        g_variant_get(call->reply, "(&o^as)", &image, &mount_points);
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(g->ann, image);
        test_snapshot_assert(g->before, 0);
}

static void test_memfd(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", NULL, TEST_ANN);
        _cleanup_close_ int open_one = test_image_memfd(file, false);
        _cleanup_close_ int sealed = test_image_memfd(file, true);

        (void)userdata;
        attach_and_read(g, open_one);
        attach_and_read(g, sealed);
        /* A sealed one can be opened for writing, but not be written to. */
        g_autoptr(TestCall) call = test_attach(g->ann, sealed, "{'read-only': <false>}");
        g_assert_nonnull(call->error);
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

static void test_deleted_file(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", NULL, TEST_ANN);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        (void)userdata;
        unlink(file);
        attach_and_read(g, fd);
}

static void test_sparse_file(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", NULL, TEST_ANN);

        (void)userdata;
        test_image_resize(file, UINT64_C(1) << 40);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);
        attach_and_read(g, fd);
        unlink(file);
}

static void test_odd_size(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", NULL, TEST_ANN);

        (void)userdata;
        test_image_resize(file, 2 * MIB + 100);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        g_assert_cmpuint(test_property_number(g->ann, image, IMAGE, "Size"), ==, 2 * MIB);
        test_detach(g->ann, image);
        unlink(file);
}

static void test_fuse(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", NULL, TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);

        (void)userdata;
        attach_and_read(g, fd);
        close(fd);
        test_fuse_file_stop(fuse);

        /* Root may not look: that is said, and no device without contents comes of it. */
        fuse = test_fuse_file_start("fuse", file, TEST_ANN, false);
        fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        g_autoptr(TestCall) call = test_attach(g->ann, fd, NULL);
        test_assert_failed(call, "InvalidImage", "*FUSE*");
        close(fd);
        test_snapshot_assert(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
}

/* ---- options that reach the kernel ---- */

static void test_mount_options_asked_for(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", NULL, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount-options': <'noexec,noatime'>}", &mount_points);
        g_autofree char *options = test_mount_options(mount_points[0]);

        (void)userdata;
        g_assert_nonnull(strstr(options, ",noexec,"));
        g_assert_nonnull(strstr(options, ",noatime,"));
        g_assert_nonnull(strstr(options, ",nosuid,"));
        test_detach(g->ann, image);
        unlink(file);
}

static void test_configured_options(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", NULL, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *options = test_mount_options(mount_points[0]);

        (void)userdata;
        g_assert_nonnull(strstr(options, ",noexec,"));
        g_assert_nonnull(strstr(options, ",noatime,"));
        test_detach(g->ann, image);

        /* Writing is not for everybody here; and squashfs is not to be mounted. */
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDWR);
        g_autoptr(TestCall) writable = test_attach(g->ann, fd, "{'read-only': <false>}");
        test_assert_failed(writable, "OptionNotPermitted", "*");
        g_autofree char *squash = test_image_squashfs("squash.img", TEST_ANN);
        _cleanup_close_ int squash_fd = test_open_as(TEST_ANN, squash, O_RDONLY);
        g_autoptr(TestCall) refused = test_attach(g->ann, squash_fd, NULL);
        test_assert_failed(refused, "UnsupportedFilesystem", "*squashfs*");
        unlink(file);
        unlink(squash);
}

/* Few images with many partitions are as much to be looked after as many images. */
static void test_volume_limit(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "1",  "2",  "3",  "4",  "5",  "6",  "7",  "8",  "9",
                                              "10", "11", "12", "13", "14", "15", "16", "17", NULL };
        g_autofree char *first = test_image_partitioned("first.img", "gpt", labels, TEST_ANN);
        g_autofree char *second = test_image_partitioned("second.img", "gpt", labels, TEST_ANN);
        g_autofree char *bobs = test_image_partitioned("bobs.img", "gpt", labels, TEST_BOB);
        g_autofree char *one = test_attach_path(g->ann, first, "{'mount': <false>}", NULL);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, second, O_RDONLY);
        g_autoptr(TestCall) two = test_attach(g->ann, fd, "{'mount': <false>}");

        (void)userdata;
        test_assert_failed(two, "LimitExceeded", "*there would be 34 volumes, and a user may have 32*");
        g_autofree char *other = test_attach_path(g->bob, bobs, "{'mount': <false>}", NULL);
        test_detach(g->bob, other);
        test_detach(g->ann, one);
        unlink(first);
        unlink(second);
        unlink(bobs);
}

static void test_image_limit(TestGround *g, gconstpointer userdata)
{
        g_autofree char *first = test_image_ext4("first.img", NULL, TEST_ANN);
        g_autofree char *second = test_image_ext4("second.img", NULL, TEST_ANN);
        g_autofree char *third = test_image_ext4("third.img", NULL, TEST_ANN);
        g_autofree char *bobs = test_image_ext4("bobs.img", NULL, TEST_BOB);
        g_autofree char *one = test_attach_path(g->ann, first, NULL, NULL);
        g_autofree char *two = test_attach_path(g->ann, second, NULL, NULL);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, third, O_RDONLY);
        g_autoptr(TestCall) three = test_attach(g->ann, fd, NULL);

        (void)userdata;
        test_assert_failed(three, "LimitExceeded", "*");
        g_autofree char *other = test_attach_path(g->bob, bobs, NULL, NULL);
        test_detach(g->bob, other);
        test_detach(g->ann, one);
        g_autofree char *now = test_attach_path(g->ann, third, NULL, NULL);
        test_detach(g->ann, now);
        test_detach(g->ann, two);
        unlink(first);
        unlink(second);
        unlink(third);
        unlink(bobs);
}

/* ---- on the bus ---- */

/* Everything about the image has been told before the reply. */
static void test_signals_before_replies(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autoptr(TestSignals) signals = test_signals_new(g->ann);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        g_autofree char *volume = test_volume_path(image, 0);

        (void)userdata;
        g_assert_cmpuint(test_signals_count(signals, "InterfacesAdded", image, IMAGE), ==, 1);
        g_assert_cmpuint(test_signals_count(signals, "InterfacesAdded", volume, VOLUME), ==, 1);
        test_detach(g->ann, image);
        g_assert_cmpuint(test_signals_count(signals, "InterfacesRemoved", image, IMAGE), ==, 1);
        g_assert_cmpuint(test_signals_count(signals, "InterfacesRemoved", volume, VOLUME), ==, 1);
        unlink(file);
}

static void test_find_by_file(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", NULL, TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_PATH);
        g_autofree char *wanted = g_strdup_printf("([objectpath '%s'],)", image);
        GDBusConnection *buses[] = { g->ann, g->root, g->bob };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(buses); i++) {
                g_autoptr(TestCall) call = test_call(buses[i], ROOT_PATH, MANAGER, "FindByFile",
                                                     g_variant_new("(h)", 0), (TestCallOptions){ .fd = fd });
                test_assert_succeeded(call);
                g_autofree char *is = g_variant_print(call->reply, TRUE);
                g_assert_cmpstr(is, ==, buses[i] == g->bob ? "(@ao [],)" : wanted);
        }
        test_detach(g->ann, image);
        unlink(file);
}

static void test_mount_later(TestGround *g, gconstpointer userdata)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_auto(GStrv) none = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, "{'mount': <false>}", &none);
        g_autofree char *volume = test_volume_path(image, 2);
        g_autoptr(TestSignals) signals = test_signals_new(g->ann);
        g_autoptr(GVariant) reply =
                test_call_ok(g->ann, volume, VOLUME, "Mount", g_variant_new_parsed("({'name': <'later'>},)"));
        const char *mount_point;

        (void)userdata;
        g_assert_cmpuint(g_strv_length(none), ==, 0);
        g_variant_get(reply, "(&s)", &mount_point);
        g_assert_cmpstr(mount_point, ==, "/run/media/ann/later");
        test_assert_hello(TEST_ANN, mount_point);
        g_autoptr(GVariant) changed = test_signals_wait_changed(signals, volume, VOLUME, "MountPoints");
        g_autofree char *text = g_variant_print(changed, FALSE);
        g_assert_cmpstr(text, ==, "['/run/media/ann/later']");

        g_autoptr(TestCall) twice = test_simple_call(g->ann, volume, VOLUME, "Mount");
        test_assert_failed(twice, "AlreadyMounted", "*/run/media/ann/later*");
        g_autoptr(TestCall) unmounted = test_simple_call(g->ann, volume, VOLUME, "Unmount");
        test_assert_succeeded(unmounted);
        g_autoptr(TestCall) not_mounted = test_simple_call(g->ann, volume, VOLUME, "Unmount");
        test_assert_failed(not_mounted, "NotMounted", "*");
        /* Attached without mounting anything: it stays until it is detached. */
        g_assert_cmpuint(test_count_loops(), ==, 1);
        test_detach(g->ann, image);
        unlink(file);
}

/* The file grows, and the image with it; the file system stays mounted. */
static void test_capacity(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", NULL, TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autoptr(TestSignals) signals = test_signals_new(g->ann);

        (void)userdata;
        test_image_resize(file, 8 * MIB);
        g_assert_cmpuint(test_property_number(g->ann, image, IMAGE, "Size"), ==, 2 * MIB);
        g_autoptr(TestCall) call = test_simple_call(g->ann, image, IMAGE, "SetCapacity");
        test_assert_succeeded(call);
        g_assert_cmpuint(test_property_number(g->ann, image, IMAGE, "Size"), ==, 8 * MIB);
        g_autoptr(GVariant) changed = test_signals_wait_changed(signals, image, IMAGE, "Size");
        g_assert_cmpuint(g_variant_get_uint64(changed), ==, 8 * MIB);
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(g->ann, image);
        unlink(file);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/attach/filesystem/read-only", NULL, test_filesystem);
        TEST_ADD("/attach/filesystem/writable", NULL, test_writable);
        TEST_ADD("/attach/filesystem/default", NULL, test_read_only_by_default);
        TEST_ADD("/attach/partitions/gpt", NULL, test_partition_gpt);
        TEST_ADD("/attach/partitions/records", NULL, test_as_many_records);
        TEST_ADD("/attach/partitions/dos", NULL, test_partition_dos);
        TEST_ADD("/attach/partitions/without-parser", NULL, test_without_parser);
        TEST_ADD("/attach/partitions/scan", NULL, test_scan);
        TEST_ADD("/attach/partitions/scan-later", NULL, test_scan_later);
        TEST_ADD("/attach/partitions/scan-limit", "[Limits]\nMaxVolumesPerImage=3\n", test_scan_limit);
        TEST_ADD("/attach/partitions/chosen", NULL, test_chosen_volumes);
        TEST_ADD("/attach/partitions/without-scan", NULL, test_without_scan);
        TEST_ADD("/attach/names/equal", NULL, test_equal_labels);
        TEST_ADD("/attach/names/hostile", NULL, test_hostile_names);
        TEST_ADD("/attach/names/wished", NULL, test_wished_name);
        TEST_ADD("/attach/names/without-label", NULL, test_without_label);
        TEST_ADD("/attach/files/memfd", NULL, test_memfd);
        TEST_ADD("/attach/files/deleted", NULL, test_deleted_file);
        TEST_ADD("/attach/files/sparse", NULL, test_sparse_file);
        TEST_ADD("/attach/files/odd-size", NULL, test_odd_size);
        TEST_ADD("/attach/files/fuse", NULL, test_fuse);
        TEST_ADD("/attach/options/asked-for", NULL, test_mount_options_asked_for);
        TEST_ADD("/attach/options/configured",
                 "[Mount]\nAllowWritable=no\nAllowExec=no\nFileSystems=ext4\n[FileSystem ext4]\nOptions=noatime\n",
                 test_configured_options);
        TEST_ADD("/attach/limit/volumes", "[Limits]\nMaxImagesPerUser=2\nMaxVolumesPerImage=20\n", test_volume_limit);
        TEST_ADD("/attach/limit", "[Limits]\nMaxImagesPerUser=2\n", test_image_limit);
        TEST_ADD("/attach/bus/signals", NULL, test_signals_before_replies);
        TEST_ADD("/attach/bus/find-by-file", NULL, test_find_by_file);
        TEST_ADD("/attach/bus/mount-later", NULL, test_mount_later);
        TEST_ADD("/attach/bus/capacity", NULL, test_capacity);
        return g_test_run();
}
