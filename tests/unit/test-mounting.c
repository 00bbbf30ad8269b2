/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which volumes are to be mounted, as what, with which options and under which
 * name, and what is said if none can be; then what becomes of a child's answer.
 * A plan is opaque, so the file under test is included: nothing is mounted here.
 */
#include <glib.h>
#include <sys/mount.h>

#include "base/text.h"
#include "story/mounting.c" /* NOLINT(bugprone-suspicious-include) */
#include "story/volumes.h"

#define MIB (UINT64_C(1024) * 1024)

static Config *config;
static Service service;

/* A story that stands at its plan, and an image. */
typedef struct Fixture {
        Story story;
        Image *image;
        MountWish wish;
        Mounting *mounting;
} Fixture;

/* @volumes: "NUMBER USAGE TYPE LABEL", NULL-terminated; "-" stands for nothing. */
static void set_up(Fixture *fixture, const char *const *volumes)
{
        static const StoryStep step = { STAGE_PLAN, NULL };
        ProbeSummary summary = { .size = 64 * MIB, .sector_size = 512, .table = "gpt" };
        ProbeVolume probed[8] = { 0 };

        *fixture = (Fixture){ .story = { .service = &service, .step = &step, .owner = 1000 }, .image = image_new() };
        for (; volumes[summary.n_volumes]; summary.n_volumes++) {
                g_auto(GStrv) words = g_strsplit(volumes[summary.n_volumes], " ", 4);
                ProbeVolume *volume = &probed[summary.n_volumes];

                volume->number = (uint32_t)atoi(words[0]);
                volume->offset = volume->number * MIB;
                volume->size = volume->number == 0 ? summary.size : MIB;
                volume->ambivalent = streq(words[1], "ambivalent");
                volume->incomplete = streq(words[1], "incomplete");
                strcpy(volume->usage, volume->ambivalent || streq(words[1], "-") ? "" : words[1]);
                strcpy(volume->type, streq(words[2], "-") ? "" : words[2]);
                strcpy(volume->label, streq(words[3], "-") ? "" : words[3]);
        }
        g_assert_cmpint(image_from_probe(fixture->image, &summary, probed, "disk.img"), ==, 0);
        g_assert_cmpint(image_find_obstacles(fixture->image, config), ==, 0);
        fixture->image->read_only = true;
        fixture->image->owner = 1000;
        fixture->image->owner_gid = 100;
}

static void tear_down(Fixture *fixture)
{
        mounting_free(fixture->mounting);
        mount_wish_done(&fixture->wish);
        failure_done(&fixture->story.failure);
        image_free(fixture->image);
}
#define _cleanup_fixture_ _cleanup_(tear_down)

static int plan(Fixture *fixture, const uint32_t *numbers, size_t n_numbers)
{
        return mounting_plan(&fixture->story, fixture->image, &fixture->wish, numbers, n_numbers, &fixture->mounting);
}

/* "1 ext4 Label; 2 vfat Other" */
static void assert_items(const Fixture *fixture, const char *wanted)
{
        g_autoptr(GString) text = g_string_new(NULL);

        for (size_t i = 0; i < fixture->mounting->n_items; i++) {
                const MountItem *item = &fixture->mounting->items[i];

                g_string_append_printf(text, "%s%u %s %s", i > 0 ? "; " : "", item->volume->number,
                                       filesystem_name(item->type), item->name);
        }
        g_assert_cmpstr(text->str, ==, wanted);
}

static void assert_options(const Fixture *fixture, size_t i, const char *wanted)
{
        const FilesystemOptions *options = &fixture->mounting->items[i].options;
        g_autoptr(GString) text = g_string_new(options->read_only ? "ro" : "rw");

        for (size_t j = 0; j < options->n_items; j++)
                g_string_append_printf(text, ",%s%s%s", options->items[j].key, options->items[j].value ? "=" : "",
                                       strempty(options->items[j].value));
        g_assert_cmpstr(text->str, ==, wanted);
}

