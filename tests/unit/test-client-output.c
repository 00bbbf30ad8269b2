/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <locale.h>

#include "output.h"

static char *print_table(const Table *table, bool colors, size_t columns)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        table_print(table, f, colors, columns);
        fclose(f);
        return text;
}

static void test_table(void)
{
        static const char *const cells[] = { "ID", "IMAGE", "MOUNT POINT", "10", "b.img", "/mnt/b" };
        _cleanup_table_ Table table = { .n_columns = 3 };
        _cleanup_free_ char *text = NULL;

        for (size_t i = 0; i < ELEMENTSOF(cells); i++)
                g_assert_cmpint(table_add(&table, cells[i]), ==, 0);
        g_assert_cmpint(table_add_blank(&table), ==, 0);
        g_assert_cmpint(table_add(&table, "a longer name"), ==, 0);
        g_assert_cmpint(table_add(&table, NULL), ==, 0);

        text = print_table(&table, false, 0);
        g_assert_cmpstr(text, ==,
                        "ID IMAGE         MOUNT POINT\n"
                        "10 b.img         /mnt/b\n"
                        "   a longer name -\n");
}

static void test_table_blanks(void)
{
        _cleanup_table_ Table table = { .n_columns = 2 };
        _cleanup_free_ char *text = NULL;

        g_assert_cmpint(table_add(&table, "A"), ==, 0);
        g_assert_cmpint(table_add_blank(&table), ==, 0);
        text = print_table(&table, true, 0);
        g_assert_cmpstr(text, ==, "\x1b[4mA\x1b[0m\n");
}

static void test_table_wide(void)
{
        static const char *const cells[] = { "W\xc3\xbcrze", "1", "\xe6\x97\xa5\xe6\x9c\xac", "2", "plain", "3" };
        _cleanup_table_ Table table = { .n_columns = 2 };
        _cleanup_free_ char *text = NULL;

        for (size_t i = 0; i < ELEMENTSOF(cells); i++)
                g_assert_cmpint(table_add(&table, cells[i]), ==, 0);
        text = print_table(&table, false, 0);
        g_assert_cmpstr(text, ==, "W\xc3\xbcrze 1\n\xe6\x97\xa5\xe6\x9c\xac  2\nplain 3\n");
}

static void test_table_colors(void)
{
        _cleanup_table_ Table table = { .n_columns = 2 };
        _cleanup_free_ char *plain = NULL, *colored = NULL;

        for (unsigned i = 0; i < 4; i++)
                g_assert_cmpint(table_add(&table, i == 2 ? "rw" : "x"), ==, 0);
        g_assert_cmpint(table_add(&table, "rw"), ==, 0);
        table_color(&table, COLOR_YELLOW);
        g_assert_cmpint(table_add(&table, "y"), ==, 0);
        plain = print_table(&table, false, 0);
        g_assert_cmpstr(plain, ==, "x  x\nrw x\nrw y\n");
        colored = print_table(&table, true, 0);
        g_assert_cmpstr(colored, ==, "\x1b[4mx  x\x1b[0m\nrw x\n\x1b[33mrw\x1b[0m y\n");
}

/* The widest give first, no one more than the others, and none that may not. */
static void test_table_narrow(void)
{
        static const char *const cells[] = {
                "A", "B", "C", "0123456789abcdef0123456789", "fixed, however wide it is", "/mnt/0123456789abcdef"
        };
        _cleanup_table_ Table table = { .n_columns = 3, .may_shrink = 1 << 0 | 1 << 2 };
        _cleanup_free_ char *fits = NULL, *narrow = NULL, *narrowest = NULL;

        for (size_t i = 0; i < ELEMENTSOF(cells); i++)
                g_assert_cmpint(table_add(&table, cells[i]), ==, 0);
        fits = print_table(&table, false, 74);
        g_assert_nonnull(strstr(fits, "0123456789abcdef0123456789 fixed, however wide it is /mnt/0123456789abcdef\n"));
        narrow = print_table(&table, false, 60);
        g_assert_nonnull(strstr(narrow, "0123456\xe2\x80\xa6"
                                        "23456789 fixed, however wide it is /mnt/012\xe2\x80\xa6"
                                        "89abcdef\n"));
        narrowest = print_table(&table, false, 10);
        g_assert_nonnull(strstr(narrowest, "01234\xe2\x80\xa6"
                                           "456789 fixed, however wide it is /mnt/\xe2\x80\xa6"
                                           "abcdef\n"));
}

