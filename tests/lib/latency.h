/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What others notice of an attack: how long their calls take, and how large the daemon gets. */
#pragma once

#include <sys/types.h>

#include "lib/bus.h"

/* No call of a bystander may take longer than this, whatever others do. With sanitizers a fork alone takes 10 ms. */
#ifdef __SANITIZE_ADDRESS__
#define TEST_LATENCY_MAX_USEC (INT64_C(20) * G_USEC_PER_SEC)
#else
#define TEST_LATENCY_MAX_USEC (INT64_C(5) * G_USEC_PER_SEC)
#endif

/* Medians of a bystander's calls, in microseconds. */
typedef struct TestLatency {
        gint64 look;
        gint64 attach;
} TestLatency;

/*
 * Lets bob look (GetManagedObjects) and attach and detach a small image of his,
 * several times each, and prints medians and worst cases as "# ... @when". Aborts
 * the test if one call takes longer than TEST_LATENCY_MAX_USEC.
 */
TestLatency test_latency(GDBusConnection *bob, const char *when);

/*
 * The same while something goes wrong: aborts the test, too, unless both medians
 * are below twice the @usual ones, which were taken just before.
 */
void test_latency_assert(GDBusConnection *bob, const TestLatency *usual, const char *when);

/* Kibibytes; *ret_peak: the highest since the last call with @reset. */
guint64 test_memory(pid_t daemon, bool reset, guint64 *ret_peak);

/* Prints "# ... @when". */
void test_memory_print(const char *what, guint64 before, guint64 peak, guint64 after);
