/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Follows the daemon and all of its children from one system call to the next,
 * by ptrace(2), in a process of its own; makes one of the calls fail, or kills at
 * one. A point is named so that it is found again in another run: by the process,
 * the call, and how often that process has made that call before.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "lib/base.h"

#define TRACER_ROLE_SIZE 24
#define TRACER_ARGUMENTS 3 /* so many are recorded, from the first on */

typedef struct TracerPoint {
        char role[TRACER_ROLE_SIZE]; /* "d": the daemon; "d.2": its second child; "d.c1": its first that closes a file;
                                        "d.w1": the first of those that were there before, waiting for a job */
        int number;                  /* of the system call */
        unsigned occurrence;         /* from 1 */
} TracerPoint;

typedef struct TracerCall {
        TracerPoint point;
        uint64_t arguments[TRACER_ARGUMENTS];
} TracerCall;

typedef enum TracerAction {
        TRACER_RECORD,
        TRACER_FAIL,        /* the call is not made, and gives the error; close(2) is made all the same */
        TRACER_KILL_DAEMON, /* by SIGKILL, before the call is made */
        TRACER_KILL_CHILD,
} TracerAction;

typedef struct TracerOrder {
        TracerAction action;
        TracerPoint point;
        int error; /* errno, for TRACER_FAIL */
} TracerOrder;

/*
 * epoll_ctl(2), fcntl(2) and prctl(2) are many calls in one, and some of them cannot
 * fail for want of something: whether one with these arguments can. A run that goes
 * another way may make such a one where the order expects another; then the point is
 * not met.
 */
bool tracer_may_fail(int number, const uint64_t arguments[static TRACER_ARGUMENTS]);

/* Has to be called before the process has threads. */
void tracer_start(void);

/* Follows @pid and counts, from now on; with @from_exec from its execve(2) on. Children that it has by then
 * must be waiting. */
void tracer_arm(pid_t pid, const TracerOrder *order, bool from_exec);

/* Ends that. True: the point was met. @ret_calls: all calls since then, valid until the next tracer_arm(). */
bool tracer_disarm(const TracerCall **ret_calls, size_t *ret_n);
