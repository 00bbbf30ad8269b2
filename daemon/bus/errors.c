/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one table from (stage, errno) to error names and sentences. The first row
 * that fits counts; the words that a story has found for the case follow the
 * sentence.
 */
#include <stdarg.h>

#include "bus/errors.h"

#define ANY_STAGE STAGE_MAX_
#define ANY_ERROR 0

static const struct {
        Stage stage;
        int error; /* errno */
        const char *name;
        const char *sentence;
} table[] = {
        { ANY_STAGE, ECANCELED, "Cancelled", "The request was cancelled" },
        { ANY_STAGE, ETIMEDOUT, "Timeout", "The kernel gave no answer in time" },
        { STAGE_LIMITS, ESHUTDOWN, "Cancelled", "The service is being stopped" },
        { STAGE_LIMITS, EDQUOT, "LimitExceeded", "Too many requests are under way for one user" },
        { STAGE_LIMITS, EUSERS, "LimitExceeded", "Too many files of yours hang in the kernel; end their file system" },
        { STAGE_AUTHORISE, EKEYREJECTED, "NotAuthorized",
          "An administrator's password is needed, and may not be asked for" },
        { STAGE_AUTHORISE, EACCES, "NotAuthorized", "Not authorised" },
        { STAGE_AUTHORISE, ESRCH, "NotAuthorized",
          "Not authorised: polkit is not running, and without it only root may do this" },
        { STAGE_AUTHORISE, ENOMSG, "Failed", "Permission was asked for, and polkit did not answer; try again" },
        { STAGE_AUTHORISE, ANY_ERROR, "Failed", "Permission could not be asked for" },
        { STAGE_PROBE, ENODATA, "InvalidImage", "The file is empty, or smaller than the offset and the size ask for" },
        { STAGE_PROBE, EMEDIUMTYPE, "InvalidImage", "Only regular files can be attached" },
        { STAGE_PROBE, EACCES, "InvalidImage",
          "The file is on a file system that the service may not read (FUSE without allow_other)" },
        { STAGE_PROBE, ENOTUNIQ, "InvalidImage",
          "It has partition tables for two sector sizes; say which one with sector-size" },
        { STAGE_PROBE, ERANGE, "InvalidArgs", "The offset does not fit" },
        { STAGE_PROBE, EDQUOT, "LimitExceeded", "The image has too many volumes" },
        { STAGE_PROBE, ECHILD, "InvalidImage", "The image could not be examined" },
        { STAGE_PROBE, ANY_ERROR, "InvalidImage", "The image cannot be read" },
        { STAGE_LOCK, EEXIST, "AlreadyAttached", "The file is attached already" },
        { STAGE_PLAN, EEXIST, "AlreadyAttached", "The file is attached already" },
        { STAGE_PLAN, ENODATA, "InvalidImage", "There is nothing to mount" },
        { STAGE_PLAN, EINVAL, "InvalidArgs", "Option \"name\"" },
        { STAGE_PLAN, EPROTONOSUPPORT, "UnsupportedFilesystem", "It cannot be mounted" },
        { STAGE_PLAN, ENOENT, "InvalidArgs", "These volumes cannot be mounted" },
        { STAGE_PLAN, EPERM, "OptionNotPermitted", "It is not permitted" },
        { STAGE_PLAN, EROFS, "OptionNotPermitted", "It cannot be mounted writable" },
        { STAGE_PLAN, EALREADY, "AlreadyMounted", "It is mounted already" },
        { STAGE_PLAN, EACCES, "NotAuthorized", "Nobody was asked for permission" },
        { STAGE_PLAN, EDQUOT, "LimitExceeded", "Too many images are attached" },
        { STAGE_BIND, ENODATA, "InvalidImage", "The kernel cannot use the file as a device" },
        { STAGE_BIND, EDQUOT, "LimitExceeded",
          "The file has holes, and for what would be written to them there is no room in the quota or on the disk" },
        { STAGE_BIND, EOPNOTSUPP, "Failed", "Direct I/O is not possible with this file" },
        { STAGE_BIND, ENOSYS, "Failed", "The kernel has no disk sequence numbers; Linux 5.15 has" },
        { STAGE_BIND, ESTALE, "InvalidImage", "The image could not be examined" },
        { STAGE_BIND, EUSERS, "Busy", "No loop device was free" },
        { STAGE_BIND, EROFS, "InvalidImage", "The file cannot be written to" },
        { STAGE_BIND, ANY_ERROR, "Failed", "A loop device could not be bound to the file" },
        { STAGE_PARTITIONS, EDQUOT, "LimitExceeded", "The kernel sees more partitions in it than an image may have" },
        { STAGE_MOUNT, EROFS, "OptionNotPermitted", "It cannot be mounted writable" },
        { STAGE_MOUNT, EACCES, "OptionNotPermitted", "It cannot be mounted writable" },
        { STAGE_MOUNT, ENODEV, "UnsupportedFilesystem", "It cannot be mounted" },
        { STAGE_MOUNT, EXDEV, "InvalidImage", "It cannot be mounted" },
        { STAGE_MOUNT, EINVAL, "InvalidImage", "It cannot be mounted" },
        { STAGE_MOUNT, EUCLEAN, "InvalidImage", "It cannot be mounted" },
        { STAGE_MOUNT, EBADMSG, "InvalidImage", "It cannot be mounted" },
        { STAGE_MOUNT, EIO, "InvalidImage", "It cannot be mounted" },
        { STAGE_MOUNT, ESTALE, "InvalidImage", "It cannot be mounted" },
        { STAGE_MOUNT, EOPNOTSUPP, "UnsupportedFilesystem", "It cannot be mounted" },
        { STAGE_MOUNT, ANY_ERROR, "Failed", "It cannot be mounted" },
        { STAGE_UNMOUNT, EINVAL, "NotMounted", "There is nothing to unmount" },
        { STAGE_UNMOUNT, EBUSY, "Busy", "It cannot be unmounted" },
        { STAGE_UNMOUNT, ANY_ERROR, "Failed", "It cannot be unmounted" },
        { STAGE_RELEASE, EBUSY, "Busy", "It is unmounted, and the device will go when nobody uses it any more" },
        { STAGE_RELEASE, ANY_ERROR, "Failed", "The device could not be released" },
        { STAGE_WRITE_BACK, ANY_ERROR, "Failed",
          "It is unmounted, but not all that was written to it has reached the file" },
        { ANY_STAGE, ANY_ERROR, "Failed", "The request failed" },
};

