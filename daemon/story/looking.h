/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking at the mounts of an image before a story trusts what the model says about them. */
#pragma once

#include "story/story.h"

/*
 * Returns true if @volume counts as mounted, or as waiting to be entered, and somebody else has unmounted it. Does not
 * block.
 */
bool looking_is_lost(const Volume *volume);

/*
 * A step in place of story_lock(). If a mount of the file's images is lost, what belonged to that mount is taken away
 * first, by a story of its own, and the image too if it is to go with its last mount.
 * -ESTALE: that did not work.
 */
int looking_lock(Story *story);
