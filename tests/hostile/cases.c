/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading a sample anew for each of its cases would cost more than all the rest: what a case writes is taken back. */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cases.h"

static void *must(void *memory)
{
        if (!memory)
                errx(2, "out of memory");
        return memory;
}

void cases_open(CaseReader *reader, const char *path)
{
        *reader = (CaseReader){ .file = fopen(path, "re") };
        if (!reader->file)
                err(2, "%s", path);
        if (getline(&reader->line, &reader->allocated, reader->file) < 0)
                errx(2, "%s has no cases", path);
}

static void parse_head(const char *line, Case *ret)
{
        char mode[8];

        *ret = (Case){ 0 };
        if (sscanf(line, "case %63s %63s %" SCNd64 " %7s %159[^\n]", ret->name, ret->image, &ret->size, mode,
                   ret->what) != 5)
                errx(2, "no case: %s", line);
        ret->writable = strcmp(mode, "rw") == 0;
}

static uint8_t digit(char c)
{
        return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void parse_patch(const char *line, Patch *ret)
{
        char *text;
        size_t n;

        ret->offset = strtoll(line, &text, 10);
        n = strspn(++text, "0123456789abcdef");
        ret->size = n / 2;
        ret->bytes = must(malloc(ret->size + 1));
        for (size_t i = 0; i < ret->size; i++)
                ret->bytes[i] = (uint8_t)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
}

bool cases_next(CaseReader *reader, Case *ret)
{
        ssize_t n;

        if (!reader->line) {
                (void)fclose(reader->file);
                return false;
        }
        parse_head(reader->line, ret);
        while ((n = getline(&reader->line, &reader->allocated, reader->file)) > 0 && reader->line[0] != 'c') {
                ret->patches = must(reallocarray(ret->patches, ret->n_patches + 1, sizeof(Patch)));
                parse_patch(reader->line, &ret->patches[ret->n_patches++]);
        }
        if (n <= 0) {
                free(reader->line);
                reader->line = NULL;
        }
        return true;
}

static void patches_free(Patch *patches, size_t n_patches)
{
        for (size_t i = 0; i < n_patches; i++)
                free(patches[i].bytes);
        free(patches);
}

void case_done(Case *item)
{
        patches_free(item->patches, item->n_patches);
        *item = (Case){ 0 };
}

/* ---- Copies ---- */

static void copy_data(int from, int to, off_t at, off_t end, const char *what)
{
        static char buffer[256 * 1024];

        while (at < end) {
                size_t wanted = (size_t)(end - at) < sizeof(buffer) ? (size_t)(end - at) : sizeof(buffer);
                ssize_t n = pread(from, buffer, wanted, at);

                if (n <= 0 || pwrite(to, buffer, (size_t)n, at) != n)
                        err(2, "copying %s", what);
                at += n;
        }
}

void copy_make(Copy *ret, const char *folder, const char *image, const char *path)
{
        char source[512];
        struct stat st;
        off_t at = 0, end;
        int from;

        *ret = (Copy){ 0 };
        snprintf(source, sizeof(source), "%s/%s", folder, image);
        snprintf(ret->image, sizeof(ret->image), "%s", image);
        snprintf(ret->path, sizeof(ret->path), "%s", path);
        from = open(source, O_RDONLY | O_CLOEXEC);
        if (from < 0 || fstat(from, &st) < 0)
                err(2, "%s", source);
        ret->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (ret->fd < 0 || ftruncate(ret->fd, st.st_size) < 0)
                err(2, "%s", path);
        ret->size = st.st_size;
        while ((at = lseek(from, at, SEEK_DATA)) >= 0 && (end = lseek(from, at, SEEK_HOLE)) > 0) {
                copy_data(from, ret->fd, at, end, image);
                at = end;
        }
        close(from);
}

static void copy_write(const Copy *copy, const Patch *patch)
{
        if (pwrite(copy->fd, patch->bytes, patch->size, patch->offset) != (ssize_t)patch->size)
                err(2, "writing to %s", copy->path);
}

void copy_apply(Copy *copy, const Case *item)
{
        copy->undo = must(calloc(item->n_patches + 1, sizeof(Patch)));
        copy->n_undo = item->n_patches;
        for (size_t i = 0; i < item->n_patches; i++) {
                const Patch *patch = &item->patches[i];

                copy->undo[i] = (Patch){ patch->offset, patch->size, must(malloc(patch->size + 1)) };
                if (pread(copy->fd, copy->undo[i].bytes, patch->size, patch->offset) != (ssize_t)patch->size)
                        err(2, "reading %s", copy->path);
                copy_write(copy, patch);
        }
        if (ftruncate(copy->fd, item->size) < 0)
                err(2, "%s: %" PRId64 " bytes", item->name, item->size);
}

bool copy_restore(Copy *copy, const Case *item)
{
        bool whole = !item->writable && item->size >= copy->size;

        for (size_t i = copy->n_undo; whole && i > 0; i--)
                copy_write(copy, &copy->undo[i - 1]);
        if (whole && ftruncate(copy->fd, copy->size) < 0)
                err(2, "%s", copy->path);
        patches_free(copy->undo, copy->n_undo);
        copy->undo = NULL;
        copy->n_undo = 0;
        return whole;
}

void copy_remove(Copy *copy)
{
        patches_free(copy->undo, copy->n_undo);
        (void)close(copy->fd);
        (void)unlink(copy->path);
        *copy = (Copy){ .fd = -1 };
}
