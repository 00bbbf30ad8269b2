/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The probe on images made here, each in a child as in the daemon; what the
 * parent makes of answers that a taken-over child could give; and the sandbox:
 * everything that such a child would like to do is tried in it, and, to see that
 * the attempts are real ones, outside of it.
 */
#include <fcntl.h>
#include <glib.h>
#include <grp.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "disk.h"
#include "mechanism/job.h"
#include "mechanism/probe.h"

/* ---- Answers, believed or not ---- */

typedef struct Answer {
        ProbeSummary summary;
        ProbeVolume volumes[PROBE_VOLUMES_MAX + 1];
} Answer;

/* A whole image that holds ext4, and its size with @n_volumes volumes, all different. */
static Answer *new_answer(uint32_t n_volumes)
{
        Answer *answer = g_new0(Answer, 1);

        answer->summary = (ProbeSummary){ .size = 8 * MIB, .sector_size = 512, .table = "gpt", .n_volumes = n_volumes };
        for (uint32_t i = 0; i < MIN(n_volumes, PROBE_VOLUMES_MAX + 1); i++)
                answer->volumes[i] = (ProbeVolume){
                        .number = i,
                        .offset = i == 0 ? 0 : i * 4096,
                        .size = i == 0 ? 8 * MIB : 4096,
                        .usage = "filesystem",
                        .type = "ext4",
                };
        return answer;
}

static size_t size_of(const Answer *answer)
{
        return sizeof(answer->summary) + answer->summary.n_volumes * sizeof(ProbeVolume);
}

static int parse(const Answer *answer)
{
        ProbeVolume *volumes = NULL;
        ProbeSummary summary;
        int r = probe_parse(answer, size_of(answer), &summary, &volumes);

        g_assert_true((r == 0) == (volumes != NULL));
        free(volumes);
        return r;
}

static void test_parse(void)
{
        g_autofree Answer *answer = new_answer(3);
        _cleanup_free_ ProbeVolume *volumes = NULL;
        ProbeSummary summary;

        g_assert_cmpint(probe_parse(answer, size_of(answer), &summary, &volumes), ==, 0);
        g_assert_cmpmem(&summary, sizeof(summary), &answer->summary, sizeof(summary));
        g_assert_cmpmem(volumes, 3 * sizeof(ProbeVolume), answer->volumes, 3 * sizeof(ProbeVolume));
}

static void test_parse_sizes(void)
{
        g_autofree Answer *answer = new_answer(3), *most = new_answer(PROBE_VOLUMES_MAX), *none = new_answer(0),
                          *more = new_answer(PROBE_VOLUMES_MAX + 1);
        const size_t size = size_of(answer);
        ProbeVolume *volumes = NULL;
        ProbeSummary summary;

        /* Each from an allocation of its own size, so that reading behind the end is seen. */
        for (size_t n = 0; n <= size + sizeof(ProbeVolume); n++) {
                g_autofree char *copy = g_malloc0(n + 1);

                if (n == size)
                        continue;
                memcpy(copy, answer, MIN(n, size));
                g_assert_cmpint(probe_parse(copy, n, &summary, &volumes), ==, -EBADMSG);
        }
        g_assert_null(volumes);
        g_assert_cmpint(parse(most), ==, 0);
        g_assert_cmpint(parse(none), ==, 0);
        g_assert_cmpint(parse(more), ==, -EBADMSG);

        /* So many that their size, reckoned in 32 bits, would be that of three again. */
        answer->summary.n_volumes = UINT32_MAX;
        g_assert_cmpint(probe_parse(answer, size, &summary, &volumes), ==, -EBADMSG);
}

static void test_parse_summary(void)
{
        static const uint32_t sector_sizes[] = { 0, 1, 256, 511, 513, 8192, UINT32_MAX };
        g_autofree Answer *answer = new_answer(1);

        for (size_t i = 0; i < ELEMENTSOF(sector_sizes); i++) {
                answer->summary.sector_size = sector_sizes[i];
                g_assert_cmpint(parse(answer), ==, -EBADMSG);
        }
        answer->summary.sector_size = 2048;
        g_assert_cmpint(parse(answer), ==, 0);

        answer->summary.size = answer->volumes[0].size = 0;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);
        answer->summary.size = answer->volumes[0].size = INT64_MAX;
        g_assert_cmpint(parse(answer), ==, 0);
        answer->summary.size = answer->volumes[0].size = (uint64_t)INT64_MAX + 1;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);

        answer->summary.size = answer->volumes[0].size = MIB;
        memset(answer->summary.table, 'x', sizeof(answer->summary.table));
        g_assert_cmpint(parse(answer), ==, -EBADMSG);
}

static void test_parse_volumes(void)
{
        g_autofree Answer *answer = new_answer(3);
        ProbeVolume *volume = &answer->volumes[1];
        const ProbeVolume good = *volume;

        volume->number = 2;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);
        volume->number = (uint32_t)INT32_MAX + 1;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);
        volume->number = INT32_MAX;
        g_assert_cmpint(parse(answer), ==, 0);
        *volume = good;
        volume->size = 0;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);
        volume->size = UINT64_MAX;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);
        volume->size = (uint64_t)INT64_MAX - volume->offset;
        g_assert_cmpint(parse(answer), ==, 0);
        volume->size++;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);
        volume->offset = UINT64_MAX - 1;
        volume->size = 4096;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);

        /* The whole image is as large as the image, and begins where it begins. */
        *volume = good;
        answer->volumes[0].size--;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);
        answer->volumes[0].size++;
        answer->volumes[0].offset = 512;
        g_assert_cmpint(parse(answer), ==, -EBADMSG);
        answer->volumes[0].offset = 0;
        g_assert_cmpint(parse(answer), ==, 0);
}

static void test_parse_unterminated(void)
{
        static const struct {
                size_t offset, size;
        } texts[] = {
#define TEXT(member) { offsetof(ProbeVolume, member), sizeof(((ProbeVolume *)NULL)->member) }
                TEXT(usage), TEXT(type),           TEXT(version),        TEXT(label),
                TEXT(uuid),  TEXT(partition_type), TEXT(partition_name), TEXT(partition_uuid),
        };
        g_autofree Answer *answer = new_answer(2);
        const ProbeVolume good = answer->volumes[1];

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                char *text = (char *)&answer->volumes[1] + texts[i].offset;

                memset(text, 'x', texts[i].size - 1);
                g_assert_cmpint(parse(answer), ==, 0);
                text[texts[i].size - 1] = 'x';
                g_assert_cmpint(parse(answer), ==, -EBADMSG);
                answer->volumes[1] = good;
        }
}

/* ---- Probing ---- */

