/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mounting with the file-descriptor API of Linux 5.2 and later, and libmount's
 * utab, which lets plain umount(8) work for the owner. All of it may block: only
 * to be called in a job's child, unless it says otherwise.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/* umount(8) runs /sbin/umount.loopmount, as the user who calls it, for what has this in utab. */
#define MOUNT_UMOUNT_HELPER "loopmount"

typedef struct MountOption {
        const char *key;
        const char *value; /* NULL: a flag */
} MountOption;

typedef struct MountSpec {
        const char *driver; /* as fsopen(2) wants it */
        const char *source; /* device node */
        bool read_only;
        const MountOption *options;
        size_t n_options;
        uint64_t attributes; /* MOUNT_ATTR_*; NOSUID and NODEV are always added */
} MountSpec;

#define MOUNT_MESSAGE_SIZE 256U

/* A block device as a driver is to see it. */
typedef struct MountNode {
        const char *path; /* "/dev/loop3": shown as the mount's source */
        dev_t device;
} MountNode;

/*
 * Makes a root directory of its own for the calling process, with nothing in it
 * but @nodes. Some drivers open further devices whose paths the image names
 * (f2fs; erofs from Linux 5.19 to 6.3): here there are none to be found.
 * *ret_root: for going back.
 */
int mount_isolate(const MountNode *nodes, size_t n_nodes, int *ret_root);
int mount_leave_isolation(int root);

/*
 * Makes a mount that is attached nowhere yet: it goes with its descriptor. On
 * failure @message holds the kernel's own words, or is empty.
 * -ENODEV: no driver for the type; -EBUSY: the file system is mounted already;
 * else as fsconfig(2).
 */
int mount_create(const MountSpec *spec, int *ret_fd, char message[static MOUNT_MESSAGE_SIZE]);

/* Attaches it on the directory NAME in @parent_fd. *ret_id: as statx(2) numbers mounts (Linux 5.8). */
int mount_attach(int mount_fd, int parent_fd, const char *name, uint64_t *ret_id);

/*
 * The mount that is on top at @path: 0 and its id, or -ENOENT if @path is not a
 * mount point (any more). Does not block: the file system is not asked.
 */
int mount_get_id(const char *path, uint64_t *ret_id);

/*
 * Whether mount @id is at @path, or covered there by another one, or moved away.
 * Reads the whole mount table only if it is not on top. Does not block.
 */
bool mount_is_there(const char *path, uint64_t id);

/* A detached copy of the mount at @path, to be put back with mount_attach() should a later step fail. */
int mount_clone(const char *path, uint64_t id, int *ret_fd);

/*
 * Unmounts @path if the mount there is @id. -ESTALE: it is another one, or none.
 * -EBUSY: in use; with @lazy it is taken from the tree all the same, and ends with
 * its last user.
 */
int mount_detach(const char *path, uint64_t id, bool lazy);

/* Writes a line to utab: @source is mounted at @path, and its umount is ours to do. */
int mount_utab_add(const char *source, const char *path, const char *driver);
int mount_utab_remove(const char *path);
