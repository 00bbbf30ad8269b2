/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of "automount" have in common: the unit of an image, and the process that it runs. */
#pragma once

#include "options.h"

#define AUTOMOUNT_PREFIX "loopmount-automount@"
#define AUTOMOUNT_SUFFIX ".service"

/*
 * A folder with the name of the unit and ".d" has to be possible, and editors put
 * something behind that.
 */
#define AUTOMOUNT_UNIT_SIZE 241U

/*
 * The unit for the image at the absolute path @path, as "systemd-escape --path"
 * names it: false if that would be too long. Then the name has the path's end
 * and a hash, and the unit does not know the path by its name.
 */
bool automount_unit_name(const char *path, char name[static AUTOMOUNT_UNIT_SIZE]);

/*
 * What is to be set for the unit so that @program runs with @options and the image
 * at @path, as text of a unit file. NULL when out of memory.
 */
char *automount_unit_settings(const char *program, char *const *options, size_t n_options, const char *path);

/* The drop-in file of the unit with this text, in place of one that there is; NULL: none. -errno. */
int automount_drop_in_write(const char *unit, const char *text);
/* *@ret stays NULL if there is none. */
int automount_drop_in_read(const char *unit, char **ret);

bool automount_is_enabled(const char *unit);
/* The names of the units that are, sorted, in an array that ends with NULL; NULL when out of memory. */
char **automount_find_enabled(void);

/* Attaches the image whenever that is possible, until the service manager ends it. Gives an exit code. */
int automount_run(const Settings *settings, const char *path);
