/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The types come from the probe, or from a refresh; both can be out of date when
 * the story mounts at last. So the plan asks permission_includes() for each type
 * that it has settled on: what polkit has permitted is what is mounted.
 */
#include "story/permission.h"
#include "base/text.h"
#include "mechanism/device-guard.h"
#include "story/looking.h"

static bool needs_permission(const Story *story, const FilesystemType *type)
{
        return filesystem_tier(type) == FILESYSTEM_TIER_UNHARDENED ||
               (filesystem_opens_devices(type, !story->purpose.writable) && !device_guard_available());
}

static void ask_for_unhardened(Story *story)
{
        story->action = ACTION_MOUNT_UNHARDENED;
        story->message = story->purpose.writable
                                 ? N_("Authentication is required to mount the disk image $(image) for reading and "
                                      "writing; its file system: $(types)")
                                 : NULL;
}

/* A name that is in no table is none that will be mounted. */
static int add_type(Story *story, const char *name)
{
        const FilesystemType *type = filesystem_find(name);
        char *types = story->purpose.types;

        if (!type || text_list_has(types, ' ', name))
                return 0;
        story->purpose.types = text_printf("%s%s%s", types, *types ? " " : "", name);
        if (!story->purpose.types) {
                story->purpose.types = types;
                return -ENOMEM;
        }
        free(types);
        if (needs_permission(story, type))
                ask_for_unhardened(story);
        return 0;
}

static bool is_wanted(const Volume *volume, const uint32_t *numbers, size_t n_numbers)
{
        if ((volume_is_mounted(volume) || volume_is_waiting(volume)) && !looking_is_lost(volume))
                return false;
        for (size_t i = 0; i < n_numbers; i++)
                if (numbers[i] == volume->number)
                        return true;
        return n_numbers == 0 && !*volume->obstacle;
}

int permission_find(Story *story, const Image *image, const MountWish *wish, const uint32_t *numbers, size_t n_numbers)
{
        const Volume *volume;
        int r = 0;

        story->purpose.types = strdup("");
        if (!story->purpose.types)
                return -ENOMEM;
        if (wish->filesystem_type)
                return add_type(story, wish->filesystem_type);
        IMAGE_FOREACH_VOLUME (volume, image)
                if (r >= 0 && is_wanted(volume, numbers, n_numbers))
                        r = add_type(story, volume->type);
        return r;
}

/* Root needs no permission, and who may manage others' images is an administrator. */
bool permission_includes_unhardened(const Story *story)
{
        return story->caller.uid == 0 || story->caller.uid != story->owner ||
               (story->action && streq(story->action, ACTION_MOUNT_UNHARDENED));
}

bool permission_includes(const Story *story, const FilesystemType *type)
{
        return !needs_permission(story, type) || permission_includes_unhardened(story);
}
