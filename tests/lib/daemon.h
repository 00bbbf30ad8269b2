/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon under test: $LOOPMOUNTD, a child of the test. */
#pragma once

#include "lib/base.h"

typedef struct TestDaemon {
        GDBusConnection *bus; /* root's, for the test's own looks */
        pid_t pid;
        bool gone;
        int status; /* as waitpid(2) gives it, when gone */
        guint watch;
        char *owner_before; /* who had the name, and may still have it, when this one was started */
        bool has_name;
        guint name_watch;
} TestDaemon;

/*
 * Starts it and waits until it has its bus name. @configuration: text of
 * loopmount.conf, or NULL for an empty one; stays for daemons started later.
 */
TestDaemon *test_daemon_start(const char *configuration);

/* The same with "NAME=value" strings, NULL-terminated, added to its environment. */
TestDaemon *test_daemon_start_with(const char *configuration, const char *const *environment);

/* The same with the configuration of the last one. */
TestDaemon *test_daemon_start_again(void);

/* The same with descriptors as sd_listen_fds_with_names(3) finds them; @names: with colons in between. */
TestDaemon *test_daemon_start_with_fds(const int *fds, size_t n_fds, const char *names);

/* SIGTERM; waits for the end and requires that it was a clean one. */
TestDaemon *test_daemon_stop(TestDaemon *daemon);

/* SIGKILL; waits until it is dead and the bus has noticed. */
TestDaemon *test_daemon_kill(TestDaemon *daemon);

/* SIGKILL; waits until it is dead. Its connection to the bus may outlive it. */
TestDaemon *test_daemon_kill_alone(TestDaemon *daemon);

/* Waits until it is dead of a SIGKILL that was sent already, and the bus has noticed. */
TestDaemon *test_daemon_wait_killed(TestDaemon *daemon);

/* Waits until it ends by itself, with exit status 0. */
TestDaemon *test_daemon_wait_end(TestDaemon *daemon);
