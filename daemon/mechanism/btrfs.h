/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's registry of btrfs devices. May block, as it waits for a btrfs mount
 * that is under way: only to be called in a job's child. Does nothing if the btrfs
 * module is not loaded, and never loads it.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/*
 * Removes the registry's entries of @devices. Numbers of 0, and of devices that are mounted or not registered, are
 * skipped. @folder: of a private file system, in which it makes nodes (see mount_make_private()). Call after
 * mount_enter(), and not while isolated.
 */
void btrfs_forget(int folder, const dev_t *devices, size_t n_devices);

/*
 * After btrfs_forget(): has udev register again what the entries may have replaced: all devices that it knows as btrfs
 * and that are not mounted. Does not wait for udev.
 */
void btrfs_announce_others(void);
