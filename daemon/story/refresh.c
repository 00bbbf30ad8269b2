/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looking again at what an attached image holds:
 *
 *   authorise, lock   as in every story
 *   open              the device has a descriptor here
 *   capacity          the device takes over the file's size, if that was asked for
 *   probe             a sandboxed child has read the device
 *   partitions        the kernel's partitions agree with the table
 *   commit            what changed is on record and on the bus
 *
 * A volume that is mounted stays what it is, whatever its bytes say now.
 */

#include "story/refresh.h"
#include <fcntl.h>

#include "mechanism/loop.h"
#include "mechanism/settle.h"
#include "model/record.h"
#include "story/partitioning.h"
#include "story/probing.h"
#include "story/volumes.h"

typedef struct Refresh {
        Story story;
        uint64_t image_id;
        bool capacity;
        uint64_t seqnum; /* of the last uevent before the probe: what comes later may tell of what it has not seen */
        Image *found;    /* what the probe saw; only its volumes, table and size count */
        unsigned *gone;
        size_t n_gone;
} Refresh;

static const StoryType type;

static Refresh *refresh_of(const Story *story)
{
        return container_of(story, Refresh, story);
}

static Image *find_image(const Story *story)
{
        return registry_find(story->service->registry, refresh_of(story)->image_id);
}

bool refresh_is_pending(const Service *service, const Image *image)
{
        for (const Story *story = service->stories; story; story = story->next)
                if (story->type == &type && refresh_of(story)->image_id == image->id && story->lock != LOCK_HELD)
                        return true;
        return false;
}

/* ---- open ---- */

static int run_open(int channel, const void *parameters)
{
        const Image *image = parameters;
        int fd, r = loop_open(image->loop_number, image->devnum, image->diskseq, O_RDONLY, &fd);

        return r < 0 ? r : job_answer(channel, "", 1, &fd, 1);
}

static void on_opened(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        if (error >= 0 && answer->n_fds != 1)
                error = -EBADMSG;
        if (error >= 0)
                find_image(story)->fd = TAKE_FD(answer->fds[0]);
        story_resume(story, error);
}

