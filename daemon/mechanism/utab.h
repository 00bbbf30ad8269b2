/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /run/mount/utab: what umount(8) has to know of a mount and the kernel does not.
 * May block, behind others who have its lock: only to be called in a job's child.
 */
#pragma once

#include "base/macro.h"

/* umount(8) runs /sbin/umount.loopmount, as the user who calls it, for what has this in utab. */
#define UTAB_UMOUNT_HELPER "loopmount"

/* Writes a line: @source is mounted at @path, and its umount is ours to do. */
int utab_add(const char *source, const char *path);

/* Takes away all lines about @path. */
int utab_remove(const char *path);
