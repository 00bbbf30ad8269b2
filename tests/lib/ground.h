/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What most integration tests stand on: a daemon of their own, three clients, the
 * rules of an ordinary machine; and at the end nothing that was not there before.
 */
#pragma once

#include "lib/bus.h"
#include "lib/daemon.h"
#include "lib/image.h"
#include "lib/snapshot.h"
#include "lib/wait.h"

typedef struct TestGround {
        TestSnapshot *before;
        TestDaemon *daemon;
        GDBusConnection *root;
        GDBusConnection *ann;
        GDBusConnection *bob;
        TestSignals *signals; /* to root */
} TestGround;

/* For g_test_add(); @configuration: loopmount.conf as text, or NULL. */
void test_ground_set_up(TestGround *ground, gconstpointer configuration);
void test_ground_tear_down(TestGround *ground, gconstpointer configuration);

#define TEST_ADD(path, configuration, function)                                                                        \
        g_test_add(path, TestGround, configuration, test_ground_set_up, function, test_ground_tear_down)

/* Starts another daemon in place of one that is dead; the clients stay. */
void test_ground_restart_daemon(TestGround *ground);

/* Detach, with the owner of @bus, that has to succeed. */
void test_detach(GDBusConnection *bus, const char *image);

/* Whether the file "hello" of a file system mounted at @mount_point says what it has to, to @uid. */
void test_assert_hello(uid_t uid, const char *mount_point);

/* Whether there is such a file: something is mounted; for test_wait_quiet(). */
bool test_has_hello(gpointer mount_point);

/* The options of the mount at @mount_point, those of the mount and of the file system, as mountinfo has them. */
char *test_mount_options(const char *mount_point);

/* The node of an image or volume. */
char *test_device_of(GDBusConnection *bus, const char *object);

/* The mount point of the whole image's volume, or NULL. */
char *test_mount_point_of(GDBusConnection *bus, const char *image, unsigned volume);

/* How many loop devices of this run there are. */
unsigned test_count_loops(void);
