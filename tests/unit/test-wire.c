/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "bus/wire.h"

/* A header under construction. */
typedef struct Message {
        GByteArray *bytes;
        bool big_endian;
} Message;

static void pad(Message *message, guint alignment)
{
        while (message->bytes->len % alignment != 0)
                g_byte_array_append(message->bytes, (const guint8 *)"", 1);
}

static void put_uint32(Message *message, guint at, guint32 value)
{
        value = message->big_endian ? GUINT32_TO_BE(value) : GUINT32_TO_LE(value);
        if (message->bytes->len < at + 4)
                g_byte_array_set_size(message->bytes, at + 4);
        memcpy(message->bytes->data + at, &value, 4);
}

/* How long the fields are is written by message_end(). */
static Message message_new(bool big_endian)
{
        Message message = { .bytes = g_byte_array_new(), .big_endian = big_endian };

        g_byte_array_append(message.bytes, (const guint8 *)(big_endian ? "B\1\0\1" : "l\1\0\1"), 4);
        put_uint32(&message, 4, 24); /* of the body */
        put_uint32(&message, 8, 7);  /* serial */
        put_uint32(&message, 12, 0);
        return message;
}

/* What every field begins with: its code, and the signature of its value. */
static void begin_field(Message *message, guint8 code, const char *type)
{
        guint8 size = (guint8)strlen(type);

        pad(message, 8);
        g_byte_array_append(message->bytes, &code, 1);
        g_byte_array_append(message->bytes, &size, 1);
        g_byte_array_append(message->bytes, (const guint8 *)type, size + 1U);
}

static void add_text(Message *message, guint8 code, const char *type, const char *text)
{
        guint8 size = (guint8)strlen(text);

        begin_field(message, code, type);
        if (*type == 'g')
                g_byte_array_append(message->bytes, &size, 1);
        else {
                pad(message, 4);
                put_uint32(message, message->bytes->len, (guint32)strlen(text));
        }
        g_byte_array_append(message->bytes, (const guint8 *)text, (guint)strlen(text) + 1);
}

static void add_uint32(Message *message, guint8 code, guint32 value)
{
        begin_field(message, code, "u");
        pad(message, 4);
        put_uint32(message, message->bytes->len, value);
}

static void message_end(Message *message)
{
        put_uint32(message, 12, message->bytes->len - 16);
        pad(message, 8);
}

static Message new_call(bool big_endian)
{
        Message message = message_new(big_endian);

        add_text(&message, 1, "o", "/org/loopmount1");
        add_text(&message, 3, "s", "Attach");
        add_text(&message, 2, "s", "org.loopmount1.Manager");
        add_text(&message, 6, "s", "org.loopmount1");
        add_text(&message, 8, "g", "ha{sv}");
        add_uint32(&message, 9, 1);
        add_text(&message, 7, "s", ":1.23");
        message_end(&message);
        return message;
}

/* As the gate does it: the sizes first, then what they say. */
static int parse(const guint8 *bytes, size_t size, WireHeader *ret)
{
        size_t header_size, message_size;
        int r;

        g_assert_cmpuint(size, >=, WIRE_FIXED_SIZE);
        r = wire_sizes(bytes, &header_size, &message_size);
        if (r < 0)
                return r;
        g_assert_cmpuint(message_size, >=, header_size);
        if (header_size > size)
                return -EMSGSIZE;
        /* A copy, so that sanitizers see what is read after its end. */
        g_autofree guint8 *copy = g_memdup2(bytes, header_size);
        return wire_parse_header(copy, header_size, ret);
}

static int message_parse(Message *message, WireHeader *ret)
{
        int r = parse(message->bytes->data, message->bytes->len, ret);

        g_byte_array_unref(message->bytes);
        return r;
}

static void assert_is_call(const WireHeader *header)
{
        g_assert_true(header->is_call);
        g_assert_cmpstr(header->path, ==, "/org/loopmount1");
        g_assert_cmpstr(header->interface, ==, "org.loopmount1.Manager");
        g_assert_cmpstr(header->member, ==, "Attach");
        g_assert_cmpstr(header->signature, ==, "ha{sv}");
        g_assert_cmpstr(header->sender, ==, ":1.23");
        g_assert_cmpuint(header->n_fds, ==, 1);
}

static void test_well_formed(void)
{
        for (unsigned i = 0; i < 2; i++) {
                Message call = new_call(i == 1);
                WireHeader header;
                size_t header_size, message_size;

                g_assert_cmpint(wire_sizes(call.bytes->data, &header_size, &message_size), ==, 0);
                g_assert_cmpuint(header_size, ==, call.bytes->len);
                g_assert_cmpuint(message_size, ==, call.bytes->len + 24);
                g_assert_cmpint(message_parse(&call, &header), ==, 0);
                assert_is_call(&header);
        }
}

static void test_no_field(void)
{
        Message empty = message_new(false);
        WireHeader header;

        g_assert_cmpint(message_parse(&empty, &header), ==, 0);
        g_assert_true(header.is_call);
        g_assert_cmpstr(header.path, ==, "");
        g_assert_cmpstr(header.sender, ==, "");
        g_assert_cmpuint(header.n_fds, ==, 0);
}