/* An image that an earlier daemon has attached, and that is mounted, has no descriptor here yet. */
static int open_device(Story *story)
{
        Image *image = find_image(story);
        JobSpec spec = {
                .name = "open",
                .function = run_open,
                .parameters = image,
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        if (!image || image->state != IMAGE_ATTACHED)
                return story_fail(story, -ENOENT, "the image has been detached");
        return image->fd < 0 ? story_run_job(story, &spec, on_opened) : 0;
}

/* ---- capacity ---- */

static int run_capacity(int channel, const void *parameters)
{
        const Image *image = parameters;
        uint64_t size;
        int r = loop_set_capacity(image->fd, &size);

        return r < 0 ? r : job_answer(channel, &size, sizeof(size), NULL, 0);
}

static void on_capacity(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;
        Image *image = find_image(story);

        story->job = NULL;
        if (error >= 0 && answer->size != sizeof(image->size))
                error = -EBADMSG;
        if (error >= 0) {
                memcpy(&image->size, answer->data, sizeof(image->size));
                registry_notify(story->service->registry, REGISTRY_IMAGE_CHANGED, image, NULL);
        }
        story_resume(story, error);
}

static int set_capacity(Story *story)
{
        Image *image = find_image(story);
        JobSpec spec = {
                .name = "capacity",
                .function = run_capacity,
                .parameters = image,
                .fds = { image->fd },
                .n_fds = 1,
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        return refresh_of(story)->capacity ? story_run_job(story, &spec, on_capacity) : 0;
}

/* ---- probe ---- */

static int take_probe(Refresh *refresh, const JobAnswer *answer)
{
        const Config *config = refresh->story.service->config;
        Image *image = find_image(&refresh->story);
        _cleanup_free_ char *file_name =
                strdup(strrchr(image->backing_file, '/') ? strrchr(image->backing_file, '/') + 1 : image->backing_file);
        _cleanup_free_ ProbeVolume *probed = NULL;
        ProbeSummary summary;
        int r = probe_parse(answer->data, answer->size, &summary, &probed);

        if (r < 0)
                return r;
        if (summary.n_volumes > config->max_volumes_per_image)
                return -EDQUOT;
        refresh->found = image_new();
        if (!refresh->found || !file_name)
                return -ENOMEM;
        r = image_from_probe(refresh->found, &summary, probed, file_name);
        return r < 0 ? r : image_find_obstacles(refresh->found, config);
}

static void on_probed(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, error < 0 ? error : take_probe(refresh_of(story), answer));
}

static int probe(Story *story)
{
        const Image *image = find_image(story);
        ProbeSpec spec = {
                .fd = image->fd,
                .sector_size = image->sector_size,
                .partition_scan = image->partition_scan,
        };

        refresh_of(story)->seqnum = settle_get_seqnum();
        return probing_run(story, &spec, on_probed);
}

/* ---- partitions ---- */

/* Removes the volumes that are no longer what they were, adds those that are new. */
static int replace_volumes(Refresh *refresh)
{
        Image *image = find_image(&refresh->story), *found = refresh->found;
        Registry *registry = refresh->story.service->registry;

        refresh->gone = calloc(image->n_volumes + 1, sizeof(*refresh->gone));
        if (!refresh->gone)
                return -ENOMEM;
        for (size_t i = image->n_volumes; i > 0; i--) {
                Volume *volume = image->volumes[i - 1], *other = image_find_volume(found, volume->number);

                if (volume->mount_point || (other && volume_equals(volume, other)))
                        continue;
                if (volume->number > 0 && (!other || volume->offset != other->offset || volume->size != other->size))
                        refresh->gone[refresh->n_gone++] = volume->number;
                else if (other)
                        other->superblock = TAKE_PTR(volume->superblock);
                registry_notify(registry, REGISTRY_VOLUME_REMOVED, image, volume);
                image_remove_volume(image, volume);
        }
        return 0;
}

static int add_volumes(Refresh *refresh)
{
        Image *image = find_image(&refresh->story), *found = refresh->found;

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
        story_resume(story, error < 0 ? error : partitioning_apply(find_image(story), answer));
}

static int update_partitions(Story *story)
{
        Refresh *refresh = refresh_of(story);
        int r = replace_volumes(refresh);

        if (r >= 0)
                r = add_volumes(refresh);
        return r < 0 ? r : partitioning_run(story, find_image(story), refresh->gone, refresh->n_gone, on_partitions);
}

/* ---- commit ---- */

static void announce_new(Story *story)
{
        Image *image = find_image(story);
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image) {
                if (!volume->is_new)
                        continue;
                volume->is_new = false;
                registry_notify(story->service->registry, REGISTRY_VOLUME_ADDED, image, volume);
        }
}

static int commit(Story *story)
{
        Refresh *refresh = refresh_of(story);
        Image *image = find_image(story);

        if (!streq(image->table, refresh->found->table)) {
                free(image->table);
                image->table = TAKE_PTR(refresh->found->table);
                registry_notify(story->service->registry, REGISTRY_IMAGE_CHANGED, image, NULL);
        }
        image->quiet_until = refresh->seqnum;
        announce_new(story);
        return record_write(image);
}

/* What is there is shown, even if not all of it could be made. */
static int undo(Story *story)
{
        if (find_image(story))
                announce_new(story);
        return 0;
}

static void destroy(Story *story)
{
        Refresh *refresh = refresh_of(story);

        image_free(refresh->found);
        free(refresh->gone);
        free(refresh);
}

static const StoryStep steps[] = {
        { STAGE_AUTHORISE, story_authorise },
        { STAGE_LOCK, story_lock },
        { STAGE_LOCK, open_device },
        { STAGE_CAPACITY, set_capacity },
        { STAGE_PROBE, probe },
        { STAGE_PARTITIONS, update_partitions },
        { STAGE_COMMIT, commit },
        {},
};

static const StoryType type = {
        .name = "refresh",
        .steps = steps,
        .undo = undo,
        .destroy = destroy,
        .outlives_caller = true,
};

int refresh_start(Service *service, const Caller *caller, const Image *image, bool capacity, StoryDone done,
                  void *userdata, Story **ret)
{
        Refresh *refresh = calloc(1, sizeof(*refresh));
        int r;

        if (!refresh)
                return -ENOMEM;
        refresh->image_id = image->id;
        refresh->capacity = capacity;
        refresh->story.owner = image->owner;
        refresh->story.subject = image->name;
        refresh->story.file_device = image->file_device;
        refresh->story.file_inode = image->file_inode;
        *ret = &refresh->story;
        r = story_start(&refresh->story, &type, service, caller, done, userdata);
        if (r < 0)
                destroy(&refresh->story);
        return r;
}
