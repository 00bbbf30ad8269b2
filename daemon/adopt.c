/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The records say what there should be, the kernel says what there is:
 *
 * - the record's device is still that attachment (device number and disk
 *   sequence number): the image is taken over; a mount is taken over if the mount
 *   id at its mount point is the recorded one;
 * - a trigger is taken over by its descriptor;
 * - the record cannot be read, since it is from a later version or damaged, and its
 *   device is still that attachment: both are left alone for a daemon that can read it;
 * - the device is not, or its attach was not finished, or there is neither a mount nor
 *   a descriptor that it lives by: the story of detaching unmounts what is there, and
 *   removes mount points, utab lines, marker and record;
 * - a loop device that was bound, but not recorded yet, had only the dead
 *   daemon's child to hold it: the kernel has cleared it, and its marker is swept.
 */
#include "adopt.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/text.h"
#include "mechanism/fdstore.h"
#include "mechanism/loop.h"
#include "mechanism/mount.h"
#include "mechanism/trigger.h"
#include "model/record.h"
#include "story/detach.h"

static const Caller own_caller = { 0 };

static void on_cleaned_up(Story *story, const Failure *failure, void *userdata)
{
        (void)story, (void)userdata;
        if (failure)
                log_message(LOG_WARNING, "Cleaning up behind an earlier run failed at stage %s: %s%s%s",
                            stage_to_string(failure->stage), strerror(-failure->error), failure->detail ? ": " : "",
                            strempty(failure->detail));
}

static void clean_up(Service *service, const Image *image)
{
        Story *story;

        (void)detach_start(service, &own_caller, image, false, on_cleaned_up, NULL, &story);
}

/*
 * Nothing is opened here: that may block behind a child of the dead daemon which
 * hangs. What is mounted lives by its mounts, the rest by the stored descriptors.
 */
static bool is_alive(Image *image)
{
        image->fd = fdstore_take(image->id);
        image->stored = image->fd >= 0;
        return !loop_is_gone(image->loop_number, image->diskseq);
}

/* Whether all the text that is shown without a look is there; a record may be from another version, or damaged. */
static bool is_complete(const Image *image)
{
        Volume *volume;

        if (!image->owner_name || !image->name || !image->backing_file || !image->table || image->sector_size == 0)
                return false;
        IMAGE_FOREACH_VOLUME (volume, image)
                if (!volume->usage || !volume->type || !volume->version || !volume->label || !volume->uuid ||
                    !volume->partition_type || !volume->partition_name || !volume->partition_uuid || !volume->name ||
                    !volume->obstacle)
                        return false;
        return true;
}

/*
 * Before anybody looks at one by its path: that could wait behind somebody who waits
 * for the daemon that is dead. Without its descriptor a trigger is only a mount, and
 * goes with its volume's.
 */
static void adopt_triggers(const Service *service, const Image *image)
{
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image) {
                int fd = fdstore_take_volume(image->id, volume->number);

                if (fd < 0)
                        continue;
                volume->trigger_fd = fd;
                if (service->trigger_pipe < 0 || trigger_adopt(fd, volume->trigger_id, service->trigger_pipe) < 0)
                        volume_disarm(volume);
        }
}

/* Where a volume is mounted nobody waits for it to be. */
static bool may_be_looked_at(const Volume *volume)
{
        char node[32];

        image_node(volume->image, node);
        return !volume->image->on_access || volume_is_armed(volume) ||
               (volume_is_mounted(volume) && mount_is_listed(volume->mount_id, node));
}

/* It waits, and would still be entered there. */
static bool is_waiting(Volume *volume)
{
        uint64_t id;

        if (!volume_is_waiting(volume))
                return false;
        if (mount_is_there(volume->mount_point, volume->trigger_id, NULL))
                return mount_get_id(volume->mount_point, &id) >= 0 && id == volume->trigger_id;
        volume_disarm(volume);
        return false;
}

static bool is_still_mounted(const Volume *volume)
{
        char node[32];

        volume_node(volume, node);
        return volume_is_mounted(volume) && may_be_looked_at(volume) &&
               mount_is_there(volume->mount_point, volume->mount_id, node);
}

/*
 * By a descriptor, or by a mount. Else only the dead daemon had the device open, and who
 * has it now (a child that is dying, a stranger) will not keep it for the owner: the
 * kernel clears it any time, and nobody may be there to tell of that.
 */
static bool is_kept(const Image *image)
{
        Volume *volume;

        if (image->stored)
                return true;
        IMAGE_FOREACH_VOLUME (volume, image)
                if (is_waiting(volume) || is_still_mounted(volume))
                        return true;
        return false;
}

/* Takes away what belonged to mounts that are gone, and unmounts those that were not finished when the daemon died. */
static void undo_lost_mounts(Service *service, const Image *image)
{
        Volume *volume;
        Story *story;

        IMAGE_FOREACH_VOLUME (volume, image) {
                if (!volume->mount_point || is_waiting(volume) || is_still_mounted(volume))
                        continue;
                (void)unmount_start(service, &own_caller, volume, on_cleaned_up, NULL, &story);
        }
}

static void drop_copies(const Image *image)
{
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image) {
                if (!volume->mount_point || !may_be_looked_at(volume))
                        continue;
                mount_drop_copy(volume->mount_point);
                /* What was on top is gone; the trigger below it has a copy, too. */
                if (image->on_access && volume_is_mounted(volume))
                        mount_drop_copy(volume->mount_point);
        }
}

/* Without the record nobody would ever know whose the device is, and what is mounted where. */
static void leave_unreadable(Service *service, uint64_t id)
{
        unsigned number;

        if (record_read_device(id, &number) >= 0 && !loop_is_gone(number, id)) {
                log_message(LOG_WARNING,
                            "The record of image %llu cannot be read by this version; /dev/loop%u is left as it is",
                            (unsigned long long)id, number);
                service->leaves_some = true;
                return;
        }
        log_message(LOG_WARNING, "The record of image %llu makes no sense, and its device is gone: it is removed",
                    (unsigned long long)id);
        record_remove(id);
}

static int adopt_image(Service *service, uint64_t id)
{
        _cleanup_(image_freep) Image *image = NULL;
        Image *adopted;
        bool alive;
        int r = record_read(id, &image);

        if (r >= 0 && !is_complete(image))
                r = -EBADMSG;
        /* Want of memory says nothing about the record: the next start has more. */
        if (r < 0 && r != -EBADMSG)
                return r;
        if (r < 0) {
                leave_unreadable(service, id);
                return 0;
        }
        adopt_triggers(service, image);
        drop_copies(image);
        loop_adopt_marker(image->loop_number, image->diskseq);
        alive = is_alive(image) && image->state == IMAGE_ATTACHED && is_kept(image);
        r = registry_add(service->registry, image);
        if (r < 0)
                return r;
        adopted = TAKE_PTR(image);
        if (alive)
                undo_lost_mounts(service, adopted);
        else
                clean_up(service, adopted);
        return 0;
}

int adopt_images(Service *service)
{
        _cleanup_free_ uint64_t *ids = NULL;
        size_t n = 0;
        int r = record_list(&ids, &n);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                r = adopt_image(service, ids[i]);
                if (r < 0)
                        return r;
        }
        if (registry_count(service->registry) > 0)
                log_message(LOG_INFO, "Taking over %zu attached images", registry_count(service->registry));
        fdstore_close_rest();
        return 0;
}