/* Those that nobody knows are skipped, and the last of several counts. */
static void test_many_fields(void)
{
        Message many = message_new(false);
        WireHeader header;

        for (unsigned i = 0; i < 1000; i++) {
                add_text(&many, (guint8)(10 + i % 200), "s", "x");
                add_uint32(&many, (guint8)(10 + i % 200), i);
        }
        add_text(&many, 7, "s", ":1.1");
        add_text(&many, 7, "s", ":1.2");
        message_end(&many);
        g_assert_cmpint(message_parse(&many, &header), ==, 0);
        g_assert_cmpstr(header.sender, ==, ":1.2");
        g_assert_cmpuint(header.n_fds, ==, 0);
}

/* A path that is longer than any of ours is none of ours; a longer name is no name. */
static void test_long_texts(void)
{
        static const struct {
                guint8 code;
                const char *type;
                int wanted;
        } cases[] = { { 1, "o", 0 }, { 2, "s", -EBADMSG }, { 3, "s", -EBADMSG }, { 7, "s", -EBADMSG }, { 99, "s", 0 } };
        g_autofree char *text = g_strnfill(20000, 'a');

        text[0] = '/';
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                Message message = message_new(false);
                WireHeader header;

                add_text(&message, cases[i].code, cases[i].type, text);
                message_end(&message);
                g_assert_cmpint(message_parse(&message, &header), ==, cases[i].wanted);
                if (cases[i].wanted == 0)
                        g_assert_cmpstr(header.path, ==, "");
        }
}

/* Every header that says of itself that it ends earlier. */
static void test_truncated(void)
{
        Message whole = new_call(false);
        guint32 size = whole.bytes->len - 16;
        WireHeader header;
        unsigned n_parsed = 0;

        for (guint32 shorter = 0; shorter < size - 8; shorter++) {
                put_uint32(&whole, 12, shorter);
                n_parsed += parse(whole.bytes->data, whole.bytes->len, &header) >= 0;
        }
        /* Where it ends between two fields, or in the padding before one. */
        g_assert_cmpuint(n_parsed, >, 0);
        g_assert_cmpuint(n_parsed, <, 40);
        g_byte_array_unref(whole.bytes);
}

/* Each byte with values that lie about lengths: whatever it is called then, nothing else is read. */
static void test_lies(void)
{
        static const guint8 values[] = { 0, 1, 7, 0x7f, 0x80, 0xfe, 0xff };
        Message call = new_call(false);
        WireHeader header;

        for (guint at = 0; at < call.bytes->len; at++) {
                guint8 kept = call.bytes->data[at];

                for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
                        call.bytes->data[at] = values[i];
                        (void)parse(call.bytes->data, call.bytes->len, &header);
                }
                call.bytes->data[at] = kept;
        }
        g_assert_cmpint(message_parse(&call, &header), ==, 0);
        assert_is_call(&header);
}

static void assert_broken(guint at, const char *bytes, size_t n)
{
        Message call = new_call(false);
        WireHeader header;

        memcpy(call.bytes->data + at, bytes, n);
        g_assert_cmpint(message_parse(&call, &header), ==, -EBADMSG);
}

/* The header says that it is longer than what there is of it. */
static void test_too_little(void)
{
        Message call = new_call(false);
        WireHeader header;

        for (size_t size = WIRE_FIXED_SIZE; size < call.bytes->len - 7; size++) {
                g_autofree guint8 *copy = g_memdup2(call.bytes->data, size);

                g_assert_cmpint(wire_parse_header(copy, size, &header), ==, -EBADMSG);
        }
        g_byte_array_unref(call.bytes);
}

/* The first field begins at 16: code, size and text of its type, then the size of its value at 20. */
static void test_broken(void)
{
        assert_broken(0, "x", 1);                /* neither endianness */
        assert_broken(0, "B", 1);                /* the other one: all sizes are absurd */
        assert_broken(4, "\xff\xff\xff\xff", 4); /* a body of 4 GiB */
        assert_broken(12, "\xff\xff\xff\xff", 4);
        assert_broken(17, "\xff", 1);             /* the type's size */
        assert_broken(18, "v", 1);                /* a type that no field has */
        assert_broken(19, "x", 1);                /* no NUL after it */
        assert_broken(20, "\xff\xff\xff\xff", 4); /* the value's size, with which an addition wraps */
        assert_broken(20, "\xfb\xff\xff\xff", 4);
        assert_broken(20, "\x0e\0\0\0", 4); /* no NUL after the value */
        assert_broken(24 + 15, "x", 1);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/wire/well-formed", test_well_formed);
        g_test_add_func("/wire/fields/none", test_no_field);
        g_test_add_func("/wire/fields/many", test_many_fields);
        g_test_add_func("/wire/fields/long", test_long_texts);
        g_test_add_func("/wire/truncated", test_truncated);
        g_test_add_func("/wire/too-little", test_too_little);
        g_test_add_func("/wire/lies", test_lies);
        g_test_add_func("/wire/broken", test_broken);
        return g_test_run();
}
