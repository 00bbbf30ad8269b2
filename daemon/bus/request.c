/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a message to a story and back. While the story is under way the caller is
 * watched: when it leaves the bus, the story is told to give up.
 *
 * Who the caller is comes from the bus, not from the message.
 */
#include "bus/request.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/text.h"
#include "bus/errors.h"

struct Request {
        sd_bus_message *message;
        RequestReply reply;
        Caller caller;
        sd_bus_track *track;
        Story *story;
        bool starting; /* inside of story_start(), which may already end the story */
        bool done;
};

Request *request_free(Request *request)
{
        if (!request)
                return NULL;
        sd_bus_track_unref(request->track);
        sd_bus_message_unref(request->message);
        free(request);
        return NULL;
}

static int on_caller_gone(sd_bus_track *track, void *userdata)
{
        Request *request = userdata;
        Story *story = request->story;

        (void)track;
        request_free(request);
        story_abandon(story);
        return 0;
}

static int find_caller(sd_bus_message *message, Caller *ret)
{
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        int r = sd_bus_query_sender_creds(message, SD_BUS_CREDS_EUID, &creds);

        if (r >= 0)
                r = sd_bus_creds_get_euid(creds, &ret->uid);
        if (r < 0)
                return r;
        ret->sender = sd_bus_message_get_sender(message);
        ret->interactive = sd_bus_message_get_allow_interactive_authorization(message) > 0;
        return 0;
}

int request_new(sd_bus_message *message, RequestReply reply, Request **ret)
{
        _cleanup_(request_freep) Request *request = calloc(1, sizeof(*request));
        int r;

        if (!request)
                return -ENOMEM;
        request->message = sd_bus_message_ref(message);
        request->reply = reply;
        request->starting = true;
        r = find_caller(message, &request->caller);
        if (r >= 0)
                r = sd_bus_track_new(sd_bus_message_get_bus(message), &request->track, on_caller_gone, request);
        if (r >= 0)
                r = sd_bus_track_add_sender(request->track, message);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(request);
        return 0;
}

const Caller *request_get_caller(const Request *request)
{
        return &request->caller;
}

Story **request_story(Request *request)
{
        return &request->story;
}

void request_done(Story *story, const Failure *failure, void *userdata)
{
        Request *request = userdata;

        int r;

        if (failure)
                r = error_reply(request->message, failure);
        else if (request->reply)
                r = request->reply(request->message, story);
        else
                r = sd_bus_reply_method_return(request->message, NULL);
        /* There is an answer in any case. */
        if (r < 0)
                (void)sd_bus_reply_method_errno(request->message, r, NULL);
        request->done = true;
        if (!request->starting)
                request_free(request);
}

int request_started(Request *request, int r)
{
        Failure failure = { .stage = STAGE_LIMITS, .error = r };

        request->starting = false;
        if (r >= 0 && !request->done)
                return 1;
        if (r < 0)
                r = error_reply(request->message, &failure);
        request_free(request);
        return r < 0 ? r : 1;
}

Service *request_service(sd_bus_message *message)
{
        return sd_bus_slot_get_userdata(sd_bus_get_current_slot(sd_bus_message_get_bus(message)));
}

/* ---- Files in messages that nobody wants ---- */

typedef struct DeviceNumber {
        uint32_t major, minor;
} DeviceNumber;

/* What the daemon has of its own: /proc, the event loop's descriptors, and those of its children. */
typedef struct OwnDevices {
        DeviceNumber numbers[3];
        size_t n;
} OwnDevices;

/* An empty mask asks no file system; it gives the device, and the type where anybody may know it. */
static int look_at(int fd, DeviceNumber *ret_device, mode_t *ret_mode)
{
        struct statx stx;

        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) < 0)
                return -errno;
        *ret_device = (DeviceNumber){ stx.stx_dev_major, stx.stx_dev_minor };
        *ret_mode = stx.stx_mode;
        return 0;
}

static void add_own(OwnDevices *own, int fd)
{
        mode_t mode;

        if (look_at(fd, &own->numbers[own->n], &mode) >= 0)
                own->n++;
}

/* Sockets, pipes and devices are nothing that could hang; the rest of our own is known by its device. */
static bool is_stranger(int fd, const OwnDevices *own)
{
        DeviceNumber device;
        mode_t mode;

        if (look_at(fd, &device, &mode) < 0)
                return true;
        for (size_t i = 0; i < own->n; i++)
                if (device.major == own->numbers[i].major && device.minor == own->numbers[i].minor)
                        return false;
        return !S_ISSOCK(mode) && !S_ISBLK(mode) && !S_ISCHR(mode) && !S_ISFIFO(mode);
}

static void closedirp(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

void request_withdraw_strangers(Service *service)
{
        _cleanup_(closedirp) DIR *directory = opendir("/proc/self/fd");
        _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
        OwnDevices own = { 0 };
        struct dirent *entry;
        uint64_t fd;

        if (!directory || pidfd < 0)
                return;
        add_own(&own, dirfd(directory));
        add_own(&own, sd_event_get_fd(service->event));
        add_own(&own, pidfd);
        while ((entry = readdir(directory)))
                if (text_parse_uint(entry->d_name, INT32_MAX, &fd) >= 0 && fd > STDERR_FILENO &&
                    is_stranger((int)fd, &own))
                        (void)job_withdraw(service->event, (int)fd);
}
