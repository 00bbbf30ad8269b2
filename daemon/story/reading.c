/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The steps of reading an attached image again.
 *
 * A volume that is mounted stays what it is, whatever its bytes say now. One that
 * waits to be entered keeps its mount point and its trigger, and gets what was read.
 * Any other volume that is not what it was is replaced by another object.
 */
#include <fcntl.h>

#include "mechanism/loop.h"
#include "mechanism/settle.h"
#include "model/record.h"
#include "story/partitioning.h"
#include "story/probing.h"
#include "story/reading.h"
#include "story/volumes.h"

static Reading *reading_of(const Story *story)
{
        return container_of(story, Reading, story);
}

Image *reading_find_image(const Story *story)
{
        return registry_find(story->service->registry, reading_of(story)->image_id);
}

void reading_done(Reading *reading)
{
        image_free(reading->found);
        free(reading->gone);
}

/* ---- open ---- */

typedef struct OpenOrder {
        uint64_t diskseq;
        dev_t devnum;
        uint32_t loop_number;
} OpenOrder;

static int run_open(int channel, const JobOrder *message)
{
        OpenOrder order;
        int fd, r;

        if (message->size != sizeof(order))
                return -EBADMSG;
        memcpy(&order, message->data, sizeof(order));
        r = loop_open(order.loop_number, order.devnum, order.diskseq, O_RDONLY, &fd);
        return r < 0 ? r : job_answer(channel, "", 1, &fd, 1);
}

static void on_opened(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        if (error >= 0 && answer->n_fds != 1)
                error = -EBADMSG;
        if (error >= 0)
                reading_find_image(story)->fd = TAKE_FD(answer->fds[0]);
        story_resume(story, error);
}

/* An image that an earlier daemon has attached, and that is mounted, has no descriptor here yet. */
int reading_open(Story *story)
{
        Image *image = reading_of(story)->wanted ? reading_find_image(story) : NULL;
        OpenOrder order = { 0 };
        JobSpec spec = {
                .name = "open",
                .work = run_open,
                .order = &order,
                .order_size = sizeof(order),
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        if (!reading_of(story)->wanted)
                return 0;
        if (!image || image->state != IMAGE_ATTACHED)
                return story_fail(story, -ENOENT, "the image has been detached");
        if (image->fd >= 0)
                return 0;
        order.diskseq = image->diskseq;
        order.devnum = image->devnum;
        order.loop_number = image->loop_number;
        return story_run_job(story, &spec, on_opened);
}

/* ---- probe ---- */

static int take_probe(Reading *reading, const JobAnswer *answer)
{
        const Config *config = reading->story.service->config;
        Image *image = reading_find_image(&reading->story);
        _cleanup_free_ char *file_name =
                strdup(strrchr(image->backing_file, '/') ? strrchr(image->backing_file, '/') + 1 : image->backing_file);
        _cleanup_free_ ProbeVolume *probed = NULL;
        ProbeSummary summary;
        int r = probe_parse(answer->data, answer->size, &summary, &probed);

        if (r < 0)
                return r;
        if (summary.n_volumes > config->max_volumes_per_image)
                return -EDQUOT;
        reading->found = image_new();
        if (!reading->found || !file_name)
                return -ENOMEM;
        r = image_from_probe(reading->found, &summary, probed, file_name);
        return r < 0 ? r : image_find_obstacles(reading->found, config);
}

static void on_probed(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, error < 0 ? error : take_probe(reading_of(story), answer));
}

int reading_probe(Story *story)
{
        const Image *image = reading_find_image(story);
        ProbeSpec spec = { 0 };

        if (!reading_of(story)->wanted)
                return 0;
        spec.fd = image->fd;
        spec.sector_size = image->sector_size;
        spec.partition_scan = image->partition_scan;
        reading_of(story)->seqnum = settle_get_seqnum();
        return probing_run(story, &spec, on_probed);
}

/* ---- partitions ---- */

static bool has_same_place(const Volume *volume, const Volume *other)
{
        return other && volume->offset == other->offset && volume->size == other->size;
}

/* What is in the way of mounting it may have gone, or be something else, though the bytes are the same. */
static void renew_obstacle(Volume *volume, Volume *other)
{
        char *obstacle = volume->obstacle;

        if (streq(obstacle, other->obstacle))
                return;
        volume->obstacle = other->obstacle;
        other->obstacle = obstacle;
        volume->is_changed = true;
}

