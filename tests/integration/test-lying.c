/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that are not what they were: one that shows the kernel something else
 * than the probe; that is changed, or replaced, while it is attached; whose disk is
 * full, or goes away. Whatever was lost is told, and the image can be detached.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "lib/fuse-file.h"
#include "lib/ground.h"
#include "lib/latency.h"

#define MIB (UINT64_C(1) << 20)

/* ---- something else than the probe saw ---- */

/* @file as the probe sees it, @other as the kernel does; the attach has to fail in words that match. */
static void assert_found_out(TestGround *g, const char *file, const char *other, const char *pattern)
{
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);

        test_fuse_file_exchange_at_fsync(fuse, other);
        g_autoptr(TestCall) call = test_attach(g->ann, fd, "{'direct-io': <'yes'>}");
        test_assert_failed(call, "InvalidImage", pattern);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
        unlink(other);
}

static void test_garbage(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *bytes = g_malloc(2 * MIB);

        (void)userdata;
        for (size_t i = 0; i < 2 * MIB; i++)
                bytes[i] = (char)g_test_rand_int();
        g_autofree char *other = test_image_bytes("other.img", bytes, 2 * MIB, TEST_ANN);
        assert_found_out(g, file, other, "*mounting it as ext4 failed*");
}

static void test_other_type(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_squashfs("file.img", TEST_ANN);
        g_autofree char *other = test_image_xfs("other.img", "OTHER", TEST_ANN);

        (void)userdata;
        assert_found_out(g, file, other, "*mounting it as squashfs failed*");
}

static void test_shrinks(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = test_image_ext4("other.img", "LABEL", TEST_ANN);

        (void)userdata;
        test_image_resize(other, MIB);
        assert_found_out(g, file, other, "*");
}

/* A larger one is as good: what is attached is what the kernel has. */
static void test_grows(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = test_image_ext4("other.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);
        guint64 size;

        (void)userdata;
        test_image_resize(other, 4 * MIB);
        test_fuse_file_exchange_at_fsync(fuse, other);
        g_autoptr(TestCall) call = test_attach(g->ann, fd, "{'direct-io': <'yes'>}");
        test_assert_succeeded(call);
        const char *image;
        g_variant_get_child(call->reply, 0, "&o", &image);
        g_autofree char *node = test_device_of(g->ann, image);
        _cleanup_close_ int device = open(node, O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(ioctl(device, BLKGETSIZE64, &size), ==, 0);
        g_assert_cmpuint(test_property_number(g->ann, image, IMAGE, "Size"), ==, size);
        device = safe_close(device);
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        test_detach(g->ann, image);
        test_fuse_file_stop(fuse);
        unlink(file);
        unlink(other);
}

/* ---- a journal on another device ---- */

/* A device that is nobody's but root's, and holds a journal. */
static char *make_journal(const char *path)
{
        g_autofree char *command = g_strconcat("losetup --find --show ", path, NULL);
        g_autoptr(GError) error = NULL;
        char *node = NULL;

        test_run("mke2fs", "-q", "-F", "-b", "1024", "-O", "journal_dev", path, NULL);
        (void)g_spawn_command_line_sync(command, &node, NULL, NULL, &error);
        g_assert_no_error(error);
        return g_strchomp(node);
}

static char *make_image_with_journal(const char *name, const char *journal)
{
        char *file = test_image_empty(name, 2 * MIB, TEST_ANN);
        g_autofree char *option = g_strconcat("device=", journal, NULL);

        test_run("mke2fs", "-q", "-F", "-b", "1024", "-t", "ext4", "-L", "LABEL", "-J", option, file, NULL);
        /* The journal knows its user now. If udevd has the device open, that gets into its file some time later. */
        test_run("blockdev", "--flushbufs", journal, NULL);
        return file;
}

/* The superblock says so from the beginning: then nothing is tried, unless it is only to be read, without the journal.
 */
static void test_journal_elsewhere(TestGround *g, gconstpointer userdata)
{
        g_autofree char *journal = test_image_empty("journal.img", 2 * MIB, TEST_ROOT), *node = make_journal(journal);
        g_autofree char *file = make_image_with_journal("file.img", node), *before = test_image_checksum(journal);
        static const char *const refused[] = { "{'read-only': <false>}", "{'read-only': <true>}",
                                               "{'read-only': <false>, 'filesystem-type': <'ext4'>}" };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
                _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDWR);
                g_autoptr(TestCall) call = test_attach(g->ann, fd, refused[i]);

                test_assert_failed(call, "UnsupportedFilesystem", "*its journal is on another device*");
        }
        g_autofree char *image = test_attach_path(g->ann, file, "{'filesystem-type': <'ext4'>}", NULL);
        test_detach(g->ann, image);
        g_autofree char *after = test_image_checksum(journal);
        g_assert_cmpstr(before, ==, after);
        test_run("losetup", "--detach", node, NULL);
        test_snapshot_wait(g->before, 0);
        unlink(file);
        unlink(journal);
}

