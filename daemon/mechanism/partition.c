/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * BLKPG on loop devices. What the kernel has found by itself is taken as it is
 * if it agrees with the probe; sysfs tells.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mechanism/partition.h"

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
#endif

/* As many as the kernel gives a disk (DISK_MAX_PARTS), itself included. */
#define PARTITIONS_MAX 256U

void partition_node(unsigned disk_number, unsigned number, char path[static 32])
{
        snprintf(path, 32, "/dev/loop%up%u", disk_number, number);
}

static int read_attribute(unsigned disk_number, unsigned number, const char *attribute, char *buffer, size_t size)
{
        char path[96];
        _cleanup_fclose_ FILE *f = NULL;

        snprintf(path, sizeof(path), "/sys/block/loop%u/loop%up%u/%s", disk_number, disk_number, number, attribute);
        f = fopen(path, "re");
        if (!f)
                return -errno;
        return fgets(buffer, (int)size, f) ? 0 : -EIO;
}

/* -ENOENT: there is no such partition; -EEXIST: it is another one. sysfs counts in 512 bytes. */
static int compare(unsigned disk_number, unsigned number, uint64_t offset, uint64_t size, dev_t *ret_devnum)
{
        char start[32], sectors[32], devnum[32];
        unsigned major_number, minor_number;

        if (read_attribute(disk_number, number, "start", start, sizeof(start)) < 0 ||
            read_attribute(disk_number, number, "size", sectors, sizeof(sectors)) < 0 ||
            read_attribute(disk_number, number, "dev", devnum, sizeof(devnum)) < 0)
                return -ENOENT;
        if (strtoull(start, NULL, 10) != offset / 512 || strtoull(sectors, NULL, 10) != size / 512 ||
            sscanf(devnum, "%u:%u", &major_number, &minor_number) != 2)
                return -EEXIST;
        *ret_devnum = makedev(major_number, minor_number);
        return 0;
}

static int blkpg(int disk_fd, int operation, unsigned number, uint64_t offset, uint64_t size)
{
        struct blkpg_partition partition = {
                .pno = (int)number,
                .start = (long long)offset,
                .length = (long long)size,
        };
        struct blkpg_ioctl_arg argument = { .op = operation, .datalen = sizeof(partition), .data = &partition };

        return ioctl(disk_fd, BLKPG, &argument) < 0 ? -errno : 0;
}

int partition_ensure(int disk_fd, unsigned disk_number, unsigned number, uint64_t offset, uint64_t size,
                     dev_t *ret_devnum)
{
        int r = compare(disk_number, number, offset, size, ret_devnum);

        if (r != -ENOENT)
                return r;
        r = blkpg(disk_fd, BLKPG_ADD_PARTITION, number, offset, size);
        if (r < 0 && r != -EBUSY)
                return r;
        /* Busy: the kernel's own scan was faster, or it overlaps another one. */
        r = compare(disk_number, number, offset, size, ret_devnum);
        return r == -ENOENT ? -EEXIST : r;
}

int partition_open(unsigned disk_number, uint64_t diskseq, unsigned number, dev_t devnum, uint64_t offset,
                   uint64_t size, int *ret_fd)
{
        _cleanup_close_ int fd = -1;
        char node[32];
        struct stat st;
        uint64_t current_diskseq;
        dev_t current_devnum;

        partition_node(disk_number, number, node);
        fd = open(node, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return errno == ENOENT || errno == ENXIO ? -ESTALE : -errno;
        if (fstat(fd, &st) < 0 || ioctl(fd, BLKGETDISKSEQ, &current_diskseq) < 0)
                return -errno;
        if (!S_ISBLK(st.st_mode) || st.st_rdev != devnum || current_diskseq != diskseq ||
            compare(disk_number, number, offset, size, &current_devnum) < 0 || current_devnum != devnum)
                return -ESTALE;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int count(unsigned disk_number)
{
        char path[32], prefix[32];
        const struct dirent *entry;
        DIR *directory;
        int n = 0;

        snprintf(path, sizeof(path), "/sys/block/loop%u", disk_number);
        snprintf(prefix, sizeof(prefix), "loop%up", disk_number);
        directory = opendir(path);
        if (!directory)
                return -errno;
        while ((entry = readdir(directory)))
                n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
        closedir(directory);
        return n;
}

static bool contains(const unsigned *numbers, size_t n_numbers, unsigned number)
{
        for (size_t i = 0; i < n_numbers; i++)
                if (numbers[i] == number)
                        return true;
        return false;
}

int partition_limit(int disk_fd, unsigned disk_number, const unsigned *keep, size_t n_keep, unsigned max)
{
        int n = count(disk_number);

        if (n < 0 || (unsigned)n <= max)
                return MIN(n, 0);
        for (unsigned number = 1; number < PARTITIONS_MAX; number++)
                if (!contains(keep, n_keep, number))
                        (void)partition_remove(disk_fd, number);
        n = count(disk_number);
        return n < 0 ? n : (unsigned)n <= max ? 0 : -EDQUOT;
}

int partition_remove(int disk_fd, unsigned number)
{
        int r = blkpg(disk_fd, BLKPG_DEL_PARTITION, number, 0, 0);

        return r == -ENXIO ? 0 : r;
}
