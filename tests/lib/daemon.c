/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The end of the daemon and the owner of its name are watched from the first
 * moment: if it ends in the middle of a test, the test's output tells.
 */
#include "lib/daemon.h"

#include <signal.h>
#include <sys/wait.h>

#include "lib/bus.h"
#include "lib/wait.h"

#define CONFIGURATION "/run/loopmount.conf.d/50-test.conf"
#define DEFAULTS "/run/loopmount.conf.d/40-test.conf"

static void write_file(const char *path, const char *text)
{
        g_autoptr(GError) error = NULL;

        g_file_set_contents(path, text, -1, &error);
        g_assert_no_error(error);
}

/* On a slow machine half a minute may pass between two calls of a test: the daemon leaves only if the test wants it. */
static void configure(const char *text)
{
        g_mkdir_with_parents("/run/loopmount.conf.d", 0755);
        write_file(DEFAULTS, "[Limits]\nIdleTimeoutSec=0\n");
        write_file(CONFIGURATION, text ? text : "# nothing\n");
}

static void on_end(GPid pid, int status, gpointer userdata)
{
        TestDaemon *daemon = userdata;

        (void)pid;
        daemon->gone = true;
        daemon->status = status;
        daemon->watch = 0;
        g_test_message("the daemon has ended with status 0x%x", (unsigned)status);
}

static void on_name(GDBusConnection *bus, const char *name, const char *owner, gpointer userdata)
{
        TestDaemon *daemon = userdata;

        (void)bus;
        (void)name;
        daemon->has_name = g_strcmp0(owner, daemon->owner_before) != 0;
}

static void on_no_name(GDBusConnection *bus, const char *name, gpointer userdata)
{
        (void)bus;
        (void)name;
        ((TestDaemon *)userdata)->has_name = false;
}

static bool is_up_or_gone(gpointer userdata)
{
        const TestDaemon *daemon = userdata;
        return daemon->has_name || daemon->gone;
}

/* They are for the process that has this number; and it gets the number only by being started. */
#define START "test \"$LISTEN_FDS\" && export LISTEN_PID=$$; exec \"$0\""

static pid_t spawn(const char *const *environment, const int *fds, size_t n_fds)
{
        const char *program = g_getenv("LOOPMOUNTD");
        if (!program)
                g_error("LOOPMOUNTD is not set: the daemon to be tested");

        const char *argv[] = { "/bin/sh", "-c", START, program, NULL };
        g_auto(GStrv) envp = g_get_environ();
        for (; environment && *environment; environment++) {
                g_auto(GStrv) pair = g_strsplit(*environment, "=", 2);
                envp = g_environ_setenv(envp, pair[0], pair[1], TRUE);
        }
        g_autofree int *targets = g_new(int, n_fds + 1);
        for (size_t i = 0; i < n_fds; i++)
                targets[i] = 3 + (int)i;
        g_autoptr(GError) error = NULL;
        GPid pid;
        g_spawn_async_with_pipes_and_fds("/", argv, (const char *const *)envp, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                         -1, -1, -1, fds, targets, n_fds, &pid, NULL, NULL, NULL, &error);
        g_assert_no_error(error);
        return pid;
}

/* NULL: it has none. */
static char *find_owner(GDBusConnection *bus)
{
        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
                bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetNameOwner",
                g_variant_new("(s)", BUS_NAME), NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL, NULL);
        char *owner = NULL;

        if (reply)
                g_variant_get(reply, "(s)", &owner);
        return owner;
}

static TestDaemon *start(const char *const *environment, const int *fds, size_t n_fds)
{
        TestDaemon *daemon = g_new0(TestDaemon, 1);

        daemon->bus = test_connect_as(TEST_ROOT);
        daemon->owner_before = find_owner(daemon->bus);
        daemon->pid = spawn(environment, fds, n_fds);
        daemon->watch = g_child_watch_add(daemon->pid, on_end, daemon);
        daemon->name_watch = g_bus_watch_name_on_connection(daemon->bus, BUS_NAME, G_BUS_NAME_WATCHER_FLAGS_NONE,
                                                            on_name, on_no_name, daemon, NULL);
        test_wait(is_up_or_gone, daemon, "the daemon to take its bus name");
        if (daemon->gone)
                g_error("the daemon ended at its start, with status 0x%x", (unsigned)daemon->status);
        return daemon;
}

TestDaemon *test_daemon_start_with(const char *configuration, const char *const *environment)
{
        configure(configuration);
        return start(environment, NULL, 0);
}

TestDaemon *test_daemon_start_again(void)
{
        return start(NULL, NULL, 0);
}

TestDaemon *test_daemon_start_with_fds(const int *fds, size_t n_fds, const char *names)
{
        g_autofree char *number = g_strdup_printf("LISTEN_FDS=%zu", n_fds);
        g_autofree char *named = g_strconcat("LISTEN_FDNAMES=", names, NULL);
        const char *environment[] = { number, named, NULL };

        return start(environment, fds, n_fds);
}

TestDaemon *test_daemon_start(const char *configuration)
{
        return test_daemon_start_with(configuration, NULL);
}

static bool is_gone(gpointer userdata)
{
        const TestDaemon *daemon = userdata;
        return daemon->gone && !daemon->has_name;
}

static bool is_dead(gpointer userdata)
{
        return ((const TestDaemon *)userdata)->gone;
}

/* Waits for its end; gives the status. */
static int reap(TestDaemon *daemon, bool (*has_ended)(gpointer userdata), const char *what)
{
        test_wait(has_ended, daemon, what);
        int status = daemon->status;

        g_bus_unwatch_name(daemon->name_watch);
        test_dispatch();
        g_dbus_connection_close_sync(daemon->bus, NULL, NULL);
        g_object_unref(daemon->bus);
        g_free(daemon->owner_before);
        g_free(daemon);
        return status;
}

static void assert_clean(int status)
{
        if (WIFSIGNALED(status))
                g_error("the daemon was ended by signal %d", WTERMSIG(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

static void assert_killed(int status)
{
        g_assert_true(WIFSIGNALED(status));
        g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
}

TestDaemon *test_daemon_stop(TestDaemon *daemon)
{
        kill(daemon->pid, SIGTERM);
        assert_clean(reap(daemon, is_gone, "the daemon to end at SIGTERM"));
        return NULL;
}

TestDaemon *test_daemon_kill(TestDaemon *daemon)
{
        g_assert_false(daemon->gone);
        kill(daemon->pid, SIGKILL);
        return test_daemon_wait_killed(daemon);
}

TestDaemon *test_daemon_wait_killed(TestDaemon *daemon)
{
        assert_killed(reap(daemon, is_gone, "the daemon to die of SIGKILL"));
        return NULL;
}

TestDaemon *test_daemon_kill_alone(TestDaemon *daemon)
{
        kill(daemon->pid, SIGKILL);
        assert_killed(reap(daemon, is_dead, "the daemon to die of SIGKILL"));
        return NULL;
}

TestDaemon *test_daemon_wait_end(TestDaemon *daemon)
{
        assert_clean(reap(daemon, is_gone, "the daemon to leave by itself"));
        return NULL;
}
