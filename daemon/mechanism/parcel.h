/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A user's open file, wrapped up: held, but in nobody's descriptor table. Every
 * close(2) of a descriptor, in each process that has inherited it, asks the file
 * system to flush the file; a hostile or dead one never answers. A file that is
 * under way in a socket (unix(7), SCM_RIGHTS) is closed without that.
 */
#pragma once

#include "base/macro.h"

/* *ret_parcel: a descriptor to keep and to hand on in its place. @fd stays the caller's. Does not block. */
int parcel_wrap(int fd, int *ret_parcel);

/* A new descriptor for the file; the parcel stays what it is. For a job's child: its exit may block. */
int parcel_unwrap(int parcel, int *ret_fd);
