/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waiting for something to become true, with a deadline, while the main loop runs. */
#pragma once

#include "lib/base.h"

/* What every wait of a test ends with; long, because it is only met by what fails. */
#define TEST_DEADLINE_SEC 60

typedef bool (*TestCondition)(gpointer userdata);

/*
 * Runs the default main context until @condition holds, looking again after
 * each event that came in. Aborts the test, naming @what, at the deadline.
 */
void test_wait(TestCondition condition, gpointer userdata, const char *what);

/*
 * The same for what brings no event to this process (a file of procfs, a
 * device): looks every few milliseconds, too.
 */
void test_wait_quiet(TestCondition condition, gpointer userdata, const char *what);

/* Whether nothing is at @path, a string; for test_wait_quiet(). */
bool test_is_gone(gpointer path);

/* Waits until *@flag is true. */
void test_wait_flag(const bool *flag, const char *what);

/* Handles what has already come in, and nothing later. */
void test_dispatch(void);
