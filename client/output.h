/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tables, values and JSON on standard output. */
#pragma once

#include "json.h"
#include "model.h"

#define COLOR_YELLOW "\x1b[33m"
#define COLOR_RED "\x1b[31m"

typedef struct Cell {
        char *text;
        const char *color; /* NULL: none */
} Cell;

/* Columns under a heading, each as wide as its widest cell; the last is not padded. */
typedef struct Table {
        size_t n_columns;
        Cell *cells; /* row by row, the heading first */
        size_t n_cells;
        unsigned may_shrink; /* a bit for each column whose texts may be shortened */
} Table;

/* Appends a copy of @text, or "-" for NULL or nothing. -ENOMEM. */
int table_add(Table *table, const char *text);
/* Appends a cell with no text in it. -ENOMEM. */
int table_add_blank(Table *table);
/* Gives the last cell a colour. */
void table_color(Table *table, const char *color);
/* @columns: no wider than that, if it can be helped; 0: as wide as it is. */
void table_print(const Table *table, FILE *f, bool colors, size_t columns);
void table_clear(Table *table);

/* Whether what goes to standard output may have colours. */
bool output_has_colors(void);

/* Whether it is a terminal that knows escape sequences. */
bool output_is_terminal(int fd);
/* How wide the terminal is; 0 if it does not tell, or is none. */
size_t output_columns(int fd);

/* The columns that @text, UTF-8, takes on a terminal. */
size_t output_width(const char *text);

/* A copy of @text that takes no more than @width columns: without what is too much in its middle. */
char *output_ellipsize(const char *text, size_t width);
/* Three dots, in what characters there are. */
const char *output_ellipsis(void);

/* All of a list, which may be NULL, with line feeds between. NULL when out of memory. */
char *output_join_lines(char **strings);

/* The value as people read it, in new memory; several lines for a list. NULL when out of memory. */
char *output_value(const Field *field, const void *object);

/* The value and whole objects as documented in loopmount(1). */
void output_json_value(Json *json, const char *key, const Field *field, const void *object);
void output_json_volume(Json *json, const char *key, const Volume *volume);
void output_json_image(Json *json, const char *key, const Image *image);
/* {"image":...}, a line. */
void output_json_document(FILE *f, const Image *image);

#define _cleanup_table_ _cleanup_(table_clear)
