/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What has been closed, by a child, is closed here too; and leads nowhere where the number is kept. */
#include <dirent.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/closer.h"

static sd_event *event;

static size_t count_fds(void)
{
        DIR *directory = opendir("/proc/self/fd");
        size_t n = 0;

        g_assert_nonnull(directory);
        while (readdir(directory))
                n++;
        closedir(directory);
        return n;
}

static void turn_until_quiet(void)
{
        siginfo_t info;

        while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
                g_assert_cmpint(sd_event_run(event, 10 * USEC_PER_SEC), >, 0);
}

static void assert_end_of_file(int fd)
{
        char byte;

        g_assert_cmpint(read(fd, &byte, 1), ==, 0);
}

static void test_close(void)
{
        int pair[2];

        g_assert_cmpint(pipe2(pair, O_CLOEXEC | O_NONBLOCK), ==, 0);
        closer_close(event, pair[1]);
        turn_until_quiet();
        g_assert_cmpint(fcntl(pair[1], F_GETFD), <, 0);
        assert_end_of_file(pair[0]);
        close(pair[0]);
}

/* Whoever closes the number later closes nothing that could block. */
static void test_withdraw(void)
{
        size_t before = count_fds();
        int pair[2], other = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

        g_assert_cmpint(pipe2(pair, O_CLOEXEC | O_NONBLOCK), ==, 0);
        g_assert_cmpint(closer_withdraw(event, pair[1]), ==, 0);
        g_assert_cmpint(fcntl(pair[1], F_GETFD), ==, FD_CLOEXEC);
        g_assert_true(fcntl(pair[1], F_GETFL) & O_PATH);
        g_assert_cmpint(closer_withdraw(event, pair[1]), ==, 0);
        g_assert_cmpint(closer_withdraw(event, other), ==, 0);
        turn_until_quiet();
        assert_end_of_file(pair[0]);
        close(pair[0]);
        close(pair[1]);
        close(other);
        g_assert_cmpuint(count_fds(), ==, before);
}

int main(int argc, char *argv[])
{
        sigset_t signals;

        g_test_init(&argc, &argv, NULL);
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        g_assert_cmpint(sd_event_new(&event), ==, 0);
        g_assert_cmpint(closer_set_up(), ==, 0);
        /* For which the event loop opens some descriptors. */
        closer_close(event, open("/", O_PATH | O_CLOEXEC));
        turn_until_quiet();
        g_test_add_func("/closer/close", test_close);
        g_test_add_func("/closer/withdraw", test_withdraw);

        int r = g_test_run();
        sd_event_unref(event);
        return r;
}
