/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One function makes all mounts, so that there is one place where nosuid and
 * nodev are set, and they are set whatever the options say.
 *
 * A mount is first made detached, and attached only when everything else has
 * worked: until then closing its descriptor undoes it, also when the process is
 * killed. A driver is given a root directory with nothing in it but the devices
 * that it is to mount: an image cannot name others.
 *
 * libmount of util-linux 2.38 does not know these calls yet; it serves for utab.
 */
#include <fcntl.h>
#include <libmount.h>
#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "mechanism/mount.h"

/* Linux 6.6. Without it the kernel may share an existing superblock and its first options without a word. */
#ifndef FSCONFIG_CMD_CREATE_EXCL
#define FSCONFIG_CMD_CREATE_EXCL 8
#endif

/* Appends what the kernel has logged for this mount: lines of "e text", "w text", "i text". */
static void read_messages(int fs_fd, char message[static MOUNT_MESSAGE_SIZE])
{
        char line[MOUNT_MESSAGE_SIZE];
        size_t used = 0;
        ssize_t n;

        message[0] = 0;
        while ((n = read(fs_fd, line, sizeof(line) - 1)) > 0) {
                line[n] = 0;
                line[strcspn(line, "\n")] = 0;
                if (line[0] != 'e' || line[1] != ' ')
                        continue;
                used += (size_t)snprintf(message + used, MOUNT_MESSAGE_SIZE - used, "%s%s", used ? "; " : "", line + 2);
                if (used >= MOUNT_MESSAGE_SIZE)
                        break;
        }
}

/* A file system that only this process can see, and that goes with its last descriptor. */
static int make_private_root(void)
{
        _cleanup_close_ int fs_fd = fsopen("tmpfs", FSOPEN_CLOEXEC);
        int fd;

        if (fs_fd < 0 || fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
        return fd < 0 ? -errno : fd;
}

int mount_isolate(const MountNode *nodes, size_t n_nodes, int *ret_root)
{
        _cleanup_close_ int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), new = make_private_root();

        if (old < 0)
                return -errno;
        if (new < 0)
                return new;
        if (mkdirat(new, "dev", 0700) < 0)
                return -errno;
        for (size_t i = 0; i < n_nodes; i++)
                if (mknodat(new, nodes[i].path + 1, S_IFBLK | 0600, nodes[i].device) < 0)
                        return -errno;
        if (fchdir(new) < 0 || chroot(".") < 0)
                return -errno;
        *ret_root = TAKE_FD(old);
        return 0;
}

int mount_leave_isolation(int root)
{
        return fchdir(root) < 0 || chroot(".") < 0 ? -errno : 0;
}

static int set_option(int fs_fd, const char *key, const char *value)
{
        int r = value ? fsconfig(fs_fd, FSCONFIG_SET_STRING, key, value, 0)
                      : fsconfig(fs_fd, FSCONFIG_SET_FLAG, key, NULL, 0);

        return r < 0 ? -errno : 0;
}

static int configure(int fs_fd, const MountSpec *spec)
{
        int r = set_option(fs_fd, "source", spec->source);

        if (r >= 0 && spec->read_only)
                r = set_option(fs_fd, "ro", NULL);
        for (size_t i = 0; r >= 0 && i < spec->n_options; i++)
                r = set_option(fs_fd, spec->options[i].key, spec->options[i].value);
        return r;
}

static int create_superblock(int fs_fd)
{
        if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE_EXCL, NULL, NULL, 0) == 0)
                return 0;
        /* An older kernel has no such command, or a newer one has it not for this file system: nothing was tried yet.
         */
        if (errno != EOPNOTSUPP)
                return -errno;
        if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                /* Tried before, and it was the file system that did not support something. */
                return errno == EBUSY ? -EOPNOTSUPP : -errno;
        return 0;
}

static int make_mount(int fs_fd, const MountSpec *spec)
{
        uint64_t attributes = spec->attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        int fd;

        if (spec->read_only)
                attributes |= MOUNT_ATTR_RDONLY;
        fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, (unsigned)attributes);
        return fd < 0 ? -errno : fd;
}

