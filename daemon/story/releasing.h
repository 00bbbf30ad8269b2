/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Unmounting volumes and letting a loop device go: what Detach, Unmount,
 * auto-detach and every rollback have in common. One job; all volumes are
 * unmounted, or all stay mounted.
 */
#pragma once

#include "story/story.h"

typedef struct Releasing Releasing;

Releasing *releasing_free(Releasing *releasing);
DEFINE_CLEANUP(Releasing *, releasing_free)

/* Unmounts all volumes that have a mount point, and then releases the loop device. */
int releasing_new(Story *story, Image *image, Releasing **ret);

/* Only unmounts, of these volumes those that have a mount point. */
int releasing_new_unmount(Story *story, Image *image, Volume *const *volumes, size_t n_volumes, Releasing **ret);

/*
 * Gives it up: what is busy is unmounted lazily, the device goes when the last one
 * closes it, and the job answers in seconds whether the kernel does or not.
 */
void releasing_force(Releasing *releasing);

/*
 * What was unmounted counts as mounted until releasing_tell(), and nobody is told of it before: what the volumes hold
 * now is to be read first.
 */
void releasing_hold_back(Releasing *releasing);

/* In the model they are unmounted now; each has is_changed set, for the story to tell. Without a result: nothing. */
void releasing_tell(Releasing *releasing);

/* Starts the job. */
int releasing_run(Releasing *releasing, JobDone done);

/*
 * Takes the result over: mount points, records and, if the device is gone, the
 * image itself, which is freed then: *ret_gone. @error and @answer: as the job
 * gave them. On failure: the stage and the words for the caller are in @failure,
 * and what was mounted is.
 * -EBUSY: @failure says by whom. STAGE_WRITE_BACK: all is unmounted, and gone if it
 * was to go, but not all is in the file. What was given up is no failure while it is
 * still there: its state is detaching or stuck.
 */
int releasing_apply(Releasing *releasing, int error, JobAnswer *answer, Failure *failure, bool *ret_gone);
