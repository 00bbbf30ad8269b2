/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A job: one order, done by a worker, a child process with a deadline. Everything
 * that can block is one, so that the daemon itself never does.
 *
 * A worker knows what the order says, and has the descriptors that came with it. When
 * it has done its job well, it waits a while for another of the same kind, so that not
 * each of them costs a process.
 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/fd-message.h"
#include "base/macro.h"

#define JOB_FDS_MAX FD_MESSAGE_FDS_MAX
/* What a socket takes in one message, with some room for the kernel's own. */
#define JOB_ORDER_SIZE_MAX ((size_t)160 * 1024)
#define JOB_KILL_GRACE_USEC (2 * USEC_PER_SEC)
/* How long a worker waits for the next job, how many of a kind do, and what the process list shows then. */
#define JOB_IDLE_USEC (3 * USEC_PER_SEC)
#define JOB_IDLE_MAX 4U
#define JOB_IDLE_NAME "idle"

typedef struct Job Job;

/* To a worker, or from it. A worker may be compromised: treat its bytes as hostile. */
typedef struct JobMessage {
        const void *data;
        size_t size;
        int fds[JOB_FDS_MAX]; /* close-on-exec; closed behind the callback or the function, unless taken (set to -1) */
        size_t n_fds;
} JobMessage;

typedef JobMessage JobAnswer;
typedef JobMessage JobOrder;

/*
 * Runs in the worker, which has no file descriptors but 0-2, @channel and those of
 * the order, under other numbers. Answers with job_answer(), at most once. All that
 * it has opened is closed after it returns. < 0: failed, without an answer; the worker
 * ends. > 0: answered, but the worker is not clean any more (it has a child, or other
 * credentials); it ends as well.
 */
typedef int (*JobWork)(int channel, const JobOrder *order);

typedef struct JobSpec {
        const char *name; /* for the log and the process list; at most 15 bytes */
        JobWork work;
        bool replace;      /* when the worker ends, make another one; @name is constant */
        const void *order; /* copied */
        size_t order_size; /* at most JOB_ORDER_SIZE_MAX; of an order that is empty the worker gets one byte */
        int fds[JOB_FDS_MAX];
        size_t n_fds;
        size_t n_given; /* the first of @fds that the parent closes when the order is sent: for descriptors whose last
                           close may block */
        uint64_t timeout_usec;
        uid_t uid; /* on whose behalf; for job_n_stuck() */
} JobSpec;

/*
 * Called once, never from within job_start(). @error: 0 with an answer; what the
 * work returned; -ETIMEDOUT: the deadline passed; -ECANCELED: see job_abort();
 * -ECHILD: it died. After a kill it is called when the child is dead, or after
 * JOB_KILL_GRACE_USEC if it does not die: then it is stuck in the kernel, with its
 * descriptors.
 */
typedef void (*JobDone)(int error, JobAnswer *answer, void *userdata);

/* On failure nothing was started, and the given descriptors are still the caller's. -EMSGSIZE: too large an order. */
int job_start(sd_event *event, const JobSpec *spec, JobDone done, void *userdata, Job **ret);

/* Kills the child; the callback is called with -ECANCELED, even if an answer comes in between. */
void job_abort(Job *job);

/* Kills the child; the callback will not be called. Gives NULL. */
Job *job_cancel(Job *job);
DEFINE_CLEANUP(Job *, job_cancel)

/* In the child: sends the answer. -errno as sendmsg(2). */
int job_answer(int channel, const void *data, size_t size, const int *fds, size_t n_fds);

/* How many children of jobs for @uid were killed but are not dead yet: they are stuck in the kernel. */
unsigned job_n_stuck(uid_t uid);

/* @reaped is called each time when such a child is gone at last, behind its job's callback. */
void job_set_reaped_handler(void (*reaped)(void *userdata), void *userdata);
