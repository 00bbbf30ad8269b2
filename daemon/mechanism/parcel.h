/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A user's open file, wrapped up: held, but in nobody's descriptor table. Every
 * close(2) of a descriptor, in each process that has inherited it, asks the file
 * system to flush the file; a hostile or dead one never answers. A file that is
 * under way in a socket (unix(7), SCM_RIGHTS) is closed without that.
 */
#pragma once

#include "base/macro.h"

#define PARCEL_PATH_MAX 4096

/* What can be told of a file without asking its file system, which might not answer. */
typedef struct ParcelLabel {
        int error;                  /* 0, or -errno: why there is no file in the parcel */
        int flags;                  /* of open(2); < 0: it is no open file */
        int seals;                  /* < 0: it has none */
        char path[PARCEL_PATH_MAX]; /* raw bytes, NUL-terminated; for display and for names only */
} ParcelLabel;

/* Fills in what @fd is. Does not block. */
void parcel_label(int fd, ParcelLabel *ret);

/*
 * *ret_parcel: a descriptor to keep and to hand on in place of @fd, which stays the caller's; @fd < 0: a parcel
 * without a file, for which label->error says why. Does not block.
 */
int parcel_wrap(int fd, const ParcelLabel *label, int *ret_parcel);

/* Makes no descriptor, and does not block. -EBADMSG: it is no parcel. */
int parcel_read_label(int parcel, ParcelLabel *ret);

/* A new descriptor for the file; the parcel stays what it is. For a job's child: its exit may block. */
int parcel_unwrap(int parcel, int *ret_fd);