/* What was found, as far as tests ask for it. */
typedef struct Found {
        ProbeSummary summary;
        ProbeVolume *volumes;
} Found;

static void found_done(Found *found)
{
        free(found->volumes);
}
#define _cleanup_found_ _cleanup_(found_done)

/* The one way out of the sandbox. */
static bool send_bytes(int channel, const void *bytes, size_t n_bytes)
{
        struct iovec part = { (void *)bytes, n_bytes };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

        return sendmsg(channel, &message, MSG_NOSIGNAL) == (ssize_t)n_bytes;
}

static void open_channel(int channel[static 2])
{
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), ==, 0);
}

_Noreturn static void run_child(const ProbeSpec *spec, int channel)
{
        void *data = NULL;
        size_t size = 0;
        int r = probe_run(spec, channel, &data, &size);

        if (!send_bytes(channel, &r, sizeof(r)) || (r >= 0 && !send_bytes(channel, data, size)))
                _exit(1);
        _exit(0);
}

static void read_all(int fd, GByteArray *bytes)
{
        uint8_t buffer[4096];
        ssize_t n;

        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                g_byte_array_append(bytes, buffer, (guint)n);
        g_assert_cmpint(n, ==, 0);
}

static int probe(const ProbeSpec *spec, Found *ret)
{
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        int channel[2], status, r;
        pid_t pid;

        open_channel(channel);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0)
                run_child(spec, channel[1]);
        close(channel[1]);
        read_all(channel[0], bytes);
        close(channel[0]);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
        g_assert_cmpuint(bytes->len, >=, sizeof(r));
        memcpy(&r, bytes->data, sizeof(r));
        if (r < 0)
                return r;
        g_assert_cmpint(probe_parse(bytes->data + sizeof(r), bytes->len - sizeof(r), &ret->summary, &ret->volumes), ==,
                        0);
        return 0;
}

/* Probes all of @fd, and closes it. */
static void look(int fd, Found *ret)
{
        g_assert_cmpint(probe(&(ProbeSpec){ .fd = fd, .partition_scan = true }, ret), ==, 0);
        close(fd);
}

static void assert_volume(const Found *found, uint32_t i, uint32_t number, uint64_t offset, uint64_t size,
                          const char *type)
{
        const ProbeVolume *volume = &found->volumes[i];

        g_assert_cmpuint(i, <, found->summary.n_volumes);
        g_assert_cmpuint(volume->number, ==, number);
        g_assert_cmpuint(volume->offset, ==, offset);
        g_assert_cmpuint(volume->size, ==, size);
        g_assert_cmpstr(volume->type, ==, type);
        g_assert_false(volume->ambivalent);
}

static void assert_summary(const Found *found, const char *table, uint32_t sector_size, uint32_t n_volumes)
{
        g_assert_cmpstr(found->summary.table, ==, table);
        g_assert_cmpuint(found->summary.sector_size, ==, sector_size);
        g_assert_cmpuint(found->summary.n_volumes, ==, n_volumes);
}

static void test_nothing(void)
{
        _cleanup_found_ Found found = { 0 };

        look(disk_new(MIB), &found);
        assert_summary(&found, "", 512, 1);
        assert_volume(&found, 0, 0, 0, MIB, "");
        g_assert_cmpstr(found.volumes[0].usage, ==, "");
}

static void test_file_system(void)
{
        int fd = disk_new(MIB);
        _cleanup_found_ Found found = { 0 };
        struct stat st;

        disk_write_ext2(fd, 0, "a\nb\xff %s");
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        look(fd, &found);
        assert_summary(&found, "", 512, 1);
        assert_volume(&found, 0, 0, 0, MIB, "ext2");
        g_assert_cmpuint(found.summary.size, ==, MIB);
        g_assert_cmpuint(found.summary.file_device, ==, st.st_dev);
        g_assert_cmpuint(found.summary.file_inode, ==, st.st_ino);
        g_assert_cmpstr(found.volumes[0].usage, ==, "filesystem");
        g_assert_cmpstr(found.volumes[0].label, ==, "a\nb\xff %s");
        g_assert_cmpstr(found.volumes[0].version, ==, "1.0");
        g_assert_cmpstr(found.volumes[0].uuid, ==, "01020304-0506-0708-090a-0b0c0d0e0f10");
        g_assert_cmpuint(found.volumes[0].block_size, ==, 1024);
}

/* Compatible features at 92: a journal; its inode at 224, and if there is none its device at 228. */
static void test_journal(void)
{
        _cleanup_found_ Found inside = { 0 }, outside = { 0 };
        int fd = disk_new(MIB);

        disk_write_ext2(fd, 0, "journal");
        disk_write_u32(fd, 1024 + 92, 4);
        disk_write_u32(fd, 1024 + 224, 8);
        look(fd, &inside);
        assert_volume(&inside, 0, 0, 0, MIB, "ext3");
        g_assert_false(inside.volumes[0].incomplete);

        fd = disk_new(4 * MIB);
        disk_write_mbr(fd, 0, (const DiskPartition[]){ { 2048, 2048, 0x83, NULL } }, 1);
        disk_write_ext2(fd, MIB, "journal");
        disk_write_u32(fd, MIB + 1024 + 92, 4);
        disk_write_u32(fd, MIB + 1024 + 228, 7 << 8);
        look(fd, &outside);
        assert_volume(&outside, 0, 1, MIB, MIB, "ext3");
        g_assert_cmpstr(outside.volumes[0].usage, ==, "filesystem");
        g_assert_true(outside.volumes[0].incomplete);
}

static void test_usages(void)
{
        _cleanup_found_ Found swap = { 0 }, luks = { 0 }, both = { 0 };
        int fd = disk_new(MIB);

        disk_write_swap(fd, 0);
        look(fd, &swap);
        assert_volume(&swap, 0, 0, 0, MIB, "swap");
        g_assert_cmpstr(swap.volumes[0].usage, ==, "other");

        fd = disk_new(MIB);
        disk_write_luks(fd, 0);
        look(fd, &luks);
        assert_volume(&luks, 0, 0, 0, MIB, "crypto_LUKS");
        g_assert_cmpstr(luks.volumes[0].usage, ==, "crypto");

        fd = disk_new(4 * MIB); /* up to 1440 KiB, a floppy's, libblkid takes the first that fits */
        disk_write_ext2(fd, 0, "ambivalent");
        disk_write_swap(fd, 0);
        look(fd, &both);
        assert_summary(&both, "", 512, 1);
        g_assert_true(both.volumes[0].ambivalent);
        g_assert_cmpstr(both.volumes[0].type, ==, "");
        g_assert_cmpstr(both.volumes[0].usage, ==, "");
}

