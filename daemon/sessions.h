/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Detaches what users have attached when their last session ends. */
#pragma once

#include "story/story.h"

typedef struct Sessions Sessions;

Sessions *sessions_free(Sessions *sessions);
DEFINE_CLEANUP(Sessions *, sessions_free)

/* What is attached already is looked at, too: its owner may have left while no daemon ran. */
int sessions_new(Service *service, Sessions **ret);

/* An image has come (its owner may have left meanwhile) or gone. */
void sessions_changed(Sessions *sessions, RegistryEvent event, const Image *image);
