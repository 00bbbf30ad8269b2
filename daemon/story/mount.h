/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The story of mounting one volume of an attached image. */
#pragma once

#include "story/mounting.h"
#include "story/story.h"

/* Takes the contents of @wish over. As story_start(); *ret: valid until @done was called. */
int mount_start(Service *service, const Caller *caller, const Volume *volume, MountWish *wish, StoryDone done,
                void *userdata, Story **ret);

/* In @done, without a failure: where it is mounted. */
const char *mount_get_mount_point(const Story *story);
