/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What can go wrong at a system call, and how that is written:
 * "d.2/openat/3/EMFILE" is the third openat(2) of the daemon's second child, with
 * EMFILE; in place of the error KILL or KILL-CHILD.
 */
#pragma once

#include "tracer.h"

/* The orders for all points of @calls; to be freed. @kill: SIGKILL, else errors. */
TracerOrder *points_of(const TracerCall *calls, size_t n_calls, bool kill, size_t *ret_n);

char *point_to_string(const TracerOrder *order);

/* Aborts if it cannot be read. */
TracerOrder point_from_string(const char *text);
