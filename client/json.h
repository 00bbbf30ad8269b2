/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes JSON, compact, as it comes: whoever writes sees to it that what is opened
 * is closed. In an object each call gives the key; in an array, and at the top, it is NULL.
 */
#pragma once

#include "base/macro.h"

typedef struct Json {
        FILE *f;
        bool comma; /* wanted before what comes next */
} Json;

/* '{' and '}', '[' and ']' */
void json_open(Json *json, const char *key, char bracket);
void json_close(Json *json, char bracket);

/* Closes the object that is the document, and ends the line; flushes. */
void json_end(Json *json);

void json_string(Json *json, const char *key, const char *value); /* UTF-8 */
void json_strings(Json *json, const char *key, char *const *values);
void json_number(Json *json, const char *key, uint64_t value);
void json_bool(Json *json, const char *key, bool value);
