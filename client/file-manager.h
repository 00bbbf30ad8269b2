/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Showing a folder in the user's file manager. */
#pragma once

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "base/macro.h"

/*
 * Has the file manager that runs show the folder at the absolute @path; where
 * none does, starts the user's one: @ret_child is the process that does it then
 * (0: it is done), and whether it could is its exit code. @session may be NULL. -errno.
 */
int file_manager_show(sd_bus *session, const char *path, pid_t *ret_child);

/* When that process has failed: starts whichever file manager the session bus can start. -errno. */
int file_manager_show_any(sd_bus *session, const char *path);

/* The file: URI of @path, with all bytes percent-encoded that could mean something. NULL when out of memory. */
char *file_manager_uri(const char *path);
