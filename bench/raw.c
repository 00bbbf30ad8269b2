/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See raw.h. A partition is added by hand, as the kernel need not know of partition tables. */
#include "raw.h"

#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "base/macro.h"

#define BIND_TRIES 1000

/* Whoever is faster has the free device: then there is another one. */
static int bind_device(const Task *task, int file, char *ret_node, size_t size)
{
        _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
        struct loop_config config = {
                .fd = (unsigned)file,
                .block_size = 512,
                .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN | LO_FLAGS_DIRECT_IO |
                                 (task->writable ? 0 : LO_FLAGS_READ_ONLY),
        };

        for (unsigned i = 0; i < BIND_TRIES; i++) {
                _cleanup_close_ int loop = -1;

                snprintf(ret_node, size, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
                loop = open(ret_node, (task->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
                if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) >= 0)
                        return TAKE_FD(loop);
                if (errno != EBUSY && errno != EUCLEAN && errno != EAGAIN)
                        break;
        }
        return way_failed(errno_or_else(EBUSY), "LOOP_CONFIGURE");
}

static int mount_node(const Task *task, const char *node, const char *target)
{
        _cleanup_close_ int fs = fsopen(task->type, FSOPEN_CLOEXEC), mnt = -1;
        unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (task->writable ? 0 : MOUNT_ATTR_RDONLY);

        if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", node, 0) < 0 ||
            (!task->writable && fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0) ||
            (!task->writable && streq(task->type, "ext4") && fsconfig(fs, FSCONFIG_SET_FLAG, "noload", NULL, 0) < 0) ||
            fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return way_failed(-errno, "fsconfig");
        mnt = fsmount(fs, FSMOUNT_CLOEXEC, attributes);
        if (mnt < 0)
                return way_failed(-errno, "fsmount");
        return way_failed_errno(move_mount(mnt, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), "move_mount");
}

static int add_partition(int loop, unsigned i)
{
        struct blkpg_partition partition = {
                .start = (long long)(TASK_PARTITION_OFFSET + i * TASK_PARTITION_SIZE),
                .length = (long long)TASK_PARTITION_SIZE,
                .pno = (int)i + 1,
        };
        struct blkpg_ioctl_arg argument = {
                .op = BLKPG_ADD_PARTITION,
                .datalen = sizeof(partition),
                .data = &partition,
        };

        /* EBUSY: the kernel has found it by itself. */
        return ioctl(loop, BLKPG, &argument) < 0 && errno != EBUSY ? way_failed(-errno, "BLKPG_ADD_PARTITION") : 0;
}

static int mount_partitions(const Task *task, int loop, const char *node, const char *target, unsigned *ret_n)
{
        char partition[64], folder[128];
        int r = 0;

        for (unsigned i = 0; i < task->n_partitions && r >= 0; i++)
                r = add_partition(loop, i);
        for (*ret_n = 0; *ret_n < task->n_partitions && r >= 0; ++*ret_n) {
                snprintf(partition, sizeof(partition), "%sp%u", node, *ret_n + 1);
                snprintf(folder, sizeof(folder), "%s/%u", target, *ret_n);
                r = mount_node(task, partition, folder);
        }
        return r;
}

int raw_attach(const Task *task, int file, const char *target, RawImage *ret)
{
        char node[32];
        int r;

        *ret = (RawImage){ .loop = bind_device(task, file, node, sizeof(node)) };
        if (ret->loop < 0)
                return ret->loop;
        if (ioctl(ret->loop, BLKGETDISKSEQ, &ret->sequence) < 0)
                return way_failed(-errno, "BLKGETDISKSEQ");
        if (task->n_partitions > 0)
                return mount_partitions(task, ret->loop, node, target, &ret->n_mounts);
        r = mount_node(task, node, target);
        ret->n_mounts = r >= 0;
        return r;
}

int raw_detach(RawImage *image, const char *target)
{
        char folder[128];
        int r = 0;

        if (image->n_mounts == 1)
                r = umount2(target, UMOUNT_NOFOLLOW);
        for (unsigned i = 0; image->n_mounts > 1 && i < image->n_mounts && r >= 0; i++) {
                snprintf(folder, sizeof(folder), "%s/%u", target, i);
                r = umount2(folder, UMOUNT_NOFOLLOW);
        }
        if (r < 0)
                return way_failed(-errno, "umount");
        r = way_failed_errno(ioctl(image->loop, LOOP_CLR_FD), "LOOP_CLR_FD");
        image->loop = safe_close(image->loop);
        return r;
}
