/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One loop for all waits. A timer source ends it; nothing here sleeps. What
 * brings no event is looked at on a timer of 5 ms, bounded by the same deadline.
 */
#include "lib/wait.h"

#define QUIET_INTERVAL_MSEC 5

static gboolean on_deadline(gpointer userdata)
{
        *(bool *)userdata = true;
        return G_SOURCE_CONTINUE;
}

static gboolean on_interval(gpointer userdata)
{
        (void)userdata;
        return G_SOURCE_CONTINUE;
}

void test_wait(TestCondition condition, gpointer userdata, const char *what)
{
        bool late = false;
        guint timer = g_timeout_add_seconds(TEST_DEADLINE_SEC, on_deadline, &late);

        while (!condition(userdata)) {
                if (late)
                        g_error("waited %d s in vain for: %s", TEST_DEADLINE_SEC, what);
                g_main_context_iteration(NULL, TRUE);
        }
        g_source_remove(timer);
}

void test_wait_quiet(TestCondition condition, gpointer userdata, const char *what)
{
        guint timer = g_timeout_add(QUIET_INTERVAL_MSEC, on_interval, NULL);

        test_wait(condition, userdata, what);
        g_source_remove(timer);
}

bool test_is_gone(gpointer path)
{
        return access(path, F_OK) < 0;
}

static bool flag_is_set(gpointer userdata)
{
        return *(const bool *)userdata;
}

void test_wait_flag(const bool *flag, const char *what)
{
        test_wait(flag_is_set, (gpointer)flag, what);
}

void test_dispatch(void)
{
        while (g_main_context_iteration(NULL, FALSE))
                ;
}
