/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loop devices that we bind.
 *
 * - One LOOP_CONFIGURE (Linux 5.8) sets everything. Any ioctl behind it that
 *   changes the device freezes its queue, 15 ms and more each.
 * - PARTSCAN goes with it even where the kernel has no parser for the table:
 *   only then does the kernel drop the partitions that were added by hand when
 *   the device is cleared.
 * - AUTOCLEAR goes with it: a device that nobody has open or mounted is gone,
 *   whatever becomes of the daemon.
 * - The marker in RUN_DEVICES_DIR is made, exclusively, before the kernel is
 *   asked: the udev rules find it when the device's first event comes, and it
 *   keeps two of our own children from trying the same device. It is not
 *   LOOP_CTL_GET_FREE's choice that counts, but whether LOOP_CONFIGURE succeeds:
 *   losing a race to another program is EBUSY, and the next device is tried.
 * - A device that was bound by somebody else is never cleared.
 * - Direct I/O is what the file's file system is asked about before the kernel is: a file that it takes for direct may
 * go by the page cache all the same.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/paths.h"
#include "mechanism/loop.h"

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
#endif

#define BIND_TRIES_MAX 64U
/* Between two tries: a random time up to this, so that two losers do not lose together again. */
#define BIND_PAUSE_MAX_NSEC 2000000U

static int get_diskseq(int fd, uint64_t *ret)
{
        return ioctl(fd, BLKGETDISKSEQ, ret) < 0 ? -errno : 0;
}

static void marker_path(unsigned number, char path[static 64])
{
        snprintf(path, 64, RUN_DEVICES_DIR "/loop%u", number);
}

static void device_path(unsigned number, char path[static 32])
{
        snprintf(path, 32, "/dev/loop%u", number);
}

void loop_forget(unsigned number)
{
        char path[64];

        marker_path(number, path);
        (void)TRY_TWICE(unlink(path));
}

/* -EEXIST: another of our children is at it, or has it. */
static int claim(unsigned number)
{
        char path[64];
        int fd;

        marker_path(number, path);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return -errno;
        close(fd);
        return 0;
}

/* A device number that is free and that we now have the claim on. */
static int choose(int control, unsigned *ret)
{
        int number = ioctl(control, LOOP_CTL_GET_FREE), r;

        if (number < 0)
                return -errno;
        r = claim((unsigned)number);
        if (r == -EEXIST) {
                /* The kernel names that one until its LOOP_CONFIGURE is over, which may take seconds. */
                number = ioctl(control, LOOP_CTL_ADD, -1);
                if (number < 0)
                        return -errno;
                r = claim((unsigned)number);
        }
        if (r < 0)
                return r;
        *ret = (unsigned)number;
        return 0;
}

static int open_node(unsigned number, int flags)
{
        char path[32];
        struct stat st;
        _cleanup_close_ int fd = -1;

        device_path(number, path);
        fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISBLK(st.st_mode) || major(st.st_rdev) != LOOP_MAJOR)
                return -ENODEV;
        return TAKE_FD(fd);
}

/* What the file's file system says (ext4, xfs, f2fs: Linux 6.1); of one that says nothing the kernel knows. */
static bool can_be_direct(const LoopSpec *spec, const struct statx *file)
{
        uint32_t align = file->stx_dio_offset_align;

        if (!(file->stx_mask & STATX_DIOALIGN))
                return true;
        /* 0: not of this file, say of an encrypted one; the kernel would take it for direct and go by the cache. */
        return align > 0 && spec->offset % align == 0 && spec->sector_size % align == 0;
}

/* -EOPNOTSUPP: it has to be, and cannot. */
static int choose_direct_io(const LoopSpec *spec, bool *ret)
{
        struct statx file;
        bool possible;

        if (statx(spec->file_fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &file) < 0)
                return -errno;
        possible = can_be_direct(spec, &file);
        if (spec->direct_io == LOOP_DIRECT_IO_YES && !possible)
                return -EOPNOTSUPP;
        *ret = possible && spec->direct_io != LOOP_DIRECT_IO_NO;
        return 0;
}

static int configure(int fd, const LoopSpec *spec, bool direct_io)
{
        struct loop_config config = {
                .fd = (unsigned)spec->file_fd,
                .block_size = spec->sector_size,
                .info = {
                        .lo_offset = spec->offset,
                        .lo_sizelimit = spec->size,
                        .lo_flags = LO_FLAGS_AUTOCLEAR | (spec->read_only ? LO_FLAGS_READ_ONLY : 0) |
                                    (spec->partition_scan ? LO_FLAGS_PARTSCAN : 0) |
                                    (direct_io ? LO_FLAGS_DIRECT_IO : 0),
                },
        };

        snprintf((char *)config.info.lo_file_name, sizeof(config.info.lo_file_name), LOOP_TAG "%u", spec->owner);
        return ioctl(fd, LOOP_CONFIGURE, &config) < 0 ? -errno : 0;
}

/* What the kernel made of it, which counts, not what was asked for. */
static int read_back(int fd, unsigned number, LoopDevice *ret)
{
        struct loop_info64 info;
        struct stat st;
        int sector_size;
        LoopDevice device = { .number = number };

        if (fstat(fd, &st) < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0 ||
            ioctl(fd, BLKGETSIZE64, &device.size) < 0 || ioctl(fd, BLKSSZGET, &sector_size) < 0)
                return -errno;
        if (get_diskseq(fd, &device.diskseq) < 0)
                return -ENOSYS;
        device.devnum = st.st_rdev;
        device.sector_size = (uint32_t)sector_size;
        device.read_only = info.lo_flags & LO_FLAGS_READ_ONLY;
        device.direct_io = info.lo_flags & LO_FLAGS_DIRECT_IO;
        *ret = device;
        return 0;
}

