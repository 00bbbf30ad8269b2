/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One line on the terminal that says what is being waited for. */
#pragma once

#include "base/macro.h"

typedef struct Progress {
        const char *doing; /* what it says; NULL: nothing, whatever happens */
        uint64_t begin_usec;
        uint64_t shown; /* the seconds that it says; 0: it is not there */
} Progress;

/* Begins to count; @doing has to live as long. Nothing is shown for a second, or where there is no terminal. */
Progress progress_begin(const char *doing);

/* How long it has been. */
uint64_t progress_passed_usec(const Progress *progress);

/* Shows how many seconds it has been. Gives the time until this has to be called again; UINT64_MAX: never. */
uint64_t progress_show(Progress *progress);

/* Takes the line away. */
void progress_end(Progress *progress);
#define _cleanup_progress_ _cleanup_(progress_end)
