/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Labels, partition names, comm and file names are bytes that somebody else
 * chose. What is valid here is what sd-bus takes for a string, because one bad
 * byte in a property makes a whole reply fail; what is shown besides has
 * nothing in it that could steer a terminal or reorder a line.
 *
 * Nothing here blocks, and nothing depends on the locale: isdigit() and
 * strtoull() do, and the latter takes signs and white space too.
 */
#include <stdarg.h>

#include "base/text.h"

#define SECTOR_SIZE 512U

/* How many bytes a character with the first byte @first has, and the smallest character that needs so many. */
static size_t sequence_length(unsigned char first, uint32_t *ret_minimum)
{
        static const struct {
                unsigned char mask, lead;
                uint32_t minimum;
        } forms[] = {
                { 0x80, 0x00, 0 },
                { 0xe0, 0xc0, 0x80 },
                { 0xf0, 0xe0, 0x800 },
                { 0xf8, 0xf0, 0x10000 },
        };

        for (size_t i = 0; i < ELEMENTSOF(forms); i++)
                if ((first & forms[i].mask) == forms[i].lead) {
                        *ret_minimum = forms[i].minimum;
                        return i + 1;
                }
        return 0;
}

static bool is_character(uint32_t c)
{
        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return false;
        return (c & 0xfffe) != 0xfffe && !(c >= 0xfdd0 && c <= 0xfdef);
}

