/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The handler sets a flag; who waits looks at it with the signals blocked, and lets them in only while it sleeps. */
#include "interrupt.h"

#define STATUS_SIGNAL 128 /* as shells have it */

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

static volatile sig_atomic_t came;

static void on_signal(int signal)
{
        if (came)
                _exit(STATUS_SIGNAL + signal);
        came = signal;
}

static void set_handler(void (*handler)(int))
{
        const struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
        struct sigaction old;

        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                if (sigaction(signals[i], NULL, &old) >= 0 && old.sa_handler != SIG_IGN)
                        (void)sigaction(signals[i], &action, NULL);
}

void interrupt_catch(void)
{
        set_handler(on_signal);
}

int interrupt_signal(void)
{
        return came;
}

void interrupt_fill_set(sigset_t *ret)
{
        sigemptyset(ret);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                sigaddset(ret, signals[i]);
}

int interrupt_poll(struct pollfd *pollfd, uint64_t timeout_usec, bool notice)
{
        const struct timespec timeout = {
                .tv_sec = (time_t)(timeout_usec / USEC_PER_SEC),
                .tv_nsec = (long)(timeout_usec % USEC_PER_SEC) * 1000,
        };
        sigset_t blocked, before;
        int r = -EINTR;

        interrupt_fill_set(&blocked);
        sigprocmask(SIG_BLOCK, &blocked, &before);
        if (!notice || !came)
                r = ppoll(pollfd, 1, timeout_usec == UINT64_MAX ? NULL : &timeout, &before) < 0 ? -errno : 0;
        sigprocmask(SIG_SETMASK, &before, NULL);
        return r;
}

void interrupt_end(void)
{
        /* Nobody else would write it when the process ends by a signal. */
        if (came)
                (void)fflush(stdout);
        set_handler(SIG_DFL);
        if (came)
                raise(came);
}
