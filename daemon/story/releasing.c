/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order to unmount and release, and its result; what the child does is in releasing-work.c. */
#include "story/releasing.h"
#include "base/flat.h"
#include "mechanism/fdstore.h"
#include "mechanism/loop.h"
#include "mechanism/mount-point.h"
#include "mechanism/mount.h"
#include "model/record.h"
#include "story/looking.h"
#include "story/releasing-work.h"

/* How long a device may be held by those who look at it only for a moment, as udev does. */
#define RELEASE_GRACE_USEC (3 * USEC_PER_SEC)
/* At shutdown all services are being stopped at the same time: those that use it get the time to end. */
#define SHUTDOWN_GRACE_USEC (20 * USEC_PER_SEC)
/* Writing back what was written to an image takes as long as it takes; a kernel that hangs takes longer. */
#define WRITE_BACK_FACTOR 10U

struct Releasing {
        Story *story;
        Image *image;
        bool release;
        bool lazy;   /* what is busy is taken from the tree all the same */
        bool forced; /* ... and nobody waits for its end */
        bool held_back;
        char *results; /* ReleaseResult of each volume, that are held back; or NULL */
        Volume **volumes;
        size_t n_volumes;
};

Releasing *releasing_free(Releasing *releasing)
{
        if (!releasing)
                return NULL;
        free(releasing->volumes);
        free(releasing->results);
        free(releasing);
        return NULL;
}

int releasing_new_unmount(Story *story, Image *image, Volume *const *volumes, size_t n_volumes, Releasing **ret)
{
        _cleanup_(releasing_freep) Releasing *releasing = calloc(1, sizeof(*releasing));

        if (!releasing)
                return -ENOMEM;
        releasing->story = story;
        releasing->image = image;
        releasing->lazy = story->undoing || image->state == IMAGE_ATTACHING || story->service->shutdown;
        releasing->volumes = calloc(n_volumes + 1, sizeof(Volume *));
        if (!releasing->volumes)
                return -ENOMEM;
        for (size_t i = 0; i < n_volumes; i++)
                if (volumes[i]->mount_point)
                        releasing->volumes[releasing->n_volumes++] = volumes[i];
        *ret = TAKE_PTR(releasing);
        return 0;
}

int releasing_new(Story *story, Image *image, Releasing **ret)
{
        int r = releasing_new_unmount(story, image, image->volumes, image->n_volumes, ret);

        if (r >= 0)
                (*ret)->release = true;
        return r;
}

void releasing_force(Releasing *releasing)
{
        releasing->lazy = releasing->forced = true;
}

void releasing_hold_back(Releasing *releasing)
{
        releasing->held_back = true;
}

/* ---- What the job's child is told ---- */

static int write_order(const Releasing *releasing, FlatWriter *writer)
{
        const Image *image = releasing->image;
        ReleaseOrder order = {
                .loop_number = image->loop_number,
                .devnum = image->devnum,
                .diskseq = image->diskseq,
                .read_only = image->read_only,
                .release = releasing->release,
                .lazy = releasing->lazy,
                .forced = releasing->forced,
                .registered = image->registered,
                .on_access = image->on_access,
                .grace_usec = releasing->story->service->shutdown ? SHUTDOWN_GRACE_USEC : RELEASE_GRACE_USEC,
                .caller = releasing->story->caller.uid,
                .n_items = releasing->n_volumes,
                .n_devices = image->n_volumes,
        };
        Volume *volume;

        flat_write(writer, &order, sizeof(order));
        for (size_t i = 0; i < releasing->n_volumes; i++) {
                const Volume *each = releasing->volumes[i];
                ReleaseOrderItem item = { .mount_id = each->mount_id,
                                          .number = each->number,
                                          .read_only = each->mounted_read_only,
                                          .armed = volume_is_armed(each),
                                          .trigger_id = each->trigger_id };

                flat_write(writer, &item, sizeof(item));
                flat_write_text(writer, each->mount_point);
        }
        IMAGE_FOREACH_VOLUME (volume, image)
                flat_write(writer, &volume->devnum, sizeof(volume->devnum));
        return flat_finish(writer);
}

/* ---- Starting it ---- */

