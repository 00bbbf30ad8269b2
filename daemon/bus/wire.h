/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header of a D-Bus message, as far as the gate has to know it (D-Bus specification, "Message Format"). Pure. */
#pragma once

#include "base/macro.h"

/* How many bytes tell how long the header and the whole message are. */
#define WIRE_FIXED_SIZE ((size_t)16)
#define WIRE_NAME_SIZE 256U
/* A longer header has a path that libsystemd does not accept either: it drops such a message without an answer. */
#define WIRE_HEADER_SIZE_MAX ((size_t)64 * 1024)

typedef struct WireHeader {
        bool is_call;
        uint32_t n_fds;
        char path[WIRE_NAME_SIZE];      /* empty: it is longer */
        char interface[WIRE_NAME_SIZE]; /* empty: there is none */
        char member[WIRE_NAME_SIZE];    /* the same */
        char signature[WIRE_NAME_SIZE]; /* empty: no arguments */
        char sender[WIRE_NAME_SIZE];    /* the bus has put it there */
} WireHeader;

/* Of the first WIRE_FIXED_SIZE bytes. -EBADMSG: they are no message's. */
int wire_sizes(const uint8_t *bytes, size_t *ret_header_size, size_t *ret_message_size);

/* Of all of the header. */
int wire_parse_header(const uint8_t *bytes, size_t header_size, WireHeader *ret);
