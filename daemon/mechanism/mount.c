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
 * Under systemd the service has a mount namespace of its own, in which its unit
 * makes most of the file system read-only or takes it away. What it mounts is
 * for everybody: children that mount and unmount go over to the namespace of
 * process 1 first, and the daemon itself looks at the mounts from there, through
 * /proc/1. A mount has another id in each namespace.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "mechanism/mount.h"

/* Linux 6.6. Without it the kernel may share an existing superblock and its first options without a word. */
#ifndef FSCONFIG_CMD_CREATE_EXCL
#define FSCONFIG_CMD_CREATE_EXCL 8
#endif

/* Linux 6.8, by a number that is the same on all architectures; of namespaces other than one's own 6.11. */
#ifndef SYS_listmount
#define SYS_listmount 458
#endif
#ifndef LSMT_ROOT
#define LSMT_ROOT UINT64_MAX
#endif
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U
#endif
#ifndef NS_GET_MNTNS_ID
#define NS_GET_MNTNS_ID _IOR(NSIO, 0x5, uint64_t)
#endif

/* How many ids are asked for at a time. */
#define LIST_CHUNK ((size_t)1024)

/* Whose mounts these are about: of process 1, seen from another namespace, or our own. */
static bool outside;
/* The kernel's id of another namespace; 0: it does not tell, or we are inside. */
static uint64_t namespace_id;

int mount_stay_outside(void)
{
        _cleanup_close_ int fd = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);
        struct stat ours, theirs;

        if (fd < 0 || stat("/proc/self/ns/mnt", &ours) < 0 || fstat(fd, &theirs) < 0)
                return -errno;
        outside = ours.st_ino != theirs.st_ino;
        if (outside && ioctl(fd, NS_GET_MNTNS_ID, &namespace_id) < 0)
                namespace_id = 0;
        return 0;
}

void mount_drop_copy(const char *path)
{
        if (outside)
                (void)TRY_TWICE(umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH));
}

int mount_enter(void)
{
        _cleanup_close_ int fd = -1;

        if (!outside)
                return 0;
        fd = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || setns(fd, CLONE_NEWNS) < 0)
                return -errno;
        outside = false;
        return 0;
}

const char *mount_table(void)
{
        return outside ? "/proc/1/mountinfo" : "/proc/self/mountinfo";
}

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

int mount_make_private(void)
{
        _cleanup_close_ int fs_fd = fsopen("tmpfs", FSOPEN_CLOEXEC);
        int fd;

        if (fs_fd < 0 || fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
        return fd < 0 ? -errno : fd;
}

int mount_isolate(const MountNode *nodes, size_t n_nodes, int *ret_old, int *ret_root)
{
        _cleanup_close_ int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), root = mount_make_private();

        if (old < 0)
                return -errno;
        if (root < 0)
                return root;
        if (mkdirat(root, "dev", 0700) < 0)
                return -errno;
        for (size_t i = 0; i < n_nodes; i++)
                if (mknodat(root, nodes[i].path + 1, S_IFBLK | 0600, nodes[i].device) < 0)
                        return -errno;
        if (fchdir(root) < 0 || chroot(".") < 0)
                return -errno;
        *ret_old = TAKE_FD(old);
        *ret_root = TAKE_FD(root);
        return 0;
}

