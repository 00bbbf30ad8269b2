/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk.h"

#include <endian.h>
#include <glib.h>
#include <sys/mman.h>

#define GPT_ENTRIES_MIN 128U
#define ISO_BLOCK 2048U

typedef struct GptHeader {
        char signature[8];
        uint32_t revision, size, crc, reserved;
        uint64_t my_lba, other_lba, first_usable, last_usable;
        uint8_t guid[16];
        uint64_t entries_lba;
        uint32_t n_entries, entry_size, entries_crc;
} __attribute__((packed)) GptHeader;

typedef struct GptEntry {
        uint8_t type[16], guid[16];
        uint64_t first, last, attributes;
        uint16_t name[36];
} __attribute__((packed)) GptEntry;

int disk_new(uint64_t size)
{
        int fd = memfd_create("disk", MFD_CLOEXEC);

        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
        return fd;
}

void disk_write(int fd, uint64_t offset, const void *bytes, size_t n_bytes)
{
        g_assert_cmpint(pwrite(fd, bytes, n_bytes, (off_t)offset), ==, (ssize_t)n_bytes);
}

void disk_write_u32(int fd, uint64_t offset, uint32_t value)
{
        uint32_t little = htole32(value);

        disk_write(fd, offset, &little, sizeof(little));
}

void disk_write_ext2(int fd, uint64_t offset, const char *label)
{
        const uint64_t superblock = offset + 1024;

        disk_write_u32(fd, superblock + 0, 16);         /* inodes */
        disk_write_u32(fd, superblock + 4, 64);         /* blocks */
        disk_write(fd, superblock + 56, "\x53\xef", 2); /* magic */
        disk_write_u32(fd, superblock + 76, 1);         /* revision */
        disk_write(fd, superblock + 104, "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10", 16);
        disk_write(fd, superblock + 120, label, MIN(strlen(label), 16U));
}

/* A number of 32 bits as ISO 9660 has it: little-endian, and big-endian after that. */
static void put_both(char *where, uint32_t value)
{
        const uint32_t both[] = { htole32(value), htobe32(value) };

        memcpy(where, both, sizeof(both));
}

/* The directory record of the root, called "." (0) or ".." (1) in the root itself. */
static void put_root(char *where, uint32_t block, uint8_t name)
{
        where[0] = 34; /* its length */
        put_both(where + 2, block);
        put_both(where + 10, ISO_BLOCK);
        where[25] = 2; /* a directory */
        where[32] = 1; /* the length of its name */
        where[33] = (char)name;
}

void disk_write_iso9660(int fd, uint64_t offset, const char *label)
{
        char descriptor[ISO_BLOCK] = "\1CD001\1", root[ISO_BLOCK] = "";
        const uint32_t block = 16; /* the first that is not the system's */

        memset(descriptor + 8, ' ', 64);
        memcpy(descriptor + 40, label, MIN(strlen(label), 16U));
        put_both(descriptor + 80, block + 3);
        memcpy(descriptor + 128, "\x00\x08\x08\x00", 4); /* the size of a block */
        put_root(descriptor + 156, block + 2, 0);
        put_root(root, block + 2, 0);
        put_root(root + 34, block + 2, 1);
        disk_write(fd, offset + block * ISO_BLOCK, descriptor, sizeof(descriptor));
        disk_write(fd, offset + (block + 1) * ISO_BLOCK,
                   "\xff"
                   "CD001\1",
                   7);
        disk_write(fd, offset + (block + 2) * ISO_BLOCK, root, sizeof(root));
}

void disk_write_swap(int fd, uint64_t offset)
{
        disk_write_u32(fd, offset + 1024, 1);  /* version */
        disk_write_u32(fd, offset + 1028, 15); /* last page */
        disk_write(fd, offset + 4096 - 10, "SWAPSPACE2", 10);
}

void disk_write_luks(int fd, uint64_t offset)
{
        disk_write(fd, offset, "LUKS\xba\xbe\x00\x01", 8);
        disk_write(fd, offset + 168, "12345678-1234-1234-1234-123456789abc", 36);
}

void disk_write_mbr(int fd, uint64_t offset, const DiskPartition *partitions, size_t n_partitions)
{
        disk_write(fd, offset + 510, "\x55\xaa", 2);
        for (size_t i = 0; i < n_partitions; i++) {
                const uint64_t entry = offset + 446 + 16 * i;

                disk_write(fd, entry + 4, &partitions[i].type, 1);
                disk_write_u32(fd, entry + 8, (uint32_t)partitions[i].start);
                disk_write_u32(fd, entry + 12, (uint32_t)partitions[i].size);
        }
}

static uint32_t crc32(const void *bytes, size_t n_bytes)
{
        const uint8_t *p = bytes;
        uint32_t crc = UINT32_MAX;

        for (size_t i = 0; i < n_bytes; i++) {
                crc ^= p[i];
                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xedb88320) : 0);
        }
        return ~crc;
}

static void fill_entry(GptEntry *entry, const DiskPartition *partition, uint8_t number)
{
        static const uint8_t linux_data[16] = { 0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
                                                0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4 };

        memcpy(entry->type, linux_data, sizeof(linux_data));
        entry->guid[15] = number;
        entry->first = htole64(partition->start);
        entry->last = htole64(partition->start + partition->size - 1);
        for (size_t i = 0; partition->name && partition->name[i] && i < ELEMENTSOF(entry->name); i++)
                entry->name[i] = htole16((uint8_t)partition->name[i]);
}

void disk_write_gpt(int fd, uint64_t size, uint32_t sector_size, const DiskPartition *partitions, size_t n_partitions)
{
        const DiskPartition protective = { 1, MIN(size / sector_size - 1, UINT32_MAX), 0xee, NULL };
        const size_t n_entries = MAX(n_partitions, GPT_ENTRIES_MIN), table_size = n_entries * sizeof(GptEntry);
        const uint64_t table_sectors = (table_size + sector_size - 1) / sector_size, sectors = size / sector_size;
        g_autofree GptEntry *entries = g_new0(GptEntry, n_entries);
        GptHeader header = {
                .signature = { 'E', 'F', 'I', ' ', 'P', 'A', 'R', 'T' },
                .revision = htole32(0x00010000),
                .size = htole32(sizeof(GptHeader)),
                .my_lba = htole64(1),
                .other_lba = htole64(sectors - 1),
                .first_usable = htole64(2 + table_sectors),
                .last_usable = htole64(sectors - 2 - table_sectors),
                .guid = { 1 },
                .entries_lba = htole64(2),
                .n_entries = htole32((uint32_t)n_entries),
                .entry_size = htole32(sizeof(GptEntry)),
        };

        for (size_t i = 0; i < n_partitions; i++)
                fill_entry(&entries[i], &partitions[i], (uint8_t)(i + 1));
        header.entries_crc = htole32(crc32(entries, table_size));
        header.crc = htole32(crc32(&header, sizeof(header)));
        disk_write_mbr(fd, 0, &protective, 1);
        disk_write(fd, sector_size, &header, sizeof(header));
        disk_write(fd, UINT64_C(2) * sector_size, entries, table_size);
}
