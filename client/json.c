/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json.h"

#include <inttypes.h>

static void print_string(FILE *f, const char *s)
{
        putc('"', f);
        for (; *s; s++)
                if (*s == '"' || *s == '\\')
                        fprintf(f, "\\%c", *s);
                else if ((unsigned char)*s < 0x20)
                        fprintf(f, "\\u%04x", (unsigned)*s);
                else
                        putc(*s, f);
        putc('"', f);
}

/* What stands before a value. */
static void begin(Json *json, const char *key)
{
        if (json->comma)
                putc(',', json->f);
        json->comma = true;
        if (!key)
                return;
        print_string(json->f, key);
        putc(':', json->f);
}

void json_open(Json *json, const char *key, char bracket)
{
        begin(json, key);
        putc(bracket, json->f);
        json->comma = false;
}

void json_close(Json *json, char bracket)
{
        putc(bracket, json->f);
        json->comma = true;
}

void json_end(Json *json)
{
        json_close(json, '}');
        putc('\n', json->f);
        fflush(json->f);
}

void json_string(Json *json, const char *key, const char *value)
{
        begin(json, key);
        print_string(json->f, value);
}

void json_strings(Json *json, const char *key, char *const *values)
{
        json_open(json, key, '[');
        for (; values && *values; values++)
                json_string(json, NULL, *values);
        json_close(json, ']');
}

void json_number(Json *json, const char *key, uint64_t value)
{
        begin(json, key);
        fprintf(json->f, "%" PRIu64, value);
}

void json_bool(Json *json, const char *key, bool value)
{
        begin(json, key);
        fputs(value ? "true" : "false", json->f);
}
