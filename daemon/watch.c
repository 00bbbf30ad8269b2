/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * - udevd tells of our loop devices and their partitions, and of no others (by
 *   tag, filtered in the kernel). A writable image may have been repartitioned or
 *   formatted through its device: it is looked at again. A device may be gone now
 *   that somebody held at its detach, or that somebody has cleared.
 * - The kernel tells that some mount has changed, not which: our own are compared
 *   by their mount ids, which asks no file system and usually reads no table. If one was
 *   unmounted by somebody else its mount point goes, and with the last one the
 *   image, if it is to detach by itself.
 */
#include <fcntl.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "base/text.h"
#include "mechanism/loop.h"
#include "mechanism/mount.h"
#include "mechanism/settle.h"
#include "story/detach.h"
#include "story/refresh.h"
#include "watch.h"

struct Watch {
        Service *service;
        sd_device_monitor *monitor;
        sd_event_source *on_mounts;
        sd_event_source *on_look;
        int mountinfo;
        bool missed; /* a mount changed while a story about it was under way */
};

/* How often a device is looked at that somebody holds behind its detach. */
#define LOOK_USEC (2 * USEC_PER_SEC)

static const Caller own_caller = { 0 };

static void arm_look(Watch *watch);

static void on_story_done(Story *story, const Failure *failure, void *userdata)
{
        (void)userdata;
        /* It may have been detached meanwhile. */
        if (failure && failure->error != -ENOENT)
                log_message(LOG_WARNING, "%s of an image failed at stage %s: %s%s%s", story->type->name,
                            stage_to_string(failure->stage), strerror(-failure->error), failure->detail ? ": " : "",
                            strempty(failure->detail));
}

/* ---- udev ---- */

/* "loop3", "loop3p1" */
static Image *find_image(const Registry *registry, sd_device *device)
{
        char number[16];
        const char *name;
        uint64_t parsed;
        size_t length;

        if (sd_device_get_sysname(device, &name) < 0 || strncmp(name, "loop", 4) != 0)
                return NULL;
        length = strspn(name + 4, "0123456789");
        if (length == 0 || length >= sizeof(number))
                return NULL;
        memcpy(number, name + 4, length);
        number[length] = 0;
        if (text_parse_uint(number, UINT32_MAX, &parsed) < 0)
                return NULL;
        return registry_find_by_loop(registry, (unsigned)parsed);
}

static int on_device(sd_device_monitor *monitor, sd_device *device, void *userdata)
{
        Watch *watch = userdata;
        Service *service = watch->service;
        Image *image = find_image(service->registry, device);
        uint64_t seqnum = UINT64_MAX;
        Story *story;

        (void)monitor;
        if (!image)
                return 0;
        if (!story_is_about(service, image) && loop_is_gone(image->loop_number, image->diskseq)) {
                (void)detach_start(service, &own_caller, image, on_story_done, NULL, &story);
                return 0;
        }
        (void)sd_device_get_seqnum(device, &seqnum);
        if (image->state != IMAGE_ATTACHED || image->read_only || seqnum <= image->quiet_until ||
            refresh_is_pending(service, image))
                return 0;
        (void)refresh_start(service, &own_caller, image, false, on_story_done, NULL, &story);
        return 0;
}

/* ---- Devices that are on their way ---- */

static bool is_on_its_way(const Image *image)
{
        return image->state == IMAGE_DETACHING || image->state == IMAGE_STUCK;
}

/* There may be no udevd to tell of it. */
static int on_look(sd_event_source *source, uint64_t usec, void *userdata)
{
        Watch *watch = userdata;
        Story *story;

        (void)source, (void)usec;
        for (size_t i = registry_count(watch->service->registry); i > 0; i--) {
                Image *image = registry_nth(watch->service->registry, i - 1);

                if (image && is_on_its_way(image) && !story_is_about(watch->service, image) &&
                    loop_is_gone(image->loop_number, image->diskseq))
                        (void)detach_start(watch->service, &own_caller, image, on_story_done, NULL, &story);
        }
        arm_look(watch);
        return 0;
}

static void arm_look(Watch *watch)
{
        Image *image;
        bool needed = false;

        for (size_t i = 0; (image = registry_nth(watch->service->registry, i)); i++)
                needed |= is_on_its_way(image);
        if (!needed)
                return;
        (void)sd_event_source_set_time_relative(watch->on_look, LOOK_USEC);
        (void)sd_event_source_set_enabled(watch->on_look, SD_EVENT_ONESHOT);
}

/* ---- Mounts ---- */

/* The story finds that it is not mounted any more, and takes away what belonged to the mount. */
static void check_image(Watch *watch, Image *image)
{
        Volume *volume;
        Story *story;

        if (story_is_about(watch->service, image)) {
                watch->missed = true;
                return;
        }
        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume_is_mounted(volume) && !mount_is_there(volume->mount_point, volume->mount_id))
                        (void)unmount_start(watch->service, &own_caller, volume, on_story_done, NULL, &story);
}

static void check_mounts(Watch *watch)
{
        watch->missed = false;
        /* From the end: an image that goes does not move the others. */
        for (size_t i = registry_count(watch->service->registry); i > 0; i--) {
                Image *image = registry_nth(watch->service->registry, i - 1);

                if (image)
                        check_image(watch, image);
        }
}

void watch_story_ended(Watch *watch)
{
        if (watch->missed)
                check_mounts(watch);
        arm_look(watch);
}

static int on_mounts(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        (void)source, (void)fd, (void)events;
        check_mounts(userdata);
        return 0;
}

/* ---- */

Watch *watch_free(Watch *watch)
{
        if (!watch)
                return NULL;
        sd_device_monitor_unref(watch->monitor);
        sd_event_source_disable_unref(watch->on_mounts);
        sd_event_source_disable_unref(watch->on_look);
        safe_close(watch->mountinfo);
        free(watch);
        return NULL;
}

int watch_new(Service *service, Watch **ret)
{
        _cleanup_(watch_freep) Watch *watch = calloc(1, sizeof(*watch));
        int r;

        if (!watch)
                return -ENOMEM;
        watch->service = service;
        watch->mountinfo = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        if (watch->mountinfo < 0)
                return -errno;
        r = sd_event_add_io(service->event, &watch->on_mounts, watch->mountinfo, EPOLLPRI, on_mounts, watch);
        if (r >= 0)
                r = sd_event_add_time_relative(service->event, &watch->on_look, CLOCK_MONOTONIC, 0, 0, on_look, watch);
        if (r >= 0)
                r = sd_event_source_set_enabled(watch->on_look, SD_EVENT_OFF);
        if (r >= 0)
                r = settle_monitor(service->event, on_device, watch, &watch->monitor);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(watch);
        return 0;
}
