/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records as text: what is written is read back, member by member, and what
 * makes no sense is refused, whoever wrote it. Reading and writing the files is
 * for the integration tests: they are in RUN_DIR.
 */
#include <glib.h>

#include "base/text.h"
#include "model/record.h"

/* All that a record has to say. */
#define LEAST "ID=9\nDISKSEQ=9\nDEVNUM=1792\n"

static int parse(const char *text, Image **ret)
{
        return record_parse(text, strlen(text), ret);
}

static Image *parse_well(const char *text)
{
        Image *image = NULL;

        g_assert_cmpint(parse(text, &image), ==, 0);
        return image;
}

static void assert_refused(const char *text)
{
        Image *image = NULL;

        g_assert_cmpint(parse(text, &image), ==, -EBADMSG);
        g_assert_null(image);
}

static char *format(const Image *image)
{
        char *text = NULL;
        size_t size = 0;

        g_assert_cmpint(record_format(image, &text, &size), ==, 0);
        g_assert_cmpuint(strlen(text), ==, size);
        return text;
}

/* ---- There and back ---- */

static Volume *add_volume(Image *image, unsigned number)
{
        Volume *volume = volume_new(number);

        g_assert_cmpint(image_add_volume(image, volume), ==, 0);
        return volume;
}

/* No two members have the same value, and the numbers are as large as they can be. */
static void fill_volume(Volume *volume)
{
        volume->devnum = UINT64_MAX - 20 - volume->number;
        volume->offset = UINT64_MAX - 40 - volume->number;
        volume->size = UINT64_MAX - 60 - volume->number;
        volume->usage = text_printf("usage %u", volume->number);
        volume->type = text_printf("type %u", volume->number);
        volume->version = text_printf("version %u", volume->number);
        volume->label = text_printf("label %u", volume->number);
        volume->uuid = text_printf("uuid %u", volume->number);
        volume->partition_type = text_printf("partition type %u", volume->number);
        volume->partition_name = text_printf("partition name %u", volume->number);
        volume->partition_uuid = text_printf("partition uuid %u", volume->number);
        volume->name = text_printf("name %u", volume->number);
        volume->obstacle = text_printf("obstacle %u", volume->number);
        volume->mount_point = text_printf("/run/media/ann/name %u", volume->number);
        volume->mount_id = UINT64_MAX - 80 - volume->number;
        volume->mounted_read_only = true;
}

static Image *new_full_image(void)
{
        Image *image = image_new();

        image->id = image->diskseq = UINT64_MAX;
        image->loop_number = UINT32_MAX - 1;
        image->devnum = UINT64_MAX - 2;
        image->file_device = UINT64_MAX - 3;
        image->file_inode = UINT64_MAX - 4;
        image->file_mount_id = UINT64_MAX - 11;
        image->offset = UINT64_MAX - 5;
        image->size = UINT64_MAX - 6;
        image->sector_size = UINT32_MAX - 7;
        image->owner = UINT32_MAX - 8;
        image->owner_gid = UINT32_MAX - 9;
        image->owner_name = strdup("ann");
        image->name = strdup("name");
        image->backing_file = strdup("/home/ann/a = b [c].img");
        image->table = strdup("gpt");
        image->attached_at_usec = UINT64_MAX - 10;
        fill_volume(add_volume(image, 0));
        fill_volume(add_volume(image, INT32_MAX));
        return image;
}

static void assert_same_volume(const Volume *a, const Volume *b)
{
        g_assert_cmpuint(a->number, ==, b->number);
        g_assert_cmpuint(a->devnum, ==, b->devnum);
        g_assert_cmpuint(a->offset, ==, b->offset);
        g_assert_cmpuint(a->size, ==, b->size);
        g_assert_cmpstr(a->usage, ==, b->usage);
        g_assert_cmpstr(a->type, ==, b->type);
        g_assert_cmpstr(a->version, ==, b->version);
        g_assert_cmpstr(a->label, ==, b->label);
        g_assert_cmpstr(a->uuid, ==, b->uuid);
        g_assert_cmpstr(a->partition_type, ==, b->partition_type);
        g_assert_cmpstr(a->partition_name, ==, b->partition_name);
        g_assert_cmpstr(a->partition_uuid, ==, b->partition_uuid);
        g_assert_cmpstr(a->name, ==, b->name);
        g_assert_cmpstr(a->obstacle, ==, b->obstacle);
        g_assert_cmpstr(a->mount_point, ==, b->mount_point);
        g_assert_cmpuint(a->mount_id, ==, b->mount_id);
        g_assert_cmpint(a->mounted_read_only, ==, b->mounted_read_only);
}

