/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tells when a path may have come, gone or been written: by inotify(7) on the folders that lead to it, and by the table
 * of mounts. */
#pragma once

#include <systemd/sd-event.h>

#include "base/macro.h"

typedef struct PathWatch PathWatch;

/* Called when there is reason to look again; not necessarily because of this path. */
typedef void (*PathWatchHandler)(void *userdata);

PathWatch *path_watch_free(PathWatch *watch);
DEFINE_CLEANUP(PathWatch *, path_watch_free)

/* @path: absolute; not copied. What happens behind this call is told. */
int path_watch_new(sd_event *event, const char *path, PathWatchHandler handler, void *userdata, PathWatch **ret);
