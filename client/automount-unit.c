/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names and settings of units: pure functions. Paths and options are the user's own,
 * but may have any bytes in them; none of these may mean something to the service
 * manager.
 */
#include <inttypes.h>

#include "automount.h"
#include "base/text.h"

/* FNV-1a. Who makes two of his own images have the same only harms himself. */
static uint64_t hash(const char *s)
{
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (; *s; s++)
                h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
        return h;
}

/* The end of a path tells more than its beginning. */
static void shorten(const char *path, char name[static AUTOMOUNT_UNIT_SIZE])
{
        char tail[AUTOMOUNT_UNIT_SIZE / 8], escaped[AUTOMOUNT_UNIT_SIZE];
        size_t n = strlen(path);

        snprintf(tail, sizeof(tail), "/%s", path + n - (sizeof(tail) - 2));
        (void)text_escape_unit(tail, escaped, sizeof(escaped));
        snprintf(name, AUTOMOUNT_UNIT_SIZE, AUTOMOUNT_PREFIX "%.150s-%016" PRIx64 AUTOMOUNT_SUFFIX, escaped,
                 hash(path));
}

bool automount_unit_name(const char *path, char name[static AUTOMOUNT_UNIT_SIZE])
{
        char escaped[AUTOMOUNT_UNIT_SIZE - sizeof(AUTOMOUNT_PREFIX AUTOMOUNT_SUFFIX) + 1];

        if (text_escape_unit(path, escaped, sizeof(escaped)) < 0) {
                shorten(path, name);
                return false;
        }
        snprintf(name, AUTOMOUNT_UNIT_SIZE, AUTOMOUNT_PREFIX "%s" AUTOMOUNT_SUFFIX, escaped);
        return true;
}

/* As systemd.service(5) reads a word of a command line: in quotes, with escapes as in C and doubled percent signs. */
static void write_word(FILE *f, const char *word)
{
        fputs(" \"", f);
        for (const char *s = word, *end = word + strlen(word); s < end;) {
                uint32_t c;
                size_t n = text_decode(s, (size_t)(end - s), &c);

                if (n == 0 || text_is_control(c) || c == '"' || c == '\\')
                        for (size_t i = 0; i < MAX(n, 1U); i++)
                                fprintf(f, "\\x%02x", (unsigned char)s[i]);
                else
                        fprintf(f, "%s%.*s", c == '%' ? "%" : "", (int)n, s);
                s += MAX(n, 1U);
        }
        fputc('"', f);
}

char *automount_unit_settings(const char *program, char *const *options, size_t n_options, const char *path)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        /* The colon: dollar signs mean nothing. */
        fprintf(f, "# Made by 'loopmount automount enable'.\n[Service]\nExecStart=\nExecStart=:%s automount run",
                program);
        for (size_t i = 0; i < n_options; i++)
                write_word(f, options[i]);
        fputs(" --", f);
        write_word(f, path);
        fputc('\n', f);
        if (fclose(f) == 0)
                return text;
        free(text);
        return NULL;
}
