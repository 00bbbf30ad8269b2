/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Options of a method. The input says which entries the message has; from that is
 * also reckoned what has to come of it.
 */
#include <systemd/sd-id128.h>

#include "bus/options.h"
#include "fuzz.h"

#define ITEMS_MAX 1024U

typedef struct Input {
        const uint8_t *data;
        size_t size;
} Input;

typedef struct Targets {
        bool flag, given;
        uint64_t large;
        uint32_t small;
        char *text;
        OptionArray numbers;
} Targets;

/* The types by the place of their key in the table, then those that no option has. */
static const char *const types[] = { "b", "t", "u", "s", "au", "as", "i", "d", "o", "g", "v", "(su)", "a{sv}", "ay" };
static const char *const keys[] = { "flag", "large", "small", "text", "numbers" };

static uint32_t take(Input *input, size_t n)
{
        uint32_t value = 0;

        n = MIN(n, input->size);
        if (n > 0)
                memcpy(&value, input->data, n);
        input->data += n;
        input->size -= n;
        return value;
}

/* Text that sd-bus takes: it refuses what is not UTF-8 itself. */
static void take_text(Input *input, char text[static 64])
{
        size_t n = take(input, 1) % 63;

        for (size_t i = 0; i < n; i++)
                text[i] = (char)(1 + take(input, 1) % 127);
        text[n] = 0;
}

static int append_array(sd_bus_message *message, Input *input, size_t *ret_n)
{
        static uint32_t items[ITEMS_MAX + 8];
        size_t n = take(input, 1) % 8;

        /* Around the most that there may be. */
        if (take(input, 1) % 16 == 0)
                n += ITEMS_MAX - 4;
        for (size_t i = 0; i < MIN(n, 8U); i++)
                items[i] = take(input, 4);
        *ret_n = n;
        return sd_bus_message_append_array(message, 'u', items, n * sizeof(*items));
}

static int append_value(sd_bus_message *message, const char *type, Input *input, size_t *ret_n)
{
        char text[64];
        int r = sd_bus_message_open_container(message, 'v', type);

        CHECK(r >= 0);
        take_text(input, text);
        if (streq(type, "au"))
                r = append_array(message, input, ret_n);
        else if (streq(type, "s"))
                r = sd_bus_message_append(message, "s", text);
        else if (streq(type, "b") || streq(type, "u") || streq(type, "i"))
                r = sd_bus_message_append(message, type, take(input, 4));
        else if (streq(type, "t") || streq(type, "d"))
                r = streq(type, "t") ? sd_bus_message_append(message, "t", (uint64_t)take(input, 4) << 32 | 1)
                                     : sd_bus_message_append(message, "d", 0.5);
        else if (streq(type, "o") || streq(type, "g"))
                r = sd_bus_message_append(message, type, streq(type, "o") ? "/x" : "a{sv}");
        else if (streq(type, "v"))
                r = sd_bus_message_append(message, "v", "s", text);
        else if (streq(type, "(su)"))
                r = sd_bus_message_append(message, "(su)", text, 7U);
        else
                r = sd_bus_message_append(message, type, 0);
        CHECK(r >= 0);
        return sd_bus_message_close_container(message);
}

/* True: this entry is one that has to be refused. */
static bool append_entry(sd_bus_message *message, Input *input, unsigned *seen)
{
        size_t key = take(input, 1) % (ELEMENTSOF(keys) + 1), type = take(input, 1), n = 0;
        char text[64];
        bool bad;

        type = type < 128 && key < ELEMENTSOF(keys) ? key : type % ELEMENTSOF(types);
        take_text(input, text);
        CHECK(sd_bus_message_open_container(message, 'e', "sv") >= 0);
        CHECK(sd_bus_message_append(message, "s", key < ELEMENTSOF(keys) ? keys[key] : text) >= 0);
        CHECK(append_value(message, types[type], input, &n) >= 0);
        CHECK(sd_bus_message_close_container(message) >= 0);
        for (size_t i = 0; key == ELEMENTSOF(keys) && i < ELEMENTSOF(keys); i++)
                if (streq(text, keys[i]))
                        key = i;
        bad = key == ELEMENTSOF(keys) || type != key || *seen & 1U << key || n > ITEMS_MAX;
        *seen |= 1U << key;
        return bad;
}

static void check_result(sd_bus_message *message, bool bad, bool flag_there)
{
        Targets targets = { 0 };
        char *complaint = NULL;
        const OptionRule rules[] = {
                { "flag", "b", &targets.flag, &targets.given }, { "large", "t", &targets.large, NULL },
                { "small", "u", &targets.small, NULL },         { "text", "s", &targets.text, NULL },
                { "numbers", "au", &targets.numbers, NULL },
        };
        int r = options_read(message, rules, ELEMENTSOF(rules), &complaint);

        CHECK(r == (bad ? -EINVAL : 0));
        CHECK(bad == (complaint != NULL));
        CHECK(bad || targets.given == flag_there);
        CHECK(bad || sd_bus_message_at_end(message, true) > 0);
        CHECK(targets.numbers.n_items <= ITEMS_MAX && (targets.numbers.items || targets.numbers.n_items == 0));
        free(targets.text);
        free(targets.numbers.items);
        free(complaint);
}

/* One that is never connected is enough to make messages with. */
static sd_bus *make_bus(void)
{
        static sd_bus *bus;

        if (!bus)
                CHECK(sd_bus_new(&bus) >= 0 && sd_bus_set_address(bus, "unix:path=/dev/null") >= 0 &&
                      sd_bus_start(bus) != -ENOMEM);
        return bus;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        Input input = { data, size };
        sd_bus_message *message = NULL;
        unsigned seen = 0;
        bool bad = false;

        CHECK(sd_bus_message_new_method_call(make_bus(), &message, "x.y", "/x", "x.y", "Z") >= 0);
        CHECK(sd_bus_message_open_container(message, 'a', "{sv}") >= 0);
        while (input.size > 0)
                bad |= append_entry(message, &input, &seen);
        CHECK(sd_bus_message_close_container(message) >= 0);
        CHECK(sd_bus_message_seal(message, 1, 0) >= 0);
        CHECK(sd_bus_message_rewind(message, true) >= 0);
        check_result(message, bad, seen & 1);
        sd_bus_message_unref(message);
        return 0;
}
