/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every sample image of tests/images/make-images, against what its manifest says
 * of it: the volumes as they are published, and what can be read of them where
 * the running kernel has the driver.
 */
#include "lib/ground.h"

#include <fcntl.h>

/* One line of the manifest. */
typedef struct Row {
        char *image;
        char *table;
        bool is_volume;
        unsigned number;
        char *usage;
        char *type;
        char *label;
        bool mountable;
        bool content;
        guint64 sector_size;
        guint64 offset;
        guint64 size;
} Row;

/* "-" stands for nothing. */
static char *text_field(const char *field)
{
        return g_strdup(streq(field, "-") ? "" : field);
}

static Row *parse_row(const char *line)
{
        g_auto(GStrv) field = g_strsplit(line, "\t", -1);
        Row *row = g_new0(Row, 1);

        g_assert_cmpuint(g_strv_length(field), >=, 13);
        row->image = g_strdup(field[0]);
        row->table = g_strdup(streq(field[1], "none") ? "" : field[1]);
        row->is_volume = !streq(field[2], "-");
        row->number = (unsigned)g_ascii_strtoull(field[2], NULL, 10);
        row->usage = text_field(field[3]);
        row->type = text_field(field[4]);
        row->label = text_field(field[5]);
        row->mountable = streq(field[6], "yes");
        row->content = streq(field[7], "yes");
        row->sector_size = g_ascii_strtoull(field[8], NULL, 10);
        row->offset = g_ascii_strtoull(field[9], NULL, 10);
        row->size = g_ascii_strtoull(field[10], NULL, 10);
        return row;
}

