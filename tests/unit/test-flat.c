/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was written comes out again; of what was cut off anywhere nothing is believed. */
#include <glib.h>

#include "base/flat.h"

typedef struct Value {
        uint64_t number;
        bool flag;
} Value;

static void write_all(FlatWriter *writer)
{
        const Value value = { 7, true };

        flat_write_text(writer, "");
        flat_write(writer, &value, sizeof(value));
        flat_write_text(writer, NULL);
        flat_write_text(writer, "two words");
        flat_write(writer, "", 0);
        g_assert_cmpint(flat_finish(writer), ==, 0);
}

/* How many of the four were there. */
static unsigned read_all(const char *data, size_t size)
{
        FlatReader reader = { data, size };
        const char *empty, *none = "", *text;
        Value value;

        if (flat_read_text(&reader, &empty) < 0)
                return 0;
        g_assert_cmpstr(empty, ==, "");
        if (flat_read(&reader, &value, sizeof(value)) < 0)
                return 1;
        g_assert_true(value.number == 7 && value.flag);
        if (flat_read_text(&reader, &none) < 0)
                return 2;
        g_assert_null(none);
        if (flat_read_text(&reader, &text) < 0)
                return 3;
        g_assert_cmpstr(text, ==, "two words");
        g_assert_cmpuint(reader.left, ==, 0);
        g_assert_cmpint(flat_read(&reader, &value, 1), ==, -EBADMSG);
        g_assert_cmpint(flat_read_text(&reader, &text), ==, -EBADMSG);
        return 4;
}

static void test_again(void)
{
        _cleanup_free_ char *data = NULL;
        FlatWriter writer = { 0 };

        write_all(&writer);
        data = writer.data;
        g_assert_cmpuint(read_all(data, writer.size), ==, 4);
}

static void test_cut_off(void)
{
        FlatWriter writer = { 0 };
        unsigned last = 0;

        write_all(&writer);
        for (size_t size = 0; size < writer.size; size++) {
                /* A piece of its own, so that a sanitiser sees who reads beyond it. */
                _cleanup_free_ char *piece = g_memdup2(writer.data, MAX(size, 1U));
                unsigned n = read_all(piece, size);

                g_assert_cmpuint(n, >=, last);
                g_assert_cmpuint(n, <, 4);
                last = n;
        }
        free(writer.data);
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/flat/again", test_again);
        g_test_add_func("/flat/cut-off", test_cut_off);
        return g_test_run();
}
