/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Past the page cache, or not: what is chosen for which file, on file systems that tell what they can do; and that
 * what is read so is cached once.
 */
#include "lib/ground.h"

#include <fcntl.h>
#include <sys/mman.h>

#define MIB (UINT64_C(1) << 20)
#define DATA_SIZE (8 * MIB)

/* ---- a file system for the images, with blocks of 4096 bytes, on a device with these sectors ---- */

typedef struct Medium {
        char *file, *folder, *device;
        TestSnapshot *before;
} Medium;

static Medium *medium_new(const char *type, const char *sector_size, const char *options)
{
        Medium *medium = g_new0(Medium, 1);
        g_autofree char *mkfs = g_strconcat("mkfs.", type, NULL);

        medium->before = test_snapshot_take(0);
        /* mkfs.xfs insists on 300 MiB. */
        medium->file = test_image_empty("medium.img", 320 * MIB, TEST_ROOT);
        medium->folder = test_folder("medium");
        const char *const losetup[] = { "losetup", "--show",    "-f",         "--direct-io=on",
                                        "-b",      sector_size, medium->file, NULL };
        g_assert_cmpint(test_run_as(TEST_ROOT, losetup, &medium->device, NULL), ==, 0);
        g_strstrip(medium->device);
        test_run(mkfs, "-q", streq(type, "ext4") ? "-b4096" : "-bsize=4096", medium->device, NULL);
        test_run("mount", "-o", options, medium->device, medium->folder, NULL);
        return medium;
}

static bool is_unmounted(gpointer medium)
{
        const char *const argv[] = { "umount", ((Medium *)medium)->folder, NULL };

        return test_run_as(TEST_ROOT, argv, NULL, NULL) == 0;
}

static void medium_free(Medium *medium)
{
        test_wait_quiet(is_unmounted, medium, "the medium to be free");
        test_run("losetup", "-d", medium->device, NULL);
        test_snapshot_wait(medium->before, 0);
        test_snapshot_free(medium->before);
        g_assert_cmpint(rmdir(medium->folder), ==, 0);
        unlink(medium->file);
        g_free(medium->file);
        g_free(medium->folder);
        g_free(medium->device);
        g_free(medium);
}

/* Moves an image there; it is ann's. */
static char *take_in(const Medium *medium, char *image)
{
        g_autofree char *path = g_build_filename(medium->folder, "image.img", NULL);

        test_run("cp", "--preserve=ownership", image, path, NULL);
        unlink(image);
        g_free(image);
        return g_steal_pointer(&path);
}

/* ---- what is chosen ---- */

typedef struct Case {
        const char *options; /* of Attach */
        bool direct;
} Case;

static void assert_chosen(TestGround *g, const char *file, const Case *c)
{
        g_autofree char *options = g_strdup_printf("{'mount': <false>, %s}", c->options);
        g_autofree char *image = test_attach_path(g->ann, file, options, NULL);

        g_test_message("%s", c->options);
        g_assert_cmpint(test_property_bool(g->ann, image, IMAGE, "DirectIO"), ==, c->direct);
        test_detach(g->ann, image);
}

static void assert_impossible(TestGround *g, const char *file, const char *options)
{
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);
        g_autoptr(TestCall) call = test_attach(g->ann, fd, options);

        test_assert_failed(call, "Failed", "*Direct I/O is not possible*");
}

#define READ "'read-only': <true>"
#define WRITE "'read-only': <false>"
#define LARGE ", 'sector-size': <uint32 4096>"

/* Of a file whose size is no multiple of anything. */
static void test_choice(TestGround *g, const char *type)
{
        static const Case cases[] = {
                { READ, true },
                { READ ", 'direct-io': <'no'>", false },
                { READ ", 'offset': <uint64 512>", true },
                { READ ", 'offset': <uint64 4096>, 'size': <uint64 70000>" LARGE, true },
                { WRITE, true },
                { WRITE LARGE, true },
                { WRITE ", 'direct-io': <'yes'>", true },
                { WRITE LARGE ", 'direct-io': <'no'>", false },
        };
        Medium *medium = medium_new(type, "512", "rw");
        g_autofree char *file = take_in(medium, test_image_empty("odd.img", 100001, TEST_ANN));

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                assert_chosen(g, file, &cases[i]);
        unlink(file);
        medium_free(medium);
}

/* A disk with sectors of 4096 bytes is not read in smaller pieces. */
static void test_large_sectors(TestGround *g, const char *type)
{
        static const Case cases[] = {
                { READ, false },
                { READ ", 'sector-size': <uint32 2048>", false },
                { READ LARGE, true },
                { WRITE LARGE, true },
        };
        Medium *medium = medium_new(type, "4096", "rw");
        g_autofree char *file = take_in(medium, test_image_empty("odd.img", 100001, TEST_ANN));

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                assert_chosen(g, file, &cases[i]);
        assert_impossible(g, file, "{'mount': <false>, 'direct-io': <'yes'>}");
        unlink(file);
        medium_free(medium);
}

