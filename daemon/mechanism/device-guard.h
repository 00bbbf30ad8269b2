/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keeps a process that mounts away from all block devices but the one that it is
 * told to mount, whatever the file system's driver reads in the image.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/* How many descriptors device_guard_get_fds() returns. */
#define DEVICE_GUARD_FDS 2U

/*
 * In the daemon: sets the guard up, unless it is up already. Does not block.
 * Returns false if this system has none: no cgroup v2, or no BPF programs for
 * devices. A later call tries again.
 */
bool device_guard_available(void);

/*
 * In the daemon: a number that no other process has ever had. It is to be given
 * back with device_guard_drop_pass(), with which its holder loses what it may
 * reach. Returns 0, which is no pass, where there is no guard.
 */
gid_t device_guard_new_pass(void);
void device_guard_drop_pass(gid_t pass);

/* The descriptors that a guarded process needs; owned by this module. The guard lasts as long as any process has them.
 */
void device_guard_get_fds(int ret_fds[static DEVICE_GUARD_FDS]);

/*
 * In the guarded process, after mount_isolate(): from now on it can open no block
 * device but @device, nor make a node of another one, until device_guard_leave().
 * @fds: from device_guard_get_fds(), perhaps under other numbers. May be called
 * again for another device. Makes sure that the kernel does refuse what it should:
 * -ENOTRECOVERABLE if it does not. Else -errno as bpf(2) and setresgid(2).
 */
int device_guard_enter(const int fds[static DEVICE_GUARD_FDS], gid_t pass, dev_t device);
int device_guard_leave(void);
