/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mounting one volume of an image that is attached:
 *
 *   authorise, user, lock   as in every story
 *   plan                    with which options
 *   mount                   a child mounts it
 *   commit                  it is on record and on the bus
 */
#include "story/mount.h"
#include "model/record.h"
#include "story/looking.h"
#include "story/permission.h"
#include "story/releasing.h"
#include "story/user.h"

typedef struct MountStory {
        Story story;
        uint64_t image_id;
        uint32_t number;
        MountWish wish;
        Mounting *mounting;
        Releasing *releasing;
} MountStory;

static MountStory *mount_of(const Story *story)
{
        return container_of(story, MountStory, story);
}

static Volume *find_volume(const Story *story)
{
        const Image *image = registry_find(story->service->registry, mount_of(story)->image_id);

        return image ? image_find_volume(image, mount_of(story)->number) : NULL;
}

static int plan(Story *story)
{
        MountStory *mount = mount_of(story);
        Volume *volume = find_volume(story);

        if (!volume || volume->image->state != IMAGE_ATTACHED)
                return story_fail(story, -ENOENT, "the image has been detached");
        return mounting_plan(story, volume->image, &mount->wish, &mount->number, 1, &mount->mounting);
}

static void on_mounted(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, error < 0 ? error : mounting_apply(mount_of(story)->mounting, answer));
}

static int mount_volume(Story *story)
{
        return mounting_run(mount_of(story)->mounting, on_mounted);
}

static int commit(Story *story)
{
        Volume *volume = find_volume(story);

        registry_notify(story->service->registry, REGISTRY_VOLUME_CHANGED, volume->image, volume);
        return record_write(volume->image);
}

static void on_released(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;
        Failure ignored = { 0 };
        bool gone;

        story->job = NULL;
        (void)releasing_apply(mount_of(story)->releasing, error, answer, &ignored, &gone);
        failure_done(&ignored);
        story_undone(story);
}

static int undo(Story *story)
{
        MountStory *mount = mount_of(story);
        Volume *volume = mount->mounting ? find_volume(story) : NULL;
        int r;

        /* The obstacle may be another one now. */
        if (volume)
                registry_notify(story->service->registry, REGISTRY_VOLUME_CHANGED, volume->image, volume);
        if (!volume || story->failure.error == -EALREADY)
                return 0;
        /* It names the mount point that there was to be; a later daemon would unmount what is there then. */
        if (!volume->mount_point)
                return TRY_TWICE(record_write(volume->image));
        r = releasing_new_unmount(story, volume->image, &volume, 1, &mount->releasing);
        return r < 0 ? r : releasing_run(mount->releasing, on_released);
}

static void destroy(Story *story)
{
        MountStory *mount = mount_of(story);

        mounting_free(mount->mounting);
        releasing_free(mount->releasing);
        mount_wish_done(&mount->wish);
        free(mount);
}

static const StoryStep steps[] = {
        { STAGE_AUTHORISE, story_authorise },
        { STAGE_USER, story_look_up_user },
        { STAGE_LOCK, looking_lock },
        { STAGE_PLAN, plan },
        { STAGE_MOUNT, mount_volume },
        { STAGE_COMMIT, commit },
        {},
};

static const StoryType type = {
        .name = "mount",
        .others_message = N_("Authentication is required to mount the disk image $(image) of another user"),
        .action = ACTION_MOUNT,
        .steps = steps,
        .undo = undo,
        .destroy = destroy,
};

int mount_start(Service *service, const Caller *caller, const Volume *volume, MountWish *wish, StoryDone done,
                void *userdata, Story **ret)
{
        MountStory *mount = calloc(1, sizeof(*mount));
        int r = 0;

        if (!mount)
                return -ENOMEM;
        mount->wish = *wish;
        *wish = (MountWish){ 0 };
        mount->image_id = volume->image->id;
        mount->number = volume->number;
        mount->story.owner = volume->image->owner;
        mount->story.subject = volume->image->name;
        mount->story.file_device = volume->image->file_device;
        mount->story.file_inode = volume->image->file_inode;
        mount->story.purpose.writable = !volume->image->read_only;
        /* Who enters a volume that is mounted on access is not asked: its owner was, when he attached it. */
        if (!caller->sender)
                mount->story.action = volume->image->hardened_only ? NULL : ACTION_MOUNT_UNHARDENED;
        else
                r = permission_find(&mount->story, volume->image, &mount->wish, &mount->number, 1);
        *ret = &mount->story;
        if (r >= 0)
                r = story_start(&mount->story, &type, service, caller, done, userdata);
        if (r < 0)
                destroy(&mount->story);
        return r;
}

const char *mount_get_mount_point(const Story *story)
{
        return find_volume(story)->mount_point;
}
