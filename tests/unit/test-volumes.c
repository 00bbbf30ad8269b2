/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a probe's bytes to names, harmless text and the reasons for not mounting: what a person sees of an image. */
#include <glib.h>

#include "story/volumes.h"

#define MIB (UINT64_C(1024) * 1024)

static Config *config; /* as if there were no file */

/* ---- Names ---- */

static void assert_name(const ProbeVolume *probed, const char *file_name, const char *wanted)
{
        _cleanup_(volume_freep) Volume *volume = NULL;

        g_assert_cmpint(volume_from_probe(probed, file_name, &volume), ==, 0);
        g_assert_cmpstr(volume->name, ==, wanted);
}

static void test_names(void)
{
        ProbeVolume probed = { .number = 2, .uuid = "12-34", .label = "Label", .partition_name = "Partition" };

        assert_name(&probed, "disk.img", "Label");
        *probed.label = 0;
        assert_name(&probed, "disk.img", "Partition");
        *probed.partition_name = 0;
        assert_name(&probed, "disk.img", "disk.img 2");
        probed.number = 0;
        assert_name(&probed, "disk.img", "disk.img");
        assert_name(&probed, "", "12-34");
        *probed.uuid = 0;
        assert_name(&probed, "", "image");
        /* The number alone says something. */
        probed.number = 3;
        assert_name(&probed, "", "3");
}

/* What cannot be a name is passed over, not only what is missing. */
static void test_names_hostile(void)
{
        ProbeVolume probed = { .label = "..", .partition_name = " \n ", .uuid = "../.." };
        ProbeVolume slashes = { .label = "../../etc/passwd\n\xff" };
        ProbeVolume hyphen = { .label = "-rf" };

        assert_name(&probed, "a\xff.img", "a_.img");
        assert_name(&probed, "/", "_..");
        assert_name(&slashes, "disk.img", "_.._etc_passwd__");
        assert_name(&hyphen, "disk.img", "_rf");
}

/* ---- Text ---- */

static void test_escaping(void)
{
        static const ProbeVolume probed = {
                .number = 1,
                .offset = 512,
                .size = 1024,
                .usage = "u\n",
                .type = "t\xff",
                .version = "v\\",
                .label = "\x1b[31m \xe2\x80\xae\xe2\x80\xac",
                .uuid = "\x80",
                .partition_type = "p\r",
                .partition_name = "\xc3\xa4\x7f",
                .partition_uuid = "\t",
        };
        _cleanup_(volume_freep) Volume *volume = NULL;

        g_assert_cmpint(volume_from_probe(&probed, "x", &volume), ==, 0);
        g_assert_cmpuint(volume->number, ==, 1);
        g_assert_cmpuint(volume->offset, ==, 512);
        g_assert_cmpuint(volume->size, ==, 1024);
        g_assert_cmpstr(volume->usage, ==, "u\\x0a");
        g_assert_cmpstr(volume->type, ==, "t\\xff");
        g_assert_cmpstr(volume->version, ==, "v\\x5c");
        g_assert_cmpstr(volume->label, ==, "\\x1b[31m \\xe2\\x80\\xae\\xe2\\x80\\xac");
        g_assert_cmpstr(volume->uuid, ==, "\\x80");
        g_assert_cmpstr(volume->partition_type, ==, "p\\x0d");
        g_assert_cmpstr(volume->partition_name, ==, "\xc3\xa4\\x7f");
        g_assert_cmpstr(volume->partition_uuid, ==, "\\x09");
        g_assert_cmpstr(volume->obstacle, ==, "");
        g_assert_null(volume->mount_point);
}

/* ---- Images ---- */

static Image *new_image(const ProbeVolume *probed, uint32_t n_volumes, const char *file_name)
{
        ProbeSummary summary = { .size = 8 * MIB, .sector_size = 4096, .table = "gpt", .n_volumes = n_volumes };
        Image *image = image_new();

        g_assert_cmpint(image_from_probe(image, &summary, probed, file_name), ==, 0);
        g_assert_cmpint(image_find_obstacles(image, config), ==, 0);
        return image;
}

static void test_image(void)
{
        static const ProbeVolume probed[] = {
                { .number = 7, .offset = MIB, .size = MIB, .usage = "filesystem", .type = "ext4", .label = "seven" },
                { .number = 2, .offset = 2 * MIB, .size = MIB, .usage = "filesystem", .type = "vfat" },
        };
        _cleanup_(image_freep) Image *image = new_image(probed, 2, "a\nb");

        g_assert_cmpuint(image->n_volumes, ==, 2);
        g_assert_cmpuint(image->volumes[0]->number, ==, 2);
        g_assert_true(image->volumes[0]->image == image);
        g_assert_cmpuint(image->size, ==, 8 * MIB);
        g_assert_cmpuint(image->sector_size, ==, 4096);
        g_assert_cmpstr(image->table, ==, "gpt");
        /* The label of one partition is not the image's name. */
        g_assert_cmpstr(image->name, ==, "a\\x0ab");
}

