/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The scripted polkit (tests/component/fake-polkit.c, $FAKE_POLKIT) from a test's side. */
#pragma once

#include "lib/base.h"

typedef struct TestPolkit {
        GDBusConnection *bus;
        GPid pid;
        char *name; /* unique; the well-known one can be given up */
        unsigned n_asked;
        guint subscription;
} TestPolkit;

/* One CheckAuthorization, as it came in. */
typedef struct TestPolkitCheck {
        char *subject_kind;
        char *subject_name; /* "name" of a system-bus-name */
        char *action;
        GVariant *details; /* a{ss} */
        unsigned flags;
        char *cancellation_id;
} TestPolkitCheck;

/* Starts it; everything is denied. There must not be another polkit. */
TestPolkit *test_polkit_start(void);

/* Ends it, if it is not gone already, and waits until the bus has noticed. */
TestPolkit *test_polkit_stop(TestPolkit *polkit);

/* The verdict for @action (NULL: all others) from now on; fake-polkit.c lists them. */
void test_polkit_set(TestPolkit *polkit, const char *action, const char *verdict);

/* Its answers take so long. */
void test_polkit_set_delay(TestPolkit *polkit, unsigned msec);

/* Answers whatever it has kept silent about. */
void test_polkit_release(TestPolkit *polkit, const char *verdict);

/* Denies all, forgets all. */
void test_polkit_reset(TestPolkit *polkit);

/* Waits until it was asked @n times since the last reset. */
void test_polkit_wait_asked(TestPolkit *polkit, unsigned n);

/* Of TestPolkitCheck, with its free function; since the last reset. */
GPtrArray *test_polkit_checks(TestPolkit *polkit);

/* Those without an answer. */
unsigned test_polkit_count_pending(TestPolkit *polkit);
