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

static unsigned look(pid_t *ret_only, pid_t *ret_idle_closer)
{
        g_autofree char *path = g_strdup_printf("/proc/self/task/%d/children", getpid()), *text = NULL;
        unsigned n = 0;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_auto(GStrv) pids = g_strsplit(g_strchomp(text), " ", -1);
        *ret_only = *ret_idle_closer = 0;
        for (char **pid = pids; *pid && **pid; pid++)
                if (*ret_idle_closer == 0 && is_idle_closer(atoi(*pid)))
                        *ret_idle_closer = atoi(*pid);
                else
                        *ret_only = n++ == 0 ? atoi(*pid) : 0;
        return n;
}

unsigned own_children(void)
{
        pid_t only, idle_closer;

        return look(&only, &idle_closer);
}

pid_t own_only_child(void)
{
        pid_t only, idle_closer;

        (void)look(&only, &idle_closer);
        return only;
}

pid_t own_idle_closer(void)
{
        pid_t only, idle_closer;

        (void)look(&only, &idle_closer);
        return idle_closer;
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