static int check_device(const LoopSpec *spec, const LoopDevice *device)
{
        if (device->size == 0)
                return -ENODATA;
        if (spec->direct_io == LOOP_DIRECT_IO_YES && !device->direct_io)
                return -EOPNOTSUPP;
        return device->read_only == spec->read_only ? 0 : -EROFS;
}

/* -EAGAIN: the device was lost to somebody else. */
static int try_bind(int control, const LoopSpec *spec, bool direct_io, LoopDevice *ret, int *ret_fd)
{
        _cleanup_close_ int fd = -1;
        unsigned number = 0;
        int r = choose(control, &number);

        if (r < 0)
                return r == -EEXIST ? -EAGAIN : r;
        /* Read-only as far as possible: when a writer closes the node, udev takes that for a change. */
        fd = open_node(number, spec->read_only ? O_RDONLY : O_RDWR);
        r = fd < 0 ? fd : configure(fd, spec, direct_io);
        if (r < 0) {
                loop_forget(number);
                return r == -EBUSY || r == -ENXIO || r == -EUCLEAN ? -EAGAIN : r;
        }
        r = read_back(fd, number, ret);
        if (r >= 0)
                r = check_device(spec, ret);
        if (r < 0) {
                (void)ioctl(fd, LOOP_CLR_FD);
                loop_forget(number);
                return r;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static void pause_randomly(void)
{
        struct timespec pause = { 0 };
        uint32_t random = BIND_PAUSE_MAX_NSEC / 2;

        (void)getrandom(&random, sizeof(random), GRND_NONBLOCK);
        pause.tv_nsec = (long)(random % BIND_PAUSE_MAX_NSEC);
        (void)ppoll(NULL, 0, &pause, NULL);
}

int loop_bind(const LoopSpec *spec, LoopDevice *ret, int *ret_fd)
{
        _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
        bool direct_io = false;
        int r;

        if (control < 0)
                return -errno;
        r = choose_direct_io(spec, &direct_io);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < BIND_TRIES_MAX; i++) {
                r = try_bind(control, spec, direct_io, ret, ret_fd);
                if (r != -EAGAIN && r != -EINTR)
                        return r;
                pause_randomly();
        }
        return -EUSERS;
}

int loop_open(unsigned number, dev_t devnum, uint64_t diskseq, int flags, int *ret_fd)
{
        _cleanup_close_ int fd = open_node(number, flags);
        uint64_t current;
        struct stat st;
        int r;

        if (fd < 0)
                return fd == -ENOENT || fd == -ENXIO || fd == -ENODEV ? -ESTALE : fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        r = get_diskseq(fd, &current);
        if (r < 0)
                return r;
        if (st.st_rdev != devnum || current != diskseq || loop_is_gone(number, diskseq))
                return -ESTALE;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/*
 * The disk sequence number stays as it is when a device is cleared, and rises when it is bound again. While the kernel
 * does not tell, for want of memory or descriptors, nothing is gone.
 */
bool loop_is_gone(unsigned number, uint64_t diskseq)
{
        char path[64];
        uint64_t current;
        _cleanup_fclose_ FILE *f = NULL;

        snprintf(path, sizeof(path), "/sys/block/loop%u/loop/backing_file", number);
        if (access(path, F_OK) < 0)
                return errno == ENOENT;
        snprintf(path, sizeof(path), "/sys/block/loop%u/diskseq", number);
        f = fopen(path, "re");
        /* What cannot be parsed sets no errno. */
        if (f)
                errno = 0;
        if (!f || fscanf(f, "%" SCNu64, &current) != 1)
                return errno == ENOENT || errno == ENODEV;
        return current != diskseq;
}

int loop_set_capacity(int fd, uint64_t *ret_size)
{
        if (ioctl(fd, LOOP_SET_CAPACITY) < 0 || ioctl(fd, BLKGETSIZE64, ret_size) < 0)
                return -errno;
        return 0;
}

/* The kernel's own uevents: they come without udevd, and one comes when a loop device is cleared. */
static int open_uevents(void)
{
        struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static uint64_t now_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

/* Whoever looks at the device for a moment (udev does, at each change) should not make a detach fail. */
static int wait_until_gone(int uevents, unsigned number, uint64_t diskseq, uint64_t timeout_usec)
{
        uint64_t deadline = now_usec() + timeout_usec, now;

        while (!loop_is_gone(number, diskseq)) {
                struct pollfd pollfd = { .fd = uevents, .events = POLLIN };
                char buffer[8192];

                now = now_usec();
                if (now >= deadline)
                        return -EBUSY;
                if (poll(&pollfd, 1, (int)((deadline - now) / USEC_PER_MSEC) + 1) < 0 && errno != EINTR)
                        return -errno;
                while (recv(uevents, buffer, sizeof(buffer), 0) > 0)
                        ;
        }
        return 0;
}

int loop_wait_until_gone(unsigned number, uint64_t diskseq, uint64_t timeout_usec)
{
        _cleanup_close_ int uevents = open_uevents();

        return uevents < 0 ? uevents : wait_until_gone(uevents, number, diskseq, timeout_usec);
}

int loop_release(int fd, unsigned number, uint64_t diskseq, uint64_t timeout_usec)
{
        _cleanup_close_ int uevents = open_uevents();
        int r = 0;

        if (uevents < 0)
                r = uevents;
        else if (ioctl(fd, LOOP_CLR_FD) < 0 && errno != ENXIO)
                r = -errno;
        safe_close(fd);
        return r < 0 ? r : wait_until_gone(uevents, number, diskseq, timeout_usec);
}
