/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one place that finds out what a TARGET is.
 *
 * Things are compared by identity: a file by asking the daemon with a
 * descriptor of it (the same inode under any name), a device by its number, a
 * mount point by its real path, where the path must be the mount point itself and
 * not something below it. What exists as a path is one; only a word without a
 * slash that names no file can be an id, and "id:" in front of it makes it
 * one in any case.
 *
 * The image file is opened with O_PATH: to name it needs no right to read it.
 */
#include "target.h"

#include <fcntl.h>

#include "errors.h"

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
        free(target->images);
        *target = (Target){ 0 };
}

static int add_image(Target *target, Image *image)
{
        Image **images = reallocarray(target->images, target->n_images + 1, sizeof(Image *));

        if (!images)
                return -ENOMEM;
        target->images = images;
        target->images[target->n_images++] = image;
        return 0;
}

static int set_volume(Target *target, Volume *volume)
{
        target->volume = volume;
        return add_image(target, volume->image);
}

static int find_id(const Model *model, const char *id, Target *target)
{
        for (Image *image = model->images; image; image = image->next)
                if (streq(strempty(image->id), id))
                        return add_image(target, image);
        return 0;
}

static int find_mount_point(const Model *model, const char *path, Target *target)
{
        _cleanup_free_ char *real = realpath(path, NULL);

        if (!real)
                return -errno;
        for (Image *image = model->images; image; image = image->next)
                for (Volume *volume = image->volumes; volume; volume = volume->next)
                        for (char **m = volume->mount_points; m && *m; m++)
                                if (streq(*m, real))
                                        return set_volume(target, volume);
        return 0;
}

static int find_device(const Model *model, dev_t device, Target *target)
{
        struct stat st;

        for (Image *image = model->images; image; image = image->next) {
                if (image->device_number == device)
                        return add_image(target, image);
                for (Volume *volume = image->volumes; volume; volume = volume->next)
                        if (!isempty(volume->device) && stat(volume->device, &st) >= 0 && S_ISBLK(st.st_mode) &&
                            st.st_rdev == device)
                                return set_volume(target, volume);
        }
        return 0;
}

static int read_images(sd_bus_message *reply, const Model *model, Target *target)
{
        const char *path;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "o");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read_basic(reply, 'o', &path)) > 0) {
                Image *image = model_find_image(model, path);

                /* One that the model does not know was attached a moment ago, and not meant. */
                if (image)
                        r = add_image(target, image);
                if (r < 0)
                        return r;
        }
        return r;
}

/* Prints its own errors, because those of the daemon have a text. Gives an exit code. */
static int find_file(Connection *connection, const Model *model, Target *target)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_close_ int fd = open(target->argument, O_PATH | O_CLOEXEC);
        int r;

        if (fd < 0)
                return error_print(STATUS_FAILED, target->argument, "%s", strerror(errno));
        r = sd_bus_call_method(connection->bus, BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, "FindByFile", &error, &reply,
                               "h", fd);
        if (r >= 0)
                r = read_images(reply, model, target);
        return r < 0 ? error_print_bus(target->argument, &error, r) : STATUS_OK;
}

static int find(Connection *connection, const Model *model, Target *target, TargetKind *ret_kind)
{
        const char *argument = target->argument, *id = NULL;
        struct stat st;
        bool exists = stat(argument, &st) >= 0;
        int r = 0;

        if (!exists && errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
                return error_print(STATUS_FAILED, argument, "%s", strerror(errno));

        *ret_kind = target_classify(argument, exists ? &st : NULL, &id);
        switch (*ret_kind) {
        case TARGET_ID:
                r = find_id(model, id, target);
                break;
        case TARGET_MOUNT_POINT:
                r = find_mount_point(model, argument, target);
                break;
        case TARGET_DEVICE:
                r = find_device(model, st.st_rdev, target);
                break;
        case TARGET_FILE:
                return find_file(connection, model, target);
        case TARGET_MISSING:
        case TARGET_NOTHING:
                break;
        }
        return r < 0 ? error_print(STATUS_FAILED, argument, "%s", strerror(-r)) : STATUS_OK;
}

int target_resolve(Connection *connection, const Model *model, const char *argument, Target *ret)
{
        static const char *const nothing_found[] = {
                [TARGET_NOTHING] = "is no image file, mount point, device or id",
                [TARGET_MISSING] = "no such file, mount point or device",
                [TARGET_ID] = "no such file, and no attached image has this id",
                [TARGET_FILE] = "is not attached",
                [TARGET_MOUNT_POINT] = "is not the mount point of an attached image",
                [TARGET_DEVICE] = "is not the device of an attached image",
        };
        _cleanup_target_ Target target = { .argument = argument };
        TargetKind kind = TARGET_NOTHING;
        int status;

        status = find(connection, model, &target, &kind);
        if (status != STATUS_OK)
                return status;
        if (target.n_images == 0)
                return error_print(STATUS_NOT_FOUND, argument, "%s", nothing_found[kind]);
        *ret = target;
        target.images = NULL;
        return STATUS_OK;
}

int target_resolve_one(Connection *connection, const Model *model, const char *argument, Target *ret)
{
        _cleanup_target_ Target target = { 0 };
        int status;

        status = target_resolve(connection, model, argument, &target);
        if (status != STATUS_OK)
                return status;
        if (target.n_images > 1) {
                error_print(STATUS_USAGE, argument, "is attached %zu times; name one by its id:", target.n_images);
                for (size_t i = 0; i < target.n_images; i++)
                        fprintf(stderr, "  %s  %s\n", target.images[i]->id, target.images[i]->device);
                return STATUS_USAGE;
        }
        *ret = target;
        target.images = NULL;
        return STATUS_OK;
}

void target_leave_folder(void)
{
        /* If it fails, the daemon says who keeps the mount busy. */
        if (chdir("/") < 0)
                return;
}
