/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <glib.h>
#include <unistd.h>

#include "base/closer.h"
#include "base/macro.h"
#include "own-process.h"

/* One that is about to close something has still the name, but does not sleep. */
static bool is_idle_closer(pid_t pid)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid), *text = NULL;

        return g_file_get_contents(path, &text, NULL, NULL) && strstr(text, "(" CLOSER_IDLE_NAME ") S");
}

/* NULL-terminated; also those that are not reaped. */
static char **list_children(void)
{
        g_autofree char *path = g_strdup_printf("/proc/self/task/%d/children", getpid()), *text = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_strchomp(text);
        return *text ? g_strsplit(text, " ", -1) : g_new0(char *, 1);
}

pid_t own_idle_closer(void)
{
        g_auto(GStrv) pids = list_children();

        for (char **pid = pids; *pid; pid++)
                if (is_idle_closer(atoi(*pid)))
                        return atoi(*pid);
        return 0;
}

unsigned own_children(void)
{
        g_auto(GStrv) pids = list_children();
        unsigned n_idle_closers = 0;

        for (char **pid = pids; *pid && n_idle_closers == 0; pid++)
                n_idle_closers += is_idle_closer(atoi(*pid));
        return g_strv_length(pids) - n_idle_closers;
}

pid_t own_child_named(const char *name)
{
        g_auto(GStrv) pids = list_children();

        for (char **pid = pids; *pid; pid++) {
                g_autofree char *path = g_strdup_printf("/proc/%s/comm", *pid), *comm = NULL;

                if (g_file_get_contents(path, &comm, NULL, NULL) && streq(g_strchomp(comm), name))
                        return atoi(*pid);
        }
        return 0;
}

size_t own_descriptors(void)
{
        DIR *directory = opendir("/proc/self/fd");
        size_t n = 0;

        g_assert_nonnull(directory);
        while (readdir(directory))
                n++;
        closedir(directory);
        return n;
}

void own_assert_descriptors(sd_event *event, size_t n)
{
        for (gint64 until = g_get_monotonic_time() + 10 * (gint64)USEC_PER_SEC;
             own_descriptors() != n && g_get_monotonic_time() < until;)
                g_assert_cmpint(sd_event_run(event, 100), >=, 0);
        g_assert_cmpuint(own_descriptors(), ==, n);
}
