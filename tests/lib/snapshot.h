/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What must be the same before and after a test: this run's loop devices and
 * their partitions, mounts, directories below /run/media, records below
 * /run/loopmount, lines of utab; and of the daemon its children and descriptors,
 * but for children that have done their job and wait for another.
 * tests/harness/snapshot prints the same for people.
 */
#pragma once

#include <sys/types.h>

#include "lib/base.h"

/* Sorted lines, one thing each. */
typedef struct TestSnapshot TestSnapshot;

/* @daemon: its process, 0: leave out what belongs to one. */
TestSnapshot *test_snapshot_take(pid_t daemon);

/* The same when the daemon's children have ended: some live a moment longer than what they did. */
TestSnapshot *test_snapshot_take_idle(pid_t daemon);

/* Whether it has children, beside the closer that waits; and whether they do something. */
bool test_has_children(pid_t daemon);
bool test_has_busy_children(pid_t daemon);

TestSnapshot *test_snapshot_free(TestSnapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestSnapshot, test_snapshot_free)

/* What has come (+) and gone (-) from @before to @after, a line each; NULL: nothing. To be freed. */
char *test_snapshot_difference(const TestSnapshot *before, const TestSnapshot *after);

/* Aborts the test, showing the difference, unless all is as it was in @before, now. */
void test_snapshot_assert(const TestSnapshot *before, pid_t daemon);

/* The same, but gives what goes by itself (a child that has just ended) until the deadline. */
void test_snapshot_wait(const TestSnapshot *before, pid_t daemon);

/* How many lines begin with @prefix: "loop ", "mount ", "partition ", "record " ... */
unsigned test_snapshot_count(const TestSnapshot *snapshot, const char *prefix);

/* The part of LOOPMOUNT_TEST_DIR that is in the path of every backing file of this run. */
const char *test_run_token(void);
