/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Small images, made on the spot in the run's folder; every one owned by the
 * user that will attach it. All functions abort the test on failure and give the
 * path, to be freed.
 */
#pragma once

#include "lib/user.h"

/* The text of the file "hello" that every file system made here has. */
#define TEST_HELLO "hello from the image\n"

/* A name in the run's folder: nothing is made. */
char *test_path(const char *name);

/* A new folder there, with mode 0777. */
char *test_folder(const char *name);

/* A file of @size zero bytes (a hole). */
char *test_image_empty(const char *name, uint64_t size, uid_t owner);

/* A file with the given bytes. */
char *test_image_bytes(const char *name, const void *bytes, size_t n_bytes, uid_t owner);

/* ext4 of 2 MiB; a @label of at most 16 bytes, of whatever kind, or NULL. */
char *test_image_ext4(const char *name, const char *label, uid_t owner);

char *test_image_squashfs(const char *name, uid_t owner);
char *test_image_erofs(const char *name, uid_t owner);
char *test_image_xfs(const char *name, const char *label, uid_t owner);
char *test_image_btrfs(const char *name, const char *label, uid_t owner);

/*
 * A GPT (or, with @table "dos", an MBR) with one ext4 partition of 2 MiB for
 * each of @labels, NULL-terminated.
 */
char *test_image_partitioned(const char *name, const char *table, const char *const *labels, uid_t owner);

/* Cuts or lengthens a file. */
void test_image_resize(const char *path, uint64_t size);

/* What the file's bytes add up to (SHA-256): whether somebody wrote to it. */
char *test_image_checksum(const char *path);

/* A memfd of @uid's with the contents of @path, named so that its loop device is told to be ours. */
int test_image_memfd(const char *path, bool sealed);

/* Runs a program, root; its output is shown only if it fails, which aborts the test. */
void test_run(const char *program, ...) _sentinel_;

struct blkpg_partition;

/* BLKPG_ADD_PARTITION, BLKPG_DEL_PARTITION (linux/blkpg.h) of the device @disk, as soon as nobody looks at it. */
void test_change_partition(const char *disk, int operation, struct blkpg_partition *partition);