/* ---- Tables ---- */

static void test_gpt(void)
{
        static const uint32_t sector_sizes[] = { 512, 4096 };

        for (size_t i = 0; i < ELEMENTSOF(sector_sizes); i++) {
                const uint32_t sector = sector_sizes[i];
                const DiskPartition partitions[] = {
                        { MIB / sector, MIB / sector, 0, "first" },
                        { 3 * MIB / sector, MIB / sector, 0, "second one" },
                };
                _cleanup_found_ Found found = { 0 };
                int fd = disk_new(8 * MIB);

                disk_write_gpt(fd, 8 * MIB, sector, partitions, ELEMENTSOF(partitions));
                disk_write_ext2(fd, MIB, "one");
                look(fd, &found);
                assert_summary(&found, "gpt", sector, 2);
                assert_volume(&found, 0, 1, MIB, MIB, "ext2");
                assert_volume(&found, 1, 2, 3 * MIB, MIB, "");
                g_assert_cmpstr(found.volumes[0].label, ==, "one");
                g_assert_cmpstr(found.volumes[0].partition_name, ==, "first");
                g_assert_cmpstr(found.volumes[1].partition_name, ==, "second one");
                g_assert_cmpstr(found.volumes[1].partition_type, ==, "0fc63daf-8483-4772-8e79-3d69d8477de4");
                g_assert_cmpstr(found.volumes[1].partition_uuid, ==, "00000000-0000-0000-0000-000000000002");
        }
}

static void test_gpt_twice(void)
{
        Found found = { 0 };
        int fd = disk_new(8 * MIB);
        ProbeSpec spec = { .fd = fd, .partition_scan = true };

        disk_write(fd, 1024, "EFI PART", 8);
        disk_write(fd, 2048, "EFI PARK", 8);
        g_assert_cmpint(probe(&spec, &found), ==, 0);
        g_assert_cmpuint(found.summary.sector_size, ==, 1024);
        found_done(&found);
        disk_write(fd, 4096, "EFI PART", 8);
        g_assert_cmpint(probe(&spec, &found), ==, -ENOTUNIQ);
        close(fd);
}

/* Whoever says which it is gets it. */
static void test_gpt_twice_chosen(void)
{
        const DiskPartition large = { 1024, 256, 0, "4096" };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(8 * MIB);
        ProbeSpec spec = { .fd = fd, .partition_scan = true, .sector_size = 4096 };

        disk_write_gpt(fd, 8 * MIB, 4096, &large, 1);
        disk_write(fd, 512, "EFI PART", 8);
        g_assert_cmpint(probe(&spec, &found), ==, 0);
        assert_summary(&found, "gpt", 4096, 1);
        assert_volume(&found, 0, 1, 4 * MIB, MIB, "");
        close(fd);
}

static void test_gpt_full(void)
{
        DiskPartition partitions[PROBE_VOLUMES_MAX];
        _cleanup_found_ Found found = { 0 }, hybrid = { 0 };
        int fd = disk_new(8 * MIB), copy = disk_new(8 * MIB);

        for (size_t i = 0; i < ELEMENTSOF(partitions); i++)
                partitions[i] = (DiskPartition){ 2048 + 8 * i, 8, 0, NULL };
        disk_write_gpt(fd, 8 * MIB, 512, partitions, ELEMENTSOF(partitions));
        look(fd, &found);
        assert_summary(&found, "gpt", 512, PROBE_VOLUMES_MAX);
        assert_volume(&found, PROBE_VOLUMES_MAX - 1, 128, (2048 + 8 * UINT64_C(127)) * 512, 4096, "");

        /* One too many, with the whole: the last one is left out. */
        disk_write_gpt(copy, 8 * MIB, 512, partitions, ELEMENTSOF(partitions));
        disk_write_iso9660(copy, 0, "ISO");
        look(copy, &hybrid);
        assert_summary(&hybrid, "gpt", 512, PROBE_VOLUMES_MAX);
        assert_volume(&hybrid, 0, 0, 0, 8 * MIB, "iso9660");
        g_assert_cmpuint(hybrid.volumes[PROBE_VOLUMES_MAX - 1].number, ==, 127);
}

/* More than an answer has room for is said, not left out. */
static void test_gpt_overfull(void)
{
        DiskPartition partitions[PROBE_VOLUMES_MAX + 1];
        int fd = disk_new(8 * MIB);
        ProbeSpec spec = { .fd = fd, .partition_scan = true };
        Found found = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(partitions); i++)
                partitions[i] = (DiskPartition){ 2048 + 8 * i, 8, 0, NULL };
        disk_write_gpt(fd, 8 * MIB, 512, partitions, ELEMENTSOF(partitions));
        g_assert_cmpint(probe(&spec, &found), ==, -EDQUOT);
        close(fd);
}

/* Its end is inside of the disk, its beginning is none: what is beside it counts. */
static void test_gpt_backwards(void)
{
        const DiskPartition partitions[] = {
                { UINT64_MAX - 2047, 6144, 0, "backwards" },
                { 2048, 2048, 0, "sound" },
        };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(8 * MIB);

        disk_write_gpt(fd, 8 * MIB, 512, partitions, ELEMENTSOF(partitions));
        look(fd, &found);
        assert_summary(&found, "gpt", 512, 1);
        assert_volume(&found, 0, 2, MIB, MIB, "");
}

static void test_mbr(void)
{
        const DiskPartition partitions[] = { { 2048, 2048, 0x83, NULL }, { 4096, 2048, 0x82, NULL } };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(4 * MIB);

        disk_write_mbr(fd, 0, partitions, ELEMENTSOF(partitions));
        disk_write_u32(fd, 440, 0x12345678);
        disk_write_ext2(fd, MIB, "one");
        disk_write_swap(fd, 2 * MIB);
        look(fd, &found);
        assert_summary(&found, "dos", 512, 2);
        assert_volume(&found, 0, 1, MIB, MIB, "ext2");
        assert_volume(&found, 1, 2, 2 * MIB, MIB, "swap");
        g_assert_cmpstr(found.volumes[0].partition_type, ==, "0x83");
        g_assert_cmpstr(found.volumes[0].partition_name, ==, "");
        g_assert_cmpstr(found.volumes[0].partition_uuid, ==, "12345678-01");
}