static void assert_plan_fails(Fixture *fixture, const uint32_t *numbers, size_t n_numbers, int error, const char *words)
{
        g_assert_cmpint(plan(fixture, numbers, n_numbers), ==, error);
        g_assert_null(fixture->mounting);
        g_assert_cmpint(fixture->story.failure.stage, ==, STAGE_PLAN);
        g_assert_cmpint(fixture->story.failure.error, ==, error);
        g_assert_cmpstr(fixture->story.failure.detail, ==, words);
        failure_done(&fixture->story.failure);
}

#define VOLUMES(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define NUMBERS(...) ((const uint32_t[]){ __VA_ARGS__ }), ELEMENTSOF(((const uint32_t[]){ __VA_ARGS__ }))

/* ---- All that can be ---- */

static void test_all(void)
{
        _cleanup_fixture_ Fixture fixture;

        set_up(&fixture, VOLUMES("1 filesystem vfat EFI", "2 crypto crypto_LUKS -", "3 filesystem ext4 -", "4 - - -",
                                 "5 filesystem minix old"));
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, 0);
        assert_items(&fixture, "1 vfat EFI; 3 ext4 disk.img 3");
        g_assert_false(fixture.mounting->chosen);
        g_assert_cmpint(fixture.mounting->parent_fd, ==, -1);
}

/* Only drivers that the permission includes: what is in the image may have changed since it was asked for. */
static void test_permission(void)
{
        static const struct {
                const char *type, *action;
                uid_t caller;
                int result;
        } cases[] = {
                { "ext4", NULL, 1000, 0 },
                { "xfs", NULL, 1000, -EACCES },
                { "btrfs", NULL, 1000, -EACCES },
                { "f2fs", NULL, 1000, -EACCES },
                { "ntfs", NULL, 1000, -EACCES },
                { "xfs", ACTION_MOUNT_UNHARDENED, 1000, 0 },
                { "xfs", NULL, 0, 0 },
                /* An administrator, for somebody else. */
                { "xfs", NULL, 1001, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_fixture_ Fixture fixture;
                g_autofree char *volume = g_strdup_printf("0 filesystem %s -", cases[i].type);

                set_up(&fixture, VOLUMES(volume));
                fixture.story.caller.uid = cases[i].caller;
                fixture.story.action = cases[i].action;
                g_assert_cmpint(plan(&fixture, NUMBERS(0)), ==, cases[i].result);
        }
}

/* Without its journal it can be read by whoever names its type; nobody can write to it. */
static void test_incomplete(void)
{
        _cleanup_fixture_ Fixture fixture;

        set_up(&fixture, VOLUMES("0 incomplete ext4 -"));
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, -EPROTONOSUPPORT);
        failure_done(&fixture.story.failure);
        fixture.wish.filesystem_type = g_strdup("ext4");
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, 0);
        fixture.mounting = mounting_free(fixture.mounting);
        fixture.image->read_only = false;
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, -EPROTONOSUPPORT);
        g_assert_nonnull(strstr(fixture.story.failure.detail, "its journal is on another device"));
}

static void test_hybrid(void)
{
        _cleanup_fixture_ Fixture fixture;

        set_up(&fixture, VOLUMES("0 filesystem iso9660 DEBIAN", "1 filesystem vfat EFI"));
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, 0);
        assert_items(&fixture, "0 iso9660 DEBIAN");
        fixture.mounting = mounting_free(fixture.mounting);

        /* Whoever asks for the part by its number gets it. */
        g_assert_cmpint(plan(&fixture, NUMBERS(1)), ==, 0);
        assert_items(&fixture, "1 vfat EFI");
}

