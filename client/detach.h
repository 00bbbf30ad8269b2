/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Detaching an image: what "detach" and "with" have in common. */
#pragma once

#include "connection.h"

/*
 * Has the image at @path detached; one that is gone already is fine. Prints
 * what goes wrong about @name; gives an exit code. @force: it is given up, and
 * said if it is still there.
 */
int detach_image(Connection *connection, const char *path, const char *name, bool force);
