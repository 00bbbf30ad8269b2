/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The descriptors of a child process: those that it needs, and no others. */
#pragma once

#include "base/macro.h"

#define FDS_KEEP_MAX 16U

/*
 * Closes all descriptors from number @first on but those in @keep: at most FDS_KEEP_MAX, in any order. Blocks for as
 * long as close(2) does. -E2BIG: they are too many; else as close_range(2).
 */
int fds_close_all_but(unsigned first, const int *keep, size_t n_keep);
