/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's thread that writes for a loop device has all capabilities. With CAP_SYS_RESOURCE it exceeds quotas, and
 * takes the blocks that a file system reserves for root. It does so only where it allocates. So where there is a quota,
 * everything is allocated beforehand, by a process that has the user's rights and no others.
 *
 * Nothing is allocated if it is clear that there is no room: an attempt that fails half-way would keep what it got.
 */
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "mechanism/holes.h"

/* Linux 5.14, by a number that is the same on all architectures. */
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif

#define NO_LIMIT UINT64_MAX

static uint32_t project_of(int fd)
{
        struct fsxattr attributes;

        return ioctl(fd, FS_IOC_FSGETXATTR, &attributes) < 0 ? 0 : attributes.fsx_projid;
}

/* How many bytes the quota of one type leaves. */
static uint64_t room_of(int fd, unsigned type, uint32_t id)
{
        struct if_dqblk quota = { 0 };
        uint64_t limit;

        if (syscall(SYS_quotactl_fd, fd, QCMD((unsigned)Q_GETQUOTA, (unsigned)type), id, &quota) < 0)
                return NO_LIMIT;
        limit = (quota.dqb_bhardlimit ? quota.dqb_bhardlimit : quota.dqb_bsoftlimit) * QIF_DQBLKSIZE;
        if (limit == 0)
                return NO_LIMIT;
        return limit > quota.dqb_curspace ? limit - quota.dqb_curspace : 0;
}

static uint64_t find_room(int fd, const struct stat *st)
{
        uint64_t room = room_of(fd, USRQUOTA, st->st_uid);

        room = MIN(room, room_of(fd, GRPQUOTA, st->st_gid));
        return MIN(room, room_of(fd, PRJQUOTA, project_of(fd)));
}

static int become(uid_t uid, gid_t gid)
{
        if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
                return -errno;
        /* The kernel forgets it where the user changes. */
        return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}

/* In a process of its own: there is no way back from the user's rights. */
static int allocate_as(int fd, uint64_t offset, uint64_t size, uid_t uid, gid_t gid)
{
        pid_t pid = fork();
        int status;

        if (pid < 0)
                return -errno;
        if (pid == 0) {
                int r = become(uid, gid);

                if (r >= 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) < 0)
                        r = -errno;
                _exit(-r);
        }
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        if (!WIFEXITED(status))
                return -ECHILD;
        status = WEXITSTATUS(status);
        return status == ENOSPC || status == EOPNOTSUPP ? -EDQUOT : -status;
}

int holes_fill(int fd, uint64_t offset, uint64_t size, uid_t uid, gid_t gid)
{
        struct statvfs disk;
        struct stat st;
        uint64_t room, missing;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (size == 0 && (uint64_t)st.st_size > offset)
                size = (uint64_t)st.st_size - offset;
        /* It does not say where they are: in the whole file. */
        missing = (uint64_t)st.st_size - MIN((uint64_t)st.st_size, (uint64_t)st.st_blocks * 512);
        missing = MIN(missing, size);
        room = missing > 0 ? find_room(fd, &st) : NO_LIMIT;
        if (room == NO_LIMIT)
                return 0;
        if (fstatvfs(fd, &disk) < 0)
                return -errno;
        if (missing > room || missing / disk.f_frsize > disk.f_bavail)
                return -EDQUOT;
        return allocate_as(fd, offset, size, uid, gid);
}
