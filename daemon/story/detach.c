/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking away:
 *
 *   authorise   the owner needs no permission, and nor does who owns the file; others need the administrator's
 *   lock        no other story is about the same file
 *   release     a child unmounts, and releases the device
 *   read        if the image stays and can be written to: what the volumes hold now (reading.h)
 *
 * Taking all away is a story of stories: one for each image.
 *
 * There is nothing to undo: the child has put back what it could not finish. And
 * it goes on when the caller goes away.
 *
 * Nobody is told that a volume was unmounted before its bytes were read again: who
 * has written to it, or writes to it as soon as it is not mounted, has changed what is
 * known of it. If they cannot be read it is unmounted all the same, and nothing is
 * known of it.
 *
 * An image that is stuck can be given up. That waits for nobody, not even for an
 * earlier detach: its child is killed, and may hang on.
 */
#include "story/detach.h"
#include "model/record.h"
#include "story/looking.h"
#include "story/reading.h"
#include "story/releasing.h"

typedef enum Choice {
        CHOOSE_IMAGE,
        CHOOSE_VOLUME,
        CHOOSE_LOST, /* the volumes that somebody else has unmounted */
        CHOOSE_HELD, /* the volumes that the holder lets go as the last one */
} Choice;

typedef struct Detach {
        Reading reading;
        Choice choice;
        uint32_t volume; /* for CHOOSE_VOLUME */
        char *holder;    /* for CHOOSE_HELD: a bus name */
        bool force;
        bool may_have_changed; /* what the volumes hold that are unmounted */
        Releasing *releasing;
} Detach;

static Detach *detach_of(Story *story)
{
        return container_of(story, Detach, reading.story);
}

static void on_released(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;
        Detach *detach = detach_of(story);
        bool gone, unmounted;

        story->job = NULL;
        error = releasing_apply(detach->releasing, error, answer, &story->failure, &gone);
        /* What could not be written back is told of at the end. */
        unmounted = !gone && (error >= 0 || story->failure.stage == STAGE_WRITE_BACK);
        detach->reading.wanted = unmounted && detach->may_have_changed;
        story_resume(story, unmounted ? 0 : error);
}

static int check_volume(Story *story, const Image *image)
{
        const Detach *detach = detach_of(story);
        const Volume *volume = image_find_volume(image, detach->volume);

        if (detach->choice != CHOOSE_VOLUME)
                return 0;
        if (!volume || !volume->mount_point || (story->caller.sender && volume_is_waiting(volume)))
                return story_fail(story, -EINVAL, "volume %u of %s is not mounted", detach->volume, image->name);
        return 0;
}

static bool is_chosen(const Detach *detach, Volume *volume)
{
        switch (detach->choice) {
        case CHOOSE_IMAGE:
                return true;
        case CHOOSE_VOLUME:
                return volume->number == detach->volume;
        case CHOOSE_HELD:
                return volume_let_go(volume, detach->holder);
        case CHOOSE_LOST:
                break;
        }
        if (!looking_is_lost(volume))
                return false;
        /* What is lost of one that waits to be entered is its trigger. */
        if (volume_is_waiting(volume))
                volume_disarm(volume);
        return true;
}

/* Returns how many volumes are to be unmounted. *ret_last: nothing of the image can be used without them. */
static size_t choose(const Detach *detach, const Image *image, Volume **ret_volumes, bool *ret_last)
{
        bool others = false;
        size_t n = 0;
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image) {
                bool chosen = is_chosen(detach, volume);

                if (chosen)
                        ret_volumes[n++] = volume;
                others |= chosen ? volume_is_armed(volume) : volume_is_mounted(volume) || volume_is_waiting(volume);
        }
        *ret_last = !others;
        return n;
}

static int release(Story *story)
{
        Detach *detach = detach_of(story);
        Image *image = reading_find_image(story);
        _cleanup_free_ Volume **volumes = NULL;
        bool last;
        size_t n;
        int r;

        if (!image)
                return 0;
        r = check_volume(story, image);
        if (r < 0)
                return r;
        volumes = calloc(image->n_volumes + 1, sizeof(Volume *));
        if (!volumes)
                return -ENOMEM;
        n = choose(detach, image, volumes, &last);
        if (n == 0 && detach->choice != CHOOSE_IMAGE)
                return record_write(image);
        if (detach->choice == CHOOSE_IMAGE || (last && image->auto_detach))
                r = releasing_new(story, image, &detach->releasing);
        else
                r = releasing_new_unmount(story, image, volumes, n, &detach->releasing);
        if (r < 0)
                return r;
        detach->may_have_changed = !image->read_only && image->state == IMAGE_ATTACHED;
        if (detach->may_have_changed)
                releasing_hold_back(detach->releasing);
        if (detach->force)
                releasing_force(detach->releasing);
        return releasing_run(detach->releasing, on_released);
}

