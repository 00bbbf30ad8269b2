/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "base/text.h"

#define BYTES(s) s, sizeof(s) - 1

static void assert_escaped(const char *bytes, size_t n_bytes, const char *wanted)
{
        _cleanup_free_ char *text = text_escape(bytes, n_bytes);

        g_assert_cmpstr(text, ==, wanted);
        g_assert_true(g_utf8_validate(text, -1, NULL));
}

static void test_escape_plain(void)
{
        assert_escaped(BYTES(""), "");
        assert_escaped(BYTES("Debian 12.5.0 amd64 n"), "Debian 12.5.0 amd64 n");
        assert_escaped(BYTES("\xc3\xa4\xe2\x82\xac\xf0\x9f\x92\xbf"), "\xc3\xa4\xe2\x82\xac\xf0\x9f\x92\xbf");
        assert_escaped(BYTES("%n%s%p"), "%n%s%p");
        assert_escaped("abc", 2, "ab");
}

static void test_escape_controls(void)
{
        assert_escaped(BYTES("a\0b"), "a\\x00b");
        assert_escaped(BYTES("\x1b[31mred"), "\\x1b[31mred");
        assert_escaped(BYTES("a\nb\tc\r\x7f"), "a\\x0ab\\x09c\\x0d\\x7f");
        assert_escaped(BYTES("\xc2\x9b"), "\\xc2\\x9b");                        /* C1 CSI */
        assert_escaped(BYTES("exe.\xe2\x80\xaegpj"), "exe.\\xe2\\x80\\xaegpj"); /* right-to-left override */
        assert_escaped(BYTES("\xe2\x81\xa6x\xe2\x81\xa9"), "\\xe2\\x81\\xa6x\\xe2\\x81\\xa9");
        assert_escaped(BYTES("\xe2\x80\xa8"), "\\xe2\\x80\\xa8"); /* line separator */
        assert_escaped(BYTES("\\x41\\"), "\\x5cx41\\x5c");        /* so that what was escaped can be told */
}