/* Makes all images and gives the manifest's rows. They are made once, and are not freed. */
static GPtrArray *samples(void)
{
        static GPtrArray *rows;
        g_autofree char *text = NULL;

        if (rows)
                return rows;
        g_autofree char *script =
                g_build_filename(g_getenv("LOOPMOUNT_SOURCE"), "tests", "images", "make-images", NULL);
        g_autofree char *folder = test_path("samples");
        test_run(script, folder, NULL);
        g_autofree char *manifest = g_build_filename(folder, "manifest.tsv", NULL);
        g_assert_true(g_file_get_contents(manifest, &text, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        rows = g_ptr_array_new();
        for (char **line = lines; *line; line++)
                if (**line && **line != '#')
                        g_ptr_array_add(rows, parse_row(*line));
        g_assert_cmpuint(rows->len, >, 50);
        return rows;
}

static int open_sample(const char *name)
{
        g_autofree char *folder = test_path("samples");
        g_autofree char *path = g_build_filename(folder, name, NULL);
        return test_open_as(TEST_ANN, path, O_RDONLY);
}

/* Calls @check for the rows of each image. */
static void for_each_image(TestGround *g, void (*check)(TestGround *g, Row **rows, guint n_rows))
{
        GPtrArray *rows = samples();

        for (guint i = 0, n; i < rows->len; i += n) {
                Row **first = (Row **)&g_ptr_array_index(rows, i);
                for (n = 1; i + n < rows->len && streq(first[n]->image, first[0]->image); n++)
                        ;
                g_test_message("%s", first[0]->image);
                check(g, first, n);
        }
}

/* ---- what is published ---- */

static void assert_string(GDBusConnection *bus, const char *path, const char *interface, const char *name,
                          const char *wanted)
{
        g_autofree char *is = test_property_string(bus, path, interface, name);
        g_assert_cmpstr(is, ==, wanted);
}

/* The manifest writes \x0a as the daemon does, but has only ASCII; the daemon shows UTF-8 as it is. */
static void assert_label(GDBusConnection *bus, const char *path, const char *wanted)
{
        g_autofree char *is = test_property_string(bus, path, VOLUME, "Label");
        g_autoptr(GString) escaped = g_string_new(NULL);

        g_assert_true(g_utf8_validate(is, -1, NULL));
        for (const char *c = is; *c; c++)
                if ((guchar)*c >= 0x80)
                        g_string_append_printf(escaped, "\\x%02x", (guchar)*c);
                else
                        g_string_append_c(escaped, *c);
        g_assert_cmpstr(escaped->str, ==, wanted);
}

static void assert_usage(GDBusConnection *bus, const char *path, const char *wanted)
{
        static const char *const documented[] = { "filesystem", "crypto",     "raid", "other",
                                                  "ambivalent", "incomplete", "",     NULL };
        g_autofree char *is = test_property_string(bus, path, VOLUME, "Usage");

        g_assert_true(g_strv_contains(documented, is));
        g_assert_cmpstr(is, ==, wanted);
}

static void check_volume(TestGround *g, const char *image, const Row *row)
{
        g_autofree char *volume = test_volume_path(image, row->number);

        assert_usage(g->ann, volume, row->usage);
        assert_string(g->ann, volume, VOLUME, "Type", row->type);
        /* libblkid keeps quiet about a label of blanks, and trims those around others. */
        if (!strstr(row->label, "\\x20"))
                assert_label(g->ann, volume, row->label);
        if (row->number > 0) {
                g_assert_cmpuint(test_property_number(g->ann, volume, VOLUME, "Offset"), ==, row->offset);
                g_assert_cmpuint(test_property_number(g->ann, volume, VOLUME, "Size"), ==, row->size);
        }
}

/* Where the image begins in the file, for those that do not begin with it. */
static char *options_for(const Row *row, const char *more)
{
        if (row->number == 0 && row->is_volume && row->offset > 0)
                return g_strdup_printf("{'offset': <uint64 %" G_GUINT64_FORMAT ">%s%s}", row->offset, more ? ", " : "",
                                       more ? more : "");
        return g_strdup_printf("{%s}", more ? more : "");
}

static bool is_too_small(const char *image)
{
        return streq(image, "empty.img") || streq(image, "tiny.img");
}

/* Two tables that disagree about the sector size: the caller has to say which one. */
static bool is_ambiguous(const char *image)
{
        return streq(image, "gpt-two-sectors.img");
}

/* All that is told of the image and its volumes, as text. */
static char *describe(GDBusConnection *bus)
{
        g_autoptr(GVariant) objects = test_call_ok(bus, ROOT_PATH, DBUS_OBJECT_MANAGER, "GetManagedObjects", NULL);

        return g_variant_print(objects, false);
}

/* The device is read in place of the file: the same bytes, the same answer. */
static void check_rescan(GDBusConnection *bus, const char *image)
{
        g_autofree char *before = describe(bus);
        g_autoptr(TestCall) rescan = test_simple_call(bus, image, IMAGE, "Rescan");

        test_assert_succeeded(rescan);
        g_autofree char *after = describe(bus);
        g_assert_cmpstr(after, ==, before);
}

/* Mounting one half of a mirror, perhaps writable, would damage the mirror. */
static void check_unmountable(GDBusConnection *bus, const char *image)
{
        g_autofree char *volume = test_volume_path(image, 0);
        g_autoptr(TestCall) call = test_simple_call(bus, volume, VOLUME, "Mount");

        test_assert_failed(call, "UnsupportedFilesystem", "*");
}

static void check_published(TestGround *g, Row **rows, guint n_rows)
{
        _cleanup_close_ int fd = open_sample(rows[0]->image);
        g_autofree char *options =
                options_for(rows[0], is_ambiguous(rows[0]->image) ? "'mount': <false>, 'sector-size': <uint32 512>"
                                                                  : "'mount': <false>");
        g_autoptr(TestCall) call = test_attach(g->ann, fd, options);
        const char *image;
        guint n_volumes = 0;

        if (is_too_small(rows[0]->image)) {
                test_assert_failed(call, "InvalidImage", "*");
                return;
        }
        test_assert_succeeded(call);
        g_variant_get_child(call->reply, 0, "&o", &image);
        assert_string(g->ann, image, IMAGE, "PartitionTable", rows[0]->table);
        g_assert_cmpuint(test_property_number(g->ann, image, IMAGE, "SectorSize"), ==, rows[0]->sector_size);
        for (guint i = 0; i < n_rows; i++) {
                if (!rows[i]->is_volume)
                        continue;
                check_volume(g, image, rows[i]);
                n_volumes++;
        }
        g_auto(GStrv) volumes = test_objects(g->ann, VOLUME);
        /* An image in which nothing was recognised is one volume of nothing. */
        g_assert_cmpuint(g_strv_length(volumes), ==, n_volumes == 0 && !*rows[0]->table ? 1 : n_volumes);
        check_rescan(g->ann, image);
        if (streq(rows[0]->usage, "raid"))
                check_unmountable(g->ann, image);
        test_detach(g->ann, image);
        test_snapshot_assert(g->before, 0);
}

static void test_published(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        for_each_image(g, check_published);
}

/* ---- what can be read ---- */

static bool kernel_has(const char *type)
{
        static char *filesystems;
        const char *driver = streq(type, "ntfs") ? "ntfs3" : type;
        g_autofree char *line = g_strdup_printf("\t%s\n", driver);

        if (!filesystems)
                g_assert_true(g_file_get_contents("/proc/filesystems", &filesystems, NULL, NULL));
        return strstr(filesystems, line);
}

static void check_content(const Row *row, const char *mount_point)
{
        g_autofree char *hello = g_build_filename(mount_point, "hello.txt", NULL);
        g_autofree char *text = NULL;

        if (!row->content)
                return;
        text = test_read_as(TEST_ANN, hello);
        g_assert_true(g_str_has_prefix(text, "hello from "));
        g_assert_nonnull(strstr(text, row->image));
}

static void check_mounted(TestGround *g, Row **rows, guint n_rows)
{
        _cleanup_close_ int fd = open_sample(rows[0]->image);
        g_autofree char *options =
                options_for(rows[0], is_ambiguous(rows[0]->image) ? "'sector-size': <uint32 512>" : NULL);
        g_autoptr(TestCall) call = test_attach(g->ann, fd, options);
        guint n_mountable = 0;
        g_auto(GStrv) mount_points = NULL;
        const char *image;

        for (guint i = 0; i < n_rows; i++)
                n_mountable += rows[i]->mountable && kernel_has(rows[i]->type);
        if (n_mountable == 0) {
                g_assert_nonnull(call->error);
                g_test_message("  %s", call->error->message);
                test_snapshot_assert(g->before, 0);
                return;
        }
        test_assert_succeeded(call);
        g_variant_get(call->reply, "(&o^as)", &image, &mount_points);
        g_assert_cmpuint(g_strv_length(mount_points), ==, n_mountable);
        for (guint i = 0, n = 0; i < n_rows; i++)
                if (rows[i]->mountable && kernel_has(rows[i]->type))
                        check_content(rows[i], mount_points[n++]);
        test_detach(g->ann, image);
        test_snapshot_assert(g->before, 0);
}

static void test_mounted(TestGround *g, gconstpointer userdata)
{
        (void)userdata;
        for_each_image(g, check_mounted);
}

/* Two partition tables, each right in its own sector size: not to be guessed. */
static void test_ambiguous(TestGround *g, gconstpointer userdata)
{
        samples();
        _cleanup_close_ int fd = open_sample("gpt-two-sectors.img");
        g_autoptr(TestCall) call = test_attach(g->ann, fd, NULL);

        (void)userdata;
        test_assert_failed(call, "InvalidImage", "*sector-size*");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/samples/published", NULL, test_published);
        TEST_ADD("/samples/mounted", NULL, test_mounted);
        TEST_ADD("/samples/ambiguous", NULL, test_ambiguous);
        return g_test_run();
}
