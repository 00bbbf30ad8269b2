/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A text is a byte that says whether there is one, and then the text with its final 0. */
#include "base/flat.h"

void flat_write(FlatWriter *writer, const void *data, size_t size)
{
        char *grown = writer->failed ? NULL : realloc(writer->data, writer->size + size);

        if (!grown) {
                writer->failed = true;
                return;
        }
        memcpy(grown + writer->size, data, size);
        writer->data = grown;
        writer->size += size;
}

void flat_write_text(FlatWriter *writer, const char *text)
{
        bool there = text;

        flat_write(writer, &there, sizeof(there));
        if (text)
                flat_write(writer, text, strlen(text) + 1);
}

int flat_finish(const FlatWriter *writer)
{
        return writer->failed ? -ENOMEM : 0;
}

int flat_read(FlatReader *reader, void *ret, size_t size)
{
        if (size > reader->left)
                return -EBADMSG;
        memcpy(ret, reader->next, size);
        reader->next += size;
        reader->left -= size;
        return 0;
}

int flat_read_text(FlatReader *reader, const char **ret)
{
        const char *end;
        bool there;
        int r = flat_read(reader, &there, sizeof(there));

        *ret = NULL;
        if (r < 0 || !there)
                return r;
        end = memchr(reader->next, 0, reader->left);
        if (!end)
                return -EBADMSG;
        *ret = reader->next;
        reader->left -= (size_t)(end + 1 - reader->next);
        reader->next = end + 1;
        return 0;
}
