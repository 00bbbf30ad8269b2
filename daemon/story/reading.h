/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading an attached image again: the steps that two stories share, that of looking
 * again (refresh.c), and that of unmounting what may have been written to (detach.c).
 *
 *   open         the device has a descriptor in the daemon
 *   probe        a sandboxed child has read the device
 *   partitions   the volumes are what was found, and the kernel's partitions agree with the table
 *   commit       what has changed is on record and on the bus
 */
#pragma once

#include "story/story.h"

/* A story that has these steps begins with this. */
typedef struct Reading {
        Story story;
        uint64_t image_id; /* the image is looked up after each wait: it may be gone */
        bool wanted;       /* else the steps do nothing */
        uint64_t seqnum;   /* of the last uevent before the probe: what comes later may tell of what it has not seen */
        Image *found;      /* what the probe saw; only its volumes and its table count */
        unsigned *gone;    /* partitions that the kernel is to forget; NULL: the volumes are as they were */
        size_t n_gone;
} Reading;

/* Frees what is in it, and not the story. */
void reading_done(Reading *reading);

/* NULL: it has gone. */
Image *reading_find_image(const Story *story);

/* The steps. */
int reading_open(Story *story);
int reading_probe(Story *story);
int reading_partitions(Story *story);
int reading_commit(Story *story);

/*
 * In the undo of the story: what is there is recorded and shown, even if not all of it
 * could be made. A volume that was unmounted by this story, and could not be read, is
 * shown as one of which nothing is known: what was known before may be wrong.
 */
void reading_failed(Story *story);