size_t text_decode(const char *bytes, size_t n_bytes, uint32_t *ret_character)
{
        const unsigned char *p = (const unsigned char *)bytes;
        uint32_t minimum, c;
        size_t length;

        if (n_bytes == 0)
                return 0;

        length = sequence_length(p[0], &minimum);
        if (length == 0 || length > n_bytes)
                return 0;

        c = length == 1 ? p[0] : p[0] & (0x7fU >> length);
        for (size_t i = 1; i < length; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        if (c < minimum || !is_character(c))
                return 0;

        if (ret_character)
                *ret_character = c;
        return length;
}

bool text_is_control(uint32_t c)
{
        static const struct {
                uint32_t first, last;
        } controls[] = {
                { 0x0000, 0x001f }, { 0x007f, 0x009f }, /* C0, DEL, C1 */
                { 0x061c, 0x061c }, { 0x200e, 0x200f }, /* Arabic letter mark, LRM, RLM */
                { 0x2028, 0x202e },                     /* line and paragraph separator, bidi embeddings, overrides */
                { 0x2066, 0x2069 }, { 0xfeff, 0xfeff }, /* bidi isolates, byte order mark */
        };

        for (size_t i = 0; i < ELEMENTSOF(controls); i++)
                if (c >= controls[i].first && c <= controls[i].last)
                        return true;
        return false;
}

char *text_escape(const char *bytes, size_t n_bytes)
{
        static const char digits[] = "0123456789abcdef";
        char *text, *out;

        if (n_bytes > (SIZE_MAX - 1) / 4)
                return NULL;

        text = out = malloc(4 * n_bytes + 1);
        if (!text)
                return NULL;

        for (size_t i = 0; i < n_bytes;) {
                uint32_t c;
                size_t length = text_decode(bytes + i, n_bytes - i, &c);

                if (length > 0 && c != '\\' && !text_is_control(c)) {
                        out = mempcpy(out, bytes + i, length);
                        i += length;
                        continue;
                }
                for (size_t end = i + MAX(length, 1U); i < end; i++) {
                        *out++ = '\\';
                        *out++ = 'x';
                        *out++ = digits[(unsigned char)bytes[i] >> 4];
                        *out++ = digits[(unsigned char)bytes[i] & 15];
                }
        }
        *out = '\0';
        return text;
}

static bool is_plain_in_unit(char c)
{
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr(":_.", c);
}

int text_escape_unit(const char *path, char *buffer, size_t size)
{
        size_t n = 0;

        if (streq(path, "/"))
                return (size_t)snprintf(buffer, size, "-") < size ? 0 : -ENAMETOOLONG;
        for (const char *p = path + 1; *p; p++) {
                char escaped[8];

                if (*p == '/')
                        snprintf(escaped, sizeof(escaped), "-");
                else if (is_plain_in_unit(*p) && !(p == path + 1 && *p == '.'))
                        snprintf(escaped, sizeof(escaped), "%c", *p);
                else
                        snprintf(escaped, sizeof(escaped), "\\x%02x", (unsigned char)*p);
                n += (size_t)snprintf(buffer + n, size - n, "%s", escaped);
                if (n >= size)
                        return -ENAMETOOLONG;
        }
        return 0;
}

/* Reads the digits that @s begins with; *ret_rest: what follows them. */
static int parse_digits(const char *s, uint64_t *ret, const char **ret_rest)
{
        uint64_t number = 0;
        const char *p = s;

        if (!s || *s < '0' || *s > '9')
                return -EINVAL;
        if (s[0] == '0' && s[1] >= '0' && s[1] <= '9') /* some take this for octal */
                return -EINVAL;

        for (; *p >= '0' && *p <= '9'; p++)
                if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
                    __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
                        return -ERANGE;

        *ret = number;
        *ret_rest = p;
        return 0;
}

static int parse_unit(const char *suffix, uint64_t *ret_unit)
{
        static const char letters[] = "KMGTPE";
        uint64_t unit = 1, base;
        const char *letter;

        if (streq(suffix, "") || streq(suffix, "B") || streq(suffix, "s")) {
                *ret_unit = streq(suffix, "s") ? SECTOR_SIZE : 1;
                return 0;
        }

        letter = strchr(letters, *suffix >= 'a' && *suffix <= 'z' ? *suffix - 'a' + 'A' : *suffix);
        if (!letter)
                return -EINVAL;

        if (suffix[1] == '\0' || streq(suffix + 1, "iB"))
                base = 1024;
        else if (streq(suffix + 1, "B"))
                base = 1000;
        else
                return -EINVAL;

        for (ptrdiff_t i = 0; i <= letter - letters; i++)
                unit *= base;
        *ret_unit = unit;
        return 0;
}

/* What follows "0x". */
static int parse_hexadecimal(const char *digits, uint64_t *ret)
{
        size_t n = strspn(digits, "0123456789abcdefABCDEF");
        uint64_t number = 0;

        if (n == 0 || digits[n])
                return -EINVAL;
        digits += strspn(digits, "0");
        if (strlen(digits) > 2 * sizeof(number))
                return -ERANGE;
        for (; *digits; digits++)
                number = number << 4 | (unsigned)(*digits <= '9' ? *digits - '0' : (*digits | 0x20) - 'a' + 10);
        *ret = number;
        return 0;
}

int text_parse_size(const char *s, uint64_t *ret_bytes)
{
        uint64_t number, unit;
        const char *suffix;
        int r, q;

        if (!s)
                return -EINVAL;
        if (s[0] == '0' && s[1] == 'x')
                return parse_hexadecimal(s + 2, ret_bytes);
        r = parse_digits(s, &number, &suffix);
        if (r == -EINVAL)
                return r;
        if (r == -ERANGE) /* "too much" is only said of what is a number at all */
                suffix = s + strspn(s, "0123456789");

        q = parse_unit(suffix, &unit);
        if (q < 0)
                return q;
        if (r < 0)
                return r;
        if (__builtin_mul_overflow(number, unit, &number))
                return -ERANGE;

        *ret_bytes = number;
        return 0;
}

int text_parse_uint(const char *s, uint64_t max, uint64_t *ret)
{
        const char *rest;
        uint64_t number;
        int r;

        r = parse_digits(s, &number, &rest);
        if (r == -ERANGE)
                return s[strspn(s, "0123456789")] == '\0' ? -ERANGE : -EINVAL;
        if (r < 0)
                return r;
        if (*rest)
                return -EINVAL;
        if (number > max)
                return -ERANGE;

        *ret = number;
        return 0;
}

bool text_list_has(const char *list, char separator, const char *item)
{
        size_t length = strlen(item);

        for (const char *p = list; *p;) {
                const char *end = strchrnul(p, separator);

                if ((size_t)(end - p) == length && memcmp(p, item, length) == 0)
                        return true;
                p = *end ? end + 1 : end;
        }
        return false;
}

char *text_printf(const char *format, ...)
{
        va_list arguments;
        char *text;
        int n;

        va_start(arguments, format);
        n = vasprintf(&text, format, arguments);
        va_end(arguments);
        return n < 0 ? NULL : text;
}

char *text_format_size(uint64_t bytes, char buffer[static 16])
{
        static const char letters[] = "KMGTPE";
        uint64_t whole, tenths, rest;
        unsigned shift = 0;

        while (shift < 60 && bytes >> shift >= 1024)
                shift += 10;
        if (shift == 0) {
                snprintf(buffer, 16, "%u", (unsigned)bytes);
                return buffer;
        }

        for (;; shift += 10) {
                whole = bytes >> shift;
                rest = bytes & ((UINT64_C(1) << shift) - 1);
                tenths = (rest * 10 + (UINT64_C(1) << shift) - 1) >> shift; /* below 11 * 2^60: no overflow */

                if (whole < 9 || (whole == 9 && tenths < 10)) {
                        snprintf(buffer, 16, "%u.%u%c", (unsigned)(whole + tenths / 10), (unsigned)(tenths % 10),
                                 letters[shift / 10 - 1]);
                        return buffer;
                }
                whole += rest > 0;
                if (whole < 1024 || shift == 60)
                        break; /* else 1023.9K, rounded up, is 1.0M */
        }
        snprintf(buffer, 16, "%u%c", (unsigned)whole, letters[shift / 10 - 1]);
        return buffer;
}
