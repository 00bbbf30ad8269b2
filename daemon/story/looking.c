/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel tells of a foreign umount(8) some time later, and the daemon looks
 * at its mounts ten times a second at most. A story that says "it is mounted at
 * X" therefore looks itself, under the lock on the file.
 *
 * What to do about a lost mount is the story of detach_lost_start(), which needs
 * the lock too. The story that has found the loss passes the lock on to it, waits
 * for it like any other, and looks again.
 */
#include "story/looking.h"
#include "mechanism/mount.h"
#include "story/detach.h"

bool looking_is_lost(const Volume *volume)
{
        bool waiting = volume_is_waiting(volume);
        char node[32];

        if (!waiting && !volume_is_mounted(volume))
                return false;
        volume_node(volume, node);
        return !mount_is_there(volume->mount_point, waiting ? volume->trigger_id : volume->mount_id,
                               waiting ? NULL : node);
}

static const Image *find_lost(const Story *story)
{
        const Image *image;
        Volume *volume;

        for (size_t i = 0; (image = registry_nth(story->service->registry, i)); i++)
                if (image->file_device == story->file_device && image->file_inode == story->file_inode)
                        IMAGE_FOREACH_VOLUME (volume, image)
                                if (looking_is_lost(volume))
                                        return image;
        return NULL;
}

int looking_lock(Story *story)
{
        static const Caller own_caller = { 0 };
        int r = story_lock(story);
        const Image *image = r == 0 ? find_lost(story) : NULL;
        Story *cleaning;

        if (!image)
                return r;
        if (image->id == story->looked_at)
                return story_fail(story, -ESTALE, "somebody else has unmounted it, and what is left cannot be removed");
        story->looked_at = image->id;
        /* The other story takes it at once. */
        story->lock = LOCK_NONE;
        r = detach_lost_start(story->service, &own_caller, image, NULL, NULL, &cleaning);
        if (r >= 0)
                return looking_lock(story);
        story->lock = LOCK_HELD;
        return r;
}
