/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loop devices that we bind.
 *
 * - One LOOP_CONFIGURE (Linux 5.8) sets everything. Any ioctl behind it that
 *   changes the device freezes its queue, 15 ms and more each.
 * - PARTSCAN goes with it where the image has partitions, or may get some, even
 *   if the kernel has no parser for the table: only then does the kernel drop the
 *   partitions that were added by hand when the device is cleared. It is left out
 *   where a file system has the whole image: its bytes may look like a table of
 *   255 partitions to the kernel. It can be set later, but not taken back.
 * - AUTOCLEAR goes with it: a device that nobody has open or mounted is gone,
 *   whatever becomes of the daemon.
 * - A child claims a device before it asks the kernel to bind it: it makes
 *   RUN_DEVICES_DIR/loopN and holds a lock on it. The udev rules find the claim when
 *   the device's first event comes, and two of our children do not try the same
 *   device. A claim that nobody has locked is left from a child that died: the next
 *   child takes it over. It is not LOOP_CTL_GET_FREE's choice that counts, but
 *   whether LOOP_CONFIGURE succeeds: losing a race to another program is EBUSY, and
 *   the next device is tried.
 * - When the device is bound, the claim is renamed to loopN-DISKSEQ: the marker of
 *   this attachment. If it is left behind, it says nothing about the next tenant.
 * - A device that was bound by somebody else is never cleared.
 * - Direct I/O is what the file's file system is asked about before the kernel is: a file that it takes for direct may
 * go by the page cache all the same.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/file.h>
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

/* Before the device is bound, and after it. */
static void claim_path(unsigned number, char path[static 64])
{
        snprintf(path, 64, RUN_DEVICES_DIR "/loop%u", number);
}

static void marker_path(unsigned number, uint64_t diskseq, char path[static 64])
{
        snprintf(path, 64, RUN_DEVICES_DIR "/loop%u-%" PRIu64, number, diskseq);
}

static void device_path(unsigned number, char path[static 32])
{
        snprintf(path, 32, "/dev/loop%u", number);
}

/* ---- Markers ---- */

/*
 * Opens the claim on /dev/loopN and locks it. The lock ends with the process that holds it, however that ends: a
 * claim without a lock is nobody's.
 * -EEXIST: another child of ours is binding that device.
 */
static int lock_claim(unsigned number, int flags, int *ret_fd)
{
        char path[64];
        _cleanup_close_ int fd = -1;
        struct stat mine, now;

        claim_path(number, path);
        fd = open(path, O_RDWR | flags | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return -errno;
        if (TRY_TWICE(flock(fd, LOCK_EX | LOCK_NB)) < 0)
                return errno == EWOULDBLOCK ? -EEXIST : -errno;
        /* Its last owner has removed or renamed it after we opened it. */
        if (fstat(fd, &mine) < 0 || stat(path, &now) < 0 || mine.st_ino != now.st_ino)
                return -EEXIST;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static void drop_claim(unsigned number, int claim)
{
        char path[64];

        claim_path(number, path);
        (void)TRY_TWICE(unlink(path));
        safe_close(claim);
}

/* From now on the marker is for this attachment only. */
static int mark(unsigned number, uint64_t diskseq)
{
        char from[64], to[64];

        claim_path(number, from);
        marker_path(number, diskseq, to);
        return TRY_TWICE(rename(from, to)) < 0 ? -errno : 0;
}

void loop_forget(unsigned number, uint64_t diskseq)
{
        char path[64];

        marker_path(number, diskseq, path);
        (void)TRY_TWICE(unlink(path));
}

void loop_adopt_marker(unsigned number, uint64_t diskseq)
{
        int claim;

        if (lock_claim(number, 0, &claim) < 0)
                return;
        (void)mark(number, diskseq);
        safe_close(claim);
}

/* True: there is no reason any more for this marker to be kept. */
static bool sweep_marker(const char *name)
{
        unsigned number;
        uint64_t diskseq;
        int claim, r;

        r = sscanf(name, "loop%u-%" SCNu64, &number, &diskseq);
        if (r == 2) {
                if (!loop_is_gone(number, diskseq))
                        return false;
                loop_forget(number, diskseq);
        } else if (r == 1) {
                r = TRY_TWICE(lock_claim(number, 0, &claim));
                if (r < 0)
                        return r == -ENOENT;
                drop_claim(number, claim);
        }
        return true;
}

static void closedirp(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

int loop_sweep_markers(void)
{
        _cleanup_(closedirp) DIR *directory = opendir(RUN_DEVICES_DIR);
        struct dirent *entry;
        int n_kept = 0;

        if (!directory)
                return -errno;
        for (errno = 0; (entry = readdir(directory)); errno = 0)
                n_kept += !sweep_marker(entry->d_name);
        return errno != 0 ? -errno : n_kept;
}

/* ---- Binding ---- */

/* A device number that is free and that we now have the claim on. */
static int choose(int control, unsigned *ret, int *ret_claim)
{
        int number = ioctl(control, LOOP_CTL_GET_FREE), r;

        if (number < 0)
                return -errno;
        r = lock_claim((unsigned)number, O_CREAT, ret_claim);
        if (r == -EEXIST) {
                /* The kernel names that one until its LOOP_CONFIGURE is over, which may take seconds. */
                number = ioctl(control, LOOP_CTL_ADD, -1);
                if (number < 0)
                        return -errno;
                r = lock_claim((unsigned)number, O_CREAT, ret_claim);
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

/* Binds the device that is claimed. -EAGAIN: it was lost to somebody else. */
static int bind_claimed(unsigned number, const LoopSpec *spec, bool direct_io, LoopDevice *ret, int *ret_fd)
{
        /* Read-only as far as possible: when a writer closes the node, udev takes that for a change. */
        _cleanup_close_ int fd = open_node(number, spec->read_only ? O_RDONLY : O_RDWR);
        int r = fd < 0 ? fd : configure(fd, spec, direct_io);

        if (r < 0)
                return r == -EBUSY || r == -ENXIO || r == -EUCLEAN ? -EAGAIN : r;
        r = read_back(fd, number, ret);
        if (r >= 0)
                r = check_device(spec, ret);
        if (r >= 0)
                r = mark(number, ret->diskseq);
        if (r < 0) {
                (void)ioctl(fd, LOOP_CLR_FD);
                return r;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int try_bind(int control, const LoopSpec *spec, bool direct_io, LoopDevice *ret, int *ret_fd)
{
        unsigned number = 0;
        int claim = -1, r = choose(control, &number, &claim);

        if (r < 0)
                return r == -EEXIST ? -EAGAIN : r;
        r = bind_claimed(number, spec, direct_io, ret, ret_fd);
        if (r < 0)
                drop_claim(number, claim);
        else
                safe_close(claim);
        return r;
}

static void pause_randomly(void)
{
        struct timespec pause = { 0 };
        uint32_t random;

        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
                random = BIND_PAUSE_MAX_NSEC / 2;
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

int loop_scan_partitions(int fd)
{
        struct loop_info64 info;

        if (ioctl(fd, LOOP_GET_STATUS64, &info) < 0)
                return -errno;
        if (info.lo_flags & LO_FLAGS_PARTSCAN)
                return 0;
        info.lo_flags |= LO_FLAGS_PARTSCAN;
        return ioctl(fd, LOOP_SET_STATUS64, &info) < 0 ? -errno : 0;
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