/*
 * The probe sees a file system like any other; the kernel one whose journal is on
 * somebody else's device. It may neither read nor write there, however often that
 * is tried ($LOOPMOUNT_TEST_FLIPS). Were it opened, the driver would write to its superblock.
 */
static void test_journal_flipped(TestGround *g, gconstpointer userdata)
{
        g_autofree char *journal = test_image_empty("journal.img", 2 * MIB, TEST_ROOT), *node = make_journal(journal);
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = make_image_with_journal("other.img", node), *before = test_image_checksum(journal);
        const char *wish = g_getenv("LOOPMOUNT_TEST_FLIPS");
        unsigned n = wish ? (unsigned)atoi(wish) : 16;

        (void)userdata;
        for (unsigned i = 0; i < n; i++) {
                TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
                _cleanup_close_ int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDWR);

                test_fuse_file_exchange_at_fsync(fuse, other);
                g_autoptr(TestCall) call = test_attach(g->ann, fd, "{'direct-io': <'yes'>, 'read-only': <false>}");
                test_assert_failed(call, "InvalidImage", "*mounting it as ext4 failed*");
                test_fuse_file_stop(fuse);
        }
        g_autofree char *after = test_image_checksum(journal);
        g_assert_cmpstr(before, ==, after);
        test_run("losetup", "--detach", node, NULL);
        test_snapshot_wait(g->before, 0);
        unlink(file);
        unlink(other);
        unlink(journal);
}

/* Root may not look at it, and does not by other ways either. */
static void test_not_for_root(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, false);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, test_fuse_file_path(fuse), O_RDONLY);

        (void)userdata;
        g_autoptr(TestCall) call = test_attach(g->ann, fd, NULL);
        test_assert_failed(call, "InvalidImage", "*allow_other*");
        test_fuse_file_stop(fuse);
        unlink(file);
}

/* ---- changed while it is attached ---- */

/* What reading a file that was not read before gives: an errno, or 0. */
static int read_errno(const char *mount_point)
{
        g_autofree char *path = g_build_filename(mount_point, "hello", NULL);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char byte;

        return fd < 0 || read(fd, &byte, 1) < 0 ? errno : 0;
}

static void test_truncated(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_image_resize(file, 0);
        g_assert_cmpint(read_errno("/run/media/ann/LABEL"), ==, EIO);
        test_latency_assert(g->bob, &usual, "while a truncated file is attached");
        test_detach(g->ann, image);
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

static void test_punched(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDWR);
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        g_assert_cmpint(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * MIB), ==, 0);
        /* Whatever the file system makes of zeros: an error, or an answer; not the end of anything. */
        (void)read_errno("/run/media/ann/LABEL");
        g_autoptr(TestCall) rescan = test_simple_call(g->ann, image, IMAGE, "Rescan");
        g_assert_true(rescan->reply || rescan->error);
        test_latency_assert(g->bob, &usual, "while a file with a hole is attached");
        test_detach(g->ann, image);
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

