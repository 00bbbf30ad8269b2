/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The system calls alone, as few of them as will do: what a mount costs when nobody asks whether it may
 * be made, looks at what is in the image, remembers it, or takes anything back if something fails.
 */
#pragma once

#include "way.h"

typedef struct RawImage {
        int loop;
        uint64_t sequence; /* the device's disk sequence number */
        unsigned n_mounts;
} RawImage;

/* @file: the open image, which stays the caller's. Partition @i goes to the folder @i in @target. */
int raw_attach(const Task *task, int file, const char *target, RawImage *ret);
int raw_detach(RawImage *image, const char *target);
