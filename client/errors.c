/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a D-Bus error to one sentence on standard error and an exit code.
 *
 * The daemon words its errors for people, so its message is passed on as it
 * is. What the bus says when there is no daemon to answer is worded for
 * developers; that gets a beginning which tells what it means here. The table
 * is the only place that knows error names.
 */
#include "errors.h"

#include <stdarg.h>

#include "base/text.h"
#include "i18n.h"

#define ERROR_PREFIX "org.loopmount1.Error."
#define SPAWN_PREFIX "org.freedesktop.DBus.Error.Spawn."
#define SYSTEMD_PREFIX "org.freedesktop.systemd1."

static const struct {
        const char *name;
        int status;
} statuses[] = {
        { ERROR_PREFIX "NotAuthorized", STATUS_NOT_AUTHORIZED },
        { ERROR_PREFIX "OptionNotPermitted", STATUS_NOT_AUTHORIZED },
        { ERROR_PREFIX "WrongPassphrase", STATUS_NOT_AUTHORIZED },
        { ERROR_PREFIX "InvalidArgs", STATUS_USAGE },
        { ERROR_PREFIX "Busy", STATUS_BUSY },
        { ERROR_PREFIX "AlreadyAttached", STATUS_BUSY },
        { ERROR_PREFIX "AlreadyMounted", STATUS_BUSY },
        { ERROR_PREFIX "NotMounted", STATUS_NOT_FOUND },
        { ERROR_PREFIX "InvalidImage", STATUS_BAD_IMAGE },
        { ERROR_PREFIX "UnsupportedFilesystem", STATUS_BAD_IMAGE },
        { ERROR_PREFIX "LimitExceeded", STATUS_FAILED },
        { ERROR_PREFIX "Timeout", STATUS_FAILED },
        { ERROR_PREFIX "Cancelled", STATUS_FAILED },
        { ERROR_PREFIX "Failed", STATUS_FAILED },
        { SD_BUS_ERROR_ACCESS_DENIED, STATUS_NOT_AUTHORIZED },
        { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, STATUS_NOT_AUTHORIZED },
        { SD_BUS_ERROR_INVALID_ARGS, STATUS_USAGE },
        { SD_BUS_ERROR_UNKNOWN_OBJECT, STATUS_NOT_FOUND },
        { SD_BUS_ERROR_SERVICE_UNKNOWN, STATUS_UNREACHABLE },
        { SD_BUS_ERROR_NAME_HAS_NO_OWNER, STATUS_UNREACHABLE },
        { SD_BUS_ERROR_NO_REPLY, STATUS_UNREACHABLE },
        { SD_BUS_ERROR_TIMEOUT, STATUS_UNREACHABLE },
        { SD_BUS_ERROR_DISCONNECTED, STATUS_UNREACHABLE },
};

int error_status(const char *name)
{
        if (!name)
                return STATUS_FAILED;

        for (size_t i = 0; i < ELEMENTSOF(statuses); i++)
                if (streq(statuses[i].name, name))
                        return statuses[i].status;

        /* The bus, or systemd for it, could not start the daemon; there are a dozen reasons. */
        if (strncmp(name, SPAWN_PREFIX, strlen(SPAWN_PREFIX)) == 0 ||
            strncmp(name, SYSTEMD_PREFIX, strlen(SYSTEMD_PREFIX)) == 0)
                return STATUS_UNREACHABLE;
        return STATUS_FAILED;
}

static bool keeps, keeps_subjects;
static char *kept;

void errors_keep(bool with_subjects)
{
        keeps = true;
        keeps_subjects = with_subjects;
        free(kept);
        kept = NULL;
}

const char *errors_kept(void)
{
        return strempty(kept);
}

static void keep(const char *subject, const char *sentence)
{
        const char *slash = subject ? strrchr(subject, '/') : NULL, *name = slash && slash[1] ? slash + 1 : subject;
        char *all =
                text_printf("%s%s%s%s%s", strempty(kept), kept ? "\n" : "", strempty(name), name ? ": " : "", sentence);

        if (!all)
                return;
        free(kept);
        kept = all;
}

int error_print(int status, const char *subject, const char *format, ...)
{
        _cleanup_free_ char *shown = subject ? text_escape(subject, strlen(subject)) : NULL;
        _cleanup_free_ char *sentence = NULL;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&sentence, format, arguments) < 0)
                sentence = NULL;
        va_end(arguments);
        fprintf(stderr, "%s: %s%s%s\n", program_invocation_short_name, strempty(shown), shown ? ": " : "",
                sentence ? sentence : strerror(ENOMEM));
        if (keeps)
                keep(keeps_subjects ? shown : NULL, sentence ? sentence : strerror(ENOMEM));
        return status;
}

int error_print_bus(const char *subject, const sd_bus_error *error, int r)
{
        const char *message = sd_bus_error_is_set(error) ? error->message : strerror(-r);
        int status = error_status(error->name);

        if (status == STATUS_UNREACHABLE)
                return error_print(status, subject, _("loopmountd cannot be reached: %s"), strempty(message));
        return error_print(status, subject, "%s", isempty(message) ? error->name : message);
}
