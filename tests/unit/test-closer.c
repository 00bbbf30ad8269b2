/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What has been closed, by a child, is closed here too. One child
 * does it again and again; one that hangs, here since it is stopped, keeps nobody waiting.
 */
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/closer.h"
#include "own-process.h"

static sd_event *event;

/* What is waited for need not be an event of the loop. */
static void turn(void)
{
        g_assert_cmpint(sd_event_run(event, 10 * USEC_PER_MSEC), >=, 0);
}

/* When one is back from what it has closed. */
static pid_t wait_for_idle(void)
{
        pid_t pid;

        while ((pid = own_idle_closer()) == 0)
                g_usleep(100);
        return pid;
}

static int open_pipe(int *ret_reader)
{
        int pair[2];

        g_assert_cmpint(pipe2(pair, O_CLOEXEC | O_NONBLOCK), ==, 0);
        *ret_reader = pair[0];
        return pair[1];
}

/* @reader is of a pipe. The number of its writer tells nothing: it may be somebody else's already. */
static bool is_closed(int reader, int timeout_msec)
{
        struct pollfd pollfd = { .fd = reader };

        return poll(&pollfd, 1, timeout_msec) > 0 && pollfd.revents == POLLHUP;
}

static void wait_until_closed(int reader)
{
        g_assert_true(is_closed(reader, 10 * 1000));
        close(reader);
}

static void test_close(void)
{
        pid_t pid = wait_for_idle();
        size_t before = own_descriptors();

        for (unsigned i = 0; i < 10; i++) {
                int reader, fd = open_pipe(&reader);

                closer_close(event, fd);
                wait_until_closed(reader);
                g_assert_cmpint(wait_for_idle(), ==, pid);
                g_assert_cmpuint(own_descriptors(), ==, before);
        }
        g_assert_cmpuint(own_children(), ==, 0);
}

/* Others are closed by another one meanwhile; when all are back one is left. */
static void test_hang(void)
{
        size_t before = own_descriptors();
        int reader, fd = open_pipe(&reader), other_reader, other = open_pipe(&other_reader);
        pid_t hanging = wait_for_idle();

        g_assert_cmpint(kill(hanging, SIGSTOP), ==, 0);
        g_assert_cmpint(waitid(P_PID, (id_t)hanging, &(siginfo_t){ 0 }, WSTOPPED), ==, 0);
        closer_close(event, fd);
        closer_close(event, other);
        wait_until_closed(other_reader);
        g_assert_false(is_closed(reader, 0));
        g_assert_cmpint(kill(hanging, SIGCONT), ==, 0);
        wait_until_closed(reader);
        own_assert_descriptors(event, before);
        (void)wait_for_idle();
        g_assert_cmpuint(own_children(), ==, 0);
}

/* One that is gone is not waited for. */
static void test_killed(void)
{
        size_t before = own_descriptors();
        int reader, fd = open_pipe(&reader);
        pid_t killed = wait_for_idle();

        g_assert_cmpint(kill(killed, SIGKILL), ==, 0);
        g_assert_cmpint(waitid(P_PID, (id_t)killed, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), ==, 0);
        while (own_children() > 0)
                turn();
        closer_close(event, fd);
        wait_until_closed(reader);
        g_assert_cmpint(wait_for_idle(), !=, killed);
        own_assert_descriptors(event, before);
}

/* Nor is one whose death is not known yet; what it was to close another one closes. */
static void test_killed_meanwhile(void)
{
        size_t before = own_descriptors();
        int reader, fd = open_pipe(&reader);
        pid_t killed = wait_for_idle();

        g_assert_cmpint(kill(killed, SIGKILL), ==, 0);
        g_assert_cmpint(waitid(P_PID, (id_t)killed, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), ==, 0);
        closer_close(event, fd);
        while (own_children() > 0)
                turn();
        wait_until_closed(reader);
        own_assert_descriptors(event, before);
}

/* Without a free descriptor it is closed all the same, by somebody else. */
static void test_no_descriptors(void)
{
        size_t before = own_descriptors();
        int reader, fd = open_pipe(&reader), other_reader, other = open_pipe(&other_reader);
        pid_t hanging = wait_for_idle();
        struct rlimit old, tight;
        int fillers[64];
        size_t n = 0;

        g_assert_cmpint(kill(hanging, SIGSTOP), ==, 0);
        g_assert_cmpint(waitid(P_PID, (id_t)hanging, &(siginfo_t){ 0 }, WSTOPPED), ==, 0);
        closer_close(event, fd);
        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
        tight = (struct rlimit){ G_N_ELEMENTS(fillers), old.rlim_max };
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &tight), ==, 0);
        while ((fillers[n] = open("/", O_PATH | O_CLOEXEC)) >= 0)
                n++;
        closer_close(event, other);
        while (n > 0)
                close(fillers[--n]);
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
        g_assert_cmpint(kill(hanging, SIGCONT), ==, 0);
        wait_until_closed(reader);
        (void)wait_for_idle();
        wait_until_closed(other_reader);
        /* The event loop could not be told of one closer. Each close reaps it if it has ended by then. */
        while (own_children() > 0) {
                closer_close(event, open("/", O_PATH | O_CLOEXEC));
                (void)wait_for_idle();
                turn();
        }
        own_assert_descriptors(event, before);
}

int main(int argc, char *argv[])
{
        sigset_t signals;
        int r;

        g_test_init(&argc, &argv, NULL);
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        g_assert_cmpint(sd_event_new(&event), ==, 0);
        g_assert_cmpint(closer_set_up(event), ==, 0);
        g_test_add_func("/closer/close", test_close);
        g_test_add_func("/closer/hang", test_hang);
        g_test_add_func("/closer/killed", test_killed);
        g_test_add_func("/closer/killed-meanwhile", test_killed_meanwhile);
        g_test_add_func("/closer/no-descriptors", test_no_descriptors);
        r = g_test_run();
        closer_tear_down();
        g_assert_cmpint(waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED | WNOWAIT | WNOHANG), <, 0);
        sd_event_unref(event);
        return r;
}
