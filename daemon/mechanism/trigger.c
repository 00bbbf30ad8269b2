/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is asked of a trigger goes through /dev/autofs, with the descriptor of the
 * trigger's root folder: that is opened while the mount is attached nowhere yet,
 * so that no path is walked to it, ever. A walk to a trigger that somebody waits
 * for would wait behind him, and if the daemon that should answer is dead, for
 * ever; only the descriptor helps then (autofs_d_manage() in the kernel).
 *
 * The kernel counts on exactly one open descriptor of a trigger's root when it
 * looks whether something is in use (may_umount_tree()). Copies of one do not count.
 */
#include <fcntl.h>
#include <linux/auto_dev-ioctl.h>
#include <linux/auto_fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "mechanism/trigger.h"

/* The one since Linux 2.6.12, with the packet that is read below. */
#define PROTOCOL "5"

/* As the kernel makes it: who looks whether it can be entered need not enter it. */
#define MODE 0755

void trigger_set_up(void)
{
        /* Under systemd it has one, and leads it. */
        (void)setpgid(0, 0);
}

int trigger_open_pipe(int pipe_fds[static 2])
{
        return pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
}

static int configure(int fs_fd, const TriggerSpec *spec)
{
        char pipe_fd[16];

        snprintf(pipe_fd, sizeof(pipe_fd), "%d", spec->pipe_fd);
        if (fsconfig(fs_fd, FSCONFIG_SET_STRING, "source", TRIGGER_SOURCE, 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_SET_STRING, "fd", pipe_fd, 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_SET_STRING, "minproto", PROTOCOL, 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_SET_STRING, "maxproto", PROTOCOL, 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_SET_FLAG, "direct", NULL, 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        return 0;
}

int trigger_create(const TriggerSpec *spec, int *ret_mount_fd, int *ret_fd)
{
        _cleanup_close_ int fs_fd = fsopen("autofs", FSOPEN_CLOEXEC), mount_fd = -1, fd = -1;
        unsigned long seconds = (spec->idle_usec + USEC_PER_SEC - 1) / USEC_PER_SEC;
        int r;

        if (fs_fd < 0)
                return -errno;
        r = configure(fs_fd, spec);
        if (r < 0)
                return r;
        mount_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        if (mount_fd < 0)
                return -errno;
        fd = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, AUTOFS_IOC_SETTIMEOUT, &seconds) < 0)
                return -errno;
        *ret_mount_fd = TAKE_FD(mount_fd);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int trigger_get_device(int fd, dev_t *ret)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        *ret = st.st_dev;
        return 0;
}

static struct autofs_dev_ioctl question_about(int fd)
{
        struct autofs_dev_ioctl question;

        init_autofs_dev_ioctl(&question);
        question.ioctlfd = fd;
        return question;
}

static int ask(unsigned long command, struct autofs_dev_ioctl *question)
{
        _cleanup_close_ int fd = open("/dev/" AUTOFS_DEVICE_NAME, O_RDONLY | O_CLOEXEC);

        return fd < 0 || ioctl(fd, command, question) < 0 ? -errno : 0;
}

static int make_catatonic(int fd)
{
        return ioctl(fd, AUTOFS_IOC_CATATONIC, 0) < 0 ? -errno : 0;
}

int trigger_adopt(int fd, uint64_t id, int pipe_fd)
{
        struct autofs_dev_ioctl question = question_about(fd);
        struct statx stx;
        int r;

        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &stx) < 0)
                return -errno;
        if (!(stx.stx_mask & STATX_MNT_ID) || stx.stx_mnt_id != id)
                return -ESTALE;
        r = make_catatonic(fd);
        if (r < 0)
                return r;
        question.setpipefd.pipefd = pipe_fd;
        r = ask(AUTOFS_DEV_IOCTL_SETPIPEFD, &question);
        return r < 0 || fchmod(fd, MODE) >= 0 ? r : -errno;
}

bool trigger_is_at(const char *path)
{
        _cleanup_close_ int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct statfs sfs;

        return fd >= 0 && fstatfs(fd, &sfs) >= 0 && sfs.f_type == AUTOFS_SUPER_MAGIC;
}

int trigger_read(int pipe_fd, TriggerRequest *ret)
{
        union autofs_v5_packet_union packet;
        ssize_t n = read(pipe_fd, &packet, sizeof(packet));

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if ((size_t)n != sizeof(packet.v5_packet))
                return -EBADMSG;
        *ret = (TriggerRequest){
                .device = packet.v5_packet.dev,
                .token = packet.v5_packet.wait_queue_token,
                .expire = packet.hdr.type == autofs_ptype_expire_direct,
        };
        return 1;
}

/* The trigger's own ioctls need no /dev/autofs: nobody is left waiting for want of it. They know one error only. */
int trigger_answer(int fd, uint32_t token, int error)
{
        struct autofs_dev_ioctl question = question_about(fd);

        question.fail.token = token;
        question.fail.status = error;
        if (error < 0 && ask(AUTOFS_DEV_IOCTL_FAIL, &question) >= 0)
                return 0;
        return ioctl(fd, error < 0 ? AUTOFS_IOC_FAIL : AUTOFS_IOC_READY, (unsigned long)token) < 0 ? -errno : 0;
}

int trigger_expire(int fd)
{
        int how = 0;

        return ioctl(fd, AUTOFS_IOC_EXPIRE_MULTI, &how) < 0 ? -errno : 0;
}

int trigger_close(int fd)
{
        if (fd < 0)
                return fd;
        /* An empty folder would be taken for what is in the volume. */
        (void)fchmod(fd, 0);
        (void)make_catatonic(fd);
        return safe_close(fd);
}
