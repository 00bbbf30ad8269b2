/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The story of finding the images of a file. */
#pragma once

#include "story/story.h"

/* @parcel: the file (see parcel.h), taken over, also on failure. As story_start(); *ret: valid until @done was called.
 */
int find_start(Service *service, const Caller *caller, int parcel, StoryDone done, void *userdata, Story **ret);

/* In @done: whether @image is the file's, and the caller may know it. */
bool find_matches(const Story *story, const Image *image);