/* Another file under the same name is another file. */
static void test_replaced(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = test_image_ext4("other.img", "OTHER", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        g_assert_cmpint(rename(other, file), ==, 0);
        test_assert_hello(TEST_ANN, "/run/media/ann/LABEL");
        g_autofree char *second = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);
        g_assert_cmpstr(second, !=, image);
        test_assert_hello(TEST_ANN, "/run/media/ann/OTHER");
        test_latency_assert(g->bob, &usual, "while a replaced file is attached");
        test_detach(g->ann, second);
        test_detach(g->ann, image);
        test_snapshot_assert(g->before, 0);
        unlink(file);
}

/* ---- what is written does not arrive ---- */

/* A file system of its own for the image, at FOLDER, with an empty one of 32 MiB in it: sparse, and ann's. */
static char *make_sparse_image(const char *folder)
{
        char *file = g_build_filename(folder, "sparse.img", NULL);

        g_assert_cmpint(test_write_as(TEST_ROOT, file, ""), ==, 0);
        test_image_resize(file, 32 * MIB);
        test_run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-L", "SPARSE", "-E", "root_owner=61001:61001",
                 file, NULL);
        g_assert_cmpint(chown(file, TEST_ANN, TEST_ANN), ==, 0);
        return file;
}

/* Writes 16 MiB, as ann; gives the errno of the write or of the fsync. */
static int write_much(const char *path, bool sync)
{
        _cleanup_close_ int fd = test_open_as(TEST_ANN, path, O_WRONLY | O_CREAT);
        g_autofree char *bytes = g_malloc(MIB);

        memset(bytes, 'x', MIB);
        for (unsigned i = 0; i < 16; i++)
                if (write(fd, bytes, MIB) < 0)
                        return errno;
        return sync && fsync(fd) < 0 ? errno : 0;
}

static void assert_lost(TestGround *g, const char *image)
{
        g_autoptr(TestCall) call = test_simple_call(g->ann, image, IMAGE, "Detach");

        test_assert_failed(call, "Failed", "*not all that was written*");
        g_auto(GStrv) images = test_objects(g->ann, IMAGE);
        g_assert_cmpuint(g_strv_length(images), ==, 0);
        test_snapshot_wait(g->before, 0);
}

/* Whoever looked at the image's device last may have the file for a moment longer. */
static bool is_unmounted(gpointer folder)
{
        return umount(folder) == 0;
}

/* With fsync the one who writes is told; else the one who detaches. */
static void test_full_disk(TestGround *g, gconstpointer userdata)
{
        g_autofree char *folder = test_folder("small");
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        g_assert_cmpint(mount("small", folder, "tmpfs", 0, "size=6m"), ==, 0);
        g_autofree char *file = make_sparse_image(folder);
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);
        g_assert_cmpint(write_much("/run/media/ann/SPARSE/much", true), !=, 0);
        test_latency_assert(g->bob, &usual, "while the disk of a file is full");
        g_autoptr(TestCall) told = test_simple_call(g->ann, image, IMAGE, "Detach");
        if (told->error)
                test_assert_failed(told, "Failed", "*not all that was written*");
        test_snapshot_wait(g->before, 0);

        unlink(file);
        g_autofree char *again = make_sparse_image(folder);
        g_autofree char *second = test_attach_path(g->ann, again, "{'read-only': <false>}", NULL);
        g_assert_cmpint(write_much("/run/media/ann/SPARSE/much", false), ==, 0);
        test_latency_assert(g->bob, &usual, "while what is written does not fit");
        assert_lost(g, second);
        unlink(again);
        test_wait_quiet(is_unmounted, folder, "the disk to be free");
        g_assert_cmpint(rmdir(folder), ==, 0);
}

static void set_immutable(const char *path, bool immutable)
{
        _cleanup_close_ int fd = test_open_as(TEST_ROOT, path, O_RDONLY);
        int flags = 0;

        g_assert_cmpint(ioctl(fd, FS_IOC_GETFLAGS, &flags), ==, 0);
        flags = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
        g_assert_cmpint(ioctl(fd, FS_IOC_SETFLAGS, &flags), ==, 0);
}

