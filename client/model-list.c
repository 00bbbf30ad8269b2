/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The part of the daemon's images that is wanted, by ListImages: what a list shows of them, and no more. The time that
 * this takes does not depend on how many other images there are.
 */
#include "model.h"

#include <inttypes.h>

#include "errors.h"

static int append_filter(sd_bus_message *call, const ModelFilter *filter)
{
        int r = sd_bus_message_open_container(call, 'a', "{sv}");

        if (r >= 0 && filter->id)
                r = sd_bus_message_append(call, "{sv}", "id", "s", filter->id);
        if (r >= 0 && filter->mount_point)
                r = sd_bus_message_append(call, "{sv}", "mount-point", "s", filter->mount_point);
        if (r >= 0 && filter->device)
                r = sd_bus_message_append(call, "{sv}", "device-number", "t", (uint64_t)filter->device);
        if (r >= 0 && filter->file)
                r = sd_bus_message_append(call, "{sv}{sv}", "file-device", "t", (uint64_t)filter->file->st_dev,
                                          "file-inode", "t", (uint64_t)filter->file->st_ino);
        if (r >= 0 && filter->owner)
                r = sd_bus_message_append(call, "{sv}", "owner", "u", (uint32_t)*filter->owner);
        return r < 0 ? r : sd_bus_message_close_container(call);
}

static int copy_string(char **place, const char *value)
{
        *place = strdup(value);
        return *place ? 0 : -ENOMEM;
}

static int read_volume(Model *model, const char *image_path, sd_bus_message *reply)
{
        const char *device, *usage, *type, *label, *obstacle;
        _cleanup_free_ char *path = NULL;
        Volume *volume;
        uint32_t number;
        int r = sd_bus_message_read_basic(reply, 'u', &number);

        if (r < 0)
                return r;
        if (asprintf(&path, "%s/volume/%" PRIu32, image_path, number) < 0)
                return -ENOMEM;
        volume = model_provide_volume(model, path);
        if (!volume)
                return -ENOMEM;
        volume->number = number;
        r = sd_bus_message_read(reply, "stsssb", &device, &volume->size, &usage, &type, &label, &volume->read_only);
        if (r >= 0)
                r = sd_bus_message_read_strv(reply, &volume->mount_points);
        if (r >= 0)
                r = sd_bus_message_read(reply, "bs", &volume->waiting, &obstacle);
        if (r >= 0)
                r = copy_string(&volume->device, device);
        if (r >= 0)
                r = copy_string(&volume->usage, usage);
        if (r >= 0)
                r = copy_string(&volume->type, type);
        if (r >= 0)
                r = copy_string(&volume->label, label);
        return r < 0 ? r : copy_string(&volume->obstacle, obstacle);
}

static int read_image(Model *model, sd_bus_message *reply)
{
        const char *path, *backing_file, *device, *table, *state;
        Image *image;
        int r = sd_bus_message_read_basic(reply, 'o', &path);

        if (r < 0)
                return r;
        image = model_provide_image(model, path);
        if (!image)
                return -ENOMEM;
        r = sd_bus_message_read(reply, "sstbuss", &backing_file, &device, &image->size, &image->read_only,
                                &image->owner_uid, &table, &state);
        if (r >= 0)
                r = copy_string(&image->id, model_id_of(path));
        if (r >= 0)
                r = copy_string(&image->backing_file, backing_file);
        if (r >= 0)
                r = copy_string(&image->device, device);
        if (r >= 0)
                r = copy_string(&image->partition_table, table);
        if (r >= 0)
                r = copy_string(&image->state, state);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(" LISTED_VOLUME ")");
        while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'r', LISTED_VOLUME)) > 0) {
                r = read_volume(model, path, reply);
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

int model_read_list(Model *model, sd_bus_message *reply)
{
        int r = sd_bus_message_enter_container(reply, 'a', "(" LISTED_IMAGE ")");

        while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'r', LISTED_IMAGE)) > 0) {
                r = read_image(model, reply);
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

int model_query(Connection *connection, const ModelFilter *filter, sd_bus_error *error, Model *ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_model_ Model model = { 0 };
        int r;

        r = connection_new_call(connection, ROOT_PATH, MANAGER_INTERFACE, "ListImages", &call);
        if (r >= 0)
                r = append_filter(call, filter);
        if (r >= 0)
                r = sd_bus_call(connection->bus, call, 0, error, &reply);
        if (r >= 0)
                r = model_read_list(&model, reply);
        if (r < 0)
                return r;
        *ret = model;
        model = (Model){ 0 };
        return 0;
}

int model_list(Connection *connection, const ModelFilter *filter, Model *ret)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = model_query(connection, filter, &error, ret);

        return r < 0 ? error_print_bus(NULL, &error, r) : STATUS_OK;
}