/* Written for sectors of 4096 bytes: the partition is not where 512 would have it. */
static void test_mbr_large_sectors(void)
{
        const DiskPartition partition = { 256, 256, 0x83, NULL };
        _cleanup_found_ Found found = { 0 }, odd = { 0 };
        int fd = disk_new(4 * MIB), copy = disk_new(4 * MIB + 512);

        disk_write_mbr(fd, 0, &partition, 1);
        disk_write_ext2(fd, MIB, "large");
        look(fd, &found);
        assert_summary(&found, "dos", 4096, 1);
        assert_volume(&found, 0, 1, MIB, MIB, "ext2");

        disk_write_mbr(copy, 0, &partition, 1);
        disk_write_ext2(copy, MIB, "large");
        look(copy, &odd);
        assert_summary(&odd, "dos", 512, 1);
        assert_volume(&odd, 0, 1, 128 * KIB, 128 * KIB, "");
}

static void test_mbr_undecided(void)
{
        const DiskPartition partition = { 256, 256, 0x83, NULL };
        const DiskPartition outside[] = { partition, { 2048, 256, 0x83, NULL } };
        _cleanup_found_ Found empty = { 0 }, both = { 0 }, impossible = { 0 };
        int fd = disk_new(4 * MIB), copy = disk_new(4 * MIB), third = disk_new(4 * MIB);

        disk_write_mbr(fd, 0, &partition, 1);
        look(fd, &empty);
        assert_summary(&empty, "dos", 512, 1);

        disk_write_mbr(copy, 0, &partition, 1);
        disk_write_ext2(copy, MIB, "large");
        disk_write_ext2(copy, 128 * KIB, "small");
        look(copy, &both);
        assert_summary(&both, "dos", 512, 1);
        g_assert_cmpstr(both.volumes[0].label, ==, "small");

        /* The reading in which a partition is outside of the disk is none. */
        disk_write_mbr(third, 0, outside, ELEMENTSOF(outside));
        disk_write_ext2(third, MIB, "by chance");
        look(third, &impossible);
        assert_summary(&impossible, "dos", 512, 2);
}

static void test_mbr_logical(void)
{
        const DiskPartition partitions[] = { { 2048, 2048, 0x83, NULL }, { 4096, 8192, 0x05, NULL } };
        const DiskPartition first[] = { { 2048, 2048, 0x83, NULL }, { 4096, 4096, 0x05, NULL } };
        const DiskPartition second = { 2048, 2048, 0x83, NULL };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(8 * MIB);

        disk_write_mbr(fd, 0, partitions, ELEMENTSOF(partitions));
        disk_write_mbr(fd, 2 * MIB, first, ELEMENTSOF(first));
        disk_write_mbr(fd, 4 * MIB, &second, 1);
        disk_write_ext2(fd, 5 * MIB, "six");
        look(fd, &found);
        assert_summary(&found, "dos", 512, 3);
        assert_volume(&found, 0, 1, MIB, MIB, "");
        assert_volume(&found, 1, 5, 3 * MIB, MIB, "");
        assert_volume(&found, 2, 6, 5 * MIB, MIB, "ext2");
}

/* A chain of extended partitions that bites its own tail. */
static void test_mbr_loop(void)
{
        const DiskPartition extended = { 2048, 4096, 0x05, NULL };
        const DiskPartition logical[] = { { 8, 8, 0x83, NULL }, { 0, 4096, 0x05, NULL } };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(4 * MIB);

        disk_write_mbr(fd, 0, &extended, 1);
        disk_write_mbr(fd, MIB, logical, ELEMENTSOF(logical));
        look(fd, &found);
        g_assert_cmpuint(found.summary.n_volumes, <=, PROBE_VOLUMES_MAX);
}

/*
 * Starts and sizes that do not fit into 32 bits once they are added, or counted in sectors of 512 bytes. Versions of
 * libblkid differ in which of these partitions they leave out; what is told of the others has to be possible.
 */
static void test_mbr_wrap(void)
{
        static const uint32_t sectors[] = { 512, 4096 };

        for (size_t i = 0; i < ELEMENTSOF(sectors); i++) {
                const uint64_t wrap = (UINT64_C(1) << 32) * 512 / sectors[i], size = 64 * MIB;
                const DiskPartition primary[] = {
                        { 2048, UINT32_MAX, 0x05, NULL },
                        { wrap + 256, 256, 0x83, NULL },
                        { 256, wrap - 1, 0x83, NULL },
                        { UINT32_MAX, UINT32_MAX, 0x83, NULL },
                };
                const DiskPartition logical[] = {
                        { wrap - 2048, wrap - 1, 0x83, NULL },
                        { wrap + 2048, UINT32_MAX, 0x05, NULL },
                        { 1, UINT32_MAX, 0x83, NULL },
                        { wrap - 1, wrap + 1, 0x83, NULL },
                };
                _cleanup_found_ Found found = { 0 };
                int fd = disk_new(size);

                disk_write_mbr(fd, 0, primary, ELEMENTSOF(primary));
                disk_write_mbr(fd, UINT64_C(2048) * sectors[i], logical, ELEMENTSOF(logical));
                disk_write_mbr(fd, UINT64_C(4096) * sectors[i], logical, ELEMENTSOF(logical));
                g_assert_cmpint(
                        probe(&(ProbeSpec){ .fd = fd, .partition_scan = true, .sector_size = sectors[i] }, &found), ==,
                        0);
                g_assert_cmpstr(found.summary.table, ==, "dos");
                for (uint32_t n = 0; n < found.summary.n_volumes; n++) {
                        const ProbeVolume *volume = &found.volumes[n];

                        g_test_message("%u: %" PRIu64 " bytes at %" PRIu64, volume->number, volume->size,
                                       volume->offset);
                        g_assert_cmpuint(volume->offset + volume->size, >, volume->offset);
                        /* libblkid counts in sectors of 512 bytes, with 32 bits, or with what the table can say. */
                        g_assert_cmpuint(volume->size, <=, UINT64_C(4096) * UINT32_MAX);
                        g_assert_cmpuint(volume->offset, <=, UINT64_C(2) * 4096 * UINT32_MAX);
                }
                close(fd);
        }
}

/* Of a truncated image: it is listed, and not looked into. */
static void test_beyond_end(void)
{
        const DiskPartition partitions[] = {
                { 2048, 2048, 0x83, NULL },
                { 4096, 4096, 0x83, NULL },
                { 1U << 30, 1U << 31, 0x83, NULL },
        };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(3 * MIB);

        disk_write_mbr(fd, 0, partitions, ELEMENTSOF(partitions));
        disk_write_ext2(fd, MIB, "one");
        disk_write_ext2(fd, 2 * MIB, "two");
        look(fd, &found);
        assert_summary(&found, "dos", 512, 3);
        assert_volume(&found, 0, 1, MIB, MIB, "ext2");
        assert_volume(&found, 1, 2, 2 * MIB, 2 * MIB, "");
        assert_volume(&found, 2, 3, UINT64_C(1) << 39, UINT64_C(1) << 40, "");
}

