/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The probe: libblkid on hostile bytes, in a sandbox.
 *
 * An image is looked at through its file, before a loop device is bound: one
 * that holds nothing usable costs no device, and the sector size that the device
 * must have is known before it is made. Each partition is probed as a part of
 * the same file, so that nothing waits for partition devices.
 *
 * The table of an image that is a file system as a whole is looked at only for
 * ISO 9660 and UDF: these are made hybrid on purpose. For all others it is what
 * a boot sector happens to look like.
 *
 * The same bytes have to give the same answer as a file, when they are attached,
 * and as a loop device, when they are read again. libblkid makes a difference:
 * it recognises a member of many kinds of RAID in a regular file and on a whole
 * disk, and asks sysfs, which the sandbox hides, whether a block device is one.
 * So it gets a regular file in both cases. It looks at what kind of file a
 * descriptor is only in blkid_probe_set_device(): at that moment VIEW_FD is an
 * empty file of the image's size, and it is the image whenever bytes are read.
 */
#include <blkid/blkid.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fds.h"
#include "mechanism/probe.h"

#define VIEW_FD STDIN_FILENO
#define NOBODY 65534
#define MEMORY_MAX (UINT64_C(512) << 20)
#define CPU_SECONDS_MAX 20

#ifndef __has_feature /* as clang, and newer gcc, say it */
#define __has_feature(feature) 0
#endif

static const uint32_t sector_sizes[] = { 512, 1024, 2048, 4096 };

/* ---- The sandbox ---- */

static struct sock_fprog sandbox_filter;

/* All that reading an open file, reckoning and answering need. Everything else is EPERM: libblkid also tries this and
 * that (sysfs, CD-ROM ioctls) which it does without. */
static const int allowed_calls[] = {
        SCMP_SYS(brk),       SCMP_SYS(clock_gettime), SCMP_SYS(close),   SCMP_SYS(exit),        SCMP_SYS(exit_group),
        SCMP_SYS(fadvise64), SCMP_SYS(fstat),         SCMP_SYS(futex),   SCMP_SYS(getrandom),   SCMP_SYS(lseek),
        SCMP_SYS(madvise),   SCMP_SYS(mremap),        SCMP_SYS(munmap),  SCMP_SYS(newfstatat),  SCMP_SYS(pread64),
        SCMP_SYS(read),      SCMP_SYS(rt_sigreturn),  SCMP_SYS(sendmsg), SCMP_SYS(sigaltstack),
};
static const unsigned long allowed_ioctls[] = { BLKGETSIZE64, BLKSSZGET };

static int add_rules(scmp_filter_ctx context)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(allowed_calls); i++)
                r = seccomp_rule_add(context, SCMP_ACT_ALLOW, allowed_calls[i], 0);
        for (size_t i = 0; r == 0 && i < ELEMENTSOF(allowed_ioctls); i++)
                r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                                     SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, allowed_ioctls[i]));
        /* Memory, no files: what the caller has opened for writing could be written to through them. */
        if (r == 0)
                r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
                                     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
                                     SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
        /* Only the view may be exchanged: see new_probe(). */
        if (r == 0)
                r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(dup3), 1,
                                     SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, VIEW_FD));
        /* libblkid from util-linux 2.39 on protects what it has read. */
        if (r == 0)
                r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        return r;
}

/* libseccomp writes a program to a file only (its export to memory came with 2.6). */
static int export_filter(scmp_filter_ctx context)
{
        _cleanup_close_ int fd = memfd_create("filter", MFD_CLOEXEC);
        struct stat st;
        void *program;
        int r;

        if (fd < 0)
                return -errno;
        r = seccomp_export_bpf(context, fd);
        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0)
                return -errno;
        program = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (program == MAP_FAILED)
                return -errno;
        sandbox_filter.filter = program;
        sandbox_filter.len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
        return 0;
}

