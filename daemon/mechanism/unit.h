/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Units of the service manager that order the shutdown: one for each mount that
 * files of attached images are on (units/loopmount-backing@.target). Nothing here
 * waits for it.
 */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

/* With the NUL. */
#define UNIT_NAME_SIZE 256U

/* The unit for the mount at @path. -ENAMETOOLONG: the service manager cannot have one for it. */
int unit_name_backing(const char *path, char name[static UNIT_NAME_SIZE]);

/* Ask for it, and do not listen whether it is done. */
int unit_start(sd_bus *bus, const char *name);
int unit_stop(sd_bus *bus, const char *name);

/* Called once for each of our units that an earlier daemon has started and nobody has stopped. */
typedef void (*UnitFound)(const char *name, void *userdata);

/* Asks which there are. Dropping *ret_slot takes the question back. */
int unit_list(sd_bus *bus, UnitFound found, void *userdata, sd_bus_slot **ret_slot);
