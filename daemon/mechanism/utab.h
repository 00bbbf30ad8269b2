/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /run/mount/utab: what umount(8), and programs that show mounts, have to know of one
 * and the kernel does not. May block, behind others who have its lock: only to be
 * called in a job's child.
 */
#pragma once

#include "base/macro.h"

/* umount(8) runs /sbin/umount.loopmount, as the user who calls it, for what has this in utab. */
#define UTAB_UMOUNT_HELPER "loopmount"

/* Writes a line: @node, of a volume, is mounted at @path, and its umount is ours to do. */
int utab_add_volume(const char *node, const char *path);

/*
 * Writes a line: the trigger at @path is nothing that a desktop should list. gvfs would enter it, looking for an
 * icon. To be called before the trigger is attached: what has no line is listed at once. @source as in mountinfo.
 */
int utab_add_trigger(const char *source, const char *path);

/* Takes away all lines about a volume at @path, or about a trigger; the other ones stay. */
int utab_remove_volume(const char *path);
int utab_remove_trigger(const char *path);
