/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cases that tests/images/mutate-images has written, and working copies of
 * sample images that become one case after the other. All functions end the
 * program if something of the test itself is wrong.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct Patch {
        int64_t offset;
        size_t size;
        uint8_t *bytes;
} Patch;

typedef struct Case {
        char name[64], image[64], what[160];
        int64_t size;
        bool writable;
        Patch *patches;
        size_t n_patches;
} Case;

typedef struct CaseReader {
        FILE *file;
        char *line; /* the head of the next case, read already */
        size_t allocated;
} CaseReader;

void cases_open(CaseReader *reader, const char *path);

/* The next case; false behind the last one. */
bool cases_next(CaseReader *reader, Case *ret);
void case_done(Case *item);

/* A copy of a sample image, as it is or as one case has it. */
typedef struct Copy {
        char image[64], path[256];
        int64_t size;
        int fd;
        Patch *undo;
        size_t n_undo;
} Copy;

/* Makes a copy of FOLDER/IMAGE at @path, sparse as it is there. */
void copy_make(Copy *ret, const char *folder, const char *image, const char *path);

/* Writes the case into it; copy_restore() takes it back, if nobody else has written, and says whether it could. */
void copy_apply(Copy *copy, const Case *item);
bool copy_restore(Copy *copy, const Case *item);
void copy_remove(Copy *copy);
