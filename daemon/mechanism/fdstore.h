/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The service manager's descriptor store (sd_pid_notify_with_fds(3)): a device
 * that nothing is mounted from would go with the daemon; a copy of its descriptor
 * in the store keeps it over a restart. Without systemd all of this does nothing.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/* How many descriptors the store takes: FileDescriptorStoreMax= of loopmountd.service. */
#define FDSTORE_MAX 4096U
/* How many of them may be one user's, so that nobody else's are refused. */
#define FDSTORE_PER_USER_MAX 256U

/*
 * The service manager does not say that its store is full, so all that may have to be kept is counted beforehand.
 * @n_of_user, @n_of_all: with what is to come. Root has no share. -EDQUOT: it would not be kept.
 */
int fdstore_check(uid_t uid, size_t n_of_user, size_t n_of_all);

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