/* A daemon that starts after a crash in the middle of this finishes it. */
static void note_release(Image *image)
{
        ImageState state = image->state;

        if (state == IMAGE_ATTACHING)
                return;
        image->state = IMAGE_DETACHING;
        (void)record_write(image);
        image->state = state;
}

/* Nothing has been done: the image is what it was. */
static void take_back(const Releasing *releasing, bool stored)
{
        Image *image = releasing->image;

        if (!releasing->release)
                return;
        if (stored)
                fdstore_put(image->id, image->fd);
        image->stored = stored;
        (void)record_write(image);
}

int releasing_run(Releasing *releasing, JobDone done)
{
        Image *image = releasing->image;
        uint64_t timeout_usec = releasing->story->service->config->job_timeout_usec;
        bool stored = image->stored;
        _cleanup_free_ char *order = NULL;
        FlatWriter writer = { 0 };
        int r = write_order(releasing, &writer);

        order = writer.data;
        if (r < 0)
                return r;
        /* The service manager's copy would keep the device open. */
        if (releasing->release && stored) {
                fdstore_drop(image->id);
                image->stored = false;
        }
        if (releasing->release)
                note_release(image);
        JobSpec spec = {
                .name = "release",
                .work = releasing_work,
                .order = order,
                .order_size = writer.size,
                .fds = { image->fd },
                .n_fds = image->fd >= 0,
                .n_given = releasing->release && image->fd >= 0,
                .timeout_usec = image->read_only ? timeout_usec : timeout_usec * WRITE_BACK_FACTOR,
        };
        r = story_run_job(releasing->story, &spec, done);
        if (r < 0)
                take_back(releasing, stored);
        else if (releasing->release)
                image->fd = -1;
        return r;
}

/* ---- The result, in the daemon ---- */

/* What waits to be entered keeps its mount point. */
static void forget_mount(Volume *volume)
{
        volume->mount_id = 0;
        if (volume_is_armed(volume))
                return;
        if (!mount_is_anything_at(volume->mount_point)) {
                /* An earlier daemon's trigger, which could not be looked at before (see adopt.c). */
                if (volume->image->on_access)
                        mount_drop_copy(volume->mount_point);
                (void)TRY_TWICE(mount_point_remove(volume->mount_point));
        }
        free(volume->mount_point);
        volume->mount_point = NULL;
        free(volume->held_by);
        volume->held_by = NULL;
}

/* All of an image that is gone: mount points, marker, record, registry. */
static void forget(Service *service, Image *image)
{
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image) {
                volume_disarm(volume);
                if (volume->mount_point)
                        forget_mount(volume);
        }
        /* Made, perhaps, for a mount point that did not come, since the attach failed or the daemon died. */
        (void)TRY_TWICE(mount_point_remove_user(service->config->root, image->owner_name));
        loop_forget(image->loop_number, image->diskseq);
        record_remove(image->id);
        if (registry_find(service->registry, image->id) == image)
                registry_remove(service->registry, image);
        else
                image_free(image);
}

static void notify(const Releasing *releasing, Volume *volume)
{
        Registry *registry = releasing->story->service->registry;

        if (releasing->held_back)
                volume->is_changed = true;
        else if (registry_find(registry, releasing->image->id) == releasing->image)
                registry_notify(registry, REGISTRY_VOLUME_CHANGED, releasing->image, volume);
}

static void apply_results(Releasing *releasing, const char *results)
{
        for (size_t i = 0; i < releasing->n_volumes; i++) {
                Volume *volume = releasing->volumes[i];
                ReleaseResult result;

                memcpy(&result, results + i * sizeof(result), sizeof(result));
                if (!result.unmounted) {
                        bool changed = volume->mount_id != result.mount_id;

                        volume->mount_id = result.mount_id;
                        if (changed)
                                notify(releasing, volume);
                        continue;
                }
                if (result.disarmed) {
                        volume_disarm(volume);
                        volume->trigger_id = 0;
                }
                forget_mount(volume);
                notify(releasing, volume);
        }
}

void releasing_tell(Releasing *releasing)
{
        if (releasing->results)
                apply_results(releasing, releasing->results);
        free(releasing->results);
        releasing->results = NULL;
}

/* Released, and not gone: somebody still has it, or the kernel does not come back. */
static ImageState state_of_remains(const ReleaseAnswer *result)
{
        return result->error == -ETIMEDOUT ? IMAGE_STUCK : IMAGE_DETACHING;
}

