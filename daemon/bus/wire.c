/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bus has validated each message. Nothing here relies on that. */
#include "bus/wire.h"

#define SIZE_MAX_OF_MESSAGE ((size_t)128 * 1024 * 1024)
#define TYPE_METHOD_CALL 1

enum {
        FIELD_PATH = 1,
        FIELD_INTERFACE = 2,
        FIELD_MEMBER = 3,
        FIELD_SENDER = 7,
        FIELD_SIGNATURE = 8,
        FIELD_UNIX_FDS = 9
};

typedef struct Reader {
        const uint8_t *bytes;
        size_t size, at;
        bool big_endian;
} Reader;

static size_t align_to(size_t at, size_t alignment)
{
        return (at + alignment - 1) / alignment * alignment;
}

static uint32_t get_uint32(const uint8_t *bytes, bool big_endian)
{
        uint32_t value = 0;

        for (unsigned i = 0; i < 4; i++)
                value = value << 8 | bytes[big_endian ? i : 3 - i];
        return value;
}

int wire_sizes(const uint8_t *bytes, size_t *ret_header_size, size_t *ret_message_size)
{
        bool big_endian = bytes[0] == 'B';
        size_t body, fields;

        if (bytes[0] != 'l' && !big_endian)
                return -EBADMSG;
        body = get_uint32(bytes + 4, big_endian);
        fields = get_uint32(bytes + 12, big_endian);
        if (body > SIZE_MAX_OF_MESSAGE || fields > SIZE_MAX_OF_MESSAGE)
                return -EBADMSG;
        *ret_header_size = align_to(WIRE_FIXED_SIZE + fields, 8);
        *ret_message_size = *ret_header_size + body;
        return 0;
}

static int read_bytes(Reader *reader, size_t alignment, size_t n, const uint8_t **ret)
{
        size_t at = align_to(reader->at, alignment);

        if (at > reader->size || n > reader->size - at)
                return -EBADMSG;
        *ret = reader->bytes + at;
        reader->at = at + n;
        return 0;
}

static int read_uint32(Reader *reader, uint32_t *ret)
{
        const uint8_t *bytes;
        int r = read_bytes(reader, 4, 4, &bytes);

        if (r >= 0)
                *ret = get_uint32(bytes, reader->big_endian);
        return r;
}

/* @size: of the text, without the NUL after it. */
static int read_text(Reader *reader, size_t size, const char **ret)
{
        const uint8_t *bytes;
        int r = read_bytes(reader, 1, size + 1, &bytes);

        if (r < 0)
                return r;
        if (bytes[size] != 0)
                return -EBADMSG;
        *ret = (const char *)bytes;
        return 0;
}

/* A signature has its size in one byte, a string and a path in four. */
static int read_short_text(Reader *reader, const char **ret)
{
        const uint8_t *size;
        int r = read_bytes(reader, 1, 1, &size);

        return r < 0 ? r : read_text(reader, *size, ret);
}

static int read_long_text(Reader *reader, const char **ret)
{
        uint32_t size;
        int r = read_uint32(reader, &size);

        return r < 0 ? r : read_text(reader, size, ret);
}

/* Names have 255 bytes at most; a path can have more. */
static int keep(WireHeader *header, uint8_t code, const char *text)
{
        char *to = code == FIELD_PATH      ? header->path :
                   code == FIELD_INTERFACE ? header->interface :
                   code == FIELD_MEMBER    ? header->member :
                   code == FIELD_SENDER    ? header->sender :
                   code == FIELD_SIGNATURE ? header->signature :
                                             NULL;

        if (to && strlen(text) < WIRE_NAME_SIZE)
                strcpy(to, text);
        else if (to && code != FIELD_PATH)
                return -EBADMSG;
        return 0;
}

static int read_field(Reader *reader, WireHeader *header)
{
        const uint8_t *code;
        const char *type, *text;
        int r = read_bytes(reader, 8, 1, &code);

        if (r >= 0)
                r = read_short_text(reader, &type);
        if (r < 0)
                return r;
        if (streq(type, "u") && *code == FIELD_UNIX_FDS)
                return read_uint32(reader, &header->n_fds);
        if (streq(type, "u"))
                return read_uint32(reader, &(uint32_t){ 0 });
        if (streq(type, "g"))
                r = read_short_text(reader, &text);
        else if (streq(type, "s") || streq(type, "o"))
                r = read_long_text(reader, &text);
        else
                return -EBADMSG;
        return r < 0 ? r : keep(header, *code, text);
}

int wire_parse_header(const uint8_t *bytes, size_t header_size, WireHeader *ret)
{
        Reader reader = { .bytes = bytes, .size = header_size, .at = WIRE_FIXED_SIZE };
        WireHeader header = { .is_call = bytes[1] == TYPE_METHOD_CALL };
        size_t end;

        reader.big_endian = bytes[0] == 'B';
        end = WIRE_FIXED_SIZE + get_uint32(bytes + 12, reader.big_endian);
        if (end > header_size)
                return -EBADMSG;
        reader.size = end;
        while (reader.at < end) {
                int r = read_field(&reader, &header);

                if (r < 0)
                        return r;
        }
        *ret = header;
        return 0;
}
