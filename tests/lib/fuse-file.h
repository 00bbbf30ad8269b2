/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A FUSE file system with one file in it, "image", which shows a file of ours;
 * and which can be made to keep silent, as a server on a broken network does.
 */
#pragma once

#include "lib/user.h"

typedef struct TestFuseFile TestFuseFile;

/*
 * Mounts it, as @uid's, in a new folder @name of the run's folder. @others: users
 * other than @uid, root too, may look at it (allow_other).
 */
TestFuseFile *test_fuse_file_start(const char *name, const char *backing, uid_t uid, bool others);

/* The path of the file. */
const char *test_fuse_file_path(const TestFuseFile *fuse);

/*
 * From now on reads get no answer: who reads is stuck in the kernel, and SIGKILL
 * does not help. Reads up to @offset bytes of the file are still answered.
 */
void test_fuse_file_silence(TestFuseFile *fuse, uint64_t offset);

/*
 * The same from the next fsync(2) of the file on: LOOP_CONFIGURE does that, so it
 * is when a loop device is bound to it, and whatever reads the device is stuck.
 */
void test_fuse_file_silence_at_fsync(TestFuseFile *fuse);

/* From now on fsync(2), which LOOP_CONFIGURE does, and the daemon's closes, get no answer. */
void test_fuse_file_silence_fsync(TestFuseFile *fuse);
void test_fuse_file_silence_flush(TestFuseFile *fuse);

/* From now on who opens it is stuck, also by way of a descriptor that somebody has (/proc/self/fd). */
void test_fuse_file_silence_open(TestFuseFile *fuse);

/* From now on no attributes are told, the folder's neither: who does stat(2), also of an open file, is stuck. */
void test_fuse_file_silence_stat(TestFuseFile *fuse);

/* From now on writes get no answer. */
void test_fuse_file_silence_write(TestFuseFile *fuse);

/*
 * From the next fsync(2) on, which is when a loop device is bound to it and behind
 * the probe, the file shows another one, of another size perhaps. What is read past
 * the page cache (direct I/O) is the other's bytes.
 */
void test_fuse_file_exchange_at_fsync(TestFuseFile *fuse, const char *backing);

/* The server dies: whoever asks for something gets an error, as of a medium that was pulled out. */
void test_fuse_file_kill(TestFuseFile *fuse);

/* How many are waiting. */
unsigned test_fuse_file_n_stuck(const TestFuseFile *fuse);

/* Whether anybody is; for test_wait_quiet(). @userdata: the TestFuseFile. */
bool test_fuse_file_has_stuck(gpointer userdata);

/* Answers again, also what is waiting. */
void test_fuse_file_resume(TestFuseFile *fuse);

/* Ends the server, with an error for whatever is waiting, and unmounts. */
TestFuseFile *test_fuse_file_stop(TestFuseFile *fuse);