static void test_escape_invalid(void)
{
        assert_escaped(BYTES("\xff\xfe"), "\\xff\\xfe");
        assert_escaped(BYTES("\x80z"), "\\x80z");
        assert_escaped(BYTES("\xc0\xaf"), "\\xc0\\xaf");                   /* overlong "/" */
        assert_escaped(BYTES("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");          /* again */
        assert_escaped(BYTES("\xf0\x80\x80\xaf"), "\\xf0\\x80\\x80\\xaf"); /* and again */
        assert_escaped(BYTES("\xed\xa0\x80"), "\\xed\\xa0\\x80");          /* surrogate */
        assert_escaped(BYTES("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80"); /* over U+10FFFF */
        assert_escaped(BYTES("\xef\xbf\xbf"), "\\xef\\xbf\\xbf");          /* U+FFFF, which sd-bus refuses */
        assert_escaped(BYTES("\xe2\x82"), "\\xe2\\x82");                   /* cut off */
        assert_escaped(BYTES("\xe2\x82z"), "\\xe2\\x82z");
        assert_escaped("\xe2\x82\xac", 2, "\\xe2\\x82"); /* what is behind the end is not looked at */
}

static void test_escape_long(void)
{
        g_autofree char *bytes = g_strnfill(300, '\x01'), *text = NULL;

        text = text_escape(bytes, 300);
        g_assert_cmpuint(strlen(text), ==, 1200);
        g_assert_true(g_str_has_suffix(text, "\\x01"));
}

static void test_decode(void)
{
        uint32_t c = 7;

        g_assert_cmpuint(text_decode("", 0, &c), ==, 0);
        g_assert_cmpuint(text_decode("\xc3", 1, &c), ==, 0);
        g_assert_cmpuint(c, ==, 7);
        g_assert_cmpuint(text_decode("\xf4\x8f\xbf\xbd", 4, &c), ==, 4);
        g_assert_cmphex(c, ==, 0x10fffd);
        g_assert_cmpuint(text_decode("\xc2\x80", 2, NULL), ==, 2);
        g_assert_cmpuint(text_decode("\xc1\xbf", 2, NULL), ==, 0);
        g_assert_cmpuint(text_decode("\0", 1, &c), ==, 1);
        g_assert_cmpuint(c, ==, 0);
}

/* Every character there is: decoded as GLib does, which is another hand's work. */
static void test_decode_all(void)
{
        for (uint32_t c = 0; c <= 0x10ffff; c++) {
                char bytes[6];
                uint32_t decoded = 0;
                bool valid = g_unichar_validate(c) && (c & 0xfffe) != 0xfffe && !(c >= 0xfdd0 && c <= 0xfdef);
                size_t n = (size_t)g_unichar_to_utf8(c, bytes);

                g_assert_cmpuint(text_decode(bytes, n, &decoded), ==, valid ? n : 0);
                g_assert_cmphex(decoded, ==, valid ? c : 0);
        }
}

static void test_parse_size(void)
{
        static const struct {
                const char *text;
                int r;
                uint64_t bytes;
        } cases[] = {
                { "0", 0, 0 },
                { "1", 0, 1 },
                { "512B", 0, 512 },
                { "1K", 0, 1024 },
                { "1k", 0, 1024 },
                { "1KiB", 0, 1024 },
                { "1kB", 0, 1000 },
                { "3M", 0, 3 * 1048576 },
                { "3MB", 0, 3000000 },
                { "2GiB", 0, UINT64_C(2147483648) },
                { "1T", 0, UINT64_C(1) << 40 },
                { "1P", 0, UINT64_C(1) << 50 },
                { "15E", 0, UINT64_C(15) << 60 },
                { "15EiB", 0, UINT64_C(15) << 60 },
                { "18EB", 0, UINT64_C(18000000000000000000) },
                { "18446744073709551615", 0, UINT64_MAX },
                { "18446744073709551616", -ERANGE, 0 },
                { "99999999999999999999999", -ERANGE, 0 },
                { "16E", -ERANGE, 0 },
                { "19EB", -ERANGE, 0 },
                { "99999999999999999999999K", -ERANGE, 0 },
                { "99999999999999999999999X", -EINVAL, 0 },
                { "", -EINVAL, 0 },
                { "K", -EINVAL, 0 },
                { "-1", -EINVAL, 0 },
                { "+1", -EINVAL, 0 },
                { " 1", -EINVAL, 0 },
                { "1 ", -EINVAL, 0 },
                { "1 K", -EINVAL, 0 },
                { "010", -EINVAL, 0 },
                { "00", -EINVAL, 0 },
                { "2048s", 0, 1048576 },
                { "0s", 0, 0 },
                { "36028797018963968s", -ERANGE, 0 },
                { "1S", -EINVAL, 0 },
                { "1sB", -EINVAL, 0 },
                { "1ss", -EINVAL, 0 },
                { "0x10", 0, 16 },
                { "0xfFfFfFfFfFfFfFfF", 0, UINT64_MAX },
                { "0x00000000000000000001", 0, 1 },
                { "0x10000000000000000", -ERANGE, 0 },
                { "0x", -EINVAL, 0 },
                { "0X10", -EINVAL, 0 },
                { "0x1g", -EINVAL, 0 },
                { "0x10s", -EINVAL, 0 },
                { "0x-1", -EINVAL, 0 },
                { "0x 1", -EINVAL, 0 },
                { "x10", -EINVAL, 0 },
                { "1.5G", -EINVAL, 0 },
                { "1KIB", -EINVAL, 0 },
                { "1Ki", -EINVAL, 0 },
                { "1KiBs", -EINVAL, 0 },
                { "1Z", -EINVAL, 0 },
                { "1b", -EINVAL, 0 },
                { "1iB", -EINVAL, 0 },
                { "\xd9\xa3", -EINVAL, 0 }, /* a digit elsewhere */
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint64_t bytes = 4711;

                g_test_message("%s", cases[i].text);
                g_assert_cmpint(text_parse_size(cases[i].text, &bytes), ==, cases[i].r);
                g_assert_cmpuint(bytes, ==, cases[i].r < 0 ? 4711 : cases[i].bytes);
        }
        g_assert_cmpint(text_parse_size(NULL, NULL), ==, -EINVAL);
}

static void test_parse_uint(void)
{
        uint64_t number = 4711;

        g_assert_cmpint(text_parse_uint("0", 0, &number), ==, 0);
        g_assert_cmpuint(number, ==, 0);
        g_assert_cmpint(text_parse_uint("255", 255, &number), ==, 0);
        g_assert_cmpuint(number, ==, 255);
        g_assert_cmpint(text_parse_uint("256", 255, &number), ==, -ERANGE);
        g_assert_cmpint(text_parse_uint("18446744073709551615", UINT64_MAX, &number), ==, 0);
        g_assert_cmpuint(number, ==, UINT64_MAX);
        g_assert_cmpint(text_parse_uint("18446744073709551616", UINT64_MAX, &number), ==, -ERANGE);
        g_assert_cmpint(text_parse_uint("18446744073709551616x", UINT64_MAX, &number), ==, -EINVAL);
        for (const char *const *bad =
                     (const char *const[]){ "", "-1", "+1", " 1", "1 ", "01", "1K", "0x1", "1\n", NULL };
             *bad; bad++)
                g_assert_cmpint(text_parse_uint(*bad, UINT64_MAX, &number), ==, -EINVAL);
        g_assert_cmpint(text_parse_uint(NULL, 1, &number), ==, -EINVAL);
        g_assert_cmpuint(number, ==, UINT64_MAX);
}

static void test_format_size(void)
{
        static const struct {
                uint64_t bytes;
                const char *text;
        } cases[] = {
                { 0, "0" },
                { 1, "1" },
                { 1023, "1023" },
                { 1024, "1.0K" },
                { 1025, "1.1K" },
                { 4096, "4.0K" },
                { 9 * 1024 + 922, "10K" }, /* 9.9004: rounded up */
                { 9 * 1024 + 921, "9.9K" },
                { 10 * 1024, "10K" },
                { 10 * 1024 + 1, "11K" },
                { 1023 * 1024, "1023K" },
                { 1023 * 1024 + 1, "1.0M" },
                { UINT64_C(1610612736), "1.5G" },
                { UINT64_C(1) << 60, "1.0E" },
                { UINT64_MAX, "16E" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char buffer[16];

                g_assert_cmpstr(text_format_size(cases[i].bytes, buffer), ==, cases[i].text);
                g_assert_true(text_format_size(cases[i].bytes, buffer) == buffer);
        }
}

static void test_printf(void)
{
        _cleanup_free_ char *text = text_printf("%s %u", "name", 2U);

        g_assert_cmpstr(text, ==, "name 2");
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/text/escape/plain", test_escape_plain);
        g_test_add_func("/text/escape/controls", test_escape_controls);
        g_test_add_func("/text/escape/invalid", test_escape_invalid);
        g_test_add_func("/text/escape/long", test_escape_long);
        g_test_add_func("/text/decode", test_decode);
        g_test_add_func("/text/decode-all", test_decode_all);
        g_test_add_func("/text/parse-size", test_parse_size);
        g_test_add_func("/text/parse-uint", test_parse_uint);
        g_test_add_func("/text/format-size", test_format_size);
        g_test_add_func("/text/printf", test_printf);
        return g_test_run();
}
