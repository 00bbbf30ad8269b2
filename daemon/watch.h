/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens to our devices and mounts without our doing: udev events, and unmounts by others. */
#pragma once

#include "story/story.h"

typedef struct Watch Watch;

int watch_new(Service *service, Watch **ret);
Watch *watch_free(Watch *watch);
DEFINE_CLEANUP(Watch *, watch_free)

/* To be called when stories have ended: what changed while they were under way is seen now. */
void watch_story_ended(Watch *watch);

/* To be called when an image has come or changed, or a volume of it. @watch may be NULL. */
void watch_changed(Watch *watch, const Image *image);