int mount_create(const MountSpec *spec, int *ret_fd, char message[static MOUNT_MESSAGE_SIZE])
{
        _cleanup_close_ int fs_fd = -1;
        int r;

        message[0] = 0;
        fs_fd = fsopen(spec->driver, FSOPEN_CLOEXEC);
        if (fs_fd < 0)
                return -errno;
        r = configure(fs_fd, spec);
        if (r >= 0)
                r = create_superblock(fs_fd);
        if (r >= 0)
                r = make_mount(fs_fd, spec);
        if (r < 0) {
                read_messages(fs_fd, message);
                return r;
        }
        *ret_fd = r;
        return 0;
}

static int statx_id(int fd, const char *path, uint64_t *ret_id, bool *ret_is_root)
{
        struct statx stx;

        if (statx(fd, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_MNT_ID,
                  &stx) < 0)
                return -errno;
        if (!(stx.stx_mask & STATX_MNT_ID))
                return -EOPNOTSUPP;
        *ret_id = stx.stx_mnt_id;
        *ret_is_root = stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
        return 0;
}

int mount_get_id(const char *path, uint64_t *ret_id)
{
        bool is_root;
        uint64_t id;
        int r = statx_id(AT_FDCWD, path, &id, &is_root);

        if (r < 0)
                return r;
        if (!is_root)
                return -ENOENT;
        *ret_id = id;
        return 0;
}

static bool is_in_table(uint64_t id)
{
        _cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0;

        while (f && getline(&line, &allocated, f) > 0)
                if (strtoull(line, NULL, 10) == id)
                        return true;
        return false;
}

bool mount_is_there(const char *path, uint64_t id)
{
        uint64_t current;

        return (mount_get_id(path, &current) >= 0 && current == id) || is_in_table(id);
}

int mount_attach(int mount_fd, int parent_fd, const char *name, uint64_t *ret_id)
{
        _cleanup_close_ int directory = openat(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        bool is_root;

        if (directory < 0)
                return -errno;
        if (move_mount(mount_fd, "", directory, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
                return -errno;
        return statx_id(mount_fd, "", ret_id, &is_root);
}

int mount_clone(const char *path, uint64_t id, int *ret_fd)
{
        _cleanup_close_ int fd = -1;
        uint64_t current;
        int r = mount_get_id(path, &current);

        if (r < 0)
                return r == -ENOENT ? -ESTALE : r;
        if (current != id)
                return -ESTALE;
        fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
        if (fd < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int mount_detach(const char *path, uint64_t id, bool lazy)
{
        uint64_t current;
        int r = mount_get_id(path, &current);

        if (r < 0)
                return r == -ENOENT ? -ESTALE : r;
        if (current != id)
                return -ESTALE;
        return umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0 ? -errno : 0;
}

static void fs_unrefp(struct libmnt_fs **fs)
{
        mnt_unref_fs(*fs);
}

static void update_freep(struct libmnt_update **update)
{
        mnt_free_update(*update);
}

static int update_utab(const char *target, struct libmnt_fs *fs)
{
        _cleanup_(update_freep) struct libmnt_update *update = mnt_new_update();
        int r;

        if (!update)
                return -ENOMEM;
        r = mnt_update_set_fs(update, 0, target, fs);
        return r == 0 ? mnt_update_table(update, NULL) : r < 0 ? r : 0;
}

int mount_utab_add(const char *source, const char *path, const char *driver)
{
        _cleanup_(fs_unrefp) struct libmnt_fs *fs = mnt_new_fs();

        if (!fs)
                return -ENOMEM;
        if (mnt_fs_set_source(fs, source) < 0 || mnt_fs_set_target(fs, path) < 0 || mnt_fs_set_root(fs, "/") < 0 ||
            mnt_fs_set_fstype(fs, driver) < 0 || mnt_fs_set_options(fs, "uhelper=" MOUNT_UMOUNT_HELPER) < 0)
                return -ENOMEM;
        return update_utab(NULL, fs);
}

int mount_utab_remove(const char *path)
{
        return update_utab(path, NULL);
}
