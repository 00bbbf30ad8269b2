/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signals that end a program, while it waits for an answer that it must not miss:
 * what was attached has to be taken away again, or told to the user.
 */
#pragma once

#include <poll.h>
#include <signal.h>

#include "base/macro.h"

/*
 * From now on the first of SIGINT, SIGTERM, SIGHUP and SIGQUIT is only remembered; the second ends the process at once.
 * A signal that was ignored stays ignored. May be called again.
 */
void interrupt_catch(void);

/* Returns the signal that came, or 0. */
int interrupt_signal(void);

/* The signals from above. */
void interrupt_fill_set(sigset_t *ret);

/*
 * poll(2) with one descriptor. -EINTR: a signal came; with @notice also if that was before. No signal gets lost between
 * that look and the wait. @timeout_usec: UINT64_MAX: none.
 */
int interrupt_poll(struct pollfd *pollfd, uint64_t timeout_usec, bool notice);

/* Ends this: each signal has its usual effect again. If one came, the process ends by it here. */
void interrupt_end(void);
