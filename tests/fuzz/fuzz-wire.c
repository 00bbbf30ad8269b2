/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From the bytes of a message to what the gate knows of it, as the gate reads them: no more than the header. */
#include "bus/wire.h"
#include "fuzz.h"

static void check_text(const char *text)
{
        CHECK(memchr(text, 0, WIRE_NAME_SIZE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t header_size, message_size;
        WireHeader header;

        if (size < WIRE_FIXED_SIZE || wire_sizes(data, &header_size, &message_size) < 0)
                return 0;
        CHECK(header_size >= WIRE_FIXED_SIZE && header_size % 8 == 0 && message_size >= header_size);
        if (header_size > size)
                return 0;
        /* Without anything after it, so that a byte too much is noticed. */
        bytes = malloc(header_size);
        CHECK(bytes);
        memcpy(bytes, data, header_size);
        if (wire_parse_header(bytes, header_size, &header) < 0)
                return 0;
        check_text(header.path);
        check_text(header.interface);
        check_text(header.member);
        check_text(header.signature);
        check_text(header.sender);
        return 0;
}