/* ---- Both a file system and a table ---- */

static void test_hybrid(void)
{
        const DiskPartition partition = { 2048, 2048, 0x83, NULL };
        _cleanup_found_ Found hybrid = { 0 }, plain = { 0 };
        int fd = disk_new(4 * MIB), copy = disk_new(4 * MIB);

        disk_write_iso9660(fd, 0, "DEBIAN 12");
        disk_write_mbr(fd, 0, &partition, 1);
        disk_write_ext2(fd, MIB, "inside");
        look(fd, &hybrid);
        assert_summary(&hybrid, "dos", 512, 2);
        assert_volume(&hybrid, 0, 0, 0, 4 * MIB, "iso9660");
        assert_volume(&hybrid, 1, 1, MIB, MIB, "ext2");
        g_assert_cmpstr(hybrid.volumes[0].label, ==, "DEBIAN 12");

        disk_write_iso9660(copy, 0, "PLAIN");
        look(copy, &plain);
        assert_summary(&plain, "", 512, 1);
        assert_volume(&plain, 0, 0, 0, 4 * MIB, "iso9660");
}

static void test_hybrid_two_gpts(void)
{
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(4 * MIB);

        disk_write_iso9660(fd, 0, "ISO");
        disk_write(fd, 512, "EFI PART", 8);
        disk_write(fd, 2048, "EFI PART", 8);
        look(fd, &found);
        assert_summary(&found, "", 512, 1);
        assert_volume(&found, 0, 0, 0, 4 * MIB, "iso9660");
}

/* What looks like a table in front of any other file system is its boot sector. */
static void test_boot_sector(void)
{
        const DiskPartition partition = { 2048, 2048, 0x83, NULL };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(4 * MIB);

        disk_write_ext2(fd, 0, "whole");
        disk_write_mbr(fd, 0, &partition, 1);
        look(fd, &found);
        assert_summary(&found, "", 512, 1);
        assert_volume(&found, 0, 0, 0, 4 * MIB, "ext2");
}

/* Something that is no file system counts less than a table. */
static void test_table_over_whole(void)
{
        const DiskPartition partition = { 2048, 2048, 0x83, NULL };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(4 * MIB);

        disk_write_swap(fd, 0);
        disk_write_mbr(fd, 0, &partition, 1);
        look(fd, &found);
        assert_summary(&found, "dos", 512, 1);
        assert_volume(&found, 0, 1, MIB, MIB, "");
}

static void test_no_partition_scan(void)
{
        const DiskPartition partition = { 2048, 2048, 0x83, NULL };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(4 * MIB);
        ProbeSpec spec = { .fd = fd, .sector_size = 2048 };

        disk_write_mbr(fd, 0, &partition, 1);
        g_assert_cmpint(probe(&spec, &found), ==, 0);
        assert_summary(&found, "", 2048, 1);
        assert_volume(&found, 0, 0, 0, 4 * MIB, "");
        close(fd);
}

/* ---- The part of the file that is asked for ---- */

static void test_window(void)
{
        const DiskPartition partitions[] = { { 2048, 2048, 0x83, NULL }, { 4096, 2048, 0x83, NULL } };
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(16 * MIB);
        ProbeSpec spec = { .fd = fd, .offset = 4 * MIB, .size = 3 * MIB, .partition_scan = true };

        disk_write_ext2(fd, 0, "in front");
        disk_write_mbr(fd, 4 * MIB, partitions, ELEMENTSOF(partitions));
        disk_write_ext2(fd, 5 * MIB, "inside");
        disk_write_ext2(fd, 6 * MIB, "inside too");
        g_assert_cmpint(probe(&spec, &found), ==, 0);
        assert_summary(&found, "dos", 512, 2);
        g_assert_cmpuint(found.summary.size, ==, 3 * MIB);
        assert_volume(&found, 0, 1, MIB, MIB, "ext2");
        assert_volume(&found, 1, 2, 2 * MIB, MIB, "ext2");
        found_done(&found);

        /* The second one is outside now, though not of the file. */
        spec.size = 2 * MIB;
        g_assert_cmpint(probe(&spec, &found), ==, 0);
        assert_volume(&found, 0, 1, MIB, MIB, "ext2");
        assert_volume(&found, 1, 2, 2 * MIB, MIB, "");
        found_done(&found);

        spec.size = 0;
        g_assert_cmpint(probe(&spec, &found), ==, 0);
        g_assert_cmpuint(found.summary.size, ==, 12 * MIB);
        close(fd);
}

/* What is behind the window says nothing of its sector size. */
static void test_window_small(void)
{
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(MIB);
        ProbeSpec spec = { .fd = fd, .size = 4096, .partition_scan = true };

        disk_write(fd, 4096, "EFI PART", 8);
        g_assert_cmpint(probe(&spec, &found), ==, 0);
        assert_summary(&found, "", 512, 1);
        close(fd);
}

static void assert_window(uint64_t file_size, uint64_t offset, uint64_t size, uint64_t image_size)
{
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(file_size);
        ProbeSpec spec = { .fd = fd, .offset = offset, .size = size };

        g_assert_cmpint(probe(&spec, &found), ==, image_size == 0 ? -ENODATA : 0);
        g_assert_cmpuint(found.summary.size, ==, image_size);
        close(fd);
}

static void test_window_sizes(void)
{
        assert_window(0, 0, 0, 0);
        assert_window(4096, 4096, 0, 0);
        assert_window(4096, 8192, 0, 0);
        assert_window(4096, 512, 3585, 0);
        assert_window(4096, 512, UINT64_MAX, 0);
        assert_window(4096, UINT64_MAX, 1, 0);
        assert_window(4096, 0, 4097, 0);
        assert_window(4096, 0, 4096, 4096);
        assert_window(4096, 3584, 512, 512);
        /* The kernel leaves out a part of a sector at the end. */
        assert_window(4096 + 511, 0, 0, 4096);
        assert_window(4096, 0, 1023, 512);
        assert_window(100, 0, 0, 100);
}

/* ---- The file ---- */

static void assert_medium(int fd)
{
        ProbeSpec spec = { .fd = fd, .partition_scan = true };
        Found found = { 0 };

        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(probe(&spec, &found), ==, -EMEDIUMTYPE);
        close(fd);
}

