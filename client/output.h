/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tables, values and JSON on standard output. */
#pragma once

#include <json-c/json.h>

#include "model.h"

/* Columns under a heading, each as wide as its widest cell; the last is not padded. */
typedef struct Table {
        size_t n_columns;
        char **cells; /* row by row, the heading first */
        size_t n_cells;
} Table;

/* Appends a copy of @text, or "-" for NULL or nothing. -ENOMEM. */
int table_add(Table *table, const char *text);
/* Appends a cell with no text in it. -ENOMEM. */
int table_add_blank(Table *table);
void table_print(const Table *table, FILE *f, bool bold_heading);
void table_clear(Table *table);

/* Whether what goes to standard output may have colours. */
bool output_has_colors(void);

/* The columns that @text, UTF-8, takes on a terminal. */
size_t output_width(const char *text);

/* All of a list, which may be NULL, with line feeds between. NULL when out of memory. */
char *output_join_lines(char **strings);

/* The value as people read it, in new memory; several lines for a list. NULL when out of memory. */
char *output_value(const Field *field, const void *object);

/* The value and whole objects as documented in loopmount(1). */
struct json_object *output_json_value(const Field *field, const void *object);
struct json_object *output_json_volume(const Volume *volume);
struct json_object *output_json_image(const Image *image);
struct json_object *output_json_document(const Image *image); /* {"image":...} */
/* Prints one line, flushes it, and drops the object. */
void output_print_json(struct json_object *json);

#define _cleanup_table_ _cleanup_(table_clear)
