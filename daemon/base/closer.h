/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Closing what users have opened, which may block for ever: in a process that may hang in it. */
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
 * Closes @fd in a child, for a descriptor whose close may block. That is each one
 * that a user has opened: close(2) has the file system flush the file, also when
 * it is not the last; a FUSE server may never answer that.
 */
void closer_close(sd_event *event, int fd);

/*
 * The same for a descriptor that somebody else will close (a message): its number
 * stays, and leads nowhere. 0: it is harmless now; < 0: it is not.
 */
int closer_withdraw(sd_event *event, int fd);
