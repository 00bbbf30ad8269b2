/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tells the service manager which mounts the attached files are on, for the order of the shutdown. */
#pragma once

#include "story/story.h"

typedef struct Backing Backing;

Backing *backing_free(Backing *backing);
DEFINE_CLEANUP(Backing *, backing_free)

/* Where systemd does not run *ret is NULL, which all functions here take. */
int backing_new(Service *service, Backing **ret);

/* An image has come or gone. Nothing is done before all that is waiting has been: no caller waits for this. */
void backing_changed(Backing *backing);
