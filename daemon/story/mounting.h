/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mounting some volumes of an image: what Attach and Volume.Mount have in
 * common. Planned first, without touching anything; then run in one job, which
 * makes all mounts before it attaches the first.
 */
#pragma once

#include "story/story.h"

/* What the caller wishes; NULL where he has no wish. */
typedef struct MountWish {
        char *filesystem_type;
        char *options;
        char *name;
} MountWish;

void mount_wish_done(MountWish *wish);

typedef struct Mounting Mounting;

Mounting *mounting_free(Mounting *mounting);
DEFINE_CLEANUP(Mounting *, mounting_free)

/*
 * Decides which volumes to mount and how: those in @numbers, or if there are none
 * all that nothing stands in the way of. Fails with words for the caller.
 * -ENODATA: nothing was recognised; -EINVAL: unusable name; -EPROTONOSUPPORT: what is there cannot be
 * mounted; -ENOENT: no such volume; -EPERM: option not permitted; -EROFS: a file
 * system that can only be read; -EALREADY: mounted already; -EACCES: the story has
 * no permission for the driver.
 */
int mounting_plan(Story *story, Image *image, const MountWish *wish, const uint32_t *numbers, size_t n_numbers,
                  Mounting **ret);

/* Makes the mount points; the record tells of each before it is there. */
int mounting_prepare(Mounting *mounting);

/* Makes the mount points and starts the job; the record tells of each before it is there. */
int mounting_run(Mounting *mounting, JobDone done);

/*
 * Takes the job's answer over into the model. Fails if nothing was mounted, or
 * not all of what the caller named. The mount points of what failed are gone.
 */
int mounting_apply(Mounting *mounting, const JobAnswer *answer);

/* Those to mount; NULL behind the last. @mounting may be NULL for their number. */
Volume *mounting_nth(const Mounting *mounting, size_t n);
size_t mounting_count(const Mounting *mounting);

/* Whether @volume is one of those to mount. @mounting may be NULL. */
bool mounting_includes(const Mounting *mounting, const Volume *volume);
