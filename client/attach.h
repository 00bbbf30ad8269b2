/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attaching an image: what "attach" and "with" have in common. */
#pragma once

#include "model.h"
#include "options.h"

typedef struct Attached {
        char *path;          /* the image's object */
        char **mount_points; /* of the volumes that were asked for, in that order */
} Attached;

void attached_clear(Attached *attached);
#define _cleanup_attached_ _cleanup_(attached_clear)

/*
 * Opens the image file, with the user's own rights and for what the settings
 * need; refuses what is no regular file. Prints why not; gives an exit code.
 */
int attach_open(const char *name, bool writable, int *ret_fd);

/* Has the open image attached, and mounted. -errno, with @error set if the daemon said why. */
int attach_call(Connection *connection, const Settings *settings, int fd, sd_bus_error *error, Attached *ret);

/* Appends filesystem-type, mount-options and name, those that are set, to an open a{sv}. -errno. */
int attach_append_mount_options(sd_bus_message *m, const Settings *settings);

/* Prints the volumes of @image that are not mounted, with the reason, to standard error. */
void attach_print_obstacles(const Image *image, const char *name);
