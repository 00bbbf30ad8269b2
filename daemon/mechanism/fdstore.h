/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The service manager's descriptor store (sd_pid_notify_with_fds(3)): a device
 * that nothing is mounted from would go with the daemon; a copy of its descriptor
 * in the store keeps it over a restart. Without systemd all of this does nothing.
 */
#pragma once

#include "base/macro.h"

void fdstore_put(uint64_t id, int fd);
void fdstore_drop(uint64_t id);

/* What the store gave back at start: the descriptor for @id, or -1. It is the caller's then. */
int fdstore_take(uint64_t id);

/* The same for what belongs to a volume: its trigger. */
void fdstore_put_volume(uint64_t id, unsigned number, int fd);
void fdstore_drop_volume(uint64_t id, unsigned number);
int fdstore_take_volume(uint64_t id, unsigned number);

/* Closes those that nobody has taken. */
void fdstore_close_rest(void);
