/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ways in which an image can be mounted and taken away again. Each is a pair of
 * functions that gives 0 or -errno, and keeps for itself what it has between them: a
 * process does one thing at a time. A way that only runs a program has no detach.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is to be mounted. Partitions, if there are any, all are of one size, one behind the other. */
typedef struct Task {
        const char *image;
        const char *type;
        bool writable;
        unsigned n_partitions;
} Task;

#define TASK_PARTITION_OFFSET (UINT64_C(1) << 20)
#define TASK_PARTITION_SIZE (UINT64_C(4) << 20)

typedef struct Way {
        const char *name;
        int (*attach)(const Task *task);
        int (*detach)(const Task *task);
} Way;

/* Arrays end with a row without a name. */
extern const Way ways_raw[], ways_bus[], ways_command[];

/* Ends the process if there is none of this name. */
const Way *way_find(const char *name);

/* An own folder to mount on, which stays; partition @i is mounted in a folder of it. */
const char *way_target(void);

/* The image, opened as the task says, or -errno. */
int way_open(const Task *task);

/* Says what has failed, and gives -errno of it; nothing and 0 if nothing has. */
int way_failed(int r, const char *what);
int way_failed_errno(int r, const char *what);

uint64_t way_now_nsec(void);