static void set_state(Releasing *releasing, ImageState state)
{
        Registry *registry = releasing->story->service->registry;
        Image *image = releasing->image;

        if (image->state == state || registry_find(registry, image->id) != image)
                return;
        image->state = state;
        registry_notify(registry, REGISTRY_IMAGE_CHANGED, image, NULL);
}

/* By its descriptor or by a mount. */
static bool is_kept(const Image *image)
{
        const Volume *volume;

        if (image->fd >= 0)
                return true;
        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume_is_mounted(volume) && !looking_is_lost(volume))
                        return true;
        return false;
}

static bool has_mount_points(const Image *image)
{
        const Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume->mount_point)
                        return true;
        return false;
}

/*
 * The child has died, and what it had done before only the kernel knows. Mounts that
 * are gone are noticed as if somebody else had unmounted them. True: the image is gone.
 */
static bool look_at_remains(Releasing *releasing, int error)
{
        Image *image = releasing->image;
        Registry *registry = releasing->story->service->registry;

        /* What it has left of mounts (triggers, lines in utab) the next detach takes away, which watch.c starts. */
        if (!has_mount_points(image) && loop_is_gone(image->loop_number, image->diskseq)) {
                forget(releasing->story->service, image);
                return true;
        }
        /* It was killed, and may hang on. */
        if (error == -ETIMEDOUT || error == -ECANCELED)
                set_state(releasing, IMAGE_STUCK);
        else if (!is_kept(image))
                set_state(releasing, IMAGE_DETACHING);
        else if (registry_find(registry, image->id) == image)
                registry_notify(registry, REGISTRY_IMAGE_CHANGED, image, NULL);
        (void)record_write(image);
        return false;
}

/* If it failed, all is mounted as before, and nothing is to be read. */
static void take_results(Releasing *releasing, const ReleaseAnswer *answer, const char *results)
{
        size_t size = releasing->n_volumes * sizeof(ReleaseResult);

        if (answer->error < 0 || releasing->release)
                releasing->held_back = false;
        if (releasing->held_back)
                releasing->results = malloc(size);
        if (releasing->results)
                memcpy(releasing->results, results, size);
        else
                apply_results(releasing, results);
}

int releasing_apply(Releasing *releasing, int error, JobAnswer *answer, Failure *failure, bool *ret_gone)
{
        Image *image = releasing->image;
        ReleaseAnswer result;
        bool kept;

        *ret_gone = false;
        if (error >= 0 && answer->size != sizeof(result) + releasing->n_volumes * sizeof(ReleaseResult))
                error = -EBADMSG;
        if (error < 0) {
                failure_set(failure, STAGE_RELEASE, error, NULL);
                *ret_gone = look_at_remains(releasing, error);
                return error;
        }
        memcpy(&result, answer->data, sizeof(result));
        result.detail[sizeof(result.detail) - 1] = 0;
        /* First the descriptor: a device that stays, and is not mounted any more, is kept by a copy of it. */
        if (answer->n_fds > 0) {
                image->fd = answer->fds[0];
                answer->fds[0] = -1;
        }
        take_results(releasing, &result, (const char *)answer->data + sizeof(result));
        if (result.write_back < 0 && result.error >= 0)
                failure_set(failure, STAGE_WRITE_BACK, result.write_back, NULL);
        if (result.error >= 0 && releasing->release) {
                forget(releasing->story->service, image);
                *ret_gone = true;
                return result.write_back;
        }
        kept = result.stage != STAGE_RELEASE && is_kept(image);
        set_state(releasing, kept ? IMAGE_ATTACHED : state_of_remains(&result));
        /* Gone since the child looked last: the event that tells of it may be over. */
        if (!kept && loop_is_gone(image->loop_number, image->diskseq)) {
                forget(releasing->story->service, image);
                *ret_gone = true;
                return 0;
        }
        (void)record_write(image);
        if (releasing->forced && result.stage == STAGE_RELEASE)
                return 0;
        if (result.error < 0)
                failure_set(failure, result.stage, result.error, result.detail[0] ? "%s" : NULL, result.detail);
        return result.error < 0 ? result.error : result.write_back;
}
