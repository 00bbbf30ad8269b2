/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names and directories of mount points: ROOT/USER/NAME. ROOT/USER belongs to
 * root, mode 0750, with an ACL that lets USER in, so that no user can swap a
 * directory under the daemon. Everything here works on a local tmpfs and does
 * not block.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/*
 * A file name from hostile bytes: no slash, no control character, valid UTF-8,
 * no leading dot or hyphen, no leading or trailing white space, at most 200
 * bytes (cut at a character; room for a suffix within NAME_MAX). Bad bytes
 * become "_", leading dots are dropped.
 * -EINVAL: nothing usable is left of it.
 */
int mount_point_sanitise(const char *bytes, char **ret_name);

/*
 * Opens ROOT/USER for @uid, making it (and ROOT) if it is missing. @user is the
 * user's name, which the caller has looked up (that can block: NSS, LDAP), or
 * the number if there is none; -EINVAL if it is no file name.
 * Refuses what is not a directory of root's that only root can write (-EPERM),
 * at every step from "/" on, and never follows a symlink there. What other tools
 * have made like this is shared; the ACL entry is added where @uid needs it.
 * *ret_path: its path; *ret_fd: an O_PATH directory fd.
 */
int mount_point_open_user(const char *root, const char *user, uid_t uid, char **ret_path, int *ret_fd);

/*
 * The first of @name, "name 2", "name 3" ... (at most 1000 tries) that nothing in
 * @user_fd has and that *is_reserved does not claim. Makes nothing, so that a
 * record can be written before mount_point_make(). -EEXIST: all are taken.
 */
typedef bool (*MountPointReserved)(const char *name, const void *userdata);
int mount_point_choose(int user_fd, const char *name, MountPointReserved is_reserved, const void *userdata,
                       char **ret_name);

/*
 * Makes the directory @name. -EEXIST: somebody was faster, choose again;
 * -ENOENT: the folder of @user_fd was removed meanwhile, open it again.
 */
int mount_point_make(int user_fd, const char *name);

/*
 * Removes ROOT/USER/NAME if it is an empty directory and nothing is mounted on
 * it, and ROOT/USER if that is then empty too. 0 also if it is not there;
 * -EBUSY: something is mounted on it; -ENOTEMPTY; -EPERM as above.
 */
int mount_point_remove(const char *path);

/* Removes ROOT/USER if it is empty: it may have been made for a mount point that did not come. */
int mount_point_remove_user(const char *root, const char *user);
