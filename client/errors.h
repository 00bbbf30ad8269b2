/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the client says and returns when something fails. The statuses are the
 * program's exit codes, and part of its interface (loopmount(1)).
 */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

enum {
        STATUS_OK = 0,
        STATUS_FAILED = 1,
        STATUS_USAGE = 2,
        STATUS_NOT_AUTHORIZED = 3,
        STATUS_BUSY = 4,
        STATUS_NOT_FOUND = 5,
        STATUS_BAD_IMAGE = 6,
        STATUS_UNREACHABLE = 7,
};

/* The exit code for a D-Bus error's @name; NULL and unknown names are STATUS_FAILED. */
int error_status(const char *name);

/*
 * Prints "program: subject: sentence" to standard error and gives @status back.
 * @subject is what the user called the thing (made harmless here) or NULL.
 */
int error_print(int status, const char *subject, const char *format, ...) _printf_(3, 4);

/*
 * From now on sentences are kept besides, for errors_kept(): without the
 * program's name; @with_subjects, and then of a path only its end. Forgets those before.
 */
void errors_keep(bool with_subjects);
/* All that was printed since, one a line; "" if nothing. */
const char *errors_kept(void);

/*
 * The same for a failed call: the daemon's own sentence, or that of @r (-errno)
 * if @error is not set. Gives the exit code.
 */
int error_print_bus(const char *subject, const sd_bus_error *error, int r);