/* Where data goes through a journal nothing is direct, whatever a device would be told. */
static void test_impossible(TestGround *g, gconstpointer userdata)
{
        Medium *medium = medium_new("ext4", "512", "data=journal");
        g_autofree char *file = take_in(medium, test_image_empty("odd.img", 100001, TEST_ANN));

        (void)userdata;
        assert_chosen(g, file, &(Case){ READ, false });
        assert_impossible(g, file, "{'mount': <false>, 'direct-io': <'yes'>}");
        unlink(file);
        medium_free(medium);
}

/* What is smaller than a block below would be written past the page cache one by one; nobody writes to what is read. */
static void test_small_blocks(TestGround *g, gconstpointer userdata)
{
        static const Case small[] = { { READ, true }, { WRITE, false }, { WRITE ", 'direct-io': <'yes'>", true } };
        static const Case large[] = { { READ, true }, { WRITE, true } };
        Medium *medium = medium_new("ext4", "512", "rw");
        g_autofree char *file = take_in(medium, test_image_empty("blocks.img", 4 * MIB, TEST_ANN));

        (void)userdata;
        test_run("mke2fs", "-q", "-t", "ext4", "-b", "1024", file, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(small); i++)
                assert_chosen(g, file, &small[i]);
        test_run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", file, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(large); i++)
                assert_chosen(g, file, &large[i]);
        unlink(file);
        medium_free(medium);
}

/* ---- the page cache ---- */

static char *make_data_image(void)
{
        g_autofree char *folder = test_folder("data");
        g_autofree char *path = g_build_filename(folder, "data", NULL);
        g_autofree char *data = g_malloc(DATA_SIZE);
        char *image = test_image_empty("data.img", 2 * DATA_SIZE, TEST_ANN);

        memset(data, 'x', DATA_SIZE);
        g_assert_true(g_file_set_contents(path, data, DATA_SIZE, NULL));
        test_run("mke2fs", "-q", "-t", "ext4", "-d", folder, image, NULL);
        unlink(path);
        rmdir(folder);
        return image;
}

static void drop_from_cache(const char *file)
{
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        g_assert_cmpint(fsync(fd), ==, 0);
        g_assert_cmpint(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), ==, 0);
}

/* How much of it is in the page cache. */
static guint64 cached(const char *file)
{
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDWR);
        guint64 page = (guint64)sysconf(_SC_PAGESIZE), n_pages = 2 * DATA_SIZE / page, n = 0;
        g_autofree unsigned char *pages = g_malloc(n_pages);
        void *map = mmap(NULL, 2 * DATA_SIZE, PROT_READ, MAP_SHARED, fd, 0);

        g_assert_true(map != MAP_FAILED);
        g_assert_cmpint(mincore(map, 2 * DATA_SIZE, pages), ==, 0);
        munmap(map, 2 * DATA_SIZE);
        for (guint64 i = 0; i < n_pages; i++)
                n += pages[i] & 1;
        return n * page;
}

static guint64 read_through(TestGround *g, const char *file, const char *options)
{
        g_auto(GStrv) mount_points = NULL;
        drop_from_cache(file);
        g_autofree char *image = test_attach_path(g->ann, file, options, &mount_points);
        g_autofree char *path = g_build_filename(mount_points[0], "data", NULL);
        g_autofree char *data = NULL;
        gsize size;
        guint64 in_cache;

        g_assert_true(g_file_get_contents(path, &data, &size, NULL));
        g_assert_cmpuint(size, ==, DATA_SIZE);
        in_cache = cached(file);
        test_detach(g->ann, image);
        return in_cache;
}

/* What was read is cached once: for the file in the image, and not for the image a second time. */
static void test_page_cache(TestGround *g, gconstpointer userdata)
{
        Medium *medium = medium_new("ext4", "512", "rw");
        g_autofree char *file = take_in(medium, make_data_image());

        (void)userdata;
        g_assert_cmpuint(read_through(g, file, "{'direct-io': <'no'>}"), >=, DATA_SIZE);
        g_assert_cmpuint(read_through(g, file, NULL), <, DATA_SIZE / 4);
        unlink(file);
        medium_free(medium);
}

/* TEST_ADD() has its one argument taken by the configuration. */
static void test_choice_ext4(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_choice(g, "ext4");
}

static void test_choice_xfs(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_choice(g, "xfs");
}

static void test_large_sectors_ext4(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_large_sectors(g, "ext4");
}

static void test_large_sectors_xfs(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        test_large_sectors(g, "xfs");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/direct-io/choice/ext4", NULL, test_choice_ext4);
        TEST_ADD("/direct-io/choice/xfs", NULL, test_choice_xfs);
        TEST_ADD("/direct-io/large-sectors/ext4", NULL, test_large_sectors_ext4);
        TEST_ADD("/direct-io/large-sectors/xfs", NULL, test_large_sectors_xfs);
        TEST_ADD("/direct-io/small-blocks", NULL, test_small_blocks);
        TEST_ADD("/direct-io/impossible", NULL, test_impossible);
        TEST_ADD("/direct-io/page-cache", NULL, test_page_cache);
        return g_test_run();
}