static void test_no_file(void)
{
        ProbeSpec spec = { .fd = -1 };
        Found found = { 0 };
        int pair[2];

        assert_medium(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        assert_medium(open("/dev/null", O_RDWR | O_CLOEXEC));
        g_assert_cmpint(pipe2(pair, O_CLOEXEC), ==, 0);
        assert_medium(pair[0]);
        close(pair[1]);
        assert_medium(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        g_assert_cmpint(probe(&spec, &found), ==, -EBADF);
}

/* A block device is for looking at again only; whoever says so gets nothing but files. */
static void test_regular_only(void)
{
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(MIB);
        ProbeSpec spec = { .fd = fd, .regular_only = true };

        g_assert_cmpint(probe(&spec, &found), ==, 0);
        g_assert_cmpuint(found.summary.file_inode, !=, 0);
        close(fd);
}

/* The caller's process reads on where it was. */
static void test_position(void)
{
        _cleanup_found_ Found found = { 0 };
        int fd = disk_new(MIB);
        ProbeSpec spec = { .fd = fd, .partition_scan = true };

        disk_write_ext2(fd, 0, "position");
        g_assert_cmpint(lseek(fd, 1234, SEEK_SET), ==, 1234);
        g_assert_cmpint(probe(&spec, &found), ==, 0);
        assert_volume(&found, 0, 0, 0, MIB, "ext2");
        g_assert_cmpint(lseek(fd, 0, SEEK_CUR), ==, 1234);
        close(fd);
}

/* ---- The sandbox ---- */

typedef struct Deed {
        const char *name;
        long (*run)(void);
} Deed;

static struct sockaddr_un listener_address;
static socklen_t listener_size;
static pid_t victim; /* somebody to kill and trace */
static int idle_socket, idle_file, idle_image, victim_fd;

static long do_open(void)
{
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static long do_openat(void)
{
        return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
}

static long do_openat2(void)
{
        uint64_t how[3] = { O_RDONLY | O_CLOEXEC };

        return syscall(SYS_openat2, AT_FDCWD, "/dev/null", how, sizeof(how));
}

static long do_socket(void)
{
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static long do_connect(void)
{
        return connect(idle_socket, (struct sockaddr *)&listener_address, listener_size);
}

static long do_fork(void)
{
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);

        if (pid == 0)
                _exit(0);
        /* Outside: before the next deed, in which its signal would stop whoever is traced. */
        if (pid > 0)
                (void)waitpid(pid, NULL, 0);
        return pid;
}

static long do_exec(void)
{
        static char *const argv[] = { (char *)"true", NULL };

        return execve("/nonexistent", argv, argv) < 0 && errno == ENOENT ? 0 : -1;
}

static long do_clone3(void)
{
        uint64_t arguments[8] = { [4] = SIGCHLD };
        long pid = syscall(SYS_clone3, arguments, sizeof(arguments));

        if (pid == 0)
                _exit(0);
        if (pid > 0)
                (void)waitpid((pid_t)pid, NULL, 0);
        return pid;
}

static long do_execveat(void)
{
        static char *const argv[] = { (char *)"true", NULL };

        return syscall(SYS_execveat, AT_FDCWD, "/nonexistent", argv, argv, 0) < 0 && errno == ENOENT ? 0 : -1;
}

static long do_kill(void)
{
        return kill(victim, 0);
}

static long do_tgkill(void)
{
        return syscall(SYS_tgkill, victim, victim, 0);
}

static long do_pidfd_open(void)
{
        return syscall(SYS_pidfd_open, victim, 0);
}

static long do_pidfd_send_signal(void)
{
        return syscall(SYS_pidfd_send_signal, victim_fd, 0, NULL, 0);
}

static long do_process_vm_readv(void)
{
        char byte, copy;
        struct iovec here = { &copy, 1 }, there = { &byte, 1 };

        return syscall(SYS_process_vm_readv, getpid(), &here, 1, &there, 1, 0);
}

static long do_unshare(void)
{
        return unshare(0);
}

static long do_setuid(void)
{
        return setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1);
}

/* What is written to shared memory of a file goes into the file. */
static long do_mmap_file(void)
{
        return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, idle_image, 0) == MAP_FAILED ? -1 : 0;
}

static long do_pwrite(void)
{
        return pwrite(idle_image, "x", 1, 0);
}

static long do_recvmsg(void)
{
        struct msghdr message = { 0 };

        return recvmsg(idle_socket, &message, MSG_DONTWAIT) < 0 && errno != EPERM ? 0 : -1;
}

static long do_ptrace(void)
{
        return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static long do_mmap_exec(void)
{
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}

/* It answers with sendmsg(2); what else is open is not its to write to. */
static long do_write(void)
{
        return write(idle_file, "x", 1);
}

static long do_mprotect_exec(void)
{
        static char page[8192] __attribute__((aligned(4096)));

        return mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static long do_ioctl(void)
{
        int n;

        return ioctl(idle_socket, FIONREAD, &n);
}

static long do_dup(void)
{
        return dup(0);
}

static long do_memfd(void)
{
        return memfd_create("x", MFD_CLOEXEC);
}

static long do_prctl(void)
{
        return prctl(PR_SET_NAME, "other");
}

static long do_chdir(void)
{
        return chdir("/");
}

static long do_setsockopt(void)
{
        int value = 4096;

        return setsockopt(idle_socket, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value));
}

static long do_getpriority(void)
{
        return syscall(SYS_getpriority, 0, 0);
}

/* Each succeeds in an ordinary process, whoever runs it. */
static const Deed deeds[] = {
        { "open", do_open },
        { "openat", do_openat },
        { "openat2", do_openat2 },
        { "socket", do_socket },
        { "connect", do_connect },
        { "fork", do_fork },
        { "execve", do_exec },
        { "clone3", do_clone3 },
        { "execveat", do_execveat },
        { "kill", do_kill },
        { "tgkill", do_tgkill },
        { "pidfd_open", do_pidfd_open },
        { "pidfd_send_signal", do_pidfd_send_signal },
        { "process_vm_readv", do_process_vm_readv },
        { "unshare", do_unshare },
        { "setresuid", do_setuid },
        { "mmap of a file", do_mmap_file },
        { "pwrite", do_pwrite },
        { "recvmsg", do_recvmsg },
        { "ptrace", do_ptrace },
        { "mmap with PROT_EXEC", do_mmap_exec },
        { "mprotect", do_mprotect_exec },
        { "write", do_write },
        { "ioctl", do_ioctl },
        { "dup", do_dup },
        { "memfd_create", do_memfd },
        { "prctl", do_prctl },
        { "chdir", do_chdir },
        { "setsockopt", do_setsockopt },
        { "getpriority", do_getpriority },
};

/* In the child: does all deeds, and says of each what came of it: 0 or an errno. */
_Noreturn static void run_deeds(bool sandboxed, int channel)
{
        int errors[ELEMENTSOF(deeds)] = { 0 };

        idle_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        idle_file = open("/dev/null", O_WRONLY | O_CLOEXEC);
        idle_image = disk_new(MIB);
        victim_fd = (int)syscall(SYS_pidfd_open, victim, 0);
        if (sandboxed && probe_enter_sandbox((int[]){ idle_socket, idle_file, idle_image, victim_fd, channel }, 5) < 0)
                _exit(2);
        for (size_t i = 0; i < ELEMENTSOF(deeds); i++) {
                errno = 0;
                errors[i] = deeds[i].run() < 0 ? errno : 0;
        }
        _exit(send_bytes(channel, errors, sizeof(errors)) ? 0 : 1);
}

static void try_deeds(bool sandboxed, int errors[static ELEMENTSOF(deeds)])
{
        int channel[2], status;
        pid_t pid;

        open_channel(channel);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0)
                run_deeds(sandboxed, channel[1]);
        close(channel[1]);
        g_assert_cmpint(read(channel[0], errors, ELEMENTSOF(deeds) * sizeof(int)), ==, ELEMENTSOF(deeds) * sizeof(int));
        close(channel[0]);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
}

/* Somebody to connect to. */
static int start_listening(void)
{
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        g_assert_cmpint(listener, >=, 0);
        listener_address.sun_family = AF_UNIX;
        listener_size = sizeof(listener_address);
        /* An abstract name of the kernel's choice. */
        g_assert_cmpint(bind(listener, (struct sockaddr *)&listener_address, sizeof(sa_family_t)), ==, 0);
        g_assert_cmpint(listen(listener, 5), ==, 0);
        g_assert_cmpint(getsockname(listener, (struct sockaddr *)&listener_address, &listener_size), ==, 0);
        return listener;
}

static void test_sandbox(void)
{
        int outside[ELEMENTSOF(deeds)], inside[ELEMENTSOF(deeds)];
        int listener = start_listening();

        victim = getpid();
        try_deeds(false, outside);
        try_deeds(true, inside);
        for (size_t i = 0; i < ELEMENTSOF(deeds); i++) {
                g_test_message("%s: %s outside, %s inside", deeds[i].name, g_strerror(outside[i]),
                               g_strerror(inside[i]));
                g_assert_cmpint(outside[i], ==, 0);
                g_assert_cmpint(inside[i], ==, EPERM);
        }
        close(listener);
}

/* A child in the sandbox, until @stop is closed. */
static pid_t start_sandboxed(int *ret_stop)
{
        int ready[2], stop[2];
        char byte;
        pid_t pid;

        open_channel(ready);
        g_assert_cmpint(pipe(stop), ==, 0);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                close(stop[1]);
                if (geteuid() == 0 && setgroups(1, &(gid_t){ 4 }) < 0)
                        _exit(1);
                if (probe_enter_sandbox((int[]){ ready[1], stop[0] }, 2) < 0 || !send_bytes(ready[1], "", 1))
                        _exit(1);
                _exit(read(stop[0], &byte, 1) == 0 ? 0 : 1);
        }
        close(ready[1]);
        close(stop[0]);
        g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
        close(ready[0]);
        *ret_stop = stop[1];
        return pid;
}

