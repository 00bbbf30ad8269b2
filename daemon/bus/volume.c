/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.loopmount1.Volume. */
#include "bus/objects.h"
#include "bus/request.h"
#include "mechanism/filesystem.h"
#include "story/detach.h"
#include "story/mount.h"

static int reply_mount(sd_bus_message *message, const Story *story)
{
        return sd_bus_reply_method_return(message, "s", mount_get_mount_point(story));
}

static int method_mount(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        _cleanup_(mount_wish_done) MountWish wish = { 0 };
        const OptionRule rules[] = {
                { "filesystem-type", "s", &wish.filesystem_type, NULL },
                { "mount-options", "s", &wish.options, NULL },
                { "name", "s", &wish.name, NULL },
        };
        _cleanup_(request_freep) Request *request = NULL;
        int r = request_new_with_options(message, rules, ELEMENTSOF(rules), reply_mount, &request);

        (void)error;
        if (!request)
                return r;
        r = mount_start(request_service(message), request_get_caller(request), userdata, &wish, request_done, request,
                        request_story(request));
        return request_started(TAKE_PTR(request), r);
}

static int method_unmount(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        _cleanup_(request_freep) Request *request = NULL;
        int r = request_new_with_options(message, NULL, 0, NULL, &request);

        (void)error;
        if (!request)
                return r;
        r = unmount_start(request_service(message), request_get_caller(request), userdata, request_done, request,
                          request_story(request));
        return request_started(TAKE_PTR(request), r);
}

/* ---- Properties that are not simply a member ---- */

static int property_get_image(sd_bus *bus, const char *path, const char *interface, const char *property,
                              sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        char image_path[BUS_PATH_SIZE];

        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        bus_image_path(((const Volume *)userdata)->image, image_path);
        return sd_bus_message_append_basic(reply, 'o', image_path);
}

static int property_get_device(sd_bus *bus, const char *path, const char *interface, const char *property,
                               sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        char node[32];

        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        volume_node(userdata, node);
        return sd_bus_message_append_basic(reply, 's', node);
}

int bus_append_mount_points(sd_bus_message *reply, const Volume *volume)
{
        if (!volume_is_mounted(volume) && !volume_is_waiting(volume))
                return sd_bus_message_append(reply, "as", 0);
        return sd_bus_message_append(reply, "as", 1, volume->mount_point);
}

bool bus_volume_is_read_only(const Volume *volume)
{
        const FilesystemType *type = filesystem_find(volume->type);

        if (volume_is_mounted(volume))
                return volume->mounted_read_only;
        return volume->image->read_only || (type && filesystem_is_read_only(type));
}

static int property_get_mount_points(sd_bus *bus, const char *path, const char *interface, const char *property,
                                     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        return bus_append_mount_points(reply, userdata);
}

static int property_get_waiting(sd_bus *bus, const char *path, const char *interface, const char *property,
                                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        int value = volume_is_waiting(userdata);

        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        return sd_bus_message_append_basic(reply, 'b', &value);
}

static int property_get_read_only(sd_bus *bus, const char *path, const char *interface, const char *property,
                                  sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        int value = bus_volume_is_read_only(userdata);

        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        return sd_bus_message_append_basic(reply, 'b', &value);
}

/* Which of them change follows from the model: all else belongs to a volume that is replaced by another one. */
const sd_bus_vtable bus_volume_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Mount", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", mount_point), method_mount,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Unmount", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_unmount,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Number", "u", NULL, offsetof(Volume, number), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Image", "o", property_get_image, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Device", "s", property_get_device, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Offset", "t", NULL, offsetof(Volume, offset), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Size", "t", NULL, offsetof(Volume, size), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Usage", "s", NULL, offsetof(Volume, usage), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Type", "s", NULL, offsetof(Volume, type), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Version", "s", NULL, offsetof(Volume, version), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Label", "s", NULL, offsetof(Volume, label), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("UUID", "s", NULL, offsetof(Volume, uuid), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("PartitionType", "s", NULL, offsetof(Volume, partition_type), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("PartitionName", "s", NULL, offsetof(Volume, partition_name), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("PartitionUUID", "s", NULL, offsetof(Volume, partition_uuid), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("MountPoints", "as", property_get_mount_points, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Waiting", "b", property_get_waiting, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("ReadOnly", "b", property_get_read_only, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Obstacle", "s", NULL, offsetof(Volume, obstacle), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};
