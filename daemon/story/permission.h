/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What polkit is asked for a story that mounts. One question for each request, asked
 * when the types of the file systems are known: for ACTION_MOUNT_UNHARDENED if the
 * driver of one of them needs that, else for the action of the story's kind.
 */
#pragma once

#include "mechanism/filesystem.h"
#include "story/mounting.h"

/*
 * Sets story->action and story->purpose.types from what the story is going to mount of @image: the volumes in
 * @numbers, or all that can be mounted if there are none. Those that are mounted already do not count.
 * -ENOMEM.
 */
int permission_find(Story *story, const Image *image, const MountWish *wish, const uint32_t *numbers, size_t n_numbers);

/* Whether the permission that @story has includes the drivers that need ACTION_MOUNT_UNHARDENED, or that of @type. */
bool permission_includes_unhardened(const Story *story);
bool permission_includes(const Story *story, const FilesystemType *type);
