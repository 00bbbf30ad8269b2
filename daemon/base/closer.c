/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Children that share our descriptor table, so that what they close is closed here
 * too; and our memory, where they find what to close. Users can have something
 * closed with each message, so that there is not a new process for each: one waits
 * for the next, and waits again when it is back from a close. One that hangs is not
 * waited for, and another is made. Of two that are back one goes.
 *
 * Each has a stack of its own. errno, which is shared as well, is not written to:
 * none of their system calls fails.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/closer.h"

/* Few system calls; and what the C library puts around them. */
#define CLOSER_STACK_SIZE 16384

typedef struct Closer {
        pid_t pid;
        pid_t parent;
        _Atomic int fd; /* what is to be closed; -1: it has been begun, or taken back */
        int order;      /* an eventfd: there is something to close; -1: none could be had, and it closes only one */
        bool watched;   /* by the event loop, which reaps it */
        sd_event *event;
        sd_event_source *on_exit;
        struct Closer *next; /* so that a leak checker finds those that hang */
        _Alignas(64) char stack[CLOSER_STACK_SIZE];
} Closer;

static Closer *closers;
static int nowhere = -1;

/* The one that waits: put here by itself, taken by the parent. */
static _Atomic(Closer *) idle;

/* ---- In the child ---- */

/* True: it waits for another one, for nobody does yet. */
__attribute__((no_sanitize("address", "undefined"))) static bool carry_out(Closer *closer)
{
        Closer *nobody = NULL;
        int fd = atomic_exchange(&closer->fd, -1);

        (void)prctl(PR_SET_NAME, CLOSER_NAME);
        if (fd >= 0) {
                /* Replacing ignores what the flush says, closing would not. */
                (void)dup3(nowhere, fd, O_CLOEXEC);
                (void)close(fd);
        }
        (void)prctl(PR_SET_NAME, CLOSER_IDLE_NAME);
        return closer->order >= 0 && atomic_compare_exchange_strong(&idle, &nobody, closer);
}

/* Only the first one of all has nothing to do yet. */
__attribute__((no_sanitize("address", "undefined"))) static int run_closer(void *userdata)
{
        Closer *closer = userdata;
        eventfd_t n;

        /* One that would outlive its parent closes nothing: another one does. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != closer->parent)
                return 0;
        (void)prctl(PR_SET_NAME, CLOSER_IDLE_NAME);
        if (atomic_load(&closer->fd) >= 0 && !carry_out(closer))
                return 0;
        while (TRY_TWICE(eventfd_read(closer->order, &n)) >= 0 && carry_out(closer))
                ;
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

/* It has ended. What it was to close and has not begun with, since it was killed, another one closes. */
static void bury(Closer *closer)
{
        sd_event *event = closer->event;
        int fd = atomic_exchange(&closer->fd, -1);

        closer_free(closer);
        if (fd >= 0)
                closer_close(event, fd);
}

/* Those that could not be watched, for want of memory or descriptors, are reaped when there is an occasion. */
static void reap_unwatched(void)
{
        for (Closer *closer = closers; closer;)
                if (!closer->watched && waitpid(closer->pid, NULL, WNOHANG) != 0) {
                        bury(closer);
                        closer = closers;
                } else
                        closer = closer->next;
}

static int on_closer_exit(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        (void)source, (void)info;
        bury(userdata);
        return 0;
}

/* The event loop reaps it; nobody waits for it. @fd: what it closes first; -1: nothing. */
static int start_closer(sd_event *event, int fd, Closer **ret)
{
        Closer *closer = aligned_alloc(_Alignof(Closer), sizeof(*closer));
        int r;

        if (!closer)
                return -ENOMEM;
        closer->event = event;
        closer->on_exit = NULL;
        closer->parent = getpid();
        atomic_init(&closer->fd, fd);
        closer->order = eventfd(0, EFD_CLOEXEC);
        closer->pid = clone(run_closer, closer->stack + CLOSER_STACK_SIZE, CLONE_VM | CLONE_FILES | SIGCHLD, closer);
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
        r = start_closer(event, -1, &closer);
        if (r < 0)
                return r;
        if (closer->order < 0)
                return -EMFILE;
        atomic_store(&idle, closer);
        return 0;
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

static int order_close(sd_event *event, int fd, Closer **ret)
{
        Closer *closer;
        int r;

        reap_unwatched();
        closer = *ret = atomic_exchange(&idle, NULL);
        if (!closer)
                return start_closer(event, fd, ret);
        atomic_store(&closer->fd, fd);
        if (TRY_TWICE(eventfd_write(closer->order, 1)) >= 0)
                return 0;
        r = -errno;
        atomic_store(&closer->fd, -1);
        put_back(closer);
        return r;
}

void closer_close(sd_event *event, int fd)
{
        Closer *closer;

        if (order_close(event, fd, &closer) < 0)
                safe_close(fd);
}
