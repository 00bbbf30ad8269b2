/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A shared part: making the kernel's partitions of an image agree with its volumes. */
#pragma once

#include "story/story.h"

/*
 * Starts a job that takes the partitions @gone away, makes sure that each volume
 * has its device, and that the kernel has no more partitions than an image may
 * have volumes (-EDQUOT). 0: there is nothing to do, @done will not be called.
 */
int partitioning_run(Story *story, const Image *image, const unsigned *gone, size_t n_gone, JobDone done);

/* Takes the device numbers over; a volume without a device says so as its obstacle. */
int partitioning_apply(Image *image, const JobAnswer *answer);
