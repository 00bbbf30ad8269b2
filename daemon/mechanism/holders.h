/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who keeps a mount or a loop device busy. Reads all of /proc and touches
 * others' files, so it can block: only to be called in a job's child.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

typedef struct Holder {
        pid_t pid;
        uid_t uid;
        char name[16 + 1]; /* comm, which is hostile text */
} Holder;

/*
 * The processes that have a file, working directory, root or mapping on one of
 * the mounts @mount_ids (as statx(2) numbers them, Linux 5.8), or have one of the
 * block devices @devices open or mapped.
 * Left out are kernel threads, the caller (a job) and its parent (the daemon). At
 * most @max are given.
 * In vain are sought: who waits in a mount namespace of its own that has a copy
 * of the mount, and what the kernel itself uses (swap, another loop device).
 */
int holders_find(const uint64_t *mount_ids, size_t n_mount_ids, const dev_t *devices, size_t n_devices, size_t max,
                 Holder **ret_holders, size_t *ret_n_holders);

/*
 * "vim (pid 123), bash (pid 124) and 2 processes of other users", as @uid may
 * see it; only the first few are named (root sees all); "" for none; NULL when out of memory.
 */
char *holders_describe(const Holder *holders, size_t n_holders, uid_t uid);