static void assert_same(const Image *a, const Image *b)
{
        g_assert_cmpuint(a->id, ==, b->id);
        g_assert_cmpuint(a->loop_number, ==, b->loop_number);
        g_assert_cmpuint(a->devnum, ==, b->devnum);
        g_assert_cmpuint(a->diskseq, ==, b->diskseq);
        g_assert_cmpuint(a->file_device, ==, b->file_device);
        g_assert_cmpuint(a->file_inode, ==, b->file_inode);
        g_assert_cmpuint(a->file_mount_id, ==, b->file_mount_id);
        g_assert_cmpuint(a->offset, ==, b->offset);
        g_assert_cmpuint(a->size, ==, b->size);
        g_assert_cmpuint(a->sector_size, ==, b->sector_size);
        g_assert_cmpint(a->read_only, ==, b->read_only);
        g_assert_cmpint(a->direct_io, ==, b->direct_io);
        g_assert_cmpint(a->auto_detach, ==, b->auto_detach);
        g_assert_cmpint(a->session_bound, ==, b->session_bound);
        g_assert_cmpint(a->partition_scan, ==, b->partition_scan);
        g_assert_cmpuint(a->owner, ==, b->owner);
        g_assert_cmpuint(a->owner_gid, ==, b->owner_gid);
        g_assert_cmpstr(a->owner_name, ==, b->owner_name);
        g_assert_cmpstr(a->name, ==, b->name);
        g_assert_cmpstr(a->backing_file, ==, b->backing_file);
        g_assert_cmpstr(a->table, ==, b->table);
        g_assert_cmpint(a->state, ==, b->state);
        g_assert_cmpuint(a->attached_at_usec, ==, b->attached_at_usec);
        g_assert_cmpuint(a->n_volumes, ==, b->n_volumes);
        for (size_t i = 0; i < a->n_volumes; i++)
                assert_same_volume(a->volumes[i], b->volumes[i]);
}

static void assert_survives(const Image *image)
{
        _cleanup_free_ char *text = format(image), *again = NULL;
        _cleanup_(image_freep) Image *back = parse_well(text);

        assert_same(image, back);
        g_assert_cmpint(back->fd, ==, -1);
        again = format(back);
        g_assert_cmpstr(text, ==, again);
}

static void test_round_trip(void)
{
        _cleanup_(image_freep) Image *image = new_full_image();

        assert_survives(image);
        for (ImageState state = IMAGE_ATTACHING; state <= IMAGE_STUCK; state++) {
                image->state = state;
                assert_survives(image);
        }
        /* Each switch alone, so that none is taken for another one. */
        for (unsigned i = 0; i < 32; i++) {
                image->read_only = i & 1;
                image->direct_io = i & 2;
                image->auto_detach = i & 4;
                image->session_bound = i & 16;
                image->partition_scan = i & 8;
                assert_survives(image);
        }
}

static void test_round_trip_least(void)
{
        _cleanup_(image_freep) Image *image = image_new();

        image->id = image->diskseq = image->devnum = 1;
        assert_survives(image);
        add_volume(image, 3);
        assert_survives(image);
}

/* A mount that is under way has a mount point and no id: a restarted daemon has to see that. */
static void test_unfinished_mount(void)
{
        _cleanup_(image_freep) Image *image = parse_well(LEAST "VOLUME=1\nMOUNT_POINT=/run/media/ann/x\nMOUNT_ID=0\n");

        g_assert_cmpstr(image->volumes[0]->mount_point, ==, "/run/media/ann/x");
        g_assert_false(volume_is_mounted(image->volumes[0]));
}

