/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a label's bytes to the name of a folder, and to text that can be shown. */
#include "base/text.h"
#include "fuzz.h"
#include "mechanism/mount-point.h"

static void check_characters(const char *text)
{
        for (size_t left = strlen(text), n; left > 0; text += n, left -= n) {
                uint32_t c;

                n = text_decode(text, left, &c);
                CHECK(n > 0 && n <= left);
                CHECK(!text_is_control(c));
        }
}

static void check_name(const char *name)
{
        size_t length = strlen(name);

        CHECK(length >= 1 && length <= 200);
        CHECK(!strchr(name, '/'));
        CHECK(name[0] != '.' && name[0] != '-' && name[0] != ' ' && name[length - 1] != ' ');
        check_characters(name);
}

/* A good name stays what it is. */
static void check_again(const char *name)
{
        _cleanup_free_ char *again = NULL;

        CHECK(mount_point_sanitise(name, &again) == 0);
        CHECK(streq(name, again));
}

static int digit(char c)
{
        return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* What is shown tells exactly which bytes there were. */
static void check_escaped(const char *bytes, size_t n_bytes)
{
        _cleanup_free_ char *text = text_escape(bytes, n_bytes), *back = malloc(n_bytes + 1);
        size_t n = 0;

        CHECK(text && back);
        check_characters(text);
        for (const char *c = text; *c; c++) {
                CHECK(n < n_bytes);
                if (*c != '\\') {
                        back[n++] = *c;
                        continue;
                }
                CHECK(c[1] == 'x' && c[2] && c[3]);
                back[n++] = (char)(digit(c[2]) << 4 | digit(c[3]));
                c += 3;
        }
        CHECK(n == n_bytes && memcmp(back, bytes, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *bytes = strndup((const char *)data, size), *name = NULL;

        CHECK(bytes);
        check_escaped((const char *)data, size);
        if (mount_point_sanitise(bytes, &name) == 0) {
                check_name(name);
                check_again(name);
        } else
                CHECK(!name);
        return 0;
}