/* It was read: now it may be known. */
static int tell(Story *story)
{
        if (detach_of(story)->reading.wanted)
                releasing_tell(detach_of(story)->releasing);
        return 0;
}

/* Only reading has failed, since releasing undoes what it does: that is no failure of what was asked for. */
static int undo(Story *story)
{
        if (!detach_of(story)->reading.wanted)
                return 0;
        (void)tell(story);
        reading_failed(story);
        if (story->failure.stage != STAGE_WRITE_BACK)
                failure_done(&story->failure);
        return 0;
}

static void destroy(Story *story)
{
        releasing_free(detach_of(story)->releasing);
        free(detach_of(story)->holder);
        reading_done(&detach_of(story)->reading);
        free(detach_of(story));
}

static const StoryStep steps[] = {
        { STAGE_AUTHORISE, story_authorise },
        { STAGE_LOCK, story_lock },
        { STAGE_UNMOUNT, release },
        { STAGE_LOCK, reading_open },
        { STAGE_PROBE, reading_probe },
        { STAGE_UNMOUNT, tell },
        { STAGE_PARTITIONS, reading_partitions },
        { STAGE_COMMIT, reading_commit },
        {},
};

static const StoryStep forced_steps[] = {
        { STAGE_AUTHORISE, story_authorise },
        { STAGE_LOCK, story_lock_urgently },
        { STAGE_UNMOUNT, release },
        {},
};

static const StoryType forced_type = {
        .name = "forced-detach",
        .others_message = N_("Authentication is required to detach the disk image $(image) of another user, "
                             "even if it is in use and data is lost"),
        .steps = forced_steps,
        .destroy = destroy,
        .outlives_caller = true,
};

static const StoryType detach_type = {
        .name = "detach",
        .others_message = N_("Authentication is required to detach the disk image $(image) of another user"),
        .steps = steps,
        .undo = undo,
        .destroy = destroy,
        .outlives_caller = true,
};

static const StoryType unmount_type = {
        .name = "unmount",
        .others_message = N_("Authentication is required to unmount the disk image $(image) of another user"),
        .steps = steps,
        .undo = undo,
        .destroy = destroy,
        .outlives_caller = true,
};

typedef struct What {
        Choice choice;
        uint32_t volume;
        const char *holder;
} What;

static int start(Service *service, const Caller *caller, const StoryType *type, const Image *image, const What *what,
                 StoryDone done, void *userdata, Story **ret)
{
        Detach *detach = calloc(1, sizeof(*detach));
        int r;

        if (!detach || (what->holder && !(detach->holder = strdup(what->holder)))) {
                free(detach);
                return -ENOMEM;
        }
        detach->reading.image_id = image->id;
        detach->choice = what->choice;
        detach->volume = what->volume;
        detach->force = type == &forced_type;
        detach->reading.story.owner = image->owner;
        detach->reading.story.permitted = type != &unmount_type && caller->uid == image->file_owner;
        detach->reading.story.subject = image->name;
        detach->reading.story.file_device = image->file_device;
        detach->reading.story.file_inode = image->file_inode;
        *ret = &detach->reading.story;
        r = story_start(&detach->reading.story, type, service, caller, done, userdata);
        if (r < 0)
                destroy(&detach->reading.story);
        return r;
}

int detach_start(Service *service, const Caller *caller, const Image *image, bool force, StoryDone done, void *userdata,
                 Story **ret)
{
        return start(service, caller, force ? &forced_type : &detach_type, image, &(What){ CHOOSE_IMAGE, 0, NULL },
                     done, userdata, ret);
}

int unmount_start(Service *service, const Caller *caller, const Volume *volume, StoryDone done, void *userdata,
                  Story **ret)
{
        const What what = { CHOOSE_VOLUME, volume->number, NULL };

        return start(service, caller, &unmount_type, volume->image, &what, done, userdata, ret);
}

int detach_lost_start(Service *service, const Caller *caller, const Image *image, StoryDone done, void *userdata,
                      Story **ret)
{
        return start(service, caller, &unmount_type, image, &(What){ CHOOSE_LOST, 0, NULL }, done, userdata, ret);
}

/* On all volumes of one image. */
static int let_go_start(Service *service, const Caller *caller, const Image *image, const char *holder, StoryDone done,
                        void *userdata, Story **ret)
{
        return start(service, caller, &unmount_type, image, &(What){ CHOOSE_HELD, 0, holder }, done, userdata, ret);
}