int probe_prepare_sandbox(void)
{
        scmp_filter_ctx context;
        int r;

        if (sandbox_filter.filter)
                return 0;
        context = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        if (!context)
                return -ENOMEM;
        /* A tree instead of a list: the kernel goes through the program for each number that there is when it is put
         * on, which a child does for each image. */
        r = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        if (r == 0)
                r = add_rules(context);
        if (r == 0)
                r = export_filter(context);
        seccomp_release(context);
        return r;
}

static int limit(int resource, rlim_t value)
{
        return setrlimit(resource, &(struct rlimit){ value, value }) < 0 ? -errno : 0;
}

static int limit_resources(void)
{
        int r = limit(RLIMIT_CPU, CPU_SECONDS_MAX);

#if !defined(__SANITIZE_ADDRESS__) && !__has_feature(address_sanitizer) /* which maps terabytes */
        if (r == 0)
                r = limit(RLIMIT_AS, MEMORY_MAX);
#endif
        if (r == 0)
                r = limit(RLIMIT_FSIZE, 0);
        if (r == 0)
                r = limit(RLIMIT_CORE, 0);
        if (r == 0)
                r = limit(RLIMIT_NPROC, 0);
        if (r == 0)
                r = limit(RLIMIT_NOFILE, VIEW_FD + 1); /* no new ones */
        return r;
}

/*
 * Into a root directory that has nothing but entries for the descriptors that we
 * have anyway: glibc's fstat(2) needs a system call that would look at any path.
 */
static int leave_file_systems(void)
{
        return chroot("/proc/self/fdinfo") < 0 || chdir("/") < 0 ? -errno : 0;
}

static int become_nobody(void)
{
        if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
                return -errno;
        return 0;
}