static void test_ellipsize(void)
{
        static const struct {
                const char *text;
                size_t width;
                const char *wanted;
        } cases[] = {
                { "short", 5, "short" },
                { "0123456789", 9,
                  "0123\xe2\x80\xa6"
                  "6789" },
                { "0123456789", 4,
                  "0\xe2\x80\xa6"
                  "89" },
                { "0123456789", 1, "\xe2\x80\xa6" },
                { "", 0, "" },
                /* Wide ones are never cut in halves. */
                { "\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac", 6, "\xe6\x97\xa5\xe2\x80\xa6\xe6\x9c\xac" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = output_ellipsize(cases[i].text, cases[i].width);

                g_assert_cmpstr(text, ==, cases[i].wanted);
                g_assert_cmpuint(output_width(text), <=, cases[i].width);
        }
}

static void test_width(void)
{
        g_assert_cmpuint(output_width(""), ==, 0);
        g_assert_cmpuint(output_width("abc"), ==, 3);
        g_assert_cmpuint(output_width("\xc3\xa4"), ==, 1);
        g_assert_cmpuint(output_width("\xe6\x97\xa5"), ==, 2);
        g_assert_cmpuint(output_width("e\xcc\x81"), ==, 1);
        /* No UTF-8: whatever it is, it ends. */
        g_assert_cmpuint(output_width("\xff\xff"), ==, 2);
}

static Image sample_image(Volume *volume)
{
        static char *mount_points[] = { (char *)"/run/media/ann/A \"B\"", NULL };

        *volume = (Volume){
                .number = 1,
                .device = (char *)"/dev/loop3p1",
                .size = UINT64_MAX,
                .type = (char *)"ext4",
                .mount_points = mount_points,
                .read_only = true,
        };
        return (Image){ .id = (char *)"42", .volumes = volume, .attached_at = 1, .owner_uid = 1000 };
}

/* The keys are documented: none may change or go. */
static void test_json(void)
{
        Volume volume;
        Image image = sample_image(&volume);
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        output_json_document(f, &image);
        fclose(f);
        g_assert_cmpstr(text, ==,
                        "{\"image\":{\"id\":\"42\",\"name\":\"\",\"backing_file\":\"\",\"device\":\"\","
                        "\"disk_sequence\":0,\"offset\":0,\"size\":0,\"sector_size\":0,\"read_only\":false,"
                        "\"direct_io\":false,\"auto_detach\":false,\"session_bound\":false,\"on_access\":false,"
                        "\"idle_timeout_usec\":0,\"owner_uid\":1000,"
                        "\"partition_table\":\"\","
                        "\"state\":\"\",\"attached_at_usec\":1,\"volumes\":[{\"number\":1,\"device\":\"/dev/loop3p1\","
                        "\"offset\":0,\"size\":18446744073709551615,\"usage\":\"\",\"type\":\"ext4\",\"version\":\"\","
                        "\"label\":\"\",\"uuid\":\"\",\"partition_type\":\"\",\"partition_name\":\"\","
                        "\"partition_uuid\":\"\",\"mount_points\":[\"/run/media/ann/A \\\"B\\\"\"],\"waiting\":false,"
                        "\"read_only\":true,"
                        "\"obstacle\":\"\"}]}}\n");
}

/* What text may have in it, and what stands between values. */
static void test_json_writer(void)
{
        static char *const strings[] = { (char *)"a\\b", (char *)"/\xc3\xa4\n\x1f\x7f", NULL };
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        Json json = { .f = f };

        json_open(&json, NULL, '{');
        json_strings(&json, "none", NULL);
        json_open(&json, "objects", '[');
        for (uint64_t i = 0; i < 2; i++) {
                json_open(&json, NULL, '{');
                json_number(&json, "n", i);
                json_bool(&json, "b", i == 0);
                json_close(&json, '}');
        }
        json_close(&json, ']');
        json_strings(&json, "strings", strings);
        json_end(&json);
        fclose(f);
        g_assert_cmpstr(text, ==,
                        "{\"none\":[],\"objects\":[{\"n\":0,\"b\":true},{\"n\":1,\"b\":false}],"
                        "\"strings\":[\"a\\\\b\",\"/\xc3\xa4\\u000a\\u001f\x7f\"]}\n");
}

static const Field *find_field(const Field *fields, const char *property)
{
        while (!g_str_equal(fields->property, property))
                fields++;
        return fields;
}

static void assert_value(const Field *fields, const char *property, const void *object, const char *wanted)
{
        _cleanup_free_ char *value = output_value(find_field(fields, property), object);

        g_assert_cmpstr(value, ==, wanted);
}

static void test_values(void)
{
        static char *several[] = { (char *)"/a", (char *)"/b", NULL };
        Volume volume = { .number = 3, .size = 4096, .offset = 512, .mount_points = several, .read_only = true };
        Image image = { .owner_uid = 4294900000 };

        assert_value(volume_fields, "Number", &volume, "3");
        assert_value(volume_fields, "Size", &volume, "4096 (4.0K)");
        assert_value(volume_fields, "Offset", &volume, "512");
        assert_value(volume_fields, "MountPoints", &volume, "/a\n/b");
        assert_value(volume_fields, "ReadOnly", &volume, "yes");
        assert_value(volume_fields, "Label", &volume, "");
        assert_value(image_fields, "OwnerUID", &image, "4294900000");
}

static void test_fields(void)
{
        static char *one[] = { (char *)"/a", NULL }, *same[] = { (char *)"/a", NULL }, *none[] = { NULL };
        Volume a = { .label = (char *)"x", .mount_points = one, .size = 1 }, b = { .mount_points = same, .size = 2 };
        const Field *mounts = find_field(volume_fields, "MountPoints"), *label = find_field(volume_fields, "Label");
        const Field *size = find_field(volume_fields, "Size");

        g_assert_true(field_equal(mounts, &a, &b));
        g_assert_false(field_equal(label, &a, &b));
        g_assert_false(field_equal(size, &a, &b));
        field_swap(label, &a, &b);
        field_swap(size, &a, &b);
        g_assert_null(a.label);
        g_assert_cmpstr(b.label, ==, "x");
        g_assert_cmpuint(a.size, ==, 2);

        b.mount_points = none;
        g_assert_false(field_equal(mounts, &a, &b));
        a.mount_points = NULL;
        g_assert_true(field_equal(mounts, &a, &b));
}

/* A volume's bit in a mask is its row. */
static void test_field_count(void)
{
        size_t n = 0;

        while (volume_fields[n].property)
                n++;
        g_assert_cmpuint(n, <=, 32);
        for (n = 0; image_fields[n].property;)
                n++;
        g_assert_cmpuint(n, <=, 32);
}

int main(int argc, char **argv)
{
        setlocale(LC_CTYPE, "C.UTF-8");
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/client/output/table", test_table);
        g_test_add_func("/client/output/table-blanks", test_table_blanks);
        g_test_add_func("/client/output/table-wide", test_table_wide);
        g_test_add_func("/client/output/table-colors", test_table_colors);
        g_test_add_func("/client/output/table-narrow", test_table_narrow);
        g_test_add_func("/client/output/ellipsize", test_ellipsize);
        g_test_add_func("/client/output/width", test_width);
        g_test_add_func("/client/output/json", test_json);
        g_test_add_func("/client/output/json-writer", test_json_writer);
        g_test_add_func("/client/output/values", test_values);
        g_test_add_func("/client/model/fields", test_fields);
        g_test_add_func("/client/model/field-count", test_field_count);
        return g_test_run();
}
