/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A job: one function in a child process with a deadline. Everything that can
 * block runs in one, so that the daemon itself never does.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/macro.h"

#define JOB_FDS_MAX 8U

typedef struct Job Job;

/*
 * Runs in the child, which has no file descriptors but 0-2, @channel and those
 * that the spec names. Gives its answer with job_answer(), at most once.
 * < 0: failed, without an answer.
 */
typedef int (*JobFunction)(int channel, const void *parameters);

typedef struct JobSpec {
        const char *name; /* for the log and the process list; at most 15 bytes */
        JobFunction function;
        const void *parameters; /* as it is at the time of the fork */
        int fds[JOB_FDS_MAX];   /* to keep open in the child */
        size_t n_fds;
        size_t n_given; /* the first of @fds that the parent closes, before the child runs: for descriptors whose last
                           close may block */
        uint64_t timeout_usec;
} JobSpec;

/* What a child answered. It may be compromised: treat the bytes as hostile. */
typedef struct JobAnswer {
        const void *data;
        size_t size;
        int fds[JOB_FDS_MAX]; /* close-on-exec; closed after the callback unless taken (set to -1) */
        size_t n_fds;
} JobAnswer;

/*
 * Called once, never from within job_start(). @error: 0 with an answer; what the
 * function returned; -ETIMEDOUT: the deadline passed, the child was killed (and
 * may yet be stuck in the kernel, with its descriptors); -ECHILD: it died.
 */
typedef void (*JobDone)(int error, JobAnswer *answer, void *userdata);

/* On failure nothing was started, and the given descriptors are still the caller's. */
int job_start(sd_event *event, const JobSpec *spec, JobDone done, void *userdata, Job **ret);

/* Kills the child; the callback will not be called. Gives NULL. */
Job *job_cancel(Job *job);
DEFINE_CLEANUP(Job *, job_cancel)

/* In the child: sends the answer. -errno as sendmsg(2). */
int job_answer(int channel, const void *data, size_t size, const int *fds, size_t n_fds);

/* How many children were killed but are not dead yet: they are stuck in the kernel. */
unsigned job_n_stuck(void);
