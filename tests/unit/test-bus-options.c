/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Options as they come from the bus: each key once, known, and of its type, or an error that names it. */
#include <glib.h>
#include <stdarg.h>

#include "bus-pair.h"
#include "bus/options.h"

#define ITEMS_MAX 1024U

static BusPair buses;

/* What a method would have. */
typedef struct Targets {
        bool flag, flag_given, other, other_given;
        uint64_t large;
        uint32_t small;
        char *text;
        OptionArray numbers;
        char *complaint;
} Targets;

static void targets_done(Targets *targets)
{
        free(targets->text);
        free(targets->numbers.items);
        free(targets->complaint);
}
#define _cleanup_targets_ _cleanup_(targets_done)

static sd_bus_message *new_message(void)
{
        sd_bus_message *message;

        g_assert_cmpint(sd_bus_message_new_signal(buses.client, &message, "/x", "x.y", "Z"), >=, 0);
        return message;
}

/* As if it had been received; lets it go. */
static int read_message(sd_bus_message *message, Targets *targets)
{
        const OptionRule rules[] = {
                { "flag", "b", &targets->flag, &targets->flag_given },
                { "other", "b", &targets->other, &targets->other_given },
                { "large", "t", &targets->large, NULL },
                { "small", "u", &targets->small, NULL },
                { "text", "s", &targets->text, NULL },
                { "numbers", "au", &targets->numbers, NULL },
        };
        int r;

        g_assert_cmpint(sd_bus_message_seal(message, 1, 0), >=, 0);
        g_assert_cmpint(sd_bus_message_rewind(message, true), >=, 0);
        r = options_read(message, rules, ELEMENTSOF(rules), &targets->complaint);
        g_assert_true((r == -EINVAL) == (targets->complaint != NULL));
        g_assert_true(r < 0 || sd_bus_message_at_end(message, true) > 0);
        sd_bus_message_unref(message);
        return r;
}

/* Reads the a{sv} of what follows: their number, then key, type and value of each. */
static int read_options(Targets *targets, ...)
{
        sd_bus_message *message = new_message();
        va_list arguments;

        va_start(arguments, targets);
        g_assert_cmpint(sd_bus_message_appendv(message, "a{sv}", arguments), >=, 0);
        va_end(arguments);
        return read_message(message, targets);
}

static void test_types(void)
{
        _cleanup_targets_ Targets targets = { .other = true };

        g_assert_cmpint(read_options(&targets, 5, "flag", "b", 1, "large", "t", UINT64_MAX, "small", "u", UINT32_MAX,
                                     "text", "s", "\xc3\xa4 %n\n", "numbers", "au", 3, 7, 0, UINT32_MAX),
                        ==, 0);
        g_assert_true(targets.flag);
        g_assert_true(targets.flag_given);
        g_assert_true(targets.other);
        g_assert_false(targets.other_given);
        g_assert_cmpuint(targets.large, ==, UINT64_MAX);
        g_assert_cmpuint(targets.small, ==, UINT32_MAX);
        g_assert_cmpstr(targets.text, ==, "\xc3\xa4 %n\n");
        g_assert_cmpuint(targets.numbers.n_items, ==, 3);
        g_assert_cmpuint(targets.numbers.items[0], ==, 7);
        g_assert_cmpuint(targets.numbers.items[1], ==, 0);
        g_assert_cmpuint(targets.numbers.items[2], ==, UINT32_MAX);
}

static void test_defaults(void)
{
        _cleanup_targets_ Targets targets = { .flag = true, .large = 5, .small = 6, .text = strdup("preset") };

        g_assert_cmpint(read_options(&targets, 0), ==, 0);
        g_assert_true(targets.flag);
        g_assert_false(targets.flag_given);
        g_assert_cmpuint(targets.large, ==, 5);
        g_assert_cmpuint(targets.small, ==, 6);
        g_assert_cmpstr(targets.text, ==, "preset");
        g_assert_null(targets.numbers.items);
}

/* Told from a key that is not there. */
static void test_empty_values(void)
{
        _cleanup_targets_ Targets targets = { .flag = true };

        g_assert_cmpint(read_options(&targets, 3, "flag", "b", 0, "text", "s", "", "numbers", "au", 0), ==, 0);
        g_assert_false(targets.flag);
        g_assert_true(targets.flag_given);
        g_assert_cmpstr(targets.text, ==, "");
        g_assert_cmpuint(targets.numbers.n_items, ==, 0);
}

