/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an earlier daemon has left: images that are still attached, and what it had not finished. */
#pragma once

#include "story/story.h"

/*
 * Takes over every image on record that is still there, with its owner, options
 * and mounts; starts the detach of those that were half done or are gone. To be
 * called before the daemon takes its name on the bus. Does not block.
 */
int adopt_images(Service *service);

/* Removes the markers of loop devices that no image uses. To be called while no story binds one. < 0: not all. */
int adopt_sweep_markers(const Service *service);
