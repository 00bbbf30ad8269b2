/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.loopmount1.Image. */
#include "bus/objects.h"
#include "bus/request.h"
#include "story/detach.h"
#include "story/refresh.h"

static int method_detach(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        bool force = false;
        const OptionRule rules[] = {
                { "force", "b", &force, NULL },
        };
        _cleanup_(request_freep) Request *request = NULL;
        int r = request_new_with_options(message, rules, ELEMENTSOF(rules), NULL, &request);

        (void)error;
        if (!request)
                return r;
        r = detach_start(request_service(message), request_get_caller(request), userdata, force, request_done, request,
                         request_story(request));
        return request_started(TAKE_PTR(request), r);
}

static int refresh(sd_bus_message *message, const Image *image, bool set_capacity)
{
        _cleanup_(request_freep) Request *request = NULL;
        int r = request_new_with_options(message, NULL, 0, NULL, &request);

        if (!request)
                return r;
        r = refresh_start(request_service(message), request_get_caller(request), image, set_capacity, request_done,
                          request, request_story(request));
        return request_started(TAKE_PTR(request), r);
}

static int method_rescan(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        (void)error;
        return refresh(message, userdata, false);
}

static int method_set_capacity(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        (void)error;
        return refresh(message, userdata, true);
}

/* ---- Properties that are not simply a member ---- */

static int property_get_id(sd_bus *bus, const char *path, const char *interface, const char *property,
                           sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        char id[24];

        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        snprintf(id, sizeof(id), "%llu", (unsigned long long)((const Image *)userdata)->id);
        return sd_bus_message_append_basic(reply, 's', id);
}

static int property_get_device(sd_bus *bus, const char *path, const char *interface, const char *property,
                               sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        char node[32];

        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        image_node(userdata, node);
        return sd_bus_message_append_basic(reply, 's', node);
}

static int property_get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                              sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        return sd_bus_message_append_basic(reply, 's', image_state_to_string(((const Image *)userdata)->state));
}

/* D-Bus booleans are ints, the model's are not. */
static int property_get_bool(sd_bus *bus, const char *path, const char *interface, const char *property,
                             sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        int value = *(const bool *)userdata;

        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        return sd_bus_message_append_basic(reply, 'b', &value);
}

const sd_bus_vtable bus_image_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Detach", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_detach,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Rescan", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_rescan,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetCapacity", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_set_capacity,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Id", "s", property_get_id, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Name", "s", NULL, offsetof(Image, name), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("BackingFile", "s", NULL, offsetof(Image, backing_file), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Device", "s", property_get_device, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("DeviceNumber", "t", NULL, offsetof(Image, devnum), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("DiskSequence", "t", NULL, offsetof(Image, diskseq), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Offset", "t", NULL, offsetof(Image, offset), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Size", "t", NULL, offsetof(Image, size), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("SectorSize", "u", NULL, offsetof(Image, sector_size), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("ReadOnly", "b", property_get_bool, offsetof(Image, read_only), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("DirectIO", "b", property_get_bool, offsetof(Image, direct_io), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("AutoDetach", "b", property_get_bool, offsetof(Image, auto_detach),
                        SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("OnAccess", "b", property_get_bool, offsetof(Image, on_access), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("IdleTimeout", "t", NULL, offsetof(Image, idle_usec), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("SessionBound", "b", property_get_bool, offsetof(Image, session_bound),
                        SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("OwnerUID", "u", NULL, offsetof(Image, owner), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("PartitionTable", "s", NULL, offsetof(Image, table), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("State", "s", property_get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("AttachedAt", "t", NULL, offsetof(Image, attached_at_usec), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};
