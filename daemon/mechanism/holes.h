/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The holes of a file that is to be written to through a loop device. May block: only to be called in a job's child.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/*
 * If a quota limits the file, allocates what is missing in its @size bytes (0: to the end) from @offset, by the rights
 * of @uid and @gid alone. A file without holes, and one that no quota limits, stay as they are.
 * -EDQUOT: the quota or the disk has no room for it, or its file system cannot allocate in advance; else as stat(2) and
 * fork(2).
 */
int holes_fill(int fd, uint64_t offset, uint64_t size, uid_t uid, gid_t gid);