int probe_enter_sandbox(const int *fds, size_t n_fds)
{
        /* Closing a user's file may block. */
        int r = fds_close_all_but(0, fds, n_fds);

        if (r >= 0 && geteuid() == 0) {
                r = leave_file_systems();
                if (r >= 0)
                        r = become_nobody();
        }
        if (r >= 0)
                r = limit_resources();
        if (r < 0)
                return r;
        /* Another user's process does not die with its parent any more, unless it asks for it again. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &sandbox_filter) < 0)
                return -errno;
        return 0;
}

/* ---- The file ---- */

/* What is read: the image, which begins at @base in its file. */
typedef struct Source {
        int image_fd, stand_in_fd;
        uint64_t base; /* bytes */
} Source;

static int file_size(int fd, const struct stat *st, uint64_t *ret)
{
        if (S_ISREG(st->st_mode)) {
                *ret = (uint64_t)st->st_size;
                return 0;
        }
        /* What was written through a partition is not in the disk's own page cache, which may hold what was there
         * before. */
        if (S_ISBLK(st->st_mode))
                return ioctl(fd, BLKFLSBUF) < 0 || ioctl(fd, BLKGETSIZE64, ret) < 0 ? -errno : 0;
        return -EMEDIUMTYPE;
}

static int open_again(int fd)
{
        char path[64];
        int copy;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        copy = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        /* Where root is nobody (NFS) the caller's descriptor has to do. */
        if (copy < 0)
                copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return copy < 0 ? -errno : copy;
}

/* An empty file of @size bytes, for libblkid to look at; see the head of this file. */
static int make_stand_in(uint64_t size)
{
        _cleanup_close_ int fd = memfd_create("stand-in", MFD_CLOEXEC);

        if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/*
 * Opens the file again, read-only: so that reading does not move the position that the caller's process shares with
 * us, and so that the sandbox has no descriptor that can be written to.
 */
static int open_image(const ProbeSpec *spec, ProbeSummary *ret, Source *ret_source)
{
        _cleanup_close_ int stand_in = -1;
        ProbeSummary summary = { 0 };
        struct stat st;
        uint64_t size;
        int r;

        if (fstat(spec->fd, &st) < 0)
                return -errno;
        if (spec->regular_only && !S_ISREG(st.st_mode))
                return -EMEDIUMTYPE;
        r = file_size(spec->fd, &st, &size);
        if (r < 0)
                return r;
        if (spec->offset >= size || spec->size > size - spec->offset)
                return -ENODATA;
        summary.size = spec->size ? spec->size : size - spec->offset;
        /* The kernel leaves out what does not fill a sector of 512 bytes. */
        if (summary.size >= 512)
                summary.size -= summary.size % 512;
        if (S_ISREG(st.st_mode)) {
                summary.file_device = st.st_dev;
                summary.file_inode = st.st_ino;
        }
        stand_in = make_stand_in(spec->offset + summary.size);
        if (stand_in < 0)
                return stand_in;
        r = open_again(spec->fd);
        if (r < 0)
                return r;
        if (dup3(r, VIEW_FD, O_CLOEXEC) < 0) {
                int error = -errno;

                close(r);
                return error;
        }
        *ret = summary;
        *ret_source = (Source){ .image_fd = r, .stand_in_fd = TAKE_FD(stand_in), .base = spec->offset };
        return 0;
}

/* ---- Reading ---- */

static void blkid_probep(blkid_probe *probe)
{
        if (*probe)
                blkid_free_probe(*probe);
}
#define _cleanup_probe_ _cleanup_(blkid_probep)

/* @offset in the image. */
static int new_probe(const Source *source, uint64_t offset, uint64_t size, uint32_t sector_size, blkid_probe *ret)
{
        _cleanup_probe_ blkid_probe probe = blkid_new_probe();

        if (!probe)
                return -ENOMEM;
        if (dup3(source->stand_in_fd, VIEW_FD, O_CLOEXEC) < 0)
                return -errno;
        errno = 0;
        if (blkid_probe_set_device(probe, VIEW_FD, (blkid_loff_t)(source->base + offset), (blkid_loff_t)size) != 0)
                return errno_or_else(EIO);
        if (dup3(source->image_fd, VIEW_FD, O_CLOEXEC) < 0)
                return -errno;
        if (blkid_probe_set_sectorsize(probe, sector_size) != 0)
                return -EINVAL;
        *ret = TAKE_PTR(probe);
        return 0;
}

static uint32_t read_block_size(blkid_probe probe)
{
        const char *value;

        if (blkid_probe_lookup_value(probe, "BLOCK_SIZE", &value, NULL) != 0)
                return 0;
        return (uint32_t)strtoul(value, NULL, 10);
}

static void copy_value(blkid_probe probe, const char *name, char *buffer, size_t size)
{
        const char *value;

        if (blkid_probe_lookup_value(probe, name, &value, NULL) == 0)
                snprintf(buffer, size, "%s", value);
}

/* See struct ext4_super_block in the kernel's fs/ext4/ext4.h; numbers are little-endian. */
#define EXT_SUPERBLOCK 1024
#define EXT_FEATURES 0x5c
#define EXT_FEATURE_JOURNAL 0x04
#define EXT_JOURNAL_INODE 0xe0

/* A journal without an inode is on the device whose number and UUID are in the superblock. */
static bool has_journal_elsewhere(const Source *source, uint64_t offset)
{
        unsigned char superblock[EXT_JOURNAL_INODE + 4];
        uint32_t inode;

        offset += source->base + EXT_SUPERBLOCK;
        if (pread(source->image_fd, superblock, sizeof(superblock), (off_t)offset) != sizeof(superblock))
                return false;
        memcpy(&inode, superblock + EXT_JOURNAL_INODE, sizeof(inode));
        return (superblock[EXT_FEATURES] & EXT_FEATURE_JOURNAL) && inode == 0;
}

/* Says what @volume holds, if it can be told. */
static int read_superblock(const Source *source, uint32_t sector_size, ProbeVolume *volume)
{
        _cleanup_probe_ blkid_probe probe = NULL;
        int r = new_probe(source, volume->offset, volume->size, sector_size, &probe);

        if (r < 0)
                return r;
        blkid_probe_enable_superblocks(probe, 1);
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_LABELRAW | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID |
                                                         BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE | BLKID_SUBLKS_VERSION);
        errno = 0;
        r = blkid_do_safeprobe(probe);
        /* Ambivalent is -2 by its documentation; of util-linux 2.41 it is an error without a reason. */
        if (r == -2 || (r < 0 && errno == 0)) {
                volume->ambivalent = true;
                return 0;
        }
        if (r < 0)
                return errno_or_else(EIO);
        copy_value(probe, "USAGE", volume->usage, sizeof(volume->usage));
        copy_value(probe, "TYPE", volume->type, sizeof(volume->type));
        copy_value(probe, "VERSION", volume->version, sizeof(volume->version));
        copy_value(probe, "LABEL", volume->label, sizeof(volume->label));
        copy_value(probe, "UUID", volume->uuid, sizeof(volume->uuid));
        volume->block_size = read_block_size(probe);
        volume->incomplete = strncmp(volume->type, "ext", 3) == 0 && has_journal_elsewhere(source, volume->offset);
        return 0;
}

static void copy_text(char *buffer, size_t size, const char *text)
{
        snprintf(buffer, size, "%s", strempty(text));
}

static bool is_extended(int type)
{
        return type == 0x05 || type == 0x0f || type == 0x85;
}

/* A GPT's entry that ends before it begins, or is beyond all bytes, is none to the kernel. Sectors of 512 bytes. */
static bool has_place(blkid_partition partition)
{
        blkid_loff_t start = blkid_partition_get_start(partition), size = blkid_partition_get_size(partition);

        return start >= 0 && size > 0 && start <= INT64_MAX / 512 - size;
}

static void read_partition(blkid_partition partition, ProbeVolume *ret)
{
        ProbeVolume volume = {
                .number = (uint32_t)blkid_partition_get_partno(partition),
                .offset = (uint64_t)blkid_partition_get_start(partition) * 512,
                .size = (uint64_t)blkid_partition_get_size(partition) * 512,
        };
        const char *type = blkid_partition_get_type_string(partition);

        if (type)
                copy_text(volume.partition_type, sizeof(volume.partition_type), type);
        else
                snprintf(volume.partition_type, sizeof(volume.partition_type), "0x%02x",
                         (unsigned)blkid_partition_get_type(partition));
        copy_text(volume.partition_name, sizeof(volume.partition_name), blkid_partition_get_name(partition));
        copy_text(volume.partition_uuid, sizeof(volume.partition_uuid), blkid_partition_get_uuid(partition));
        *ret = volume;
}

/* Appends the partitions to @volumes. */
static int read_table(const Source *source, ProbeSummary *summary, ProbeVolume *volumes)
{
        _cleanup_probe_ blkid_probe probe = NULL;
        blkid_partlist list;
        blkid_parttable table;
        int r = new_probe(source, 0, summary->size, summary->sector_size, &probe);

        if (r < 0)
                return r;
        blkid_probe_enable_partitions(probe, 1);
        list = blkid_probe_get_partitions(probe);
        table = list ? blkid_partlist_get_table(list) : NULL;
        if (!table)
                return 0;
        copy_text(summary->table, sizeof(summary->table), blkid_parttable_get_type(table));
        for (int i = 0; i < blkid_partlist_numof_partitions(list); i++) {
                blkid_partition partition = blkid_partlist_get_partition(list, i);

                if (is_extended(blkid_partition_get_type(partition)) || !has_place(partition))
                        continue;
                if (summary->n_volumes >= PROBE_VOLUMES_MAX)
                        return -EDQUOT;
                read_partition(partition, &volumes[summary->n_volumes++]);
        }
        return 0;
}

/* A GPT says in which sector size it was written by where its header is. 0: there is none. */
static int find_gpt_sector_size(const Source *source, uint64_t size, uint32_t *ret)
{
        static const char magic[8] = { 'E', 'F', 'I', ' ', 'P', 'A', 'R', 'T' };

        *ret = 0;
        for (size_t i = 0; i < ELEMENTSOF(sector_sizes); i++) {
                char header[sizeof(magic)];

                if (size < sector_sizes[i] + sizeof(header) ||
                    pread(VIEW_FD, header, sizeof(header), (off_t)(source->base + sector_sizes[i])) != sizeof(header) ||
                    memcmp(header, magic, sizeof(magic)) != 0)
                        continue;
                if (*ret)
                        return -ENOTUNIQ;
                *ret = sector_sizes[i];
        }
        return 0;
}

static bool inside(const ProbeSummary *summary, const ProbeVolume *volume)
{
        return volume->offset < summary->size && volume->size <= summary->size - volume->offset;
}

/* How many of the partitions, were the table written in sectors of @sector_size, would hold something. */
static int count_recognised(const Source *source, uint64_t size, uint32_t sector_size, ProbeVolume *scratch)
{
        ProbeSummary summary = { .size = size, .sector_size = sector_size };
        int n = 0, r = read_table(source, &summary, scratch);

        for (uint32_t i = 0; r >= 0 && i < summary.n_volumes; i++) {
                if (!inside(&summary, &scratch[i]))
                        return 0;
                r = read_superblock(source, sector_size, &scratch[i]);
                n += r >= 0 && scratch[i].usage[0];
        }
        return r < 0 ? r : n;
}

/*
 * An MBR does not say. One of a disk with 4096-byte sectors has its partitions
 * eight times too low when it is read with 512: if nothing is found there, but
 * something is in the other reading, that is the right one.
 */
static int find_sector_size(const Source *source, uint64_t size, ProbeVolume *scratch, uint32_t *ret)
{
        int r = find_gpt_sector_size(source, size, ret);

        if (r < 0 || *ret)
                return r;
        *ret = 512;
        if (size % 4096 != 0 || count_recognised(source, size, 512, scratch) != 0)
                return 0;
        if (count_recognised(source, size, 4096, scratch) > 0)
                *ret = 4096;
        return 0;
}

static bool may_be_hybrid(const ProbeVolume *whole)
{
        return !streq(whole->usage, "filesystem") || streq(whole->type, "iso9660") || streq(whole->type, "udf");
}

/* In front of what is there; of as many as there can be the last one is left out. */
static void put_first(const ProbeVolume *whole, ProbeSummary *summary, ProbeVolume *volumes)
{
        summary->n_volumes = MIN(summary->n_volumes, PROBE_VOLUMES_MAX - 1);
        memmove(volumes + 1, volumes, sizeof(*volumes) * summary->n_volumes++);
        volumes[0] = *whole;
}

static int read_image(const ProbeSpec *spec, const Source *source, ProbeSummary *summary, ProbeVolume *volumes)
{
        ProbeVolume whole = { .size = summary->size };
        int r;

        r = read_superblock(source, 512, &whole);
        if (r < 0)
                return r;
        summary->sector_size = spec->sector_size ? spec->sector_size : 512;
        summary->n_volumes = 0;
        if (spec->partition_scan && may_be_hybrid(&whole)) {
                if (!spec->sector_size)
                        r = find_sector_size(source, summary->size, volumes, &summary->sector_size);
                /* A hybrid ISO may well have tables for both; it is usable without either. */
                if (r == -ENOTUNIQ && streq(whole.usage, "filesystem")) {
                        summary->sector_size = 512;
                        r = 0;
                }
                if (r >= 0)
                        r = read_table(source, summary, volumes);
                if (r < 0)
                        return r;
        }
        /* What seems to be a RAID member as a whole is one in its last partition. */
        if (!summary->table[0] || streq(whole.usage, "filesystem"))
                put_first(&whole, summary, volumes);
        for (uint32_t i = 0; i < summary->n_volumes; i++) {
                if (volumes[i].number == 0 || !inside(summary, &volumes[i]))
                        continue;
                r = read_superblock(source, summary->sector_size, &volumes[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

int probe_run(const ProbeSpec *spec, int channel, void **ret_data, size_t *ret_size)
{
        struct {
                ProbeSummary summary;
                ProbeVolume volumes[PROBE_VOLUMES_MAX];
        } *answer = calloc(1, sizeof(*answer));
        Source source = { 0 };
        int r;

        /* Nothing is freed or closed here: the child ends. */
        if (!answer)
                return -ENOMEM;
        r = open_image(spec, &answer->summary, &source);
        if (r >= 0)
                r = probe_enter_sandbox((int[]){ VIEW_FD, source.image_fd, source.stand_in_fd, channel }, 4);
        if (r >= 0)
                r = read_image(spec, &source, &answer->summary, answer->volumes);
        if (r < 0)
                return r;
        *ret_data = answer;
        *ret_size = sizeof(answer->summary) + answer->summary.n_volumes * sizeof(ProbeVolume);
        return 0;
}

/* ---- The answer, in the parent ---- */

static bool terminated(const char *text, size_t size)
{
        return memchr(text, 0, size);
}

static bool volume_is_sane(const ProbeSummary *summary, const ProbeVolume *volume)
{
        return volume->number <= INT32_MAX && volume->size > 0 && volume->offset <= INT64_MAX &&
               volume->size <= INT64_MAX - volume->offset &&
               (volume->number > 0 || (volume->offset == 0 && volume->size == summary->size)) &&
               terminated(volume->usage, sizeof(volume->usage)) && terminated(volume->type, sizeof(volume->type)) &&
               terminated(volume->version, sizeof(volume->version)) &&
               terminated(volume->label, sizeof(volume->label)) && terminated(volume->uuid, sizeof(volume->uuid)) &&
               terminated(volume->partition_type, sizeof(volume->partition_type)) &&
               terminated(volume->partition_name, sizeof(volume->partition_name)) &&
               terminated(volume->partition_uuid, sizeof(volume->partition_uuid));
}

static bool summary_is_sane(const ProbeSummary *summary)
{
        bool sector_size_known = false;

        for (size_t i = 0; i < ELEMENTSOF(sector_sizes); i++)
                sector_size_known |= summary->sector_size == sector_sizes[i];
        return sector_size_known && summary->size > 0 && summary->size <= INT64_MAX &&
               summary->n_volumes <= PROBE_VOLUMES_MAX && terminated(summary->table, sizeof(summary->table));
}

int probe_parse(const void *data, size_t size, ProbeSummary *ret, ProbeVolume **ret_volumes)
{
        _cleanup_free_ ProbeVolume *volumes = NULL;
        ProbeSummary summary;

        if (size < sizeof(summary))
                return -EBADMSG;
        memcpy(&summary, data, sizeof(summary));
        if (!summary_is_sane(&summary) || size != sizeof(summary) + summary.n_volumes * sizeof(*volumes))
                return -EBADMSG;
        volumes = calloc(summary.n_volumes + 1, sizeof(*volumes));
        if (!volumes)
                return -ENOMEM;
        memcpy(volumes, (const char *)data + sizeof(summary), summary.n_volumes * sizeof(*volumes));
        for (uint32_t i = 0; i < summary.n_volumes; i++) {
                if (!volume_is_sane(&summary, &volumes[i]))
                        return -EBADMSG;
                for (uint32_t j = 0; j < i; j++)
                        if (volumes[j].number == volumes[i].number)
                                return -EBADMSG;
        }
        *ret = summary;
        *ret_volumes = TAKE_PTR(volumes);
        return 0;
}
