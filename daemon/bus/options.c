/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages are hostile: keys may be unknown or come twice, values may be of any
 * type. Each is an error that names the key. sd-bus has checked before that the
 * message is well-formed.
 */
#include "bus/options.h"

/* More than any image has volumes. */
#define ARRAY_ITEMS_MAX 1024U
/* A message is kept as long as its request, which may wait for somebody's password. */
#define STRING_BYTES_MAX 4096U
#define KEY_SHOWN_BYTES_MAX 64

static int complain(char **ret_complaint, const char *key, const char *what)
{
        return asprintf(ret_complaint, "Option \"%.*s\": %s", KEY_SHOWN_BYTES_MAX, key, what) < 0 ? -ENOMEM : -EINVAL;
}

static int read_array(sd_bus_message *message, OptionArray *target)
{
        const void *items;
        size_t size;
        int r = sd_bus_message_read_array(message, 'u', &items, &size);

        if (r < 0)
                return r;
        if (size / sizeof(uint32_t) > ARRAY_ITEMS_MAX)
                return -E2BIG;
        target->items = malloc(size + 1);
        if (!target->items)
                return -ENOMEM;
        if (size > 0)
                memcpy(target->items, items, size);
        target->n_items = size / sizeof(uint32_t);
        return 0;
}

static int read_string(sd_bus_message *message, char **target)
{
        const char *value;
        int r = sd_bus_message_read_basic(message, 's', &value);

        if (r < 0)
                return r;
        if (strlen(value) > STRING_BYTES_MAX)
                return -E2BIG;
        *target = strdup(value);
        return *target ? 0 : -ENOMEM;
}

static int read_bool(sd_bus_message *message, bool *target)
{
        int value, r = sd_bus_message_read_basic(message, 'b', &value);

        if (r >= 0)
                *target = value;
        return r;
}

static int read_value(sd_bus_message *message, const OptionRule *rule)
{
        int r = sd_bus_message_enter_container(message, 'v', rule->type);

        if (r < 0)
                return r;
        if (streq(rule->type, "au"))
                r = read_array(message, rule->target);
        else if (streq(rule->type, "s"))
                r = read_string(message, rule->target);
        else if (streq(rule->type, "b"))
                r = read_bool(message, rule->target);
        else
                r = sd_bus_message_read_basic(message, rule->type[0], rule->target);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int read_option(sd_bus_message *message, const OptionRule *rules, size_t n_rules, uint64_t *seen,
                       char **ret_complaint)
{
        const char *key, *contents;
        char type;
        int r = sd_bus_message_read_basic(message, 's', &key);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n_rules; i++) {
                if (!streq(rules[i].key, key))
                        continue;
                if (*seen & (UINT64_C(1) << i))
                        return complain(ret_complaint, key, "it is given twice");
                *seen |= UINT64_C(1) << i;
                r = sd_bus_message_peek_type(message, &type, &contents);
                if (r < 0)
                        return r;
                if (!streq(contents, rules[i].type)) {
                        char what[64];

                        snprintf(what, sizeof(what), "its type has to be '%s'", rules[i].type);
                        return complain(ret_complaint, key, what);
                }
                if (rules[i].given)
                        *rules[i].given = true;
                r = read_value(message, &rules[i]);
                return r == -E2BIG ? complain(ret_complaint, key, "it is too long") : r;
        }
        return complain(ret_complaint, key, "there is no such option");
}

int options_read(sd_bus_message *message, const OptionRule *rules, size_t n_rules, char **ret_complaint)
{
        uint64_t seen = 0;
        int r = sd_bus_message_enter_container(message, 'a', "{sv}");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                r = read_option(message, rules, n_rules, &seen, ret_complaint);
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(message);
        return MIN(r, 0);
}
