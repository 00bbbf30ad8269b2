/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ListImages of org.loopmount1.Manager: what a list shows, for many images at once; and for those who have a file, a
 * device or a mount point, the image behind it.
 *
 * All of it comes out of the model, while the caller waits: nothing here can block, and nobody is asked. It tells what
 * the properties tell, which everybody may read.
 */
#include "base/text.h"
#include "bus/errors.h"
#include "bus/objects.h"
#include "bus/options.h"

#define VOLUME_SIGNATURE "ustsssbasbs"
#define IMAGE_SIGNATURE "osstbussa(" VOLUME_SIGNATURE ")"

/* All that is given has to be true of an image. */
typedef struct Filter {
        char *id, *mount_point;
        uint64_t file_device, file_inode, device_number;
        uint32_t owner;
        bool file_device_given, file_inode_given, device_given, owner_given;
} Filter;

static void filter_done(Filter *filter)
{
        free(filter->id);
        free(filter->mount_point);
}

static int read_filter(sd_bus_message *message, Filter *filter, char **ret_complaint)
{
        const OptionRule rules[] = {
                { "id", "s", &filter->id, NULL },
                { "owner", "u", &filter->owner, &filter->owner_given },
                { "file-device", "t", &filter->file_device, &filter->file_device_given },
                { "file-inode", "t", &filter->file_inode, &filter->file_inode_given },
                { "device-number", "t", &filter->device_number, &filter->device_given },
                { "mount-point", "s", &filter->mount_point, NULL },
        };
        int r = options_read(message, rules, ELEMENTSOF(rules), ret_complaint);

        if (r < 0 || filter->file_device_given == filter->file_inode_given)
                return r;
        *ret_complaint = strdup(filter->file_inode_given ? "Option \"file-inode\": \"file-device\" has to go with it"
                                                         : "Option \"file-device\": \"file-inode\" has to go with it");
        return *ret_complaint ? -EINVAL : -ENOMEM;
}

static bool has_device(const Image *image, dev_t device)
{
        const Volume *volume;

        if (image->devnum == device)
                return true;
        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume->devnum == device)
                        return true;
        return false;
}

static bool has_mount_point(const Image *image, const char *mount_point)
{
        const Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image)
                if ((volume_is_mounted(volume) || volume_is_waiting(volume)) && streq(volume->mount_point, mount_point))
                        return true;
        return false;
}

static bool has_id(const Image *image, const char *id)
{
        uint64_t number;

        return text_parse_uint(id, UINT64_MAX, &number) >= 0 && image->id == number;
}

static bool matches(const Filter *filter, const Image *image)
{
        if (filter->id && !has_id(image, filter->id))
                return false;
        if (filter->owner_given && image->owner != filter->owner)
                return false;
        if (filter->file_inode_given &&
            (image->file_device != filter->file_device || image->file_inode != filter->file_inode))
                return false;
        if (filter->device_given && !has_device(image, filter->device_number))
                return false;
        return !filter->mount_point || has_mount_point(image, filter->mount_point);
}

static int append_volume(sd_bus_message *reply, const Volume *volume)
{
        char node[32];
        int r = sd_bus_message_open_container(reply, 'r', VOLUME_SIGNATURE);

        volume_node(volume, node);
        if (r >= 0)
                r = sd_bus_message_append(reply, "ustsssb", (uint32_t)volume->number, node, volume->size, volume->usage,
                                          volume->type, volume->label, (int)bus_volume_is_read_only(volume));
        if (r >= 0)
                r = bus_append_mount_points(reply, volume);
        if (r >= 0)
                r = sd_bus_message_append(reply, "bs", (int)volume_is_waiting(volume), volume->obstacle);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_image(sd_bus_message *reply, const Image *image)
{
        char path[BUS_PATH_SIZE], node[32];
        const Volume *volume;
        int r = sd_bus_message_open_container(reply, 'r', IMAGE_SIGNATURE);

        bus_image_path(image, path);
        image_node(image, node);
        if (r >= 0)
                r = sd_bus_message_append(reply, "osstbuss", path, image->backing_file, node, image->size,
                                          (int)image->read_only, (uint32_t)image->owner, image->table,
                                          image_state_to_string(image->state));
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(" VOLUME_SIGNATURE ")");
        IMAGE_FOREACH_VOLUME (volume, image)
                if (r >= 0)
                        r = append_volume(reply, volume);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int reply_with_images(sd_bus_message *message, const Registry *registry, const Filter *filter)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const Image *image;
        int r = sd_bus_message_new_method_return(message, &reply);

        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(" IMAGE_SIGNATURE ")");
        for (size_t i = 0; r >= 0 && (image = registry_nth(registry, i)); i++)
                if (matches(filter, image))
                        r = append_image(reply, image);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

int bus_list_images(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        _cleanup_(filter_done) Filter filter = { 0 };
        _cleanup_free_ char *complaint = NULL;
        int r = read_filter(message, &filter, &complaint);

        (void)error;
        if (r == -EINVAL && complaint)
                return error_reply_invalid(message, "%s", complaint);
        if (r >= 0)
                r = reply_with_images(message, ((Service *)userdata)->registry, &filter);
        return r < 0 ? error_reply_early(message, r) : 1;
}