/* ---- All images of a user, or all that somebody holds ---- */

typedef struct DetachAll {
        Story story;
        bool force;
        char *holder; /* NULL: all images of the caller are detached */
        size_t n_pending;
        bool starting;
        Failure first;
} DetachAll;

static DetachAll *detach_all_of(Story *story)
{
        return container_of(story, DetachAll, story);
}

/* Hands the first failure on, if there was one. */
static int sum_up(DetachAll *all)
{
        if (all->first.error >= 0)
                return 0;
        failure_done(&all->story.failure);
        all->story.failure = all->first;
        all->first = (Failure){ 0 };
        return all->story.failure.error;
}

static void on_one_detached(Story *story, const Failure *failure, void *userdata)
{
        DetachAll *all = userdata;

        (void)story;
        if (failure && all->first.error >= 0)
                failure_set(&all->first, failure->stage, failure->error, failure->detail ? "%s" : NULL,
                            failure->detail);
        if (--all->n_pending == 0 && !all->starting)
                story_resume(&all->story, sum_up(all));
}

/* Another call has let go of it, and what is to be unmounted is still there: to be waited for, by the lock. */
static bool is_being_let_go(const DetachAll *all, const Image *image)
{
        for (Story *story = all->story.service->stories; story; story = story->next)
                if (story->type == &unmount_type && detach_of(story)->reading.image_id == image->id &&
                    streq(strempty(detach_of(story)->holder), all->holder))
                        return true;
        return false;
}

static bool is_meant(const DetachAll *all, const Image *image)
{
        Volume *volume;

        if (!all->holder)
                return image->owner == all->story.owner;
        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume_is_held_by(volume, all->holder))
                        return true;
        return is_being_let_go(all, image);
}

/* In the name of the daemon: to let go needs no permission. */
static int start_one(DetachAll *all, const Image *image)
{
        Service *service = all->story.service;
        Caller caller = { .uid = all->story.caller.uid };
        Story *one;

        return all->holder ? let_go_start(service, &caller, image, all->holder, on_one_detached, all, &one)
                           : detach_start(service, &caller, image, all->force, on_one_detached, all, &one);
}

static int release_all(Story *story)
{
        DetachAll *all = detach_all_of(story);
        Image *image;
        int r;

        all->starting = true;
        /* From the end: those that go at once do not move the others. */
        for (size_t i = registry_count(story->service->registry); i > 0; i--) {
                image = registry_nth(story->service->registry, i - 1);
                if (!image || !is_meant(all, image))
                        continue;
                all->n_pending++;
                r = start_one(all, image);
                if (r >= 0)
                        continue;
                all->n_pending--;
                failure_set(&all->first, STAGE_RELEASE, r, "%s could not be tried", image->name);
        }
        all->starting = false;
        return all->n_pending > 0 ? 1 : sum_up(all);
}

static void destroy_all(Story *story)
{
        failure_done(&detach_all_of(story)->first);
        free(detach_all_of(story)->holder);
        free(detach_all_of(story));
}

static const StoryStep all_steps[] = {
        { STAGE_AUTHORISE, story_authorise },
        { STAGE_RELEASE, release_all },
        {},
};

static const StoryType all_type = {
        .name = "detach-all",
        .steps = all_steps,
        .destroy = destroy_all,
        .outlives_caller = true,
};

static const StoryType release_type = {
        .name = "release",
        .steps = all_steps,
        .destroy = destroy_all,
        .outlives_caller = true,
};

static int all_start(Service *service, const Caller *caller, const StoryType *kind, bool force, const char *holder,
                     StoryDone done, void *userdata, Story **ret)
{
        DetachAll *all = calloc(1, sizeof(*all));
        int r = 0;

        if (!all)
                return -ENOMEM;
        all->story.owner = caller->uid;
        all->force = force;
        if (holder && !(all->holder = strdup(holder)))
                r = -ENOMEM;
        *ret = &all->story;
        if (r >= 0)
                r = story_start(&all->story, kind, service, caller, done, userdata);
        if (r < 0)
                destroy_all(&all->story);
        return r;
}

int detach_all_start(Service *service, const Caller *caller, bool force, StoryDone done, void *userdata, Story **ret)
{
        return all_start(service, caller, &all_type, force, NULL, done, userdata, ret);
}

int release_start(Service *service, const Caller *caller, const char *holder, StoryDone done, void *userdata,
                  Story **ret)
{
        return all_start(service, caller, &release_type, false, holder, done, userdata, ret);
}
