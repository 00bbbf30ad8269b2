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
