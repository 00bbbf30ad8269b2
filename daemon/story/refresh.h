/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The story of looking at an attached image again: after a repartition, a mkfs, a change of the file's size. */
#pragma once

#include "story/story.h"

/* @capacity: take over the size of the backing file first. As story_start(); *ret: valid until @done was called. */
int refresh_start(Service *service, const Caller *caller, const Image *image, bool capacity, StoryDone done,
                  void *userdata, Story **ret);

/* Whether one is waiting for its turn: then another one would see nothing else. */
bool refresh_is_pending(const Service *service, const Image *image);