int mount_leave_isolation(int old)
{
        return fchdir(old) < 0 || chroot(".") < 0 ? -errno : 0;
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

/* A mount, another file system or a program has it exclusively. */
static bool is_claimed(const char *node)
{
        _cleanup_close_ int fd = open(node, O_RDONLY | O_EXCL | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        return fd < 0 && errno == EBUSY;
}

/* Shares a superblock of the same device if there is one. Its options are not looked at, but EBUSY: it is writable and
 * this one is to be read-only, or the reverse. */
static int create_or_share_superblock(int fs_fd)
{
        if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        return 0;
}

static int create_superblock(int fs_fd, const char *node)
{
        int r;

        if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE_EXCL, NULL, NULL, 0) == 0)
                return 0;
        /* An older kernel has no such command, or a newer one has it not for this file system: nothing was tried yet.
         */
        if (errno != EOPNOTSUPP)
                return -errno;
        if (is_claimed(node))
                return -EBUSY;
        r = create_or_share_superblock(fs_fd);
        /* Tried before, and it was the file system that did not support something. */
        return r == -EBUSY ? -EOPNOTSUPP : r;
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

static int create_mount(const MountSpec *spec, bool share, int *ret_fd, char message[static MOUNT_MESSAGE_SIZE])
{
        _cleanup_close_ int fs_fd = -1;
        int r;

        message[0] = 0;
        fs_fd = fsopen(spec->driver, FSOPEN_CLOEXEC);
        if (fs_fd < 0)
                return -errno;
        r = configure(fs_fd, spec);
        if (r >= 0)
                r = share ? create_or_share_superblock(fs_fd) : create_superblock(fs_fd, spec->source);
        if (r >= 0)
                r = make_mount(fs_fd, spec);
        if (r < 0) {
                read_messages(fs_fd, message);
                return r;
        }
        *ret_fd = r;
        return 0;
}

int mount_create(const MountSpec *spec, int *ret_fd, char message[static MOUNT_MESSAGE_SIZE])
{
        int r = create_mount(spec, false, ret_fd, message);

        /* A user who makes a mount namespace has a copy of each mount in it. It keeps the superblock after the mount
         * that was copied is gone, and until then no other can be made. */
        return r == -EBUSY && spec->may_share ? create_mount(spec, true, ret_fd, message) : r;
}

/* @mask: 0, with which the kernel gives the id in any case (Linux 5.8), or STATX_MNT_ID_UNIQUE. Neither gets to the
 * file system: a FUSE server is not asked, nor does it refuse root. */
static int statx_id(int fd, const char *path, unsigned mask, uint64_t *ret_id, bool *ret_is_root)
{
        struct statx stx;

        if (statx(fd, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, mask, &stx) < 0)
                return -errno;
        if (!(stx.stx_mask & (mask ? mask : STATX_MNT_ID)))
                return -EOPNOTSUPP;
        *ret_id = stx.stx_mnt_id;
        *ret_is_root = stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
        return 0;
}

static int get_id(const char *path, unsigned mask, uint64_t *ret_id)
{
        char seen[PATH_MAX];
        bool is_root = false;
        uint64_t id = 0;
        int r;

        if (snprintf(seen, sizeof(seen), "%s%s", outside ? "/proc/1/root" : "", path) >= (int)sizeof(seen))
                return -ENAMETOOLONG;
        r = statx_id(AT_FDCWD, seen, mask, &id, &is_root);
        if (r < 0)
                return r;
        if (!is_root)
                return -ENOENT;
        *ret_id = id;
        return 0;
}

int mount_get_id(const char *path, uint64_t *ret_id)
{
        return get_id(path, 0, ret_id);
}

int mount_get_unique_id(const char *path, uint64_t id, uint64_t *ret_unique)
{
        uint64_t current, unique;
        int r = get_id(path, STATX_MNT_ID_UNIQUE, &unique);

        if (r >= 0)
                r = mount_get_id(path, &current);
        if (r < 0)
                return r;
        if (current != id)
                return -ESTALE;
        *ret_unique = unique;
        return 0;
}

/* ---- All mounts ---- */

int mount_list_read(MountList *ret)
{
        /* What listmount(2) takes, which Debian 12's headers do not know. Linux 6.8 has it without the last one. */
        struct {
                uint32_t size, spare;
                uint64_t parent, last, namespace_id;
        } request = { .size = sizeof(request), .parent = LSMT_ROOT, .namespace_id = namespace_id };
        _cleanup_(mount_list_done) MountList list = { 0 };
        long n;

        if (outside && namespace_id == 0)
                return -EOPNOTSUPP;
        do {
                uint64_t *ids = reallocarray(list.ids, list.n + LIST_CHUNK, sizeof(*ids));

                if (!ids)
                        return -ENOMEM;
                list.ids = ids;
                n = syscall(SYS_listmount, &request, ids + list.n, LIST_CHUNK, 0U);
                if (n < 0)
                        return -errno;
                list.n += (size_t)n;
                request.last = list.n > 0 ? ids[list.n - 1] : 0;
        } while ((size_t)n == LIST_CHUNK);
        *ret = list;
        list = (MountList){ 0 };
        return 0;
}

void mount_list_done(MountList *list)
{
        free(list->ids);
        *list = (MountList){ 0 };
}

bool mount_list_has(const MountList *list, uint64_t unique)
{
        size_t low = 0, high = list->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (list->ids[middle] < unique)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < list->n && list->ids[low] == unique;
}

/* Both are in order: one walk through each. */
bool mount_list_has_all(const MountList *list, const MountList *others)
{
        size_t at = 0;

        for (size_t i = 0; i < others->n; i++) {
                while (at < list->n && list->ids[at] < others->ids[i])
                        at++;
                if (at >= list->n || list->ids[at] != others->ids[i])
                        return false;
        }
        return true;
}

bool mount_is_anything_at(const char *path)
{
        uint64_t id;
        int r = mount_get_id(path, &id);

        if (r < 0 && r != -ENOENT)
                r = mount_get_id(path, &id);
        return r != -ENOENT;
}

/* "ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS", see proc(5). */
static bool is_of_device(const char *line, const char *device)
{
        const char *type = strstr(line, " - "), *source = type ? strchr(type + 3, ' ') : NULL;
        size_t n = strlen(device);

        /* Partitions are "/dev/loop3p1"; a name that a driver keeps is "/dev/loop3.41" or "/dev/loop3p1.41". */
        return source && strncmp(source + 1, device, n) == 0 && source[1 + n] && strchr(" p.", source[1 + n]);
}

bool mount_is_listed(uint64_t id, const char *device)
{
        _cleanup_fclose_ FILE *f = fopen(mount_table(), "re");
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0;

        while (f && getline(&line, &allocated, f) > 0)
                if (strtoull(line, NULL, 10) == id)
                        return !device || is_of_device(line, device);
        /* Unless it was read to its end, it says nothing. */
        return !f || !feof(f);
}

/* Returns true if the file system that @path is in says that it is on @device. btrfs, and all without one, never do. */
static bool is_on_device(const char *path, const char *device)
{
        char seen[PATH_MAX];
        struct statx stx;
        struct stat node;

        if (snprintf(seen, sizeof(seen), "%s%s", outside ? "/proc/1/root" : "", path) >= (int)sizeof(seen))
                return false;
        return statx(AT_FDCWD, seen, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, &stx) >= 0 &&
               stat(device, &node) >= 0 && S_ISBLK(node.st_mode) &&
               makedev(stx.stx_dev_major, stx.stx_dev_minor) == node.st_rdev;
}

bool mount_is_device_mounted(dev_t device, const char *node)
{
        _cleanup_fclose_ FILE *f = fopen(mount_table(), "re");
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0;

        while (f && getline(&line, &allocated, f) > 0) {
                unsigned major_number, minor_number;

                if (is_of_device(line, node) || (sscanf(line, "%*u %*u %u:%u", &major_number, &minor_number) == 2 &&
                                                 makedev(major_number, minor_number) == device))
                        return true;
        }
        return !f || !feof(f);
}

bool mount_is_there(const char *path, uint64_t id, const char *device)
{
        uint64_t current;

        /* The number alone does not tell: whoever mounts there next gets it again. */
        if (mount_get_id(path, &current) >= 0 && current == id && (!device || is_on_device(path, device)))
                return true;
        return mount_is_listed(id, device);
}

int mount_attach(int mount_fd, int parent_fd, const char *name, uint64_t *ret_id)
{
        _cleanup_close_ int directory = openat(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        bool is_root;
        uint64_t id;
        int r;

        if (directory < 0)
                return -errno;
        /* It keeps its id. Asked for later, that might fail, and the mount would be there and be told of as failed. */
        r = statx_id(mount_fd, "", 0, &id, &is_root);
        if (r < 0)
                return r;
        if (move_mount(mount_fd, "", directory, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
                return -errno;
        *ret_id = id;
        return 0;
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
        fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
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

/* "/run/media/ann/my\040disk" */
static char *unescape(const char *text, size_t length)
{
        char *path = strndup(text, length), *to = path;

        for (const char *from = path; from && *from; from++)
                if (from[0] == '\\' && from[1] && from[2] && from[3]) {
                        *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
                        from += 3;
                } else {
                        *to++ = *from;
                }
        if (to)
                *to = 0;
        return path;
}

int mount_find(uint64_t id, dev_t device, char **ret_path)
{
        _cleanup_fclose_ FILE *f = fopen(mount_table(), "re");
        _cleanup_free_ char *line = NULL, *found = NULL;
        size_t allocated = 0;
        bool is_it = false;

        if (!f)
                return -errno;
        while (!is_it && getline(&line, &allocated, f) > 0) {
                unsigned major_number, minor_number;
                uint64_t line_id;
                int path = 0;

                if (sscanf(line, "%" SCNu64 " %*u %u:%u %*s %n", &line_id, &major_number, &minor_number, &path) != 3 ||
                    path == 0)
                        continue;
                is_it = id != 0 && line_id == id;
                if (!is_it && (found || makedev(major_number, minor_number) != device))
                        continue;
                free(found);
                found = unescape(line + path, strcspn(line + path, " "));
                if (!found)
                        return -ENOMEM;
        }
        if (!is_it && !feof(f))
                return -EIO;
        if (!found)
                return -ENOENT;
        *ret_path = TAKE_PTR(found);
        return 0;
}