static void test_unknown(void)
{
        _cleanup_targets_ Targets targets = { 0 }, prefix = { 0 }, capital = { 0 }, empty = { 0 };

        g_assert_cmpint(read_options(&targets, 2, "small", "u", 1, "colour", "s", "red"), ==, -EINVAL);
        g_assert_cmpstr(targets.complaint, ==, "Option \"colour\": there is no such option");
        g_assert_cmpuint(targets.small, ==, 1);
        g_assert_cmpint(read_options(&prefix, 1, "fla", "b", 1), ==, -EINVAL);
        g_assert_cmpstr(prefix.complaint, ==, "Option \"fla\": there is no such option");
        g_assert_cmpint(read_options(&capital, 1, "Flag", "b", 1), ==, -EINVAL);
        g_assert_cmpint(read_options(&empty, 1, "", "b", 1), ==, -EINVAL);
        g_assert_cmpstr(empty.complaint, ==, "Option \"\": there is no such option");
}

static void test_twice(void)
{
        _cleanup_targets_ Targets targets = { 0 }, text = { 0 }, numbers = { 0 };

        g_assert_cmpint(read_options(&targets, 2, "flag", "b", 1, "flag", "b", 1), ==, -EINVAL);
        g_assert_cmpstr(targets.complaint, ==, "Option \"flag\": it is given twice");
        g_assert_cmpint(read_options(&text, 3, "text", "s", "a", "small", "u", 1, "text", "s", "b"), ==, -EINVAL);
        g_assert_cmpstr(text.complaint, ==, "Option \"text\": it is given twice");
        g_assert_cmpstr(text.text, ==, "a");
        g_assert_cmpint(read_options(&numbers, 2, "numbers", "au", 1, 1, "numbers", "au", 1, 2), ==, -EINVAL);
        g_assert_cmpuint(numbers.numbers.items[0], ==, 1);
}

static void append_value(sd_bus_message *message, const char *type)
{
        int r;

        if (streq(type, "as") || streq(type, "au") || streq(type, "ay") || streq(type, "aau"))
                r = sd_bus_message_append(message, "v", type, 0);
        else if (streq(type, "(u)"))
                r = sd_bus_message_append(message, "v", type, 1);
        else if (streq(type, "v"))
                r = sd_bus_message_append(message, "v", "v", "u", 1);
        else if (streq(type, "s") || streq(type, "o") || streq(type, "g"))
                r = sd_bus_message_append(message, "v", type, streq(type, "g") ? "u" : "/x");
        else if (streq(type, "t") || streq(type, "x"))
                r = sd_bus_message_append(message, "v", type, UINT64_C(1));
        else if (streq(type, "d"))
                r = sd_bus_message_append(message, "v", type, 1.0);
        else
                r = sd_bus_message_append(message, "v", type, 1);
        g_assert_cmpint(r, >=, 0);
}

static int read_one(const char *key, const char *type, Targets *targets)
{
        sd_bus_message *message = new_message();

        g_assert_cmpint(sd_bus_message_open_container(message, 'a', "{sv}"), >=, 0);
        g_assert_cmpint(sd_bus_message_open_container(message, 'e', "sv"), >=, 0);
        g_assert_cmpint(sd_bus_message_append_basic(message, 's', key), >=, 0);
        append_value(message, type);
        g_assert_cmpint(sd_bus_message_close_container(message), >=, 0);
        g_assert_cmpint(sd_bus_message_close_container(message), >=, 0);
        return read_message(message, targets);
}

/* Each key with each type: only its own will do, also where another one could be converted. */
static void test_wrong_type(void)
{
        static const char *const keys[][2] = {
                { "flag", "b" }, { "large", "t" }, { "small", "u" }, { "text", "s" }, { "numbers", "au" },
        };
        static const char *const types[] = { "b", "t", "u", "s", "au", "i",  "x", "y",   "n",
                                             "q", "d", "o", "g", "as", "ay", "v", "aau", "(u)" };

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                for (size_t j = 0; j < ELEMENTSOF(types); j++) {
                        _cleanup_targets_ Targets targets = { 0 };
                        g_autofree char *wanted =
                                g_strdup_printf("Option \"%s\": its type has to be '%s'", keys[i][0], keys[i][1]);
                        int r = read_one(keys[i][0], types[j], &targets);

                        if (streq(keys[i][1], types[j])) {
                                g_assert_cmpint(r, ==, 0);
                                continue;
                        }
                        g_assert_cmpint(r, ==, -EINVAL);
                        g_assert_cmpstr(targets.complaint, ==, wanted);
                }
}

