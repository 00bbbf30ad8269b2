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
#include <sys/ioctl.h>
#include <time.h>
#include <wchar.h>

#include "base/text.h"
#include "i18n.h"

/* Columns are not made narrower: "  volume 12" has to fit, and headings. */
#define COLUMN_MIN 12U
#define UNDERLINE "\x1b[4m"
#define NO_COLOR "\x1b[0m"

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

const char *output_ellipsis(void)
{
        return MB_CUR_MAX > 1 ? "\xe2\x80\xa6" : "...";
}

char *output_ellipsize(const char *text, size_t width)
{
        size_t all = output_width(text), dots = output_width(output_ellipsis());
        size_t left = width > dots ? (width - dots) / 2 : 0, right = width > dots ? width - dots - left : 0, n;
        const char *head_end = text, *tail = text;

        if (all <= width)
                return strdup(text);
        for (const char *s = text; *s; s += n) {
                n = MAX(text_decode(s, strlen(s), NULL), (size_t)1);
                if (all - output_width(s) <= left)
                        head_end = s;
                if (output_width(s) > right)
                        tail = s + n;
        }
        return text_printf("%.*s%s%s", (int)(head_end - text), text, output_ellipsis(), tail);
}

bool output_is_terminal(int fd)
{
        const char *kind = getenv("TERM");

        return isatty(fd) && !isempty(kind) && !streq(kind, "dumb");
}

bool output_has_colors(void)
{
        return output_is_terminal(STDOUT_FILENO) && isempty(getenv("NO_COLOR"));
}

size_t output_columns(int fd)
{
        struct winsize size;

        return ioctl(fd, TIOCGWINSZ, &size) >= 0 ? size.ws_col : 0;
}

static int add_cell(Table *table, const char *text)
{
        Cell *cells = reallocarray(table->cells, table->n_cells + 1, sizeof(Cell));
        char *copy = strdup(text);

        if (cells)
                table->cells = cells;
        if (!cells || !copy) {
                free(copy);
                return -ENOMEM;
        }
        table->cells[table->n_cells++] = (Cell){ .text = copy };
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

void table_color(Table *table, const char *color)
{
        table->cells[table->n_cells - 1].color = color;
}

static size_t column_width(const Table *table, size_t column)
{
        size_t width = 0;

        for (size_t i = column; i < table->n_cells; i += table->n_columns)
                width = MAX(width, output_width(table->cells[i].text));
        return width;
}

/* Takes from the widest of those that may shrink. */
static void shrink_columns(const Table *table, size_t *widths, size_t columns)
{
        size_t all = table->n_columns - 1;

        for (size_t i = 0; i < table->n_columns; i++)
                all += widths[i];
        for (; all > columns; all--) {
                size_t *widest = NULL;

                for (size_t i = 0; i < table->n_columns; i++)
                        if ((table->may_shrink & (1U << i)) && widths[i] > COLUMN_MIN &&
                            (!widest || widths[i] > *widest))
                                widest = &widths[i];
                if (!widest)
                        return;
                --*widest;
        }
}

/* The spaces in front of a cell are printed only when it has text: none trail. */
static void print_row(const Table *table, size_t first, const size_t *widths, FILE *f, bool colors)
{
        size_t spaces = 0;

        for (size_t i = 0; i < table->n_columns; i++) {
                const Cell *cell = &table->cells[first + i];
                _cleanup_free_ char *short_text = output_ellipsize(cell->text, widths[i]);
                const char *text = short_text ? short_text : cell->text;
                const char *color = colors ? cell->color : NULL;

                if (*text) {
                        fprintf(f, "%*s%s%s%s", (int)spaces, "", strempty(color), text, color ? NO_COLOR : "");
                        spaces = 0;
                }
                spaces += widths[i] - MIN(output_width(text), widths[i]) + 1;
        }
}

void table_print(const Table *table, FILE *f, bool colors, size_t columns)
{
        size_t widths[table->n_columns];

        for (size_t i = 0; i < table->n_columns; i++)
                widths[i] = column_width(table, i);
        if (columns > 0)
                shrink_columns(table, widths, columns);
        for (size_t row = 0; row < table->n_cells / table->n_columns; row++) {
                bool heading = row == 0 && colors;

                fputs(heading ? UNDERLINE : "", f);
                print_row(table, row * table->n_columns, widths, f, colors);
                fputs(heading ? NO_COLOR "\n" : "\n", f);
        }
}

void table_clear(Table *table)
{
        for (size_t i = 0; i < table->n_cells; i++)
                free(table->cells[i].text);
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
                return strdup(*(const int *)place ? _("yes") : _("no"));
        case 'u':
                return format_number(*(const uint32_t *)place, field->look);
        default:
                return format_number(*(const uint64_t *)place, field->look);
        }
}

void output_json_value(Json *json, const char *key, const Field *field, const void *object)
{
        const void *place = field_pointer(field, object);

        switch (field->signature[0]) {
        case 's':
                json_string(json, key, strempty(*(char *const *)place));
                break;
        case 'a':
                json_strings(json, key, *(char **const *)place);
                break;
        case 'b':
                json_bool(json, key, *(const int *)place);
                break;
        case 'u':
                json_number(json, key, *(const uint32_t *)place);
                break;
        default:
                json_number(json, key, *(const uint64_t *)place);
        }
}

static void write_fields(Json *json, const Field *fields, const void *object)
{
        for (const Field *f = fields; f->property; f++)
                if (f->key)
                        output_json_value(json, f->key, f, object);
}

void output_json_volume(Json *json, const char *key, const Volume *volume)
{
        json_open(json, key, '{');
        write_fields(json, volume_fields, volume);
        json_close(json, '}');
}

void output_json_image(Json *json, const char *key, const Image *image)
{
        json_open(json, key, '{');
        write_fields(json, image_fields, image);
        json_open(json, "volumes", '[');
        for (const Volume *v = image->volumes; v; v = v->next)
                output_json_volume(json, NULL, v);
        json_close(json, ']');
        json_close(json, '}');
}

void output_json_document(FILE *f, const Image *image)
{
        Json json = { .f = f };

        json_open(&json, NULL, '{');
        output_json_image(&json, "image", image);
        json_end(&json);
}