/* What the model holds was escaped before, so nothing in it ends a line or begins a key. */
static void test_hostile_text(void)
{
        static const char bytes[] = "x\nID=1\nSTATE=stuck\r\nVOLUME=0\n\\n=\xff\xfe\xe2\x80\xa8 %s \x1b[2J";
        _cleanup_(image_freep) Image *image = new_full_image();

        free(image->name);
        image->name = text_escape(bytes, strlen(bytes));
        free(image->volumes[0]->label);
        image->volumes[0]->label = text_escape(bytes, strlen(bytes));
        free(image->volumes[1]->label);
        image->volumes[1]->label = strdup("VOLUME=7");
        free(image->backing_file);
        image->backing_file = strdup("");
        assert_survives(image);
}

static void test_long_text(void)
{
        _cleanup_(image_freep) Image *image = new_full_image();

        free(image->backing_file);
        image->backing_file = g_strnfill(100000, '=');
        assert_survives(image);
}

/* ---- Refused ---- */

static void test_least(void)
{
        _cleanup_(image_freep) Image *image = parse_well(LEAST);

        g_assert_cmpuint(image->id, ==, 9);
        g_assert_cmpuint(image->n_volumes, ==, 0);
        assert_refused("");
        assert_refused("\n\n");
        assert_refused("DISKSEQ=9\nDEVNUM=1792\n");
        assert_refused("ID=9\nDEVNUM=1792\n");
        assert_refused("ID=9\nDISKSEQ=9\n");
        assert_refused("ID=9\nDISKSEQ=9\nDEVNUM=0\n");
        assert_refused("ID=0\nDISKSEQ=0\nDEVNUM=1792\n");
        assert_refused("ID=9\nDISKSEQ=10\nDEVNUM=1792\n");
}

static void test_lines(void)
{
        assert_refused(LEAST "nonsense\n");
        assert_refused(LEAST "NAME\n");
        assert_refused(LEAST "VOLUME\n");
        assert_refused(LEAST "\xff\xff\n");
        assert_refused(LEAST " \n");
}

static void test_numbers(void)
{
        static const char *const bad[] = {
                "LOOP=4294967296",
                "LOOP=-1",
                "LOOP=",
                "LOOP= 1",
                "LOOP=1 ",
                "LOOP=0x1",
                "LOOP=01",
                "SIZE=18446744073709551616",
                "SIZE=-1",
                "SIZE=1K",
                "READ_ONLY=2",
                "READ_ONLY=yes",
                "READ_ONLY=",
                "OWNER=4294967296",
                "STATE=",
                "STATE=gone",
                "STATE=Attached",
                "STATE=1",
                "VOLUME=2147483648",
                "VOLUME=-1",
                "VOLUME=",
                "VOLUME=1\nMOUNT_ID=x",
                "VOLUME=1\nMOUNTED_READ_ONLY=-0",
                "VOLUME=1\nOFFSET=18446744073709551616",
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                g_autofree char *text = g_strconcat(LEAST, bad[i], "\n", NULL);

                assert_refused(text);
        }
}

static void test_volumes(void)
{
        _cleanup_(image_freep) Image *image =
                parse_well(LEAST "SIZE=1\nVOLUME=5\nSIZE=2\nVOLUME=1\nSIZE=3\nDEVNUM=4\n");

        g_assert_cmpuint(image->size, ==, 1);
        g_assert_cmpuint(image->devnum, ==, 1792);
        g_assert_cmpuint(image->n_volumes, ==, 2);
        g_assert_cmpuint(image->volumes[0]->number, ==, 1);
        g_assert_cmpuint(image->volumes[0]->size, ==, 3);
        g_assert_cmpuint(image->volumes[0]->devnum, ==, 4);
        g_assert_cmpuint(image->volumes[1]->size, ==, 2);

        assert_refused(LEAST "VOLUME=1\nVOLUME=1\n");
        assert_refused(LEAST "VOLUME=1\nVOLUME=2\nVOLUME=1\n");
        /* The image's own keys are no volume's: not found, and so the image has no id. */
        assert_refused("VOLUME=1\n" LEAST);
}

