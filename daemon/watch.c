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
 *
 * That look is at all of our mounts. Each costs a walk to its mount point the first
 * time; from then on it is looked for in one list of all there are, where the kernel
 * can make one. As long as no story and no event changes what is ours, the list is
 * compared with what was found the last time, and no image looked at. The first
 * change behind a quiet time is looked at at once, unless a story is under way, which
 * has most likely made it. Then nothing is listened to for a moment: a flood of
 * changes, ours or others', costs a look and a wake-up or two in each such moment.
 * While nothing of ours is mounted nothing is listened to at all.
 *
 * To listen again, and to ask what has changed meanwhile, takes two descriptors of
 * the table: the kernel tells each of them of a change once, and epoll(7) swallows
 * what one was to be told when it is added.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "base/text.h"
#include "mechanism/loop.h"
#include "mechanism/mount.h"
#include "mechanism/settle.h"
#include "story/detach.h"
#include "story/looking.h"
#include "story/refresh.h"
#include "watch.h"

struct Watch {
        Service *service;
        sd_device_monitor *monitor;
        sd_event_source *on_mounts; /* of a descriptor that it owns */
        sd_event_source *on_rested;
        sd_event_source *on_look;
        int changes;    /* tells whether any mount has changed since it was asked last */
        MountList ours; /* what all of ours were found as; empty: that is not known, or may have changed */
        bool resting;
        bool missed; /* a mount has perhaps changed of which only a story knows that was under way */
        bool look_due;
};

/* How often a device is looked at that somebody holds behind its detach. */
#define LOOK_USEC (2 * USEC_PER_SEC)
/* How long changes of mounts are let pass behind one that was listened to. */
#define REST_USEC (100 * USEC_PER_MSEC)
#define REST_ACCURACY_USEC (10 * USEC_PER_MSEC)

static const Caller own_caller = { 0 };

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
                (void)detach_start(service, &own_caller, image, false, on_story_done, NULL, &story);
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

static void arm_look(Watch *watch)
{
        (void)sd_event_source_set_time_relative(watch->on_look, LOOK_USEC);
        (void)sd_event_source_set_enabled(watch->on_look, SD_EVENT_ONESHOT);
}

/* There may be no udevd to tell of it. */
static int on_look(sd_event_source *source, uint64_t usec, void *userdata)
{
        Watch *watch = userdata;
        bool again = false;
        Story *story;

        (void)source, (void)usec;
        for (size_t i = registry_count(watch->service->registry); i > 0; i--) {
                Image *image = registry_nth(watch->service->registry, i - 1);

                if (!image || !is_on_its_way(image))
                        continue;
                again = true;
                if (!story_is_about(watch->service, image) && loop_is_gone(image->loop_number, image->diskseq))
                        (void)detach_start(watch->service, &own_caller, image, false, on_story_done, NULL, &story);
        }
        if (again)
                arm_look(watch);
        return 0;
}

/* ---- Mounts ---- */

static bool is_there(Volume *volume, const MountList *list)
{
        uint64_t id = volume_is_waiting(volume) ? volume->trigger_id : volume->mount_id;

        if (id == 0 || (volume->known_id == id && mount_list_has(list, volume->unique_id)))
                return true;
        volume->known_id = 0;
        if (looking_is_lost(volume))
                return false;
        if (list->n > 0 && mount_get_unique_id(volume->mount_point, id, &volume->unique_id) >= 0)
                volume->known_id = id;
        return true;
}

/* The story finds that it is not mounted any more, and takes away what belonged to the mount. */
static void check_image(Watch *watch, Image *image, const MountList *list)
{
        bool lost = false;
        Volume *volume;
        Story *story;

        if (story_is_about(watch->service, image))
                return;
        IMAGE_FOREACH_VOLUME (volume, image)
                lost |= !is_there(volume, list);
        if (lost)
                (void)detach_lost_start(watch->service, &own_caller, image, on_story_done, NULL, &story);
}

static bool have_mounts_changed(const Watch *watch)
{
        struct pollfd pollfd = { .fd = watch->changes, .events = POLLPRI };

        /* When in doubt they have. */
        return poll(&pollfd, 1, 0) != 0;
}

static int compare_ids(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

static void add_ids(MountList *list, const Image *image, bool *ret_known)
{
        const Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image) {
                uint64_t id = volume_is_waiting(volume) ? volume->trigger_id : volume->mount_id;

                if (id == 0)
                        continue;
                if (volume->known_id != id)
                        *ret_known = false;
                list->ids[list->n++] = volume->unique_id;
        }
}

/* Nothing, if one of ours cannot be found in a list. */
static void remember_ours(Watch *watch)
{
        const Registry *registry = watch->service->registry;
        size_t n_volumes = 0;
        bool known = true;
        Image *image;

        mount_list_done(&watch->ours);
        for (size_t i = 0; (image = registry_nth(registry, i)); i++)
                n_volumes += image->n_volumes;
        watch->ours.ids = n_volumes > 0 ? calloc(n_volumes, sizeof(uint64_t)) : NULL;
        if (!watch->ours.ids)
                return;
        for (size_t i = 0; (image = registry_nth(registry, i)); i++)
                add_ids(&watch->ours, image, &known);
        if (known)
                qsort(watch->ours.ids, watch->ours.n, sizeof(uint64_t), compare_ids);
        else
                mount_list_done(&watch->ours);
}

