/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Owns the directories below ROOT (/run/media) and nothing else. ROOT/USER is
 * made as udisks makes it (root:root, 0750, an ACL entry for the user), so that
 * both can put their mount points there.
 *
 * Invariant: whoever is not root can rename or replace nothing on the way from
 * "/" to a mount point. So a path that was opened here stays what it was, and
 * a mount attached by the fd is where the path says. That is why every folder on
 * the way is looked at, and why a symlink is refused instead of followed.
 *
 * Nothing here blocks, as long as ROOT is on a local file system.
 */
#include <fcntl.h>
#include <sys/acl.h>
#include <sys/stat.h>

#include <acl/libacl.h>

#include "base/text.h"
#include "mechanism/mount-point.h"

#define NAME_BYTES_MAX 200U
#define TRIES_MAX 1000U

typedef void *AclObject; /* acl_t is such a pointer, and acl_free() takes any of its kind */

static void acl_release(AclObject object)
{
        acl_free(object);
}
DEFINE_CLEANUP(AclObject, acl_release)

static bool is_space(uint32_t c)
{
        return c == ' ' || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200b) || c == 0x202f || c == 0x205f ||
               c == 0x3000;
}

/* The byte after the last character of @name that is no white space. */
static size_t length_without_trailing_space(const char *name, size_t length)
{
        size_t end = 0;

        for (size_t i = 0, n; i < length; i += n) {
                uint32_t c = 0;

                n = MAX(text_decode(name + i, length - i, &c), 1U);
                if (!is_space(c))
                        end = i + n;
        }
        return end;
}

int mount_point_sanitise(const char *bytes, char **ret_name)
{
        char name[NAME_BYTES_MAX + 1];
        size_t length = 0, left = strlen(bytes);
        bool usable = false;

        for (size_t n; left > 0; bytes += n, left -= n) {
                const char *replacement = NULL;
                uint32_t c = 0;

                n = text_decode(bytes, left, &c);
                if (n == 0 || c == '/' || text_is_control(c))
                        replacement = "_";
                else if (length == 0 && c == '-') /* "rm *" in the user's folder shall see no option */
                        replacement = "_";
                else if (length == 0 && (c == '.' || is_space(c)))
                        replacement = "";
                else if (!is_space(c))
                        usable = true;
                n = MAX(n, 1U);

                const size_t size = replacement ? strlen(replacement) : n;
                if (length + size > NAME_BYTES_MAX)
                        break;
                memcpy(name + length, replacement ? replacement : bytes, size);
                length += size;
        }

        length = length_without_trailing_space(name, length);
        if (!usable || length == 0)
                return -EINVAL;

        *ret_name = strndup(name, length);
        return *ret_name ? 0 : -ENOMEM;
}

static bool is_file_name(const char *name)
{
        return !isempty(name) && !strchr(name, '/') && !streq(name, ".") && !streq(name, "..");
}

/*
 * Whether nobody but root (or whoever runs the tests) can change what is in the
 * folder. A sticky one is fine too: there nobody renames what root owns. With an
 * ACL the group's bits are its mask, so they cover what it gives to others.
 */
static int check_folder(int fd)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISDIR(st.st_mode))
                return -EPERM;
        if (st.st_uid != 0 && st.st_uid != geteuid())
                return -EPERM;
        if ((st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX))
                return -EPERM;
        return 0;
}

