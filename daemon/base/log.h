/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages for the administrator: to the journal with fields where there is one, else to standard error. */
#pragma once

#include <syslog.h>

#include "base/macro.h"

void log_message(int priority, const char *format, ...) _printf_(2, 3);

/* What a message is about; all members may be NULL or 0. */
typedef struct LogSubject {
        uint64_t image_id;
        const char *device;
        const char *backing_file;
        unsigned owner;
} LogSubject;

/* With the fields LOOPMOUNT_IMAGE=, LOOPMOUNT_DEVICE=, LOOPMOUNT_BACKING_FILE=, LOOPMOUNT_OWNER_UID=. */
void log_about(int priority, const LogSubject *subject, const char *format, ...) _printf_(3, 4);