static void test_none(void)
{
        static const struct {
                const char *volumes[4];
                int error;
                const char *words;
        } cases[] = {
                { { "0 - - -" }, -ENODATA, "nothing was recognised in it" },
                { { "0 ambivalent - -" },
                  -ENODATA,
                  "it has the signatures of several file systems; name the right one as its type" },
                { { "1 - - -", "2 - - -" },
                  -ENODATA,
                  "volume 1: nothing was recognised in the partition; volume 2: nothing was recognised in the "
                  "partition" },
                { { NULL }, -ENODATA, "its partition table (gpt) has no partitions" },
                { { "0 filesystem minix -" }, -EPROTONOSUPPORT, "its file system, minix, is not supported" },
                { { "1 crypto crypto_LUKS -", "2 other swap -", "3 - - -" },
                  -EPROTONOSUPPORT,
                  "volume 1: it is encrypted (crypto_LUKS); volume 2: it holds no files (swap); volume 3: nothing was "
                  "recognised in the partition" },
                { { "0 filesystem minix -", "7 filesystem ext4 -" },
                  -EPROTONOSUPPORT,
                  "its file system, minix, is not supported; volume 7: its bytes belong to the file system on the "
                  "whole image" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_fixture_ Fixture fixture;

                set_up(&fixture, cases[i].volumes);
                assert_plan_fails(&fixture, NULL, 0, cases[i].error, cases[i].words);
        }
}

/* ---- Chosen ones ---- */

static void test_chosen(void)
{
        _cleanup_fixture_ Fixture fixture;

        set_up(&fixture, VOLUMES("1 filesystem vfat EFI", "2 crypto crypto_LUKS -", "3 filesystem ext4 root"));
        g_assert_cmpint(plan(&fixture, NUMBERS(3, 1)), ==, 0);
        assert_items(&fixture, "3 ext4 root; 1 vfat EFI");
        g_assert_true(fixture.mounting->chosen);
        fixture.mounting = mounting_free(fixture.mounting);

        assert_plan_fails(&fixture, NUMBERS(9), -ENOENT, "there is no volume 9 in it");
        assert_plan_fails(&fixture, NUMBERS(0), -ENOENT, "there is no volume 0 in it");
        assert_plan_fails(&fixture, NUMBERS(1, UINT32_MAX), -ENOENT, "there is no volume 4294967295 in it");
        assert_plan_fails(&fixture, NUMBERS(1, 3, 1), -ENOENT, "volume 1 is named twice");
        assert_plan_fails(&fixture, NUMBERS(1, 2), -EPROTONOSUPPORT,
                          "volume 2 cannot be mounted: it is encrypted (crypto_LUKS)");
}

static void test_chosen_unsupported(void)
{
        _cleanup_fixture_ Fixture fixture;
        Config strict = *config;

        set_up(&fixture, VOLUMES("1 filesystem minix old", "2 filesystem ext4 root", "3 - - -"));
        assert_plan_fails(&fixture, NUMBERS(1), -EPROTONOSUPPORT,
                          "file systems of the type \"minix\" are not supported here");
        assert_plan_fails(&fixture, NUMBERS(3), -ENODATA,
                          "volume 3 cannot be mounted: nothing was recognised in the partition");
        strict.filesystems = (char *[]){ (char *)"vfat", NULL };
        service.config = &strict;
        assert_plan_fails(&fixture, NUMBERS(2), -EPROTONOSUPPORT,
                          "file systems of the type \"ext4\" are not permitted here");
        service.config = config;
}

static void test_mounted(void)
{
        _cleanup_fixture_ Fixture fixture;

        set_up(&fixture, VOLUMES("1 filesystem vfat EFI", "2 filesystem ext4 root"));
        fixture.image->volumes[0]->mount_point = strdup("/run/media/ann/EFI");
        fixture.image->volumes[0]->mount_id = 5;
        assert_plan_fails(&fixture, NUMBERS(2, 1), -EALREADY, "it is mounted at /run/media/ann/EFI");
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, 0);
        assert_items(&fixture, "2 ext4 root");
}

/* ---- Wishes ---- */

static void test_type_wish(void)
{
        static const char *const volumes[] = { "0 - - -", "0 ambivalent - -", "0 filesystem minix -",
                                               "0 crypto crypto_LUKS -" };

        for (size_t i = 0; i < ELEMENTSOF(volumes); i++) {
                _cleanup_fixture_ Fixture fixture;

                set_up(&fixture, VOLUMES(volumes[i]));
                fixture.wish.filesystem_type = strdup("udf");
                g_assert_cmpint(plan(&fixture, NULL, 0), ==, 0);
                assert_items(&fixture, "0 udf disk.img");
                fixture.mounting = mounting_free(fixture.mounting);
                g_assert_cmpint(plan(&fixture, NUMBERS(0)), ==, 0);
                assert_items(&fixture, "0 udf disk.img");
        }
}