static bool writes_small_blocks(const ProbeVolume probed[static 2])
{
        _cleanup_(image_freep) Image *image = new_image(probed, 2, "disk.img");

        return image_writes_small_blocks(image);
}

/* The largest file system counts, and only if its block is known to be one. */
static void test_small_blocks(void)
{
        ProbeVolume probed[] = {
                { .number = 1, .offset = MIB, .size = MIB, .usage = "filesystem", .type = "vfat", .block_size = 512 },
                { .number = 2, .offset = 2 * MIB, .size = 2 * MIB, .usage = "filesystem", .block_size = 1024 },
        };

        strcpy(probed[1].type, "ext4");
        g_assert_true(writes_small_blocks(probed));
        probed[1].block_size = 4096;
        g_assert_false(writes_small_blocks(probed));
        probed[1].block_size = 0;
        g_assert_false(writes_small_blocks(probed));
        probed[1].block_size = 1024;
        probed[0].size = 3 * MIB;
        g_assert_false(writes_small_blocks(probed));
        probed[0].size = MIB;
        strcpy(probed[1].type, "xfs");
        g_assert_false(writes_small_blocks(probed));
        strcpy(probed[1].type, "ext2");
        strcpy(probed[1].usage, "crypto");
        g_assert_false(writes_small_blocks(probed));
}

static void test_image_name(void)
{
        ProbeVolume whole = { .size = 8 * MIB, .usage = "filesystem", .type = "iso9660", .label = "DEBIAN\t12" };
        _cleanup_(image_freep) Image *labelled = new_image(&whole, 1, "file.iso"), *image = image_new();
        ProbeSummary summary = { .size = 8 * MIB, .sector_size = 512, .n_volumes = 1 };

        g_assert_cmpstr(labelled->name, ==, "DEBIAN\\x0912");

        /* In place of the name that it had before it was looked at. */
        *whole.label = 0;
        image->name = strdup("before");
        g_assert_cmpint(image_from_probe(image, &summary, &whole, "file.iso"), ==, 0);
        g_assert_cmpstr(image->name, ==, "file.iso");
        g_assert_cmpstr(image->table, ==, "");
}

/* ---- Obstacles ---- */

static void assert_obstacle(const ProbeVolume *probed, const char *wanted)
{
        _cleanup_(image_freep) Image *image = new_image(probed, 1, "x");

        g_assert_cmpstr(image->volumes[0]->obstacle, ==, wanted);
}

