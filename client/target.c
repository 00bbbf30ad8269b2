/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one place that finds out what a TARGET is.
 *
 * The daemon is asked for the images that it means, by identity: a file by its
 * device and inode (the same under any name, and to name it needs no right to read it), a
 * device by its number, a mount point by its real path, where the path must be
 * the mount point itself and not something below it. What exists as a path is one;
 * only a word without a slash that names no file can be an id, and "id:" in
 * front of it makes it one in any case.
 */
#include "target.h"

#include "errors.h"
#include "i18n.h"

#define ID_PREFIX "id:"

TargetKind target_classify(const char *argument, const struct stat *st, const char **ret_id)
{
        if (strncmp(argument, ID_PREFIX, strlen(ID_PREFIX)) == 0) {
                *ret_id = argument + strlen(ID_PREFIX);
                return TARGET_ID;
        }
        if (!st && (strchr(argument, '/') || !*argument))
                return TARGET_MISSING;
        if (!st) {
                *ret_id = argument;
                return TARGET_ID;
        }
        if (S_ISREG(st->st_mode))
                return TARGET_FILE;
        if (S_ISDIR(st->st_mode))
                return TARGET_MOUNT_POINT;
        if (S_ISBLK(st->st_mode))
                return TARGET_DEVICE;
        return TARGET_NOTHING;
}

void target_clear(Target *target)
{
        model_clear(&target->model);
        *target = (Target){ 0 };
}

static bool has_mount_point(const Volume *volume, const char *path)
{
        for (char **m = volume->mount_points; m && *m; m++)
                if (streq(*m, path))
                        return true;
        return false;
}

static int find_mount_point(Connection *connection, Target *target)
{
        _cleanup_free_ char *real = realpath(target->argument, NULL);
        int status;

        if (!real)
                return error_print(STATUS_FAILED, target->argument, "%s", strerror(errno));
        status = model_list(connection, &(ModelFilter){ .mount_point = real }, &target->model);
        for (Image *image = target->model.images; image; image = image->next)
                for (Volume *volume = image->volumes; volume; volume = volume->next)
                        if (has_mount_point(volume, real))
                                target->volume = volume;
        return status;
}

static bool is_device(const char *node, dev_t device)
{
        struct stat st;

        return !isempty(node) && stat(node, &st) >= 0 && S_ISBLK(st.st_mode) && st.st_rdev == device;
}

/* The whole image's is not a volume's, although there is a volume with that device. */
static int find_device(Connection *connection, dev_t device, Target *target)
{
        int status = model_list(connection, &(ModelFilter){ .device = device }, &target->model);

        for (Image *image = target->model.images; image; image = image->next)
                for (Volume *volume = image->volumes; volume; volume = volume->next)
                        if (volume->number > 0 && is_device(volume->device, device))
                                target->volume = volume;
        return status;
}

/* Root is asked about everybody's images, others about their own; if @others, and there are none, about others' images
 * of a file that is their own. */
static int find_file(Connection *connection, const struct stat *st, bool others, Target *target)
{
        const uid_t uid = geteuid();
        int status =
                model_list(connection, &(ModelFilter){ .file = st, .owner = uid == 0 ? NULL : &uid }, &target->model);

        if (status != STATUS_OK || target->model.images || !others || st->st_uid != uid)
                return status;
        return model_list(connection, &(ModelFilter){ .file = st }, &target->model);
}

static int find(Connection *connection, bool others, Target *target, TargetKind *ret_kind)
{
        const char *argument = target->argument, *id = NULL;
        struct stat st;
        bool exists = stat(argument, &st) >= 0;

        if (!exists && errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
                return error_print(STATUS_FAILED, argument, "%s", strerror(errno));

        *ret_kind = target_classify(argument, exists ? &st : NULL, &id);
        switch (*ret_kind) {
        case TARGET_ID:
                return model_list(connection, &(ModelFilter){ .id = id }, &target->model);
        case TARGET_MOUNT_POINT:
                return find_mount_point(connection, target);
        case TARGET_DEVICE:
                return find_device(connection, st.st_rdev, target);
        case TARGET_FILE:
                return find_file(connection, &st, others, target);
        case TARGET_MISSING:
        case TARGET_NOTHING:
                break;
        }
        return STATUS_OK;
}

static void move_target(Target *from, Target *to)
{
        *to = *from;
        *from = (Target){ 0 };
}

static int resolve(Connection *connection, const char *argument, bool others, Target *ret)
{
        static const char *const nothing_found[] = {
                [TARGET_NOTHING] = N_("is no image file, mount point, device or id"),
                [TARGET_MISSING] = N_("no such file, mount point or device"),
                [TARGET_ID] = N_("no such file, and no attached image has this id"),
                [TARGET_FILE] = N_("is not attached"),
                [TARGET_MOUNT_POINT] = N_("is not the mount point of an attached image"),
                [TARGET_DEVICE] = N_("is not the device of an attached image"),
        };
        _cleanup_target_ Target target = { .argument = argument };
        TargetKind kind = TARGET_NOTHING;
        int status;

        status = find(connection, others, &target, &kind);
        if (status != STATUS_OK)
                return status;
        if (!target.model.images)
                return error_print(STATUS_NOT_FOUND, argument, "%s", _(nothing_found[kind]));
        move_target(&target, ret);
        return STATUS_OK;
}

int target_resolve(Connection *connection, const char *argument, Target *ret)
{
        return resolve(connection, argument, true, ret);
}

int target_resolve_one(Connection *connection, const char *argument, Target *ret)
{
        _cleanup_target_ Target target = { 0 };
        int status;

        status = resolve(connection, argument, false, &target);
        if (status != STATUS_OK)
                return status;
        if (target.model.n_images > 1) {
                error_print(STATUS_USAGE, argument, _("is attached %zu times; name one by its id:"),
                            target.model.n_images);
                for (const Image *image = target.model.images; image; image = image->next)
                        fprintf(stderr, "  %s  %s\n", image->id, image->device);
                return STATUS_USAGE;
        }
        move_target(&target, ret);
        return STATUS_OK;
}

void target_leave_folder(void)
{
        /* If it fails, the daemon says who keeps the mount busy. */
        if (chdir("/") < 0)
                return;
}