static void test_type_wish_partitions(void)
{
        _cleanup_fixture_ Fixture fixture, unknown;

        set_up(&fixture, VOLUMES("1 filesystem ext3 one", "2 - - -", "3 filesystem ext4 three"));
        fixture.wish.filesystem_type = strdup("ext2");
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, 0);
        assert_items(&fixture, "1 ext2 one; 3 ext2 three");
        fixture.mounting = mounting_free(fixture.mounting);
        g_assert_cmpint(plan(&fixture, NUMBERS(2)), ==, 0);
        assert_items(&fixture, "2 ext2 disk.img 2");

        /* Which of them it was meant for is not guessed. */
        set_up(&unknown, VOLUMES("1 - - -"));
        unknown.wish.filesystem_type = strdup("ext2");
        assert_plan_fails(&unknown, NULL, 0, -ENODATA, "volume 1: nothing was recognised in the partition");
}

static void test_type_wish_refused(void)
{
        static const char *const types[] = { "auto", "minix", "", "EXT4", "ext4,vfat", "proc", "overlay" };
        Config strict = *config;

        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                _cleanup_fixture_ Fixture fixture;
                g_autofree char *words =
                        g_strdup_printf("file systems of the type \"%s\" are not supported here", types[i]);

                set_up(&fixture, VOLUMES("0 filesystem ext4 -"));
                fixture.wish.filesystem_type = strdup(types[i]);
                assert_plan_fails(&fixture, NULL, 0, -EPROTONOSUPPORT, words);
        }

        _cleanup_fixture_ Fixture fixture;

        set_up(&fixture, VOLUMES("0 filesystem vfat -"));
        fixture.wish.filesystem_type = strdup("ext4");
        strict.filesystems = (char *[]){ (char *)"vfat", NULL };
        service.config = &strict;
        assert_plan_fails(&fixture, NULL, 0, -EPROTONOSUPPORT,
                          "file systems of the type \"ext4\" are not permitted here");
        service.config = config;
}

static void test_name_wish(void)
{
        _cleanup_fixture_ Fixture fixture;

        set_up(&fixture, VOLUMES("1 filesystem vfat EFI", "3 filesystem ext4 root"));
        fixture.wish.name = strdup(".my/disk");
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, 0);
        assert_items(&fixture, "1 vfat my_disk; 3 ext4 my_disk 3");
        free(fixture.wish.name);
        fixture.wish.name = strdup("../..");
        fixture.mounting = mounting_free(fixture.mounting);
        g_assert_cmpint(plan(&fixture, NUMBERS(3)), ==, 0);
        assert_items(&fixture, "3 ext4 _..");
        fixture.mounting = mounting_free(fixture.mounting);
        free(fixture.wish.name);
        fixture.wish.name = strdup("..");
        assert_plan_fails(&fixture, NULL, 0, -EINVAL, "nothing of the wished name can be used for a mount point");
}

/* ---- Options ---- */

static void test_options(void)
{
        _cleanup_fixture_ Fixture fixture;

        set_up(&fixture, VOLUMES("1 filesystem ext4 one", "2 filesystem vfat two"));
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, 0);
        assert_options(&fixture, 0, "ro,errors=remount-ro,noload");
        assert_options(&fixture, 1,
                       "ro,uid=1000,gid=100,umask=0022,shortname=mixed,utf8=1,showexec,flush,"
                       "errors=remount-ro");
        fixture.mounting = mounting_free(fixture.mounting);

        fixture.image->read_only = false;
        fixture.wish.options = strdup("discard");
        g_assert_cmpint(plan(&fixture, NUMBERS(1)), ==, 0);
        assert_options(&fixture, 0, "rw,errors=remount-ro,discard");
}

