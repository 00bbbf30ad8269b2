/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stories of taking away: detaching an image, unmounting a volume. */
#pragma once

#include "story/story.h"

/* All as story_start(); *ret: valid until @done was called. */

/* @force: gives it up, as releasing_force() says. */
int detach_start(Service *service, const Caller *caller, const Image *image, bool force, StoryDone done, void *userdata,
                 Story **ret);

/* All images of the caller; fails with the first failure, behind the last of them. */
int detach_all_start(Service *service, const Caller *caller, bool force, StoryDone done, void *userdata, Story **ret);

/*
 * @holder, a bus name, lets go of all that it holds: what nobody else holds is unmounted, in use or not it is held no
 * more. Else as detach_all_start().
 */
int release_start(Service *service, const Caller *caller, const char *holder, StoryDone done, void *userdata,
                  Story **ret);

/* With auto-detach, the image goes with its last mounted volume. */
int unmount_start(Service *service, const Caller *caller, const Volume *volume, StoryDone done, void *userdata,
                  Story **ret);

/* Takes away what belonged to those mounts of the image that somebody else has unmounted. Else as unmount_start(). */
int detach_lost_start(Service *service, const Caller *caller, const Image *image, StoryDone done, void *userdata,
                      Story **ret);