static char *read_proc(pid_t pid, const char *name)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, name);
        char *text = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        return text;
}

static void assert_line(const char *text, const char *pattern)
{
        if (!g_regex_match_simple(pattern, text, G_REGEX_MULTILINE, 0))
                g_error("\"%s\" is not in: %s", pattern, text);
}

static void test_sandbox_state(void)
{
        int stop, status;
        pid_t pid = start_sandboxed(&stop);
        g_autofree char *text = read_proc(pid, "status"), *limits = read_proc(pid, "limits");

        close(stop);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
        assert_line(text, "^NoNewPrivs:\t1$");
        assert_line(text, "^Seccomp:\t2$");
        assert_line(text, "^CapInh:\t0+$");
        assert_line(text, "^CapPrm:\t0+$");
        assert_line(text, "^CapEff:\t0+$");
        assert_line(text, "^CapAmb:\t0+$");
        if (geteuid() == 0) {
                assert_line(text, "^Uid:\t65534\t65534\t65534\t65534$");
                assert_line(text, "^Gid:\t65534\t65534\t65534\t65534$");
                assert_line(text, "^Groups:\t *$");
        }
        assert_line(limits, "^Max cpu time +20 +20 ");
        assert_line(limits, "^Max file size +0 +0 ");
        assert_line(limits, "^Max core file size +0 +0 ");
        assert_line(limits, "^Max processes +0 +0 ");
        assert_line(limits, "^Max open files +1 +1 ");
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
        assert_line(limits, "^Max address space +536870912 +536870912 ");
#endif
}

/* ---- Everything that there is to try ---- */

/* More than there are on any architecture. */
#define CALLS_MAX 600

/* What reading, reckoning and answering need; with these arguments (-1) mmap, mprotect and ioctl are refused, too. */
static const long needed_calls[] = {
        SYS_brk,
        SYS_clock_gettime,
        SYS_close,
        SYS_exit,
        SYS_exit_group,
        SYS_fadvise64,
        SYS_fstat,
        SYS_futex,
        SYS_getrandom,
        SYS_lseek,
        SYS_madvise,
        SYS_mremap,
        SYS_munmap,
        SYS_newfstatat,
        SYS_pread64,
        SYS_read,
        SYS_sendmsg,
        SYS_rt_sigreturn,
        SYS_sigaltstack,
#ifdef __x86_64__
        335,
        336, /* uretprobe and uprobe of Linux 6.11: filters do not see them, and they kill who calls them */
#endif
};

static bool is_needed(long number)
{
        for (size_t i = 0; i < ELEMENTSOF(needed_calls); i++)
                if (needed_calls[i] == number)
                        return true;
        return false;
}

/* In a child: the first system call that is not refused. A number that no kernel knows is refused like all others. */
static void test_sandbox_every_call(void)
{
        int channel[2], status, number = 0;
        pid_t pid;

        open_channel(channel);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                if (probe_enter_sandbox(&channel[1], 1) < 0)
                        _exit(2);
                while (number < CALLS_MAX &&
                       (is_needed(number) || (syscall(number, -1, -1, -1, -1, -1, -1) < 0 && errno == EPERM)))
                        number++;
                _exit(send_bytes(channel[1], &number, sizeof(number)) ? 0 : 1);
        }
        close(channel[1]);
        g_assert_cmpint(read(channel[0], &number, sizeof(number)), ==, sizeof(number));
        close(channel[0]);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
        g_assert_cmpint(number, ==, CALLS_MAX);
        g_test_message("%u of %d system calls are not refused", (unsigned)ELEMENTSOF(needed_calls), CALLS_MAX);
}

/* ---- What it has ---- */

#define FDS_MAX 64

