/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Values and texts one behind the other in one piece of memory, to be sent to
 * another process of the same program, which reads them in the same order.
 */
#pragma once

#include "base/macro.h"

/* Begins as { 0 }; ->data is the caller's to free. What fails is remembered: it is asked for once, at the end. */
typedef struct FlatWriter {
        char *data;
        size_t size;
        bool failed;
} FlatWriter;

void flat_write(FlatWriter *writer, const void *data, size_t size);
void flat_write_text(FlatWriter *writer, const char *text); /* or NULL */

/* -ENOMEM if anything before has failed. */
int flat_finish(const FlatWriter *writer);

typedef struct FlatReader {
        const char *next;
        size_t left;
} FlatReader;

/* -EBADMSG: that is not there. */
int flat_read(FlatReader *reader, void *ret, size_t size);
int flat_read_text(FlatReader *reader, const char **ret); /* points into what is read */