/* Removes the volumes that are no longer what they were. */
static int replace_volumes(Reading *reading)
{
        Image *image = reading_find_image(&reading->story);
        Registry *registry = reading->story.service->registry;

        reading->gone = calloc(image->n_volumes + 1, sizeof(*reading->gone));
        if (!reading->gone)
                return -ENOMEM;
        for (size_t i = image->n_volumes; i > 0; i--) {
                Volume *volume = image->volumes[i - 1], *other = image_find_volume(reading->found, volume->number);
                bool waiting = volume_is_waiting(volume);

                if (volume->mount_point && !(waiting && has_same_place(volume, other)))
                        continue;
                if (other && volume_equals(volume, other)) {
                        renew_obstacle(volume, other);
                        continue;
                }
                if (volume->number > 0 && !has_same_place(volume, other))
                        reading->gone[reading->n_gone++] = volume->number;
                else if (other && !waiting)
                        other->superblock = TAKE_PTR(volume->superblock);
                registry_notify(registry, REGISTRY_VOLUME_REMOVED, image, volume);
                if (waiting) {
                        volume_take_contents(volume, other);
                        volume->is_new = true;
                } else
                        image_remove_volume(image, volume);
        }
        return 0;
}

static int add_volumes(Reading *reading)
{
        Image *image = reading_find_image(&reading->story), *found = reading->found;

        for (size_t i = found->n_volumes; i > 0; i--) {
                Volume *volume = found->volumes[i - 1];
                int r;

                if (image_find_volume(image, volume->number))
                        continue;
                /* Moves over from one to the other. */
                found->n_volumes--;
                memmove(found->volumes + i - 1, found->volumes + i, (found->n_volumes - (i - 1)) * sizeof(Volume *));
                r = image_add_volume(image, volume);
                if (r < 0)
                        return r;
                volume->is_new = true;
        }
        return 0;
}

static void on_partitions(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, error < 0 ? error : partitioning_apply(reading_find_image(story), answer));
}

int reading_partitions(Story *story)
{
        Reading *reading = reading_of(story);
        int r;

        if (!reading->wanted)
                return 0;
        r = replace_volumes(reading);
        if (r >= 0)
                r = add_volumes(reading);
        if (r < 0)
                return r;
        return partitioning_run(story, reading_find_image(story), reading->gone, reading->n_gone, on_partitions);
}

/* ---- commit ---- */

static void announce(Story *story)
{
        Image *image = reading_find_image(story);
        Registry *registry = story->service->registry;
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image) {
                if (volume->is_new)
                        registry_notify(registry, REGISTRY_VOLUME_ADDED, image, volume);
                else if (volume->is_changed)
                        registry_notify(registry, REGISTRY_VOLUME_CHANGED, image, volume);
                volume->is_new = volume->is_changed = false;
        }
}

int reading_commit(Story *story)
{
        Reading *reading = reading_of(story);
        Image *image = reading_find_image(story);

        if (!reading->wanted)
                return 0;
        if (!streq(image->table, reading->found->table)) {
                free(image->table);
                image->table = TAKE_PTR(reading->found->table);
                registry_notify(story->service->registry, REGISTRY_IMAGE_CHANGED, image, NULL);
        }
        image->quiet_until = reading->seqnum;
        announce(story);
        return record_write(image);
}

/* ---- If it fails ---- */

static void forget_contents(Image *image, Volume *volume, int error, Registry *registry)
{
        char *obstacle = NULL;

        if (asprintf(&obstacle, "it was unmounted and could not be read since: %s; rescan the image",
                     strerror(-error)) < 0)
                return;
        registry_notify(registry, REGISTRY_VOLUME_REMOVED, image, volume);
        volume_clear_contents(volume);
        free(volume->obstacle);
        volume->obstacle = obstacle;
        volume->is_new = true;
}

void reading_failed(Story *story)
{
        Reading *reading = reading_of(story);
        Image *image = reading_find_image(story);
        Volume *volume;

        if (!reading->wanted || !image)
                return;
        if (!reading->gone)
                IMAGE_FOREACH_VOLUME (volume, image)
                        if (volume->is_changed)
                                forget_contents(image, volume, story->failure.error, story->service->registry);
        announce(story);
        (void)record_write(image);
}
