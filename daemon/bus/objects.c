/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Objects are not registered one by one: three vtables serve them all, and a path
 * is looked up in the registry when a message comes for it. What is gone from the
 * registry is gone from the bus.
 */
#include <inttypes.h>
#include <systemd/sd-id128.h>

#include "base/text.h"
#include "bus/objects.h"
#include "bus/request.h"

void bus_image_path(const Image *image, char path[static BUS_PATH_SIZE])
{
        snprintf(path, BUS_PATH_SIZE, BUS_IMAGES_PATH "/%" PRIu64, image->id);
}

void bus_volume_path(const Volume *volume, char path[static BUS_PATH_SIZE])
{
        snprintf(path, BUS_PATH_SIZE, BUS_IMAGES_PATH "/%" PRIu64 "/volume/%u", volume->image->id, volume->number);
}

/* "42" or "42/volume/1": *ret_rest behind the number. */
static Image *find_by_id(const Registry *registry, const char *path, const char **ret_rest)
{
        char id[24];
        uint64_t number;
        size_t length;

        if (strncmp(path, BUS_IMAGES_PATH "/", strlen(BUS_IMAGES_PATH "/")) != 0)
                return NULL;
        path += strlen(BUS_IMAGES_PATH "/");
        length = strcspn(path, "/");
        if (length >= sizeof(id))
                return NULL;
        memcpy(id, path, length);
        id[length] = 0;
        if (text_parse_uint(id, UINT64_MAX, &number) < 0)
                return NULL;
        *ret_rest = path + length;
        return registry_find(registry, number);
}

Image *bus_find_image(const Registry *registry, const char *path)
{
        const char *rest;
        Image *image = find_by_id(registry, path, &rest);

        return image && !*rest ? image : NULL;
}

Volume *bus_find_volume(const Registry *registry, const char *path)
{
        const char *rest;
        Image *image = find_by_id(registry, path, &rest);
        uint64_t number;

        if (!image || strncmp(rest, "/volume/", strlen("/volume/")) != 0 ||
            text_parse_uint(rest + strlen("/volume/"), UINT32_MAX, &number) < 0)
                return NULL;
        return image_find_volume(image, (unsigned)number);
}

static int find_image(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
                      sd_bus_error *error)
{
        Service *service = userdata;

        (void)bus, (void)interface, (void)error;
        *ret_found = bus_find_image(service->registry, path);
        return *ret_found ? 1 : 0;
}

static int find_volume(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
                       sd_bus_error *error)
{
        Service *service = userdata;

        (void)bus, (void)interface, (void)error;
        *ret_found = bus_find_volume(service->registry, path);
        return *ret_found ? 1 : 0;
}

static size_t count_objects(const Registry *registry)
{
        size_t n = registry_count(registry);
        const Image *image;

        for (size_t i = 0; (image = registry_nth(registry, i)); i++)
                n += image->n_volumes;
        return n;
}

static void free_strv(char **strings)
{
        for (char **s = strings; s && *s; s++)
                free(*s);
        free(strings);
}

static int list_paths(const Registry *registry, char **paths)
{
        Image *image;
        size_t n = 0;

        for (size_t i = 0; (image = registry_nth(registry, i)); i++) {
                char path[BUS_PATH_SIZE];
                Volume *volume;

                bus_image_path(image, path);
                if (!(paths[n++] = strdup(path)))
                        return -ENOMEM;
                IMAGE_FOREACH_VOLUME (volume, image) {
                        bus_volume_path(volume, path);
                        if (!(paths[n++] = strdup(path)))
                                return -ENOMEM;
                }
        }
        return 0;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *error)
{
        const Registry *registry = ((Service *)userdata)->registry;
        char **paths = calloc(count_objects(registry) + 1, sizeof(char *));

        (void)bus, (void)prefix, (void)error;
        if (!paths)
                return -ENOMEM;
        if (list_paths(registry, paths) < 0) {
                free_strv(paths);
                return -ENOMEM;
        }
        *ret_nodes = paths;
        return 1;
}

/* Where the machine has none, sd-bus takes the question for an error of the connection, and closes that. */
static int on_question_for_machine_id(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        sd_id128_t id;

        (void)userdata, (void)error;
        if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Peer", "GetMachineId") <= 0 ||
            sd_id128_get_machine(&id) >= 0)
                return 0;
        return sd_bus_reply_method_errorf(message, SD_BUS_ERROR_FAILED, "This machine has no id");
}

int bus_register_objects(Service *service)
{
        sd_bus *bus = service->bus;
        int r = sd_bus_add_filter(bus, NULL, on_question_for_machine_id, NULL);

        if (r >= 0)
                r = sd_bus_add_object_manager(bus, NULL, BUS_ROOT_PATH);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, BUS_ROOT_PATH, BUS_MANAGER_INTERFACE, bus_manager_vtable,
                                             service);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(bus, NULL, BUS_IMAGES_PATH, BUS_IMAGE_INTERFACE, bus_image_vtable,
                                               find_image, service);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(bus, NULL, BUS_IMAGES_PATH, BUS_VOLUME_INTERFACE, bus_volume_vtable,
                                               find_volume, service);
        if (r >= 0)
                r = sd_bus_add_node_enumerator(bus, NULL, BUS_IMAGES_PATH, enumerate, service);
        return r;
}

/* ---- Signals ---- */

static void emit_volume(sd_bus *bus, RegistryEvent event, const Volume *volume)
{
        char path[BUS_PATH_SIZE];

        bus_volume_path(volume, path);
        if (event == REGISTRY_VOLUME_ADDED)
                (void)sd_bus_emit_interfaces_added(bus, path, BUS_VOLUME_INTERFACE, NULL);
        else if (event == REGISTRY_VOLUME_REMOVED)
                (void)sd_bus_emit_interfaces_removed(bus, path, BUS_VOLUME_INTERFACE, NULL);
        else
                (void)sd_bus_emit_properties_changed(bus, path, BUS_VOLUME_INTERFACE, "MountPoints", "Waiting",
                                                     "ReadOnly", "Obstacle", "Device", NULL);
}

static void emit_image(sd_bus *bus, RegistryEvent event, const Image *image)
{
        char path[BUS_PATH_SIZE];

        bus_image_path(image, path);
        if (event == REGISTRY_IMAGE_ADDED)
                (void)sd_bus_emit_interfaces_added(bus, path, BUS_IMAGE_INTERFACE, NULL);
        else if (event == REGISTRY_IMAGE_REMOVED)
                (void)sd_bus_emit_interfaces_removed(bus, path, BUS_IMAGE_INTERFACE, NULL);
        else
                (void)sd_bus_emit_properties_changed(bus, path, BUS_IMAGE_INTERFACE, "State", "Size", "PartitionTable",
                                                     NULL);
}

void bus_on_registry_event(RegistryEvent event, Image *image, Volume *volume, void *userdata)
{
        sd_bus *bus = ((Service *)userdata)->bus;

        if (!bus)
                return;
        if (volume) {
                emit_volume(bus, event, volume);
                return;
        }
        if (event == REGISTRY_IMAGE_REMOVED)
                IMAGE_FOREACH_VOLUME (volume, image)
                        emit_volume(bus, REGISTRY_VOLUME_REMOVED, volume);
        emit_image(bus, event, image);
        if (event == REGISTRY_IMAGE_ADDED)
                IMAGE_FOREACH_VOLUME (volume, image)
                        emit_volume(bus, REGISTRY_VOLUME_ADDED, volume);
}
