/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looking again at what an attached image holds:
 *
 *   authorise, lock   as in every story; what somebody else has unmounted counts as unmounted
 *   open              the device has a descriptor here
 *   capacity          the device takes over the file's size, if that was asked for
 *   probe, partitions, commit   it is read, and what has changed is shown (reading.h)
 */
#include "story/refresh.h"
#include "mechanism/loop.h"
#include "story/looking.h"
#include "story/reading.h"

typedef struct Refresh {
        Reading reading;
        bool capacity;
} Refresh;

static const StoryType type;

static Refresh *refresh_of(const Story *story)
{
        return container_of(story, Refresh, reading.story);
}

bool refresh_is_pending(const Service *service, const Image *image)
{
        for (const Story *story = service->stories; story; story = story->next)
                if (story->type == &type && refresh_of(story)->reading.image_id == image->id &&
                    story->lock != LOCK_HELD)
                        return true;
        return false;
}

/* ---- capacity ---- */

static int run_capacity(int channel, const JobOrder *order)
{
        uint64_t size;
        int r = order->n_fds == 1 ? loop_set_capacity(order->fds[0], &size) : -EBADMSG;

        return r < 0 ? r : job_answer(channel, &size, sizeof(size), NULL, 0);
}

static void on_capacity(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;
        Image *image = reading_find_image(story);

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
        Image *image = reading_find_image(story);
        JobSpec spec = {
                .name = "capacity",
                .work = run_capacity,
                .fds = { image->fd },
                .n_fds = 1,
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        return refresh_of(story)->capacity ? story_run_job(story, &spec, on_capacity) : 0;
}

/* ---- */

static int undo(Story *story)
{
        reading_failed(story);
        return 0;
}

static void destroy(Story *story)
{
        reading_done(&refresh_of(story)->reading);
        free(refresh_of(story));
}

static const StoryStep steps[] = {
        { STAGE_AUTHORISE, story_authorise }, { STAGE_LOCK, looking_lock },
        { STAGE_LOCK, reading_open },         { STAGE_CAPACITY, set_capacity },
        { STAGE_PROBE, reading_probe },       { STAGE_PARTITIONS, reading_partitions },
        { STAGE_COMMIT, reading_commit },     {},
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
        refresh->reading.image_id = image->id;
        refresh->reading.wanted = true;
        refresh->capacity = capacity;
        refresh->reading.story.owner = image->owner;
        refresh->reading.story.subject = image->name;
        refresh->reading.story.file_device = image->file_device;
        refresh->reading.story.file_inode = image->file_inode;
        *ret = &refresh->reading.story;
        r = story_start(&refresh->reading.story, &type, service, caller, done, userdata);
        if (r < 0)
                destroy(&refresh->reading.story);
        return r;
}