static int read_items(uint32_t n_items, Targets *targets)
{
        g_autofree uint32_t *items = g_new0(uint32_t, n_items);
        sd_bus_message *message = new_message();

        items[n_items - 1] = 7;
        g_assert_cmpint(sd_bus_message_open_container(message, 'a', "{sv}"), >=, 0);
        g_assert_cmpint(sd_bus_message_open_container(message, 'e', "sv"), >=, 0);
        g_assert_cmpint(sd_bus_message_append_basic(message, 's', "numbers"), >=, 0);
        g_assert_cmpint(sd_bus_message_open_container(message, 'v', "au"), >=, 0);
        g_assert_cmpint(sd_bus_message_append_array(message, 'u', items, n_items * sizeof(uint32_t)), >=, 0);
        for (int i = 0; i < 3; i++)
                g_assert_cmpint(sd_bus_message_close_container(message), >=, 0);
        return read_message(message, targets);
}

static void test_long_array(void)
{
        _cleanup_targets_ Targets targets = { 0 }, more = { 0 }, most = { 0 };

        g_assert_cmpint(read_items(ITEMS_MAX, &targets), ==, 0);
        g_assert_cmpuint(targets.numbers.n_items, ==, ITEMS_MAX);
        g_assert_cmpuint(targets.numbers.items[ITEMS_MAX - 1], ==, 7);
        g_assert_cmpint(read_items(ITEMS_MAX + 1, &more), ==, -EINVAL);
        g_assert_cmpstr(more.complaint, ==, "Option \"numbers\": it is too long");
        g_assert_cmpint(read_items(1000000, &most), ==, -EINVAL);
}

/* A method that knows no options yet takes none. */
/* Of what is kept while somebody is asked for a password there may be no megabytes. */
static void test_long_text(void)
{
        _cleanup_targets_ Targets longest = { 0 }, more = { 0 };
        g_autofree char *text = g_strnfill(4097, 'x');

        g_assert_cmpint(read_options(&more, 1, "text", "s", text), ==, -EINVAL);
        g_assert_cmpstr(more.complaint, ==, "Option \"text\": it is too long");
        text[4096] = 0;
        g_assert_cmpint(read_options(&longest, 1, "text", "s", text), ==, 0);
        g_assert_cmpstr(longest.text, ==, text);
}

/* Nor comes all of an endless key back. */
static void test_long_key(void)
{
        _cleanup_targets_ Targets targets = { 0 };
        g_autofree char *key = g_strnfill(100000, 'k');

        g_assert_cmpint(read_options(&targets, 1, key, "s", "x"), ==, -EINVAL);
        g_assert_cmpuint(strlen(targets.complaint), <, 200);
}

static void test_no_rules(void)
{
        sd_bus_message *message = new_message();
        _cleanup_free_ char *complaint = NULL;

        g_assert_cmpint(sd_bus_message_append(message, "a{sv}a{sv}", 0, 1, "flag", "b", 1), >=, 0);
        g_assert_cmpint(sd_bus_message_seal(message, 1, 0), >=, 0);
        g_assert_cmpint(sd_bus_message_rewind(message, true), >=, 0);
        g_assert_cmpint(options_read(message, NULL, 0, &complaint), ==, 0);
        g_assert_null(complaint);
        g_assert_cmpint(options_read(message, NULL, 0, &complaint), ==, -EINVAL);
        g_assert_cmpstr(complaint, ==, "Option \"flag\": there is no such option");
        sd_bus_message_unref(message);
}

/* Not options at all: sd-bus says so, and there is no key to be named. */
static void test_no_options(void)
{
        sd_bus_message *other = new_message(), *nothing = new_message();
        Targets targets = { 0 };

        g_assert_cmpint(sd_bus_message_append(other, "s", "x"), >=, 0);
        g_assert_cmpint(read_message(other, &targets), ==, -ENXIO);
        g_assert_cmpint(read_message(nothing, &targets), ==, -ENXIO);
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        bus_pair_open(&buses);
        g_test_add_func("/bus-options/types", test_types);
        g_test_add_func("/bus-options/defaults", test_defaults);
        g_test_add_func("/bus-options/empty-values", test_empty_values);
        g_test_add_func("/bus-options/unknown", test_unknown);
        g_test_add_func("/bus-options/twice", test_twice);
        g_test_add_func("/bus-options/wrong-type", test_wrong_type);
        g_test_add_func("/bus-options/long-array", test_long_array);
        g_test_add_func("/bus-options/long-text", test_long_text);
        g_test_add_func("/bus-options/long-key", test_long_key);
        g_test_add_func("/bus-options/no-rules", test_no_rules);
        g_test_add_func("/bus-options/no-options", test_no_options);

        int r = g_test_run();
        bus_pair_close(&buses);
        return r;
}
