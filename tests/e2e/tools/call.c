/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * call SERVICE PATH INTERFACE MEMBER SIGNATURE ARGUMENT...: what "busctl call"
 * does, with its notation, for a systemd whose busctl cannot pass descriptors
 * (type h). Knows the types that our interfaces have.
 */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

static char **words;

static const char *next_word(void)
{
        if (!*words)
                errx(2, "an argument is missing");
        return *words++;
}

static void check(int r, const char *what)
{
        if (r < 0)
                errx(1, "%s: %s", what, strerror(-r));
}

static void append_basic(sd_bus_message *call, char type)
{
        const char *word = next_word();

        switch (type) {
        case 's':
        case 'o':
                check(sd_bus_message_append_basic(call, type, word), word);
                break;
        case 'b':
                check(sd_bus_message_append(call, "b", strcmp(word, "true") == 0), word);
                break;
        case 't':
                check(sd_bus_message_append(call, "t", (uint64_t)strtoull(word, NULL, 0)), word);
                break;
        case 'u':
                check(sd_bus_message_append(call, "u", (uint32_t)strtoul(word, NULL, 0)), word);
                break;
        case 'h':
                check(sd_bus_message_append(call, "h", (int)strtol(word, NULL, 0)), word);
                break;
        default:
                errx(2, "type %c is not known here", type);
        }
}

static void append_array(sd_bus_message *call, const char *items)
{
        unsigned long n = strtoul(next_word(), NULL, 10);

        check(sd_bus_message_open_container(call, 'a', items), items);
        while (n-- > 0)
                append_basic(call, items[0]);
        check(sd_bus_message_close_container(call), items);
}

static void append_options(sd_bus_message *call)
{
        unsigned long n = strtoul(next_word(), NULL, 10);

        check(sd_bus_message_open_container(call, 'a', "{sv}"), "options");
        while (n-- > 0) {
                const char *type;

                check(sd_bus_message_open_container(call, 'e', "sv"), "option");
                append_basic(call, 's');
                type = next_word();
                check(sd_bus_message_open_container(call, 'v', type), type);
                if (type[0] == 'a')
                        append_array(call, type + 1);
                else
                        append_basic(call, type[0]);
                check(sd_bus_message_close_container(call), type);
                check(sd_bus_message_close_container(call), "option");
        }
        check(sd_bus_message_close_container(call), "options");
}

static void append(sd_bus_message *call, const char *signature)
{
        while (*signature) {
                if (strncmp(signature, "a{sv}", 5) == 0) {
                        append_options(call);
                        signature += 5;
                } else
                        append_basic(call, *signature++);
        }
        if (*words)
                errx(2, "'%s' is too much", *words);
}

static void print_texts(sd_bus_message *reply, char type)
{
        const char *text;
        char *texts = NULL;
        unsigned n = 0;
        size_t size;
        FILE *f = open_memstream(&texts, &size);

        check(sd_bus_message_enter_container(reply, 'a', (char[]){ type, 0 }), "reply");
        while (sd_bus_message_read_basic(reply, type, &text) > 0) {
                fprintf(f, " \"%s\"", text);
                n++;
        }
        check(sd_bus_message_exit_container(reply), "reply");
        fclose(f);
        printf(" %u%s", n, texts);
        free(texts);
}

static void print(sd_bus_message *reply)
{
        const char *signature = sd_bus_message_get_signature(reply, true), *text;

        if (!*signature)
                return;
        printf("%s", signature);
        for (; *signature; signature++) {
                if (*signature == 'a') {
                        print_texts(reply, *++signature);
                        continue;
                }
                check(sd_bus_message_read_basic(reply, *signature, &text), "reply");
                printf(" \"%s\"", text);
        }
        putchar('\n');
}

int main(int argc, char **argv)
{
        sd_bus_message *call = NULL, *reply = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus *bus = NULL;

        if (argc < 6)
                errx(2, "usage: call SERVICE PATH INTERFACE MEMBER SIGNATURE ARGUMENT...");
        words = argv + 6;
        check(sd_bus_open_system(&bus), "bus");
        check(sd_bus_message_new_method_call(bus, &call, argv[1], argv[2], argv[3], argv[4]), argv[4]);
        append(call, argv[5]);
        if (sd_bus_call(bus, call, 0, &error, &reply) < 0)
                errx(1, "Call failed: %s", error.message);
        print(reply);
        return 0;
}
