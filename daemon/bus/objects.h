/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Object paths, the interfaces behind them, and the signals that say what has changed. */
#pragma once

#include <systemd/sd-bus.h>

#include "story/story.h"

#define BUS_NAME "org.loopmount1"
#define BUS_ROOT_PATH "/org/loopmount1"
#define BUS_IMAGES_PATH BUS_ROOT_PATH "/image"
#define BUS_MANAGER_INTERFACE BUS_NAME ".Manager"
#define BUS_IMAGE_INTERFACE BUS_NAME ".Image"
#define BUS_VOLUME_INTERFACE BUS_NAME ".Volume"
#define BUS_PATH_SIZE 80U

void bus_image_path(const Image *image, char path[static BUS_PATH_SIZE]);
void bus_volume_path(const Volume *volume, char path[static BUS_PATH_SIZE]);

/* The object that @path names; NULL if there is none. */
Image *bus_find_image(const Registry *registry, const char *path);
Volume *bus_find_volume(const Registry *registry, const char *path);

/* One file for each interface. */
extern const sd_bus_vtable bus_manager_vtable[];
extern const sd_bus_vtable bus_image_vtable[];
extern const sd_bus_vtable bus_volume_vtable[];

/* ListImages, in list.c. */
int bus_list_images(sd_bus_message *message, void *userdata, sd_bus_error *error);

/* MountPoints and ReadOnly of a volume, wherever they are shown. */
int bus_append_mount_points(sd_bus_message *reply, const Volume *volume);
bool bus_volume_is_read_only(const Volume *volume);

/* Puts all objects on service->bus. */
int bus_register_objects(Service *service);

/* As RegistryObserver; @userdata: the Service. Without a bus it does nothing. */
void bus_on_registry_event(RegistryEvent event, Image *image, Volume *volume, void *userdata);