typedef struct Belongings {
        bool open[FDS_MAX];
        bool sees_root; /* something of the file systems */
        bool told;
} Belongings;

/* As a job's child, like the real one: what it has when it has read. What can be told of a descriptor is open. */
static int list_belongings(int channel, const JobOrder *order)
{
        Belongings *belongings = calloc(1, sizeof(*belongings));
        ProbeSpec spec = { .fd = order->fds[0] };
        struct stat st;
        void *data;
        size_t size;
        int r = probe_run(&spec, channel, &data, &size);

        if (r < 0 || !belongings)
                return -EIO;
        for (int fd = 0; fd < FDS_MAX; fd++)
                belongings->open[fd] = fd != channel && fstat(fd, &st) == 0;
        belongings->told = true;
        belongings->sees_root = stat("/proc/self", &st) == 0 || stat("/etc", &st) == 0 || stat("etc", &st) == 0;
        r = job_answer(channel, belongings, sizeof(*belongings), NULL, 0);
        return r < 0 ? r : 1;
}

static void on_belongings(int error, JobAnswer *answer, void *userdata)
{
        g_assert_cmpint(error, ==, 0);
        g_assert_cmpuint(answer->size, ==, sizeof(Belongings));
        memcpy(userdata, answer->data, sizeof(Belongings));
}

/* The image twice, the empty file that stands in for it; neither the caller's descriptor nor anything that came with
 * it. */
static void test_sandbox_belongings(void)
{
        Belongings belongings = { 0 };
        JobSpec spec = {
                .name = "test",
                .work = list_belongings,
                .fds = { disk_new(MIB), disk_new(MIB) },
                .n_fds = 2,
                .timeout_usec = 60 * USEC_PER_SEC,
        };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        unsigned n_open = 0;
        sigset_t child;
        Job *job;

        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        g_assert_cmpint(sigprocmask(SIG_BLOCK, &child, NULL), ==, 0);
        g_assert_cmpint(sd_event_new(&event), >=, 0);
        g_assert_cmpint(job_start(event, &spec, on_belongings, &belongings, &job), ==, 0);
        while (!belongings.told)
                g_assert_cmpint(sd_event_run(event, UINT64_MAX), >=, 0);
        /* Until it is reaped. */
        while (sd_event_run(event, 500 * USEC_PER_MSEC) > 0)
                ;
        for (int fd = 0; fd < FDS_MAX; fd++)
                n_open += belongings.open[fd];
        g_assert_cmpuint(n_open, ==, 3);
        g_assert_true(!belongings.sees_root || geteuid() != 0);
        close(spec.fds[0]);
        close(spec.fds[1]);
        g_assert_cmpint(sigprocmask(SIG_UNBLOCK, &child, NULL), ==, 0);
}

#ifdef __x86_64__
/* System calls of the other ABIs have other numbers: a filter that only goes by numbers lets them through. */
static void test_sandbox_x32(void)
{
        int status;
        pid_t pid = fork();

        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                if (probe_enter_sandbox(NULL, 0) < 0)
                        _exit(2);
                _exit(syscall(0x40000000 | SYS_getpid) > 0 ? 3 : 0);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
}

static void test_sandbox_foreign_abi(void)
{
        int status;
        pid_t pid = fork();

        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                /* A kernel without that ABI answers with this; a sanitizer would make a report and an exit code of it.
                 */
                (void)signal(SIGSEGV, SIG_DFL);
                if (probe_enter_sandbox(NULL, 0) < 0)
                        _exit(2);
                /* getpid() of the 32-bit ABI; 20 is writev() here */
                long r;
                __asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
                _exit(r > 0 ? 3 : 0);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
}
#endif

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_assert_cmpint(probe_prepare_sandbox(), ==, 0);
        g_assert_cmpint(probe_prepare_sandbox(), ==, 0);
        g_test_add_func("/probe/parse", test_parse);
        g_test_add_func("/probe/parse-sizes", test_parse_sizes);
        g_test_add_func("/probe/parse-summary", test_parse_summary);
        g_test_add_func("/probe/parse-volumes", test_parse_volumes);
        g_test_add_func("/probe/parse-unterminated", test_parse_unterminated);
        g_test_add_func("/probe/nothing", test_nothing);
        g_test_add_func("/probe/file-system", test_file_system);
        g_test_add_func("/probe/usages", test_usages);
        g_test_add_func("/probe/journal", test_journal);
        g_test_add_func("/probe/gpt", test_gpt);
        g_test_add_func("/probe/gpt-twice", test_gpt_twice);
        g_test_add_func("/probe/gpt-twice-chosen", test_gpt_twice_chosen);
        g_test_add_func("/probe/gpt-full", test_gpt_full);
        g_test_add_func("/probe/gpt-overfull", test_gpt_overfull);
        g_test_add_func("/probe/gpt-backwards", test_gpt_backwards);
        g_test_add_func("/probe/mbr", test_mbr);
        g_test_add_func("/probe/mbr-large-sectors", test_mbr_large_sectors);
        g_test_add_func("/probe/mbr-undecided", test_mbr_undecided);
        g_test_add_func("/probe/mbr-logical", test_mbr_logical);
        g_test_add_func("/probe/mbr-loop", test_mbr_loop);
        g_test_add_func("/probe/mbr-wrap", test_mbr_wrap);
        g_test_add_func("/probe/beyond-end", test_beyond_end);
        g_test_add_func("/probe/hybrid", test_hybrid);
        g_test_add_func("/probe/hybrid-two-gpts", test_hybrid_two_gpts);
        g_test_add_func("/probe/boot-sector", test_boot_sector);
        g_test_add_func("/probe/table-over-whole", test_table_over_whole);
        g_test_add_func("/probe/no-partition-scan", test_no_partition_scan);
        g_test_add_func("/probe/window", test_window);
        g_test_add_func("/probe/window-small", test_window_small);
        g_test_add_func("/probe/window-sizes", test_window_sizes);
        g_test_add_func("/probe/no-file", test_no_file);
        g_test_add_func("/probe/regular-only", test_regular_only);
        g_test_add_func("/probe/position", test_position);
        g_test_add_func("/probe/sandbox", test_sandbox);
        g_test_add_func("/probe/sandbox-state", test_sandbox_state);
        g_test_add_func("/probe/sandbox-every-call", test_sandbox_every_call);
        g_test_add_func("/probe/sandbox-belongings", test_sandbox_belongings);
#ifdef __x86_64__
        g_test_add_func("/probe/sandbox-x32", test_sandbox_x32);
        g_test_add_func("/probe/sandbox-foreign-abi", test_sandbox_foreign_abi);
#endif
        return g_test_run();
}
