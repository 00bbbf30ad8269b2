/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disk images made byte by byte in a memfd: just enough of each format for
 * libblkid to recognise it, and nothing on a real disk. All functions abort the
 * test on failure.
 */
#pragma once

#include "base/macro.h"

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1024) * 1024)

/* An image of zeros. */
int disk_new(uint64_t size);

void disk_write(int fd, uint64_t offset, const void *bytes, size_t n_bytes);
void disk_write_u32(int fd, uint64_t offset, uint32_t value); /* little-endian */

/* File systems and the like, beginning at @offset. @label: up to 16 bytes, of whatever kind. */
void disk_write_ext2(int fd, uint64_t offset, const char *label);
void disk_write_iso9660(int fd, uint64_t offset, const char *label);
void disk_write_swap(int fd, uint64_t offset);
void disk_write_luks(int fd, uint64_t offset);

/* A partition as tables have it: in sectors. */
typedef struct DiskPartition {
        uint64_t start;
        uint64_t size;
        uint8_t type;     /* MBR */
        const char *name; /* GPT, ASCII */
} DiskPartition;

/* An MBR, or a boot record of an extended partition, at @offset; up to four entries. */
void disk_write_mbr(int fd, uint64_t offset, const DiskPartition *partitions, size_t n_partitions);

/* The first of the two GPTs, for a disk of @size bytes, with the protective MBR. */
void disk_write_gpt(int fd, uint64_t size, uint32_t sector_size, const DiskPartition *partitions, size_t n_partitions);