/* "chattr +i" while it is attached writable: from then on nothing arrives. A tmpfs has no such flag in older kernels.
 */
static void test_immutable(TestGround *g, gconstpointer userdata)
{
        g_autofree char *medium = test_image_empty("medium.img", 64 * MIB, TEST_ROOT);
        g_autofree char *folder = test_folder("medium");
        g_autoptr(TestSnapshot) before = NULL;
        TestLatency usual = test_latency(g->bob, "before");

        (void)userdata;
        test_run("mke2fs", "-q", "-t", "ext4", medium, NULL);
        test_run("mount", "-o", "loop", medium, folder, NULL);
        g_autofree char *file = make_sparse_image(folder);
        before = test_snapshot_take(0);
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);
        set_immutable(file, true);
        g_assert_cmpint(write_much("/run/media/ann/SPARSE/much", false), ==, 0);
        test_latency_assert(g->bob, &usual, "while an immutable file is attached writable");
        g_autoptr(TestCall) call = test_simple_call(g->ann, image, IMAGE, "Detach");
        test_assert_failed(call, "Failed", "*not all that was written*");
        test_snapshot_wait(before, 0);

        /* For reading it is as good as before. */
        g_autofree char *readable = test_attach_path(g->ann, file, NULL, NULL);
        test_detach(g->ann, readable);
        set_immutable(file, false);
        test_wait_quiet(is_unmounted, folder, "the medium to be free");
        test_snapshot_wait(g->before, 0);
        g_assert_cmpint(rmdir(folder), ==, 0);
        unlink(medium);
}

/* The medium is pulled out: all that is asked of the file is an error. */
static void test_medium_goes(TestGround *g, gconstpointer userdata)
{
        bool writable = GPOINTER_TO_INT(userdata);
        g_autofree char *folder = test_folder("files");
        g_autofree char *file = make_sparse_image(folder);
        TestFuseFile *fuse = test_fuse_file_start("fuse", file, TEST_ANN, true);
        g_autofree char *image =
                test_attach_path(g->ann, test_fuse_file_path(fuse), writable ? "{'read-only': <false>}" : NULL, NULL);
        TestLatency usual = test_latency(g->bob, "before");

        if (writable)
                g_assert_cmpint(write_much("/run/media/ann/SPARSE/much", false), ==, 0);
        test_fuse_file_kill(fuse);
        test_latency_assert(g->bob, &usual, "while the medium is gone");
        if (writable)
                assert_lost(g, image);
        else
                test_detach(g->ann, image);
        test_snapshot_wait(g->before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
        g_assert_cmpint(rmdir(folder), ==, 0);
}

static void test_medium_of_writer(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_medium_goes(g, GINT_TO_POINTER(true));
}

static void test_medium_of_reader(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_medium_goes(g, GINT_TO_POINTER(false));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/lying/garbage", NULL, test_garbage);
        TEST_ADD("/lying/other-type", NULL, test_other_type);
        TEST_ADD("/lying/shrinks", NULL, test_shrinks);
        TEST_ADD("/lying/grows", NULL, test_grows);
        TEST_ADD("/lying/journal/elsewhere", NULL, test_journal_elsewhere);
        TEST_ADD("/lying/journal/flipped", NULL, test_journal_flipped);
        TEST_ADD("/lying/not-for-root", NULL, test_not_for_root);
        TEST_ADD("/lying/truncated", NULL, test_truncated);
        TEST_ADD("/lying/punched", NULL, test_punched);
        TEST_ADD("/lying/replaced", NULL, test_replaced);
        TEST_ADD("/lying/full-disk", NULL, test_full_disk);
        TEST_ADD("/lying/immutable", NULL, test_immutable);
        TEST_ADD("/lying/medium/writer", NULL, test_medium_of_writer);
        TEST_ADD("/lying/medium/reader", NULL, test_medium_of_reader);
        return g_test_run();
}