static void test_repeated(void)
{
        _cleanup_(image_freep) Image *image = parse_well(LEAST "NAME=a\nNAME=b\nVOLUME=1\nLABEL=c\nLABEL=d\n");

        g_assert_cmpstr(image->name, ==, "b");
        g_assert_cmpstr(image->volumes[0]->label, ==, "d");
}

static void test_unknown_keys(void)
{
        _cleanup_(image_freep) Image *image =
                parse_well(LEAST "COLOUR=red\n=x\nid=1\nVOLUME=1\nCOLOUR=blue\nSTATE=no state of a volume\n");

        g_assert_cmpuint(image->id, ==, 9);
        g_assert_cmpuint(image->n_volumes, ==, 1);
}

/* Every beginning of a record, each in an allocation of its own: read and refused, or read and sound. */
static void test_truncated(void)
{
        _cleanup_(image_freep) Image *image = new_full_image();
        _cleanup_free_ char *text = format(image);

        for (size_t n = 0; n <= strlen(text); n++) {
                g_autofree char *part = g_memdup2(text, n + 1);
                _cleanup_(image_freep) Image *back = NULL;
                int r = record_parse(part, n, &back);

                g_assert_true(r == 0 || r == -EBADMSG);
                g_assert_true((r == 0) == (back != NULL));
                if (back)
                        g_assert_cmpuint(back->id, ==, back->diskseq);
        }
}

/* Every byte wrong, one at a time. */
static void test_damaged(void)
{
        _cleanup_(image_freep) Image *image = new_full_image();
        _cleanup_free_ char *text = format(image);
        const size_t size = strlen(text);

        for (size_t n = 0; n < size; n++) {
                static const char wrong[] = { '\0', '\n', '=', '\xff', '9' };

                for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                        g_autofree char *copy = g_memdup2(text, size);
                        _cleanup_(image_freep) Image *back = NULL;

                        copy[n] = wrong[i];
                        if (record_parse(copy, size, &back) >= 0)
                                g_assert_cmpuint(back->id, ==, back->diskseq);
                }
        }
}

/* What a later version may write, and what is left of it for this one: the device. */
static void test_device(void)
{
        static const char later[] = "STATE=growing\nID=9\nLOOP=3\nDISKSEQ=9\nDEVNUM=1795\nOWNER={1000}\nVOLUME=1\n"
                                    "LOOP=5\n";
        static const char *const without[] = { "", "nonsense", "LOOP=", "LOOP=x\n", "LOOP=-1\n", "VOLUME=0\nLOOP=5\n" };
        unsigned number = 0;

        assert_refused(later);
        g_assert_cmpint(record_parse_device(later, strlen(later), &number), ==, 0);
        g_assert_cmpuint(number, ==, 3);
        for (size_t i = 0; i < G_N_ELEMENTS(without); i++)
                g_assert_cmpint(record_parse_device(without[i], strlen(without[i]), &number), ==, -EBADMSG);
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/record/round-trip", test_round_trip);
        g_test_add_func("/record/round-trip-least", test_round_trip_least);
        g_test_add_func("/record/unfinished-mount", test_unfinished_mount);
        g_test_add_func("/record/hostile-text", test_hostile_text);
        g_test_add_func("/record/long-text", test_long_text);
        g_test_add_func("/record/least", test_least);
        g_test_add_func("/record/lines", test_lines);
        g_test_add_func("/record/numbers", test_numbers);
        g_test_add_func("/record/volumes", test_volumes);
        g_test_add_func("/record/repeated", test_repeated);
        g_test_add_func("/record/unknown-keys", test_unknown_keys);
        g_test_add_func("/record/truncated", test_truncated);
        g_test_add_func("/record/damaged", test_damaged);
        g_test_add_func("/record/device", test_device);
        return g_test_run();
}
