/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Closing what may block for ever: in a process that may hang in it. */
#pragma once

#include <systemd/sd-event.h>

#include "base/macro.h"

/* What the process list shows; while it waits, and while it closes. */
#define CLOSER_IDLE_NAME "idle-closer"
#define CLOSER_NAME "closer"

/* Makes the first of these processes. To be called once, before the others here. */
int closer_set_up(sd_event *event);

/* Ends the one that waits. */
void closer_tear_down(void);

/*
 * Closes @fd in a child, for a descriptor whose last close may block: that of a device, which is written back, or of a
 * socket with descriptors in it. No user's file is ever in our descriptor table (see bus/gate.c).
 */
void closer_close(sd_event *event, int fd);