/* Opens the folder @name in @parent_fd, making it first if @mode is not 0. */
static int open_folder(int parent_fd, const char *name, mode_t mode, int *ret_fd)
{
        _cleanup_close_ int fd = -1;
        int r;

        if (mode != 0 && mkdirat(parent_fd, name, mode) < 0 && errno != EEXIST)
                return -errno;

        fd = openat(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOTDIR || errno == ELOOP ? -EPERM : -errno; /* a symlink gives ENOTDIR here */

        r = check_folder(fd);
        if (r < 0)
                return r;

        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Opens the folder @path, which is absolute, step by step, making what is missing if @mode is not 0. */
static int open_path(const char *path, mode_t mode, int *ret_fd)
{
        _cleanup_free_ char *steps = NULL;
        _cleanup_close_ int fd = -1;
        char *state = NULL;
        int r;

        if (isempty(path) || *path != '/')
                return -EINVAL;

        steps = strdup(path);
        if (!steps)
                return -ENOMEM;

        r = open_folder(AT_FDCWD, "/", 0, &fd);
        if (r < 0)
                return r;

        for (char *name = strtok_r(steps, "/", &state); name; name = strtok_r(NULL, "/", &state)) {
                int next;

                if (!is_file_name(name))
                        return -EINVAL;
                r = open_folder(fd, name, mode, &next);
                if (r < 0)
                        return r;
                safe_close(fd);
                fd = next;
        }

        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Finds the entry of kind @tag (if that is ACL_USER: of @uid); *ret_entry: NULL if there is none. */
static int acl_find(acl_t acl, acl_tag_t tag, uid_t uid, acl_entry_t *ret_entry)
{
        acl_entry_t entry;
        int r;

        for (r = acl_get_entry(acl, ACL_FIRST_ENTRY, &entry); r == 1; r = acl_get_entry(acl, ACL_NEXT_ENTRY, &entry)) {
                _cleanup_(acl_releasep) AclObject qualifier = NULL;
                acl_tag_t found;

                if (acl_get_tag_type(entry, &found) < 0)
                        return -errno;
                if (found == tag && tag == ACL_USER) {
                        qualifier = acl_get_qualifier(entry);
                        if (!qualifier)
                                return -errno;
                }
                if (found == tag && (!qualifier || *(uid_t *)qualifier == uid)) {
                        *ret_entry = entry;
                        return 0;
                }
        }
        if (r < 0)
                return -errno;

        *ret_entry = NULL;
        return 0;
}

static int acl_set_read_only(acl_entry_t entry)
{
        acl_permset_t permissions;

        if (acl_get_permset(entry, &permissions) < 0 || acl_clear_perms(permissions) < 0 ||
            acl_add_perm(permissions, ACL_READ) < 0 || acl_add_perm(permissions, ACL_EXECUTE) < 0)
                return -errno;
        return 0;
}

static int acl_permit(acl_t *acl, uid_t uid)
{
        acl_entry_t entry;
        int r;

        r = acl_find(*acl, ACL_USER, uid, &entry);
        if (r < 0)
                return r;
        if (!entry && (acl_create_entry(acl, &entry) < 0 || acl_set_tag_type(entry, ACL_USER) < 0 ||
                       acl_set_qualifier(entry, &uid) < 0))
                return -errno;
        r = acl_set_read_only(entry);
        if (r < 0)
                return r;

        /* A calculated mask would let out what the old one held back, the right to write too: so it is r-x. */
        if (acl_calc_mask(acl) < 0)
                return -errno;
        r = acl_find(*acl, ACL_MASK, 0, &entry);
        if (r < 0)
                return r;
        return entry ? acl_set_read_only(entry) : -EINVAL;
}

/*
 * Lets @uid into the folder. What a folder that was there before gives to others
 * is kept. libacl wants a real fd: fsetxattr(2) on an O_PATH one is EBADF.
 */
static int permit_user(int path_fd, uid_t uid)
{
        _cleanup_(acl_releasep) AclObject acl = NULL;
        _cleanup_close_ int fd = -1;
        struct stat st;
        int r;

        fd = openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (st.st_mode & (S_IWGRP | S_IWOTH)) /* being sticky does not help here: the names in it are ours to give */
                return -EPERM;
        if (st.st_uid == uid || (st.st_mode & S_IRWXO) == (S_IROTH | S_IXOTH))
                return 0;

        acl = acl_get_fd(fd);
        if (!acl)
                return -errno;
        r = acl_permit((acl_t *)&acl, uid);
        if (r < 0)
                return r;

        return acl_set_fd(fd, acl) < 0 ? -errno : 0;
}

int mount_point_open_user(const char *root, const char *user, uid_t uid, char **ret_path, int *ret_fd)
{
        _cleanup_close_ int root_fd = -1, fd = -1;
        char *path;
        int r;

        if (!is_file_name(user))
                return -EINVAL;

        r = open_path(root, 0755, &root_fd);
        if (r < 0)
                return r;

        /* 0700 until the ACL is there; its mask then makes it 0750 */
        r = open_folder(root_fd, user, 0700, &fd);
        if (r < 0)
                return r;

        r = permit_user(fd, uid);
        if (r < 0)
                return r;

        path = text_printf("%s/%s", root, user);
        if (!path)
                return -ENOMEM;

        *ret_path = path;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* 1: nothing has this name; 0: something has. What is mounted there may be a FUSE file system: with an empty mask it is
 * not asked. */
static int is_free(int user_fd, const char *name)
{
        struct statx stx;

        if (statx(user_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, &stx) >= 0)
                return 0;
        return errno == ENOENT ? 1 : -errno;
}

int mount_point_choose(int user_fd, const char *name, MountPointReserved is_reserved, const void *userdata,
                       char **ret_name)
{
        if (!is_file_name(name))
                return -EINVAL;

        for (unsigned i = 1; i <= TRIES_MAX; i++) {
                _cleanup_free_ char *candidate = i == 1 ? strdup(name) : text_printf("%s %u", name, i);
                int r;

                if (!candidate)
                        return -ENOMEM;
                if (is_reserved(candidate, userdata))
                        continue;
                r = is_free(user_fd, candidate);
                if (r < 0)
                        return r;
                if (r > 0) {
                        *ret_name = TAKE_PTR(candidate);
                        return 0;
                }
        }
        return -EEXIST;
}

int mount_point_make(int user_fd, const char *name)
{
        if (!is_file_name(name))
                return -EINVAL;
        /* 0700, and covered by the mount as soon as there is one */
        return mkdirat(user_fd, name, 0700) < 0 ? -errno : 0;
}

/* Splits the last name off @path, in place. */
static int split_last(char *path, const char **ret_name)
{
        char *slash = strrchr(path, '/');

        if (!slash || slash == path || !is_file_name(slash + 1))
                return -EINVAL;

        *slash = '\0';
        *ret_name = slash + 1;
        return 0;
}

int mount_point_remove(const char *path)
{
        _cleanup_close_ int root_fd = -1, user_fd = -1;
        _cleanup_free_ char *copy = NULL;
        const char *name, *user;
        int r;

        copy = strdup(path);
        if (!copy)
                return -ENOMEM;
        r = split_last(copy, &name);
        if (r < 0)
                return r;
        r = split_last(copy, &user);
        if (r < 0)
                return r;

        r = open_path(copy, 0, &root_fd);
        if (r >= 0)
                r = open_folder(root_fd, user, 0, &user_fd);
        if (r < 0)
                return r == -ENOENT ? 0 : r;

        if (unlinkat(user_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                return -errno;

        /* Not empty is the usual case here. */
        return unlinkat(root_fd, user, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY && errno != ENOENT ? -errno : 0;
}

int mount_point_remove_user(const char *root, const char *user)
{
        _cleanup_close_ int root_fd = -1, user_fd = -1;
        int r;

        if (!is_file_name(user))
                return -EINVAL;
        r = open_path(root, 0, &root_fd);
        /* Not what is somebody else's: that was not made here. */
        if (r >= 0)
                r = open_folder(root_fd, user, 0, &user_fd);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return unlinkat(root_fd, user, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}
