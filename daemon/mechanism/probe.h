/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is in an image: its partition table and what each part of it holds, as
 * libblkid sees it. Reads hostile bytes, in a job's child that has shut itself in.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

#define PROBE_VOLUMES_MAX 128U

typedef struct ProbeVolume {
        uint32_t number; /* 0: the whole image; else the partition's number */
        uint64_t offset; /* in the image, bytes */
        uint64_t size;   /* bytes */
        bool ambivalent; /* it has the signatures of several types */
        bool incomplete; /* an ext3 or ext4 whose journal is on another device */
        char usage[16];  /* "filesystem", "crypto", "raid", "other"; "": nothing was recognised */
        char type[32];   /* as libblkid calls it */
        char version[32];
        char label[256]; /* raw bytes, NUL-terminated, like all text here; as many as a file name may have */
        char uuid[64];
        uint32_t block_size; /* the file system's, bytes, as libblkid takes it to be; 0: unknown */
        char partition_type[40];
        char partition_name[256];
        char partition_uuid[48];
} ProbeVolume;

/* What can be told of the file and the image; a probe's answer is this and then n_volumes ProbeVolumes. */
typedef struct ProbeSummary {
        dev_t file_device; /* who the file is, for finding the same one again; 0 for a block device */
        ino_t file_inode;
        uint64_t size; /* of the image: the part of the file that was asked for, bytes */
        uint32_t sector_size;
        char table[16]; /* "gpt", "dos" ...; "": none */
        uint32_t n_volumes;
} ProbeSummary;

typedef struct ProbeSpec {
        int fd;               /* a regular file or a block device */
        uint64_t offset;      /* bytes */
        uint64_t size;        /* bytes; 0: to the end */
        uint32_t sector_size; /* 0: to be found out */
        bool partition_scan;
        bool regular_only;
} ProbeSpec;

/* In the parent, once: makes what the sandbox needs, so that each child only has to put it on. */
int probe_prepare_sandbox(void);

/*
 * In the child: looks at the file, shuts itself in and reads. Requires
 * probe_prepare_sandbox() in the parent. Of the child's descriptors only @channel,
 * for the answer, stays open. Standard input becomes the image. *ret_data,
 * *ret_size: the answer for probe_parse(). It depends on the bytes alone, but for
 * the file's identity: the same for a file and for a block device.
 * -EACCES: the file is on a file system that root may not look into (FUSE
 * without allow_other); -EMEDIUMTYPE: no regular file; -ENODATA: empty, or the
 * part that was asked for is not in it; -ENOTUNIQ: partition tables for two
 * sector sizes; -EDQUOT: more than PROBE_VOLUMES_MAX volumes; else as read(2).
 */
int probe_run(const ProbeSpec *spec, int channel, void **ret_data, size_t *ret_size);

/*
 * A part of it: gives up everything that a reader of bytes does not need:
 * privileges, all file systems, all descriptors but @fds (at most FDS_KEEP_MAX), further
 * files, memory and time without end, and all system calls but a few. There is no
 * way back. May block for as long as it takes to close the descriptors.
 */
int probe_enter_sandbox(const int *fds, size_t n_fds);

/*
 * Takes a child's answer apart, believing nothing: -EBADMSG if it cannot be true.
 * *ret_volumes is to be freed.
 */
int probe_parse(const void *data, size_t size, ProbeSummary *ret, ProbeVolume **ret_volumes);