static void test_options_refused(void)
{
        static const struct {
                const char *options, *words;
        } cases[] = {
                { "suid", "the option \"suid\" is not permitted for ext4" },
                { "noatime,dev", "the option \"dev\" is not permitted for ext4" },
                { "uid=0", "the option \"uid=0\" is not permitted for ext4" },
                { "commit=x", "the option \"commit=x\" is not one for ext4, or its value is wrong" },
        };
        _cleanup_fixture_ Fixture fixture;

        set_up(&fixture, VOLUMES("0 filesystem ext4 -"));
        fixture.image->read_only = false;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                free(fixture.wish.options);
                fixture.wish.options = strdup(cases[i].options);
                assert_plan_fails(&fixture, NULL, 0, -EPERM, cases[i].words);
                assert_plan_fails(&fixture, NUMBERS(0), -EPERM, cases[i].words);
        }
        fixture.image->read_only = true;
        free(fixture.wish.options);
        fixture.wish.options = strdup("rw");
        assert_plan_fails(&fixture, NUMBERS(0), -EPERM,
                          "the option \"rw\" needs an image that is attached writable (--writable)");
        free(fixture.wish.options);
        fixture.wish.options = g_strnfill(5000, ',');
        assert_plan_fails(&fixture, NULL, 0, -EPERM, "there are too many of them");
}

static void test_options_configured(void)
{
        ConfigFilesystem per_type = { .type = (char *)"vfat", .options = (char *)"umask=0077" };
        _cleanup_fixture_ Fixture fixture;
        Config strict = *config;

        set_up(&fixture, VOLUMES("1 filesystem ext4 one", "2 filesystem vfat two"));
        strict.per_type = &per_type;
        strict.n_per_type = 1;
        strict.allow_exec = false;
        service.config = &strict;
        g_assert_cmpint(plan(&fixture, NULL, 0), ==, 0);
        service.config = config;
        assert_options(&fixture, 0, "ro,errors=remount-ro,noload");
        assert_options(&fixture, 1,
                       "ro,uid=1000,gid=100,shortname=mixed,utf8=1,showexec,flush,errors=remount-ro,umask=0077");
        for (size_t i = 0; i < 2; i++)
                g_assert_cmphex(fixture.mounting->items[i].options.attributes, ==,
                                MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY);
}

/* Who wants to write gets no silent reading; beside what can be written it is no surprise. */
static void test_writable(void)
{
        _cleanup_fixture_ Fixture whole, part;

        set_up(&whole, VOLUMES("0 filesystem iso9660 DEBIAN"));
        whole.image->read_only = false;
        assert_plan_fails(&whole, NULL, 0, -EROFS, "iso9660 can only be read; attach it read-only");
        assert_plan_fails(&whole, NUMBERS(0), -EROFS, "iso9660 can only be read; attach it read-only");

        set_up(&part, VOLUMES("1 filesystem squashfs one", "2 filesystem ext4 two"));
        part.image->read_only = false;
        g_assert_cmpint(plan(&part, NULL, 0), ==, 0);
        assert_items(&part, "1 squashfs one; 2 ext4 two");
        g_assert_true(part.mounting->items[0].options.read_only);
        g_assert_false(part.mounting->items[1].options.read_only);
}

/* ---- The answer ---- */

/* A plan for all volumes, with mount points that are made (as far as the model knows). */
static void set_up_mounting(Fixture *fixture, const char *const *volumes, bool chosen)
{
        set_up(fixture, volumes);
        g_assert_cmpint(plan(fixture, NULL, 0), ==, 0);
        fixture->mounting->chosen = chosen;
        for (size_t i = 0; i < fixture->image->n_volumes; i++)
                fixture->image->volumes[i]->devnum = i + 1;
        for (size_t i = 0; i < fixture->mounting->n_items; i++)
                fixture->mounting->items[i].volume->mount_point =
                        text_printf("/nonexistent/ann/%s", fixture->mounting->items[i].name);
}

static int apply(Fixture *fixture, const MountResult *results, size_t n_results)
{
        JobAnswer answer = { .data = results, .size = n_results * sizeof(*results) };

        return mounting_apply(fixture->mounting, &answer);
}