static void check_mounts(Watch *watch)
{
        _cleanup_(mount_list_done) MountList list = { 0 };

        watch->look_due = false;
        watch->missed = watch->service->stories;
        (void)mount_list_read(&list);
        if (watch->ours.n > 0 && mount_list_has_all(&list, &watch->ours))
                return;
        /* From the end: an image that goes does not move the others. */
        for (size_t i = registry_count(watch->service->registry); i > 0; i--) {
                Image *image = registry_nth(watch->service->registry, i - 1);

                if (image)
                        check_image(watch, image, &list);
        }
        remember_ours(watch);
}

static bool is_listening(const Watch *watch)
{
        return sd_event_source_get_enabled(watch->on_mounts, NULL) > 0;
}

static void rest(Watch *watch)
{
        if (watch->resting)
                return;
        watch->resting = true;
        (void)sd_event_source_set_enabled(watch->on_mounts, SD_EVENT_OFF);
        (void)sd_event_source_set_time_relative(watch->on_rested, REST_USEC);
        (void)sd_event_source_set_enabled(watch->on_rested, SD_EVENT_ONESHOT);
}

static bool is_anything_mounted(const Registry *registry)
{
        Image *image;

        for (size_t i = 0; (image = registry_nth(registry, i)); i++)
                if (image_count_usable(image) > 0)
                        return true;
        return false;
}

static int on_rested(sd_event_source *source, uint64_t usec, void *userdata)
{
        Watch *watch = userdata;

        (void)source, (void)usec;
        watch->resting = false;
        if (!is_anything_mounted(watch->service->registry))
                return 0;
        /* In this order nothing is lost. */
        (void)sd_event_source_set_enabled(watch->on_mounts, SD_EVENT_ON);
        if (!have_mounts_changed(watch) && !watch->look_due)
                return 0;
        rest(watch);
        check_mounts(watch);
        return 0;
}

static int on_mounts(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        Watch *watch = userdata;

        (void)source, (void)fd, (void)events;
        rest(watch);
        if (watch->service->stories)
                return 0;
        (void)have_mounts_changed(watch);
        check_mounts(watch);
        return 0;
}

/* Whatever mounts it has made or taken away, told of or not. */
void watch_story_ended(Watch *watch)
{
        mount_list_done(&watch->ours);
        if (!watch->missed)
                return;
        watch->look_due = true;
        rest(watch);
}

void watch_changed(Watch *watch, const Image *image)
{
        if (!watch)
                return;
        mount_list_done(&watch->ours);
        if (is_on_its_way(image))
                arm_look(watch);
        if (image_count_usable(image) > 0 && !is_listening(watch))
                rest(watch);
}

/* ---- */

Watch *watch_free(Watch *watch)
{
        if (!watch)
                return NULL;
        sd_device_monitor_unref(watch->monitor);
        sd_event_source_disable_unref(watch->on_mounts);
        sd_event_source_disable_unref(watch->on_rested);
        sd_event_source_disable_unref(watch->on_look);
        safe_close(watch->changes);
        mount_list_done(&watch->ours);
        free(watch);
        return NULL;
}

static int add_timer(Watch *watch, uint64_t accuracy_usec, sd_event_time_handler_t handler, sd_event_source **ret)
{
        int r = sd_event_add_time_relative(watch->service->event, ret, CLOCK_MONOTONIC, 0, accuracy_usec, handler,
                                           watch);

        return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

/* At first nothing is mounted. */
static int add_mounts(Watch *watch)
{
        _cleanup_close_ int fd = open(mount_table(), O_RDONLY | O_CLOEXEC);
        int r;

        watch->changes = open(mount_table(), O_RDONLY | O_CLOEXEC);
        if (fd < 0 || watch->changes < 0)
                return -errno;
        r = sd_event_add_io(watch->service->event, &watch->on_mounts, fd, EPOLLPRI, on_mounts, watch);
        if (r >= 0)
                r = sd_event_source_set_io_fd_own(watch->on_mounts, true);
        if (r < 0)
                return r;
        TAKE_FD(fd);
        return sd_event_source_set_enabled(watch->on_mounts, SD_EVENT_OFF);
}

int watch_new(Service *service, Watch **ret)
{
        _cleanup_(watch_freep) Watch *watch = calloc(1, sizeof(*watch));
        int r;

        if (!watch)
                return -ENOMEM;
        watch->service = service;
        watch->changes = -1;
        r = add_mounts(watch);
        if (r >= 0)
                r = add_timer(watch, REST_ACCURACY_USEC, on_rested, &watch->on_rested);
        if (r >= 0)
                r = add_timer(watch, 0, on_look, &watch->on_look);
        if (r >= 0)
                r = settle_monitor(service->event, on_device, watch, &watch->monitor);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(watch);
        return 0;
}
