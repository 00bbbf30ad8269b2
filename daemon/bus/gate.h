/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon's connection to the bus, with a process in it through which all that comes has to pass. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

/* What the process list shows: the gate, and who waits for the next file, or closes one. */
#define GATE_NAME "gate"
#define GATE_IDLE_CATCHER_NAME "idle-catcher"
#define GATE_CATCHER_NAME "catcher"

/* How many files of a user may hang in being closed, before no further one is taken. */
#define GATE_HANGING_MAX 3U

/*
 * Connects to the system bus. Each file in a message has become a parcel (mechanism/parcel.h) when the message arrives:
 * its label says -EUSERS if the sender's user has too many files that hang. Files in messages that are not for a method
 * which takes one arrive as descriptors of nothing. @timeout_usec: after that long in a close the sender's FUSE
 * connection is aborted.
 */
int gate_open_bus(uint64_t timeout_usec, sd_bus **ret);

/*
 * Connects to the system bus for questions of one's own: no files arrive, and nobody may call a method there. Others'
 * messages to the daemon's name therefore take no room away from the answers: the bus drops what comes while 64
 * descriptors, or too many bytes, wait for a connection.
 */
int gate_open_own_bus(sd_bus **ret);

/* Ends the gate, after the bus was closed. */
void gate_close(void);