static void test_apply(void)
{
        const MountResult results[] = { { .mount_id = 5 }, { .mount_id = 6 } };
        _cleanup_fixture_ Fixture fixture;

        set_up_mounting(&fixture, VOLUMES("1 filesystem ext4 one", "2 filesystem vfat two"), false);
        g_assert_cmpint(apply(&fixture, results, 2), ==, 0);
        g_assert_cmpuint(image_count_mounted(fixture.image), ==, 2);
        g_assert_cmpuint(fixture.image->volumes[0]->mount_id, ==, 5);
        g_assert_cmpuint(fixture.image->volumes[1]->mount_id, ==, 6);
        g_assert_true(fixture.image->volumes[1]->mounted_read_only);
        g_assert_cmpstr(fixture.image->volumes[1]->mount_point, ==, "/nonexistent/ann/two");
}

static void test_apply_sizes(void)
{
        const MountResult results[] = { { .mount_id = 5 }, { .mount_id = 6 }, { .mount_id = 7 } };
        JobAnswer uneven = { .data = results, .size = 2 * sizeof(*results) - 1 };
        _cleanup_fixture_ Fixture fixture;

        set_up_mounting(&fixture, VOLUMES("1 filesystem ext4 one", "2 filesystem vfat two"), false);
        g_assert_cmpint(apply(&fixture, results, 0), ==, -EBADMSG);
        g_assert_cmpint(apply(&fixture, results, 1), ==, -EBADMSG);
        g_assert_cmpint(apply(&fixture, results, 3), ==, -EBADMSG);
        g_assert_cmpint(mounting_apply(fixture.mounting, &uneven), ==, -EBADMSG);
        g_assert_cmpuint(image_count_mounted(fixture.image), ==, 0);
}

/* One that works is enough, unless all were asked for by number. */
static void test_apply_some(void)
{
        const MountResult results[] = { { .error = -EINVAL, .message = "bad superblock" }, { .mount_id = 6 } };
        const char *const volumes[] = { "1 filesystem ext4 one", "2 filesystem vfat two", NULL };
        static const char words[] = "mounting it as ext4 failed: the file system is damaged, or it is not one of this "
                                    "type (bad superblock)";
        _cleanup_fixture_ Fixture all, chosen;

        set_up_mounting(&all, volumes, false);
        g_assert_cmpint(apply(&all, results, 2), ==, 0);
        g_assert_cmpstr(all.image->volumes[0]->obstacle, ==, words);
        g_assert_null(all.image->volumes[0]->mount_point);
        g_assert_cmpstr(all.image->volumes[1]->obstacle, ==, "");
        g_assert_cmpuint(image_count_mounted(all.image), ==, 1);

        set_up_mounting(&chosen, volumes, true);
        g_assert_cmpint(apply(&chosen, results, 2), ==, -EINVAL);
        g_assert_true(g_str_has_prefix(chosen.story.failure.detail, "volume 1: mounting it as ext4 failed: "));
}

/* What was not attached because another one failed has not failed itself. */
static void test_apply_held_back(void)
{
        const MountResult results[] = { { 0 }, { .error = -ENODEV } };
        _cleanup_fixture_ Fixture fixture;

        set_up_mounting(&fixture, VOLUMES("1 filesystem ext4 one", "2 filesystem vfat two"), true);
        g_assert_cmpint(apply(&fixture, results, 2), ==, -ENODEV);
        g_assert_cmpstr(fixture.story.failure.detail, ==,
                        "volume 2: mounting it as vfat failed: this kernel has no driver for it");
        g_assert_cmpstr(fixture.image->volumes[0]->obstacle, ==, "");
        g_assert_null(fixture.image->volumes[0]->mount_point);
}

/* Where there is no device the reason for that is better than what mount(2) says. */
static void test_apply_no_device(void)
{
        const MountResult results[] = { { .error = -ESTALE }, { .mount_id = 6 } };
        _cleanup_fixture_ Fixture fixture;

        set_up_mounting(&fixture, VOLUMES("1 filesystem ext4 one", "2 filesystem vfat two"), false);
        fixture.image->volumes[0]->devnum = 0;
        free(fixture.image->volumes[0]->obstacle);
        fixture.image->volumes[0]->obstacle = strdup("its device could not be made: it overlaps another one");
        g_assert_cmpint(apply(&fixture, results, 2), ==, 0);
        g_assert_cmpstr(fixture.image->volumes[0]->obstacle, ==,
                        "its device could not be made: it overlaps another one");
}

