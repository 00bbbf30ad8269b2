/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Only those who give up on something log; what a caller is told in a reply is not logged as an error of ours. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <stdarg.h>
#include <systemd/sd-journal.h>

#include "base/log.h"

static bool have_journal(void)
{
        return getenv("JOURNAL_STREAM");
}

static void log_text(int priority, const LogSubject *subject, const char *text)
{
        if (!have_journal()) {
                fprintf(stderr, "%s\n", text);
                return;
        }
        (void)sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", priority, "LOOPMOUNT_IMAGE=%llu",
                              (unsigned long long)subject->image_id, "LOOPMOUNT_DEVICE=%s", strempty(subject->device),
                              "LOOPMOUNT_BACKING_FILE=%s", strempty(subject->backing_file), "LOOPMOUNT_OWNER_UID=%u",
                              subject->owner, NULL);
}

void log_message(int priority, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (n < 0)
                return;
        if (have_journal())
                (void)sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", priority, NULL);
        else
                fprintf(stderr, "%s\n", text);
}

void log_about(int priority, const LogSubject *subject, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (n >= 0)
                log_text(priority, subject, text);
}
