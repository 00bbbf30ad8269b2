/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What takes more than a second says so: "Attaching disk.img... 3 s".
 *
 * The line goes to standard error if that is a terminal which can take a line
 * back, and only while we are in its foreground. It never gets longer than the
 * terminal is wide: of a line that was wrapped only the end could be taken away.
 */
#include "progress.h"

#include <inttypes.h>
#include <time.h>

#include "base/text.h"
#include "output.h"

/* Room for the dots, and for the seconds of some days. */
#define COUNTER_WIDTH 12U
#define WIDTH_MIN 40U
/* To the beginning of the line, and nothing behind that. */
#define CLEAR_LINE "\r\x1b[K"

static uint64_t now_usec(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000U;
}

static void write_line(const char *line)
{
        /* In one piece: others may write to the terminal, too. */
        if (write(STDERR_FILENO, line, strlen(line)) < 0)
                return;
}

Progress progress_begin(const char *doing)
{
        bool possible = doing && output_is_terminal(STDERR_FILENO) && output_columns(STDERR_FILENO) >= WIDTH_MIN;

        return (Progress){ .doing = possible ? doing : NULL, .begin_usec = now_usec() };
}

static void print(const char *doing, uint64_t seconds)
{
        size_t columns = MAX(output_columns(STDERR_FILENO), WIDTH_MIN);
        _cleanup_free_ char *text = output_ellipsize(doing, columns - COUNTER_WIDTH), *line = NULL;

        if (text && asprintf(&line, CLEAR_LINE "%s%s %" PRIu64 " s", text, output_ellipsis(), seconds) >= 0)
                write_line(line);
}

uint64_t progress_passed_usec(const Progress *progress)
{
        return now_usec() - progress->begin_usec;
}

uint64_t progress_show(Progress *progress)
{
        uint64_t passed = progress_passed_usec(progress), seconds = passed / USEC_PER_SEC;

        if (!progress->doing)
                return UINT64_MAX;
        if (seconds > progress->shown && tcgetpgrp(STDERR_FILENO) == getpgrp()) {
                print(progress->doing, seconds);
                progress->shown = seconds;
        }
        return USEC_PER_SEC - passed % USEC_PER_SEC;
}

void progress_end(Progress *progress)
{
        if (progress->shown > 0)
                write_line(CLEAR_LINE);
        progress->shown = 0;
}
