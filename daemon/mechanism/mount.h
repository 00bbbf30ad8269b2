/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mounting with the file-descriptor API of Linux 5.2 and later. All of it may
 * block: only to be called in a job's child, unless it says otherwise.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

typedef struct MountOption {
        const char *key;
        const char *value; /* NULL: a flag */
} MountOption;

typedef struct MountSpec {
        const char *driver; /* as fsopen(2) wants it */
        const char *source; /* device node */
        bool read_only;
        bool may_share; /* a superblock that there is already; it is known to have the same options */
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
 * From here on all mounts are those of process 1, if this process is in another
 * mount namespace. Needs CAP_SYS_PTRACE.
 */
int mount_stay_outside(void);

/*
 * What was mounted when our namespace was made has a copy in it. Where mounts are
 * not shared that one would stay, and keep the device busy, when the mount goes.
 */
void mount_drop_copy(const char *path);

/*
 * In a child that mounts or unmounts: goes to where the mounts are, for good. What
 * was opened by its path before may be elsewhere.
 */
int mount_enter(void);

/* The file in /proc that lists the mounts, and can be polled for changes. */
const char *mount_table(void);

/*
 * Makes an empty file system that only this process can see, in which devices can be opened. It is destroyed when the
 * returned descriptor, of its root directory, is closed. That takes milliseconds, and is better left to the end of a
 * worker's job.
 */
int mount_make_private(void);

/*
 * Makes a root directory of its own for the calling process, with nothing in it
 * but @nodes. Some drivers open further devices whose paths the image names
 * (f2fs; erofs from Linux 5.19 to 6.3): here there are none to be found.
 * *ret_old: for going back. *ret_root: it goes with this descriptor; the kernel takes
 * its time for that, so it is not to be closed while somebody waits.
 */
int mount_isolate(const MountNode *nodes, size_t n_nodes, int *ret_old, int *ret_root);
int mount_leave_isolation(int old);

/*
 * Makes a mount that is attached nowhere yet: it goes with its descriptor. On
 * failure @message holds the kernel's own words, or is empty.
 * -ENODEV: no driver for the type; -EBUSY: the device has a superblock already, and it may not be shared, or it is
 * writable and this one is to be read-only, or the reverse; else as fsconfig(2).
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
 * The number of mount @id, which is on top at @path, that is never given out again until the next boot (Linux 6.8).
 * -EOPNOTSUPP: the kernel has none; -ESTALE: it is not on top; else as mount_get_id().
 */
int mount_get_unique_id(const char *path, uint64_t id, uint64_t *ret_unique);

/*
 * All mounts of the namespace that this is about, by these numbers, in ascending order (listmount(2)). A fiftieth of
 * what reading the mount table takes: 20 us for 1000. -EOPNOTSUPP, or another error: the kernel cannot tell (before
 * Linux 6.8; of another namespace before 6.11).
 */
typedef struct MountList {
        uint64_t *ids;
        size_t n;
} MountList;

int mount_list_read(MountList *ret);
void mount_list_done(MountList *list);
bool mount_list_has(const MountList *list, uint64_t unique);
bool mount_list_has_all(const MountList *list, const MountList *others);

/*
 * Whether @path is a mount point of anything. Such a folder must not be removed: the
 * kernel refuses that only for mounts of the caller's own namespace, and takes
 * others away with it.
 */
bool mount_is_anything_at(const char *path);

/*
 * Returns true if mount @id of @device, or of a partition of it, is at @path, or is
 * covered there by another one, or was moved away. The kernel gives the id of a
 * mount that is gone to the next one, so the device counts as well. Does not block.
 * Reads the whole mount table if the mount is not on top, and if its file system does
 * not say that it is on exactly @device.
 * @device: "/dev/loop3" or "/dev/loop3p1", or NULL for a trigger.
 */
bool mount_is_there(const char *path, uint64_t id, const char *device);

/* Whether it is anywhere. Walks no path, and reads the whole mount table. */
bool mount_is_listed(uint64_t id, const char *device);

/*
 * Whether a mount of the block device, or one that names @node or one of its partitions as its source, is in the mount
 * table. True also if that cannot be read.
 */
bool mount_is_device_mounted(dev_t device, const char *node);

/*
 * Where mount @id is; else, if it is in another mount namespace, where some mount
 * of the file system @device is. -ENOENT: nowhere. Reads the whole mount table;
 * does not block.
 */
int mount_find(uint64_t id, dev_t device, char **ret_path);

/* A detached copy of the mount at @path, to be put back with mount_attach() should a later step fail. */
int mount_clone(const char *path, uint64_t id, int *ret_fd);

/*
 * Unmounts @path if the mount there is @id. -ESTALE: it is another one, or none.
 * -EBUSY: in use; with @lazy it is taken from the tree all the same, and ends with
 * its last user.
 */
int mount_detach(const char *path, uint64_t id, bool lazy);
