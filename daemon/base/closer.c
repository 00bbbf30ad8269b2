/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Children that share our descriptor table, so that what they close is closed here
 * too; and our memory, where they find what to close. One waits for the next, for
 * users can have something closed with each message, and a process for each would
 * cost more than all else of some. It waits again when it is back from a close; one
 * that hangs is not waited for, and another is made. Of two that are back one goes.
 *
 * Each has a stack of its own. errno, which is shared as well, is not written to:
 * none of their system calls fails.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/closer.h"

/* How often the parent looks whether its child has got to run, and from when on with pauses; usually a few times. */
#define WITHDRAW_TRIES_MAX 50000U
#define WITHDRAW_TRIES_PAUSING 100U
static const struct timespec look_pause = { .tv_nsec = 20000 };

/* Few system calls; and what the C library puts around them. */
#define CLOSER_STACK_SIZE 16384

typedef struct Closer {
        pid_t pid;
        pid_t parent;
        int order; /* an eventfd: there is something to close, */
        int fd;    /* ... namely this, */
        bool keeps_number;
        bool watched; /* by the event loop, which reaps it */
        sd_event_source *on_exit;
        struct Closer *next; /* so that a leak checker finds those that hang */
        _Alignas(64) char stack[CLOSER_STACK_SIZE];
} Closer;

static Closer *closers;
static int nowhere = -1;

/* The one that waits: put here by itself, taken by the parent. */
static _Atomic(Closer *) idle;

/* ---- In the child ---- */

/* False: another one waits already. */
__attribute__((no_sanitize("address", "undefined"))) static bool become_idle(Closer *closer)
{
        Closer *nobody = NULL;

        (void)prctl(PR_SET_NAME, CLOSER_IDLE_NAME);
        return atomic_compare_exchange_strong(&idle, &nobody, closer);
}

__attribute__((no_sanitize("address", "undefined"))) static int run_closer(void *userdata)
{
        Closer *closer = userdata;
        eventfd_t n;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != closer->parent)
                return 0;
        (void)prctl(PR_SET_NAME, CLOSER_IDLE_NAME);
        do {
                if (TRY_TWICE(eventfd_read(closer->order, &n)) < 0)
                        return 0;
                (void)prctl(PR_SET_NAME, CLOSER_NAME);
                /* Replacing ignores what the flush says, closing would not. */
                (void)dup3(nowhere, closer->fd, O_CLOEXEC);
                if (!closer->keeps_number)
                        (void)close(closer->fd);
        } while (become_idle(closer));
        return 0;
}

/* ---- In the parent ---- */

static void closer_free(Closer *closer)
{
        Closer *gone = closer;

        (void)atomic_compare_exchange_strong(&idle, &gone, NULL);
        for (Closer **link = &closers; *link; link = &(*link)->next)
                if (*link == closer) {
                        *link = closer->next;
                        break;
                }
        sd_event_source_disable_unref(closer->on_exit);
        safe_close(closer->order);
        free(closer);
}

/* Those that could not be watched, for want of memory or descriptors, are reaped when there is an occasion. */
static void reap_unwatched(void)
{
        for (Closer *closer = closers, *next; closer; closer = next) {
                next = closer->next;
                if (!closer->watched && waitpid(closer->pid, NULL, WNOHANG) != 0)
                        closer_free(closer);
        }
}

static int on_closer_exit(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        (void)source, (void)info;
        closer_free(userdata);
        reap_unwatched();
        return 0;
}

/* The event loop reaps it; nobody waits for it. */
static int start_closer(sd_event *event, Closer **ret)
{
        Closer *closer = aligned_alloc(_Alignof(Closer), sizeof(*closer));
        int r;

        if (!closer)
                return -ENOMEM;
        closer->on_exit = NULL;
        closer->parent = getpid();
        closer->order = eventfd(0, EFD_CLOEXEC);
        closer->pid = closer->order < 0 ? -1
                                        : clone(run_closer, closer->stack + CLOSER_STACK_SIZE,
                                                CLONE_VM | CLONE_FILES | SIGCHLD, closer);
        if (closer->pid < 0) {
                r = -errno;
                safe_close(closer->order);
                free(closer);
                return r;
        }
        closer->next = closers;
        closers = closer;
        closer->watched =
                sd_event_add_child(event, &closer->on_exit, closer->pid, WEXITED, on_closer_exit, closer) >= 0;
        *ret = closer;
        return 0;
}

int closer_set_up(sd_event *event)
{
        Closer *closer;
        int r;

        if (nowhere < 0)
                nowhere = open("/dev/null", O_PATH | O_CLOEXEC);
        if (nowhere < 0)
                return -errno;
        r = start_closer(event, &closer);
        if (r >= 0)
                atomic_store(&idle, closer);
        return r;
}

/* What hangs stays; it has nothing of the event loop any more. */
void closer_tear_down(void)
{
        Closer *waiting = atomic_exchange(&idle, NULL);

        if (waiting) {
                (void)kill(waiting->pid, SIGKILL);
                (void)waitpid(waiting->pid, NULL, 0);
                closer_free(waiting);
        }
        for (Closer *closer = closers; closer; closer = closer->next)
                closer->on_exit = sd_event_source_disable_unref(closer->on_exit);
}

/* Two are one too many. */
static void put_back(Closer *closer)
{
        Closer *nobody = NULL;

        if (!atomic_compare_exchange_strong(&idle, &nobody, closer))
                (void)kill(closer->pid, SIGKILL);
}

static int order_close(sd_event *event, int fd, bool keeps_number, Closer **ret)
{
        Closer *closer = atomic_exchange(&idle, NULL);
        int r = closer ? 0 : start_closer(event, &closer);

        if (r < 0)
                return r;
        closer->fd = fd;
        closer->keeps_number = keeps_number;
        *ret = closer;
        if (TRY_TWICE(eventfd_write(closer->order, 1)) >= 0)
                return 0;
        r = -errno;
        put_back(closer);
        return r;
}

void closer_close(sd_event *event, int fd)
{
        Closer *closer;

        if (order_close(event, fd, false, &closer) < 0)
                safe_close(fd);
}

/* The table entry is replaced at once, before the file is flushed. */
static bool leads_nowhere(int fd)
{
        int flags = fcntl(fd, F_GETFL);

        return flags < 0 || flags & O_PATH;
}

/* From what it had to close; or it has died. */
static bool is_back(const Closer *closer)
{
        siginfo_t info = { 0 };

        if (atomic_load(&idle) == closer)
                return true;
        return waitid(P_PID, (id_t)closer->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

int closer_withdraw(sd_event *event, int fd)
{
        Closer *closer;
        int r;

        /* Such a descriptor is no open file: there is nothing to flush. */
        if (leads_nowhere(fd))
                return 0;
        r = order_close(event, fd, true, &closer);
        if (r < 0)
                return r;
        for (unsigned i = 0; !leads_nowhere(fd); i++) {
                if (i < WITHDRAW_TRIES_PAUSING) {
                        (void)sched_yield();
                        continue;
                }
                if (is_back(closer))
                        return leads_nowhere(fd) ? 0 : -ECHILD;
                if (i >= WITHDRAW_TRIES_MAX)
                        return -ETIMEDOUT;
                (void)ppoll(NULL, 0, &look_pause, NULL);
        }
        return 0;
}