static int find(Stage stage, int error)
{
        int i = 0;

        while ((table[i].stage != ANY_STAGE && table[i].stage != stage) ||
               (table[i].error != ANY_ERROR && table[i].error != -error))
                i++;
        return i;
}

const char *error_name(Stage stage, int error, const char **ret_sentence)
{
        int i = find(stage, error);

        if (ret_sentence)
                *ret_sentence = table[i].sentence;
        return table[i].name;
}

int error_reply(sd_bus_message *message, const Failure *failure)
{
        const char *sentence, *errno_name = strerrorname_np(-failure->error);
        const char *name = error_name(failure->stage, failure->error, &sentence);
        char full_name[96];

        snprintf(full_name, sizeof(full_name), ERROR_PREFIX "%s", name);
        return sd_bus_reply_method_errorf(message, full_name, "%s%s%s (%s: %s)", sentence, failure->detail ? ": " : "",
                                          strempty(failure->detail), stage_to_string(failure->stage),
                                          errno_name ? errno_name : "unknown");
}

int error_reply_early(sd_bus_message *message, int error)
{
        return error_reply(message, &(Failure){ .stage = STAGE_REQUEST, .error = error });
}

int error_reply_invalid(sd_bus_message *message, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (n < 0)
                return -ENOMEM;
        return sd_bus_reply_method_errorf(message, ERROR_PREFIX "InvalidArgs", "%s", text);
}
