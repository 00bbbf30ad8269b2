/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mounts volumes when somebody enters them, and unmounts them when they were not used for some time. */
#pragma once

#include "story/story.h"

typedef struct Triggers Triggers;

/* From here on stories can make triggers. To be called before images are taken over. */
int triggers_new(Service *service, Triggers **ret);
Triggers *triggers_free(Triggers *triggers);
DEFINE_CLEANUP(Triggers *, triggers_free)

/* To be called when stories have ended: some may have waited for that, and volumes may be mounted now. */
void triggers_story_ended(Triggers *triggers);
