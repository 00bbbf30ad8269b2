/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * json PATH...: prints what is at each PATH ("image.volumes.0.label") in the one
 * JSON document on standard input: a text as it is, an array's texts one per line,
 * "[N]" for an array of N other things; of several, an empty line for an empty
 * array. Fails if there is no such thing, or if the input is no JSON.
 */
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct json_object *walk(struct json_object *at, char *path)
{
        for (char *step; at && (step = strsep(&path, "."));) {
                if (!*step)
                        continue;
                if (json_object_is_type(at, json_type_array))
                        at = json_object_array_get_idx(at, strtoul(step, NULL, 10));
                else if (!json_object_object_get_ex(at, step, &at))
                        at = NULL;
        }
        return at;
}

static void print(struct json_object *object, bool several)
{
        size_t n;

        if (!json_object_is_type(object, json_type_array)) {
                puts(json_object_get_string(object));
                return;
        }
        n = json_object_array_length(object);
        if (n == 0 && several)
                puts("");
        if (n > 0 && !json_object_is_type(json_object_array_get_idx(object, 0), json_type_string)) {
                printf("[%zu]\n", n);
                return;
        }
        for (size_t i = 0; i < n; i++)
                puts(json_object_get_string(json_object_array_get_idx(object, i)));
}

int main(int argc, char **argv)
{
        struct json_object *document, *found;

        if (argc < 2)
                return 2;
        document = json_object_from_fd(STDIN_FILENO);
        if (!document) {
                fprintf(stderr, "json: the input is no JSON\n");
                return 1;
        }
        for (int i = 1; i < argc; i++) {
                found = walk(document, argv[i]);
                if (!found) {
                        fprintf(stderr, "json: there is no such thing as number %d\n", i);
                        return 1;
                }
                print(found, argc > 2);
        }
        return 0;
}
