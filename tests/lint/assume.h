/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For static analysis alone, included before each source: what holds, and the
 * analyzer does not know. A call that fails leaves a positive number in errno,
 * so "return -errno" is never a success; and dirfd() of an open folder works.
 * Without this it follows paths that do not exist.
 */
#pragma once

#include <dirent.h>
#include <errno.h>

static inline int *positive_errno(void)
{
        int *number = __errno_location();

        if (*number <= 0)
                __builtin_unreachable();
        return number;
}

static inline int valid_dirfd(DIR *folder)
{
        int fd = dirfd(folder);

        if (fd < 0)
                __builtin_unreachable();
        return fd;
}

#undef errno
#define errno (*positive_errno())
#define dirfd(folder) valid_dirfd(folder)
