/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The users of the namespaces harness, and doing single things as one of them
 * without a process of its own.
 */
#pragma once

#include <sys/types.h>

#include "lib/base.h"

#define TEST_ROOT ((uid_t)0)
#define TEST_ANN ((uid_t)61001)
#define TEST_BOB ((uid_t)61002)
#define TEST_CAROL ((uid_t)61003)
#define TEST_NOBODY ((uid_t)65534)

/* Something to do as another user, in a thread of that user's. */
typedef void (*TestAction)(gpointer userdata);

/*
 * Does @action as @uid, with the group of the same number and no other, and
 * without capabilities (root: as it is), and comes back when it is done.
 */
void test_do_as(uid_t uid, TestAction action, gpointer userdata);

/* open(2) as @uid; aborts the test if that fails. Close-on-exec. */
int test_open_as(uid_t uid, const char *path, int flags);

/* The errno of open(2) as @uid, 0 if it succeeds. */
int test_open_errno_as(uid_t uid, const char *path, int flags);

/* The contents of @path, read as @uid, to be freed; aborts the test if that fails. */
char *test_read_as(uid_t uid, const char *path);

/* Writes @text to the file @path as @uid, making it; gives 0 or an errno. */
int test_write_as(uid_t uid, const char *path, const char *text);

/*
 * Runs @argv, NULL-terminated, as @uid. Gives its exit status, or 128 + N for
 * signal N. Both outputs are stored, to be freed, where that is wanted, else shown.
 */
int test_run_as(uid_t uid, const char *const *argv, char **ret_stdout, char **ret_stderr);

/*
 * A process of @uid's with user and mount namespaces of its own, in which it has a copy of each mount that there is:
 * the file systems stay when they are unmounted here. To be ended with test_unpin_mounts().
 */
GPid test_pin_mounts(uid_t uid);
void test_unpin_mounts(GPid pid);
