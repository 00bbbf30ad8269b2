/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * udev: hearing of our devices, and waiting until udevd has processed them.
 * Without udevd everything here does nothing, successfully. Nothing blocks.
 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-device.h>
#include <systemd/sd-event.h>

#include "base/macro.h"

/* Our udev rules give this tag to our loop devices and their partitions. */
#define SETTLE_TAG "loopmount"

/*
 * Events of our devices alone: the kernel filters by subsystem and tag, so that
 * other devices do not wake the daemon.
 */
int settle_monitor(sd_event *event, sd_device_monitor_handler_t handler, void *userdata, sd_device_monitor **ret);

/*
 * The sequence number of the last uevent up to now: whatever the kernel has to
 * say of a call that has returned has this number or a lower one. 0: unknown.
 */
uint64_t settle_get_seqnum(void);

typedef struct Settle Settle;

/* Called once, never from within settle_start(). -ETIMEDOUT: udevd has not got to the end of it. */
typedef void (*SettleDone)(int error, void *userdata);

/*
 * Has udevd look at each of @devices again, and waits for that. Uses the UUIDs of
 * synthesised uevents (Linux 4.13, systemd 249), so no other event is mistaken
 * for it. 0: there is no udevd, @done will not be called; 1: waiting.
 */
int settle_start(sd_event *event, const dev_t *devices, size_t n_devices, uint64_t timeout_usec, SettleDone done,
                 void *userdata, Settle **ret);

/* The callback will not be called. Gives NULL. */
Settle *settle_cancel(Settle *settle);
DEFINE_CLEANUP(Settle *, settle_cancel)
