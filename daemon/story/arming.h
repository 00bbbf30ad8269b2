/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Putting triggers where volumes would be mounted, so that they are mounted when they are entered. */
#pragma once

#include "story/mounting.h"
#include "story/story.h"

typedef struct Arming Arming;

Arming *arming_free(Arming *arming);
DEFINE_CLEANUP(Arming *, arming_free)

/*
 * Makes the mount points of what @mounting has planned, and starts the job that puts a trigger on each. As
 * mounting_run(). *ret, also on failure: to be kept until the job is done.
 */
int arming_run(Story *story, Image *image, Mounting *mounting, JobDone done, Arming **ret);

/* Takes over what the job has done; also if it has failed, for then some may be there: as @error. */
int arming_apply(Arming *arming, int error, const JobAnswer *answer);
