/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a user means by TARGET: an image file, a mount point, a device or an id. */
#pragma once

#include "model.h"

typedef enum TargetKind {
        TARGET_NOTHING, /* names a thing that cannot be a target */
        TARGET_MISSING, /* names a path that does not exist */
        TARGET_ID,
        TARGET_FILE,
        TARGET_MOUNT_POINT,
        TARGET_DEVICE,
} TargetKind;

typedef struct Target {
        const char *argument;
        Model model;    /* of the images it means; one, but for a file that is attached several times */
        Volume *volume; /* if a mount point or a partition was named, else NULL */
} Target;

/*
 * What kind of target @argument is, given what stat() said of it as a path;
 * @st is NULL if there is no such file. *@ret_id is set for TARGET_ID.
 */
TargetKind target_classify(const char *argument, const struct stat *st, const char **ret_id);

/*
 * Finds the images that @argument means, in brief; at least one on success. A file means the user's own images of it,
 * or, if there are none, those of other users if the file is the user's own: they may detach these.
 * Prints why not; gives an exit code.
 */
int target_resolve(Connection *connection, const char *argument, Target *ret);

/* The same, but a file means the user's own images only, and it must be one image: several are printed as an error. */
int target_resolve_one(Connection *connection, const char *argument, Target *ret);

void target_clear(Target *target);
#define _cleanup_target_ _cleanup_(target_clear)

/*
 * To be called when all operands are resolved: goes out of the current folder,
 * which may be in the very mount that is to go, and would keep it busy.
 */
void target_leave_folder(void);