static void test_apply_none(void)
{
        const MountResult results[] = { { .error = -EIO }, { .error = -ENODEV } };
        _cleanup_fixture_ Fixture fixture, whole;

        set_up_mounting(&fixture, VOLUMES("1 filesystem ext4 one", "2 filesystem vfat two"), false);
        g_assert_cmpint(apply(&fixture, results, 2), ==, -EIO);
        g_assert_cmpstr(fixture.story.failure.detail, ==,
                        "volume 1: mounting it as ext4 failed: the file system cannot be read; the image may be "
                        "truncated");
        g_assert_cmpstr(fixture.image->volumes[1]->obstacle, ==,
                        "mounting it as vfat failed: this kernel has no driver for it");

        set_up_mounting(&whole, VOLUMES("0 filesystem ext4 one"), false);
        g_assert_cmpint(apply(&whole, results + 1, 1), ==, -ENODEV);
        g_assert_cmpstr(whole.story.failure.detail, ==, "mounting it as ext4 failed: this kernel has no driver for it");
}

static void test_apply_hostile_message(void)
{
        MountResult result = { .error = -ENOTBLK };
        _cleanup_fixture_ Fixture fixture;

        memset(result.message, 'x', sizeof(result.message));
        memcpy(result.message, "a\n\x1b\xff%s", 6);
        set_up_mounting(&fixture, VOLUMES("0 filesystem ext4 one"), false);
        g_assert_cmpint(apply(&fixture, &result, 1), ==, -ENOTBLK);
        g_assert_true(g_str_has_prefix(fixture.image->volumes[0]->obstacle,
                                       "mounting it as ext4 failed: Block device required (a???%sxxx"));
        g_assert_true(g_str_has_suffix(fixture.image->volumes[0]->obstacle, "x)"));
        g_assert_cmpuint(strlen(fixture.image->volumes[0]->obstacle), <, 400);
}

int main(int argc, char *argv[])
{
        static const char *const no_folders[] = { NULL };

        g_test_init(&argc, &argv, NULL);
        g_assert_cmpint(config_load(no_folders, NULL, NULL, &config), ==, 0);
        service = (Service){ .config = config, .users = user_cache_new() };
        g_test_add_func("/mounting/all", test_all);
        g_test_add_func("/mounting/hybrid", test_hybrid);
        g_test_add_func("/mounting/incomplete", test_incomplete);
        g_test_add_func("/mounting/none", test_none);
        g_test_add_func("/mounting/chosen", test_chosen);
        g_test_add_func("/mounting/chosen-unsupported", test_chosen_unsupported);
        g_test_add_func("/mounting/mounted", test_mounted);
        g_test_add_func("/mounting/type-wish", test_type_wish);
        g_test_add_func("/mounting/type-wish-partitions", test_type_wish_partitions);
        g_test_add_func("/mounting/type-wish-refused", test_type_wish_refused);
        g_test_add_func("/mounting/name-wish", test_name_wish);
        g_test_add_func("/mounting/options", test_options);
        g_test_add_func("/mounting/options-refused", test_options_refused);
        g_test_add_func("/mounting/options-configured", test_options_configured);
        g_test_add_func("/mounting/writable", test_writable);
        g_test_add_func("/mounting/apply", test_apply);
        g_test_add_func("/mounting/apply-sizes", test_apply_sizes);
        g_test_add_func("/mounting/apply-some", test_apply_some);
        g_test_add_func("/mounting/apply-held-back", test_apply_held_back);
        g_test_add_func("/mounting/apply-no-device", test_apply_no_device);
        g_test_add_func("/mounting/permission", test_permission);
        g_test_add_func("/mounting/apply-none", test_apply_none);
        g_test_add_func("/mounting/apply-hostile-message", test_apply_hostile_message);

        int r = g_test_run();
        user_cache_free(service.users);
        config_free(config);
        return r;
}
