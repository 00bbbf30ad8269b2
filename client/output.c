/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Everything that is laid out: tables as systemd's tools print them, single
 * values, and JSON.
 *
 * What the daemon says is UTF-8 whatever the user's locale is, so widths are
 * those of C.UTF-8; that is loaded only when there is a character outside ASCII.
 * JSON goes by the tables of model.c: their keys are the documented interface.
 */
#include "output.h"

#include <inttypes.h>
#include <locale.h>
#include <pwd.h>
#include <time.h>
#include <wchar.h>

#include "base/text.h"

static bool is_ascii(const char *s)
{
        for (; *s; s++)
                if ((unsigned char)*s >= 0x80)
                        return false;
        return true;
}

size_t output_width(const char *text)
{
        static bool prepared;
        mbstate_t state = { 0 };
        size_t width = 0, n;
        wchar_t c;

        if (is_ascii(text))
                return strlen(text);
        if (!prepared)
                prepared = setlocale(LC_CTYPE, "C.UTF-8") || setlocale(LC_CTYPE, "");
        for (; (n = mbrtowc(&c, text, MB_CUR_MAX, &state)) != 0; text += n) {
                if (n > MB_CUR_MAX) /* no UTF-8 to be had: count bytes */
                        return width + strlen(text);
                width += (size_t)MAX(wcwidth(c), 0);
        }
        return width;
}

bool output_has_colors(void)
{
        return isatty(STDOUT_FILENO) && isempty(getenv("NO_COLOR")) && !streq(strempty(getenv("TERM")), "dumb");
}

static int add_cell(Table *table, const char *text)
{
        char **cells = reallocarray(table->cells, table->n_cells + 1, sizeof(char *));
        char *copy = strdup(text);

        if (cells)
                table->cells = cells;
        if (!cells || !copy) {
                free(copy);
                return -ENOMEM;
        }
        table->cells[table->n_cells++] = copy;
        return 0;
}

int table_add(Table *table, const char *text)
{
        return add_cell(table, isempty(text) ? "-" : text);
}

int table_add_blank(Table *table)
{
        return add_cell(table, "");
}

static size_t column_width(const Table *table, size_t column)
{
        size_t width = 0;

        for (size_t i = column; i < table->n_cells; i += table->n_columns)
                width = MAX(width, output_width(table->cells[i]));
        return width;
}

/* The spaces in front of a cell are printed only when it has text: none trail. */
static void print_row(const Table *table, size_t first, const size_t *widths, FILE *f)
{
        size_t spaces = 0;

        for (size_t i = 0; i < table->n_columns; i++) {
                const char *cell = table->cells[first + i];

                if (*cell) {
                        fprintf(f, "%*s%s", (int)spaces, "", cell);
                        spaces = 0;
                }
                spaces += widths[i] - output_width(cell) + 1;
        }
}

void table_print(const Table *table, FILE *f, bool bold_heading)
{
        size_t widths[table->n_columns];

        for (size_t i = 0; i < table->n_columns; i++)
                widths[i] = column_width(table, i);
        for (size_t row = 0; row < table->n_cells / table->n_columns; row++) {
                bool bold = row == 0 && bold_heading;

                fputs(bold ? "\x1b[1m" : "", f);
                print_row(table, row * table->n_columns, widths, f);
                fputs(bold ? "\x1b[0m\n" : "\n", f);
        }
}

void table_clear(Table *table)
{
        for (size_t i = 0; i < table->n_cells; i++)
                free(table->cells[i]);
        free(table->cells);
        *table = (Table){ 0 };
}

char *output_join_lines(char **strings)
{
        _cleanup_free_ char *joined = strdup("");

        for (char **s = strings; joined && s && *s; s++) {
                char *longer = NULL;

                if (asprintf(&longer, "%s%s%s", joined, *joined ? "\n" : "", *s) < 0)
                        return NULL;
                free(joined);
                joined = longer;
        }
        return TAKE_PTR(joined);
}

static char *format_number(uint64_t number, FieldLook look)
{
        char size[16], when[32];
        const struct passwd *user;
        char *text = NULL;
        time_t seconds;
        struct tm tm;
        int r = -1;

        switch (look) {
        case FIELD_BYTES:
                r = asprintf(&text, number < 1024 ? "%" PRIu64 : "%" PRIu64 " (%s)", number,
                             text_format_size(number, size));
                break;
        case FIELD_TIME:
                seconds = (time_t)(number / USEC_PER_SEC);
                if (localtime_r(&seconds, &tm) && strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm) > 0)
                        r = asprintf(&text, "%s", when);
                break;
        case FIELD_USER:
                user = getpwuid((uid_t)number);
                r = user ? asprintf(&text, "%s", user->pw_name) : asprintf(&text, "%" PRIu64, number);
                break;
        case FIELD_PLAIN:
                r = asprintf(&text, "%" PRIu64, number);
                break;
        }
        return r < 0 ? NULL : text;
}

char *output_value(const Field *field, const void *object)
{
        const void *place = field_pointer(field, object);

        switch (field->signature[0]) {
        case 's':
                return strdup(strempty(*(char *const *)place));
        case 'a':
                return output_join_lines(*(char **const *)place);
        case 'b':
                return strdup(*(const int *)place ? "yes" : "no");
        case 'u':
                return format_number(*(const uint32_t *)place, field->look);
        default:
                return format_number(*(const uint64_t *)place, field->look);
        }
}

struct json_object *output_json_value(const Field *field, const void *object)
{
        const void *place = field_pointer(field, object);
        struct json_object *array;

        switch (field->signature[0]) {
        case 's':
                return json_object_new_string(strempty(*(char *const *)place));
        case 'a':
                array = json_object_new_array();
                for (char *const *s = *(char **const *)place; s && *s; s++)
                        json_object_array_add(array, json_object_new_string(*s));
                return array;
        case 'b':
                return json_object_new_boolean(*(const int *)place);
        case 'u':
                return json_object_new_uint64(*(const uint32_t *)place);
        default:
                return json_object_new_uint64(*(const uint64_t *)place);
        }
}

static struct json_object *json_fields(const Field *fields, const void *object)
{
        struct json_object *json = json_object_new_object();

        for (const Field *f = fields; f->property; f++)
                if (f->key)
                        json_object_object_add(json, f->key, output_json_value(f, object));
        return json;
}

struct json_object *output_json_volume(const Volume *volume)
{
        return json_fields(volume_fields, volume);
}

struct json_object *output_json_image(const Image *image)
{
        struct json_object *json = json_fields(image_fields, image), *volumes = json_object_new_array();

        for (const Volume *v = image->volumes; v; v = v->next)
                json_object_array_add(volumes, output_json_volume(v));
        json_object_object_add(json, "volumes", volumes);
        return json;
}

struct json_object *output_json_document(const Image *image)
{
        struct json_object *document = json_object_new_object();

        json_object_object_add(document, "image", output_json_image(image));
        return document;
}

void output_print_json(struct json_object *json)
{
        puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        fflush(stdout);
        json_object_put(json);
}