static void test_obstacles(void)
{
        static const struct {
                ProbeVolume probed;
                const char *obstacle;
        } cases[] = {
                { { .usage = "filesystem", .type = "ext4" }, "" },
                { { .usage = "filesystem", .type = "iso9660" }, "" },
                { { .usage = "crypto", .type = "crypto_LUKS" }, "it is encrypted (crypto_LUKS)" },
                { { .usage = "raid", .type = "LVM2_member" },
                  "it is a part of a volume group or an array (LVM2_member)" },
                { { .usage = "other", .type = "swap" }, "it holds no files (swap)" },
                { { .usage = "", .type = "" }, "nothing was recognised in it" },
                { { .number = 1 }, "nothing was recognised in the partition" },
                { { .usage = "nonsense", .type = "ext4" }, "nothing was recognised in it" },
                { { .usage = "filesystem", .type = "ext4", .ambivalent = true },
                  "it has the signatures of several file systems; name the right one as its type" },
                { { .usage = "filesystem", .type = "ext4", .incomplete = true },
                  "its journal is on another device; attach it read-only, as the type ext4" },
                { { .usage = "filesystem", .type = "minix" }, "its file system, minix, is not supported" },
                { { .usage = "filesystem", .type = "a\nb" }, "its file system, a\\x0ab, is not supported" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                ProbeVolume probed = cases[i].probed;

                probed.size = 8 * MIB;
                assert_obstacle(&probed, cases[i].obstacle);
        }
}

static void test_obstacle_beyond_end(void)
{
        ProbeVolume probed = { .number = 1, .offset = MIB, .size = 7 * MIB, .usage = "filesystem", .type = "ext4" };
        static const char truncated[] = "it reaches beyond the end of the image, which may be truncated";

        assert_obstacle(&probed, "");
        probed.size++;
        assert_obstacle(&probed, truncated);
        probed.size = 1;
        probed.offset = 8 * MIB;
        assert_obstacle(&probed, truncated);
        probed.offset = UINT64_MAX;
        assert_obstacle(&probed, truncated);
        probed.offset = MIB;
        probed.size = UINT64_MAX;
        assert_obstacle(&probed, truncated);
}

/* A file system on the whole image is mounted, and the partitions, which share its bytes, are not. */
static void test_hybrid(void)
{
        ProbeVolume probed[] = {
                { .size = 8 * MIB, .usage = "filesystem", .type = "iso9660" },
                { .number = 1, .offset = MIB, .size = MIB, .usage = "filesystem", .type = "vfat" },
        };
        _cleanup_(image_freep) Image *image = new_image(probed, 2, "x"), *encrypted = NULL;

        g_assert_cmpstr(image->volumes[0]->obstacle, ==, "");
        g_assert_cmpstr(image->volumes[1]->obstacle, ==, "its bytes belong to the file system on the whole image");

        strcpy(probed[0].usage, "crypto");
        encrypted = new_image(probed, 2, "x");
        g_assert_cmpstr(encrypted->volumes[1]->obstacle, ==, "");
}

static void test_not_permitted(void)
{
        ProbeVolume probed = { .size = MIB, .usage = "filesystem", .type = "ext4" };
        _cleanup_(image_freep) Image *image = new_image(&probed, 1, "x");
        Config strict = { .filesystems = (char *[]){ (char *)"vfat", NULL } };

        g_assert_cmpint(image_find_obstacles(image, &strict), ==, 0);
        g_assert_cmpstr(image->volumes[0]->obstacle, ==, "the administrator does not permit its file system, ext4");
        /* What is found again replaces what was said before. */
        g_assert_cmpint(image_find_obstacles(image, config), ==, 0);
        g_assert_cmpstr(image->volumes[0]->obstacle, ==, "");
}

/* ---- The same? ---- */

static const ProbeVolume sample = {
        .number = 1,
        .offset = 1,
        .size = 1,
        .usage = "a",
        .type = "b",
        .version = "c",
        .label = "d",
        .uuid = "e",
        .partition_type = "f",
        .partition_name = "g",
        .partition_uuid = "h",
};

static bool equals_sample(const ProbeVolume *probed)
{
        _cleanup_(volume_freep) Volume *volume = NULL, *other = NULL;

        g_assert_cmpint(volume_from_probe(&sample, "x", &volume), ==, 0);
        g_assert_cmpint(volume_from_probe(probed, "y", &other), ==, 0);
        g_assert_cmpint(volume_equals(volume, other), ==, volume_equals(other, volume));
        return volume_equals(volume, other);
}

static void test_equals(void)
{
        static const size_t texts[] = {
                offsetof(ProbeVolume, usage),          offsetof(ProbeVolume, type),
                offsetof(ProbeVolume, version),        offsetof(ProbeVolume, label),
                offsetof(ProbeVolume, uuid),           offsetof(ProbeVolume, partition_type),
                offsetof(ProbeVolume, partition_name), offsetof(ProbeVolume, partition_uuid),
        };
        ProbeVolume probed = sample;

        g_assert_true(equals_sample(&probed));
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                probed = sample;
                *((char *)&probed + texts[i]) = 'x';
                g_assert_false(equals_sample(&probed));
        }
        probed = sample;
        probed.number = 2;
        g_assert_false(equals_sample(&probed));
        probed = sample;
        probed.offset = 2;
        g_assert_false(equals_sample(&probed));
        probed = sample;
        probed.size = 2;
        g_assert_false(equals_sample(&probed));
        probed = sample;
        probed.ambivalent = true;
        g_assert_false(equals_sample(&probed));
}

/* Where it is mounted, what its device is and what stands in its way are not what it holds. */
static void test_equals_state(void)
{
        _cleanup_(volume_freep) Volume *volume = NULL, *other = NULL;

        g_assert_cmpint(volume_from_probe(&sample, "x", &volume), ==, 0);
        g_assert_cmpint(volume_from_probe(&sample, "x", &other), ==, 0);
        volume->mount_point = strdup("/run/media/ann/x");
        volume->mount_id = 1;
        volume->devnum = 1;
        free(volume->obstacle);
        volume->obstacle = strdup("something");
        g_assert_true(volume_equals(volume, other));
}

int main(int argc, char *argv[])
{
        static const char *const no_folders[] = { NULL };

        g_test_init(&argc, &argv, NULL);
        g_assert_cmpint(config_load(no_folders, NULL, NULL, &config), ==, 0);
        g_test_add_func("/volumes/names", test_names);
        g_test_add_func("/volumes/names-hostile", test_names_hostile);
        g_test_add_func("/volumes/escaping", test_escaping);
        g_test_add_func("/volumes/image", test_image);
        g_test_add_func("/volumes/image-name", test_image_name);
        g_test_add_func("/volumes/small-blocks", test_small_blocks);
        g_test_add_func("/volumes/obstacles", test_obstacles);
        g_test_add_func("/volumes/obstacle-beyond-end", test_obstacle_beyond_end);
        g_test_add_func("/volumes/hybrid", test_hybrid);
        g_test_add_func("/volumes/not-permitted", test_not_permitted);
        g_test_add_func("/volumes/equals", test_equals);
        g_test_add_func("/volumes/equals-state", test_equals_state);

        int r = g_test_run();
        config_free(config);
        return r;
}
