/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which images are backed by this file? By device and inode, never by name. The
 * file's own file system says which they are, and may hang: so in a child.
 */
#include <sys/stat.h>

#include "base/closer.h"
#include "mechanism/parcel.h"
#include "story/find.h"

typedef struct Find {
        Story story;
        int parcel;
} Find;

typedef struct FindAnswer {
        dev_t device;
        ino_t inode;
} FindAnswer;

static Find *find_of(const Story *story)
{
        return container_of(story, Find, story);
}

static int run_identify(int channel, const JobOrder *order)
{
        struct stat st;
        int fd, r = order->n_fds == 1 ? parcel_unwrap(order->fds[0], &fd) : -EBADMSG;

        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0)
                return -errno;
        return job_answer(channel, &(FindAnswer){ st.st_dev, st.st_ino }, sizeof(FindAnswer), NULL, 0);
}

static void on_identified(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;
        FindAnswer found;

        story->job = NULL;
        /* What root may not look at was never attached. */
        if (error < 0 || answer->size != sizeof(found)) {
                story_resume(story, error == -EACCES ? 0 : error < 0 ? error : -EBADMSG);
                return;
        }
        memcpy(&found, answer->data, sizeof(found));
        story->file_device = found.device;
        story->file_inode = found.inode;
        story_resume(story, 0);
}

static int identify(Story *story)
{
        JobSpec spec = {
                .name = "identify",
                .work = run_identify,
                .fds = { find_of(story)->parcel },
                .n_fds = 1,
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        return story_run_job(story, &spec, on_identified);
}

bool find_matches(const Story *story, const Image *image)
{
        return story->file_inode != 0 && image->file_device == story->file_device &&
               image->file_inode == story->file_inode &&
               (story->caller.uid == 0 || story->caller.uid == image->owner || story->caller.uid == image->file_owner);
}

static void destroy(Story *story)
{
        closer_close(story->service->event, find_of(story)->parcel);
        free(find_of(story));
}

static const StoryStep steps[] = {
        { STAGE_AUTHORISE, story_authorise },
        { STAGE_PROBE, identify },
        {},
};

static const StoryType type = {
        .name = "find",
        .steps = steps,
        .destroy = destroy,
};

int find_start(Service *service, const Caller *caller, int parcel, StoryDone done, void *userdata, Story **ret)
{
        Find *find = calloc(1, sizeof(*find));
        int r;

        if (!find) {
                closer_close(service->event, parcel);
                return -ENOMEM;
        }
        find->story.service = service;
        find->story.owner = caller->uid;
        find->parcel = parcel;
        *ret = &find->story;
        r = story_start(&find->story, &type, service, caller, done, userdata);
        if (r < 0)
                destroy(&find->story);
        return r;
}
