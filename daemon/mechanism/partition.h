/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Partition devices of a loop device: the kernel is told of those that it has no
 * parser for. Takes the disk's lock, which somebody's scan of a hung file may
 * hold: only to be called in a job's child.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/*
 * Makes sure that partition @number of the disk is there, at @offset and of @size
 * bytes, adding it if it is missing (BLKPG, ioctl_list(2)).
 * *ret_devnum: its device number. -EEXIST: there is another one of that number,
 * or it overlaps one.
 */
int partition_ensure(int disk_fd, unsigned disk_number, unsigned number, uint64_t offset, uint64_t size,
                     dev_t *ret_devnum);

/*
 * Opens the node of partition @number of the disk @diskseq (BLKGETDISKSEQ, Linux
 * 5.15) if it still is @devnum, at @offset and of @size bytes. As long as *ret_fd
 * is open nobody can take the partition away. -ESTALE: it is another one.
 */
int partition_open(unsigned disk_number, uint64_t diskseq, unsigned number, dev_t devnum, uint64_t offset,
                   uint64_t size, int *ret_fd);

/* Takes it away from the kernel. 0 also if there is none; -EBUSY: in use. */
int partition_remove(int disk_fd, unsigned number);

/*
 * If the kernel has more than @max partitions of the disk, by its own reading of the table, takes away all but those in
 * @keep. -EDQUOT: there are still more, as they are in use.
 */
int partition_limit(int disk_fd, unsigned disk_number, const unsigned *keep, size_t n_keep, unsigned max);

/* /dev/loopNpM */
void partition_node(unsigned disk_number, unsigned number, char path[static 32]);
