/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loop devices: binding one to a file, and letting it go. Both may block for as
 * long as the file's file system likes (LOOP_CONFIGURE syncs the file, LOOP_CLR_FD
 * and the last close write back): only to be called in a job's child. What can
 * not block says so.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/* All loop devices that we bound carry this, and the owner's uid, as lo_file_name. */
#define LOOP_TAG "loopmount:"

typedef enum LoopDirectIO {
        LOOP_DIRECT_IO_AUTO, /* where it can be */
        LOOP_DIRECT_IO_YES,
        LOOP_DIRECT_IO_NO,
} LoopDirectIO;

typedef struct LoopSpec {
        int file_fd;
        bool read_only;
        bool partition_scan;
        uint64_t offset; /* bytes */
        uint64_t size;   /* bytes; 0: to the end of the file */
        uint32_t sector_size;
        LoopDirectIO direct_io;
        uid_t owner;
} LoopSpec;

typedef struct LoopDevice {
        unsigned number; /* N of /dev/loopN */
        dev_t devnum;
        uint64_t diskseq;
        uint64_t size; /* bytes */
        uint32_t sector_size;
        bool read_only;
        bool direct_io;
} LoopDevice;

/*
 * Binds a free loop device to spec->file_fd, AUTOCLEAR set: it goes with the last
 * close of *ret_fd and of its mounts. Leaves a marker for the udev rules, RUN_DEVICES_DIR/loopN-DISKSEQ.
 * -EUSERS: no loop device was free after many tries; -ENODATA: the kernel made a
 * device of size 0 of it; -ENOSYS: it has no disk sequence numbers; -EOPNOTSUPP: direct I/O was asked for and cannot
 * be; else what LOOP_CONFIGURE says (loop(4)).
 */
int loop_bind(const LoopSpec *spec, LoopDevice *ret, int *ret_fd);

/*
 * Opens /dev/loopN if it still is @devnum with disk sequence number @diskseq
 * (BLKGETDISKSEQ, Linux 5.15). Does not block. -ESTALE: it is another tenant's,
 * or nobody's.
 */
int loop_open(unsigned number, dev_t devnum, uint64_t diskseq, int flags, int *ret_fd);

/*
 * Clears the device, closes @fd and waits until the kernel has let go of the
 * file. -EBUSY: somebody else has it open; it goes when that one closes it.
 */
int loop_release(int fd, unsigned number, uint64_t diskseq, uint64_t timeout_usec);

/* Waits for that only; does not touch the device. -EBUSY: it is still there. */
int loop_wait_until_gone(unsigned number, uint64_t diskseq, uint64_t timeout_usec);

/* Whether the attachment @diskseq of /dev/loopN is over. Does not block. */
bool loop_is_gone(unsigned number, uint64_t diskseq);

/* Takes the file's new size over; *ret_size in bytes. */
int loop_set_capacity(int fd, uint64_t *ret_size);

/*
 * Has the kernel look for partitions, at once and from now on (LO_FLAGS_PARTSCAN), if it does not do so yet: that
 * takes 14-20 ms. Has to come before the first partition is added by hand. -EBUSY: somebody has it open exclusively, by
 * a mount for example (from Linux 6.19 on).
 */
int loop_scan_partitions(int fd);

/* Removes the marker of the attachment @diskseq of /dev/loopN, and no other one. Does not block. */
void loop_forget(unsigned number, uint64_t diskseq);

/* Renames a marker that loopmount 0.1 made, which has no disk sequence number in its name. Does not block. */
void loop_adopt_marker(unsigned number, uint64_t diskseq);

/*
 * Removes each marker whose attachment is over, and each claim that no child holds.
 * Does not block. Returns the number of markers that stay, or -errno.
 */
int loop_sweep_markers(void);
