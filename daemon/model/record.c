/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records: lines of KEY=value, the image's first, then a block for each volume
 * that begins with VOLUME=. Values are printable UTF-8 without line breaks (the
 * model holds nothing else), so they need no quoting.
 *
 * Two tables say which key is which member; writing and reading both walk them.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>

#include "base/paths.h"
#include "base/text.h"
#include "model/record.h"

typedef enum FieldKind { FIELD_BOOL, FIELD_U32, FIELD_U64, FIELD_STATE, FIELD_TEXT } FieldKind;

typedef struct Field {
        const char *key;
        FieldKind kind;
        size_t offset;
} Field;

/* dev_t, ino_t and sizes are 64 bits wide wherever this is built; the assertion keeps it true. */
_Static_assert(sizeof(dev_t) == 8 && sizeof(ino_t) == 8 && sizeof(uid_t) == 4 && sizeof(unsigned) == 4, "widths");

static const Field image_fields[] = {
        { "STATE", FIELD_STATE, offsetof(Image, state) },
        { "ID", FIELD_U64, offsetof(Image, id) },
        { "LOOP", FIELD_U32, offsetof(Image, loop_number) },
        { "DEVNUM", FIELD_U64, offsetof(Image, devnum) },
        { "DISKSEQ", FIELD_U64, offsetof(Image, diskseq) },
        { "FILE_DEVICE", FIELD_U64, offsetof(Image, file_device) },
        { "FILE_INODE", FIELD_U64, offsetof(Image, file_inode) },
        { "FILE_MOUNT_ID", FIELD_U64, offsetof(Image, file_mount_id) },
        { "FILE_OWNER", FIELD_U32, offsetof(Image, file_owner) },
        { "OFFSET", FIELD_U64, offsetof(Image, offset) },
        { "SIZE", FIELD_U64, offsetof(Image, size) },
        { "SIZE_LIMIT", FIELD_U64, offsetof(Image, size_limit) },
        { "SECTOR_SIZE", FIELD_U32, offsetof(Image, sector_size) },
        { "READ_ONLY", FIELD_BOOL, offsetof(Image, read_only) },
        { "DIRECT_IO", FIELD_BOOL, offsetof(Image, direct_io) },
        { "AUTO_DETACH", FIELD_BOOL, offsetof(Image, auto_detach) },
        { "ON_ACCESS", FIELD_BOOL, offsetof(Image, on_access) },
        { "IDLE", FIELD_U64, offsetof(Image, idle_usec) },
        { "WISHED_TYPE", FIELD_TEXT, offsetof(Image, wished_type) },
        { "WISHED_OPTIONS", FIELD_TEXT, offsetof(Image, wished_options) },
        { "HARDENED_ONLY", FIELD_BOOL, offsetof(Image, hardened_only) },
        { "SESSION_BOUND", FIELD_BOOL, offsetof(Image, session_bound) },
        { "PARTITION_SCAN", FIELD_BOOL, offsetof(Image, partition_scan) },
        { "REGISTERED", FIELD_BOOL, offsetof(Image, registered) },
        { "OWNER", FIELD_U32, offsetof(Image, owner) },
        { "OWNER_GID", FIELD_U32, offsetof(Image, owner_gid) },
        { "OWNER_NAME", FIELD_TEXT, offsetof(Image, owner_name) },
        { "NAME", FIELD_TEXT, offsetof(Image, name) },
        { "BACKING_FILE", FIELD_TEXT, offsetof(Image, backing_file) },
        { "TABLE", FIELD_TEXT, offsetof(Image, table) },
        { "ATTACHED_AT", FIELD_U64, offsetof(Image, attached_at_usec) },
};

static const Field volume_fields[] = {
        { "VOLUME", FIELD_U32, offsetof(Volume, number) },
        { "DEVNUM", FIELD_U64, offsetof(Volume, devnum) },
        { "OFFSET", FIELD_U64, offsetof(Volume, offset) },
        { "SIZE", FIELD_U64, offsetof(Volume, size) },
        { "USAGE", FIELD_TEXT, offsetof(Volume, usage) },
        { "TYPE", FIELD_TEXT, offsetof(Volume, type) },
        { "VERSION", FIELD_TEXT, offsetof(Volume, version) },
        { "LABEL", FIELD_TEXT, offsetof(Volume, label) },
        { "UUID", FIELD_TEXT, offsetof(Volume, uuid) },
        { "PARTITION_TYPE", FIELD_TEXT, offsetof(Volume, partition_type) },
        { "PARTITION_NAME", FIELD_TEXT, offsetof(Volume, partition_name) },
        { "PARTITION_UUID", FIELD_TEXT, offsetof(Volume, partition_uuid) },
        { "NAME", FIELD_TEXT, offsetof(Volume, name) },
        { "OBSTACLE", FIELD_TEXT, offsetof(Volume, obstacle) },
        { "MOUNT_POINT", FIELD_TEXT, offsetof(Volume, mount_point) },
        { "MOUNT_ID", FIELD_U64, offsetof(Volume, mount_id) },
        { "MOUNTED_READ_ONLY", FIELD_BOOL, offsetof(Volume, mounted_read_only) },
        { "SUPERBLOCK", FIELD_TEXT, offsetof(Volume, superblock) },
        { "TRIGGER_ID", FIELD_U64, offsetof(Volume, trigger_id) },
        { "HELD_BY", FIELD_TEXT, offsetof(Volume, held_by) },
};

/* ---- Writing ---- */

static void write_fields(FILE *f, const Field *fields, size_t n_fields, const void *object)
{
        for (size_t i = 0; i < n_fields; i++) {
                const void *member = (const char *)object + fields[i].offset;

                switch (fields[i].kind) {
                case FIELD_BOOL:
                        fprintf(f, "%s=%d\n", fields[i].key, *(const bool *)member);
                        break;
                case FIELD_U32:
                        fprintf(f, "%s=%" PRIu32 "\n", fields[i].key, *(const uint32_t *)member);
                        break;
                case FIELD_U64:
                        fprintf(f, "%s=%" PRIu64 "\n", fields[i].key, *(const uint64_t *)member);
                        break;
                case FIELD_STATE:
                        fprintf(f, "%s=%s\n", fields[i].key, image_state_to_string(*(const ImageState *)member));
                        break;
                case FIELD_TEXT:
                        if (*(char *const *)member)
                                fprintf(f, "%s=%s\n", fields[i].key, *(char *const *)member);
                        break;
                }
        }
}

int record_format(const Image *image, char **ret_text, size_t *ret_size)
{
        Volume *volume;
        FILE *f = open_memstream(ret_text, ret_size);

        if (!f)
                return -ENOMEM;
        write_fields(f, image_fields, ELEMENTSOF(image_fields), image);
        IMAGE_FOREACH_VOLUME (volume, image)
                write_fields(f, volume_fields, ELEMENTSOF(volume_fields), volume);
        if (fclose(f) == 0)
                return 0;
        free(*ret_text);
        *ret_text = NULL;
        return -ENOMEM;
}

static int write_file(const char *path, const char *text, size_t size)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = write(fd, text, size);
        if (n < 0)
                return -errno;
        return (size_t)n == size ? 0 : -ENOSPC;
}

int record_write(const Image *image)
{
        char path[96], temporary[96];
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = record_format(image, &text, &size);

        if (r < 0)
                return r;
        snprintf(path, sizeof(path), RUN_IMAGES_DIR "/%" PRIu64, image->id);
        snprintf(temporary, sizeof(temporary), RUN_IMAGES_DIR "/.%" PRIu64, image->id);
        r = write_file(temporary, text, size);
        if (r >= 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r < 0)
                (void)unlink(temporary);
        return r;
}

int record_publish(Registry *registry, Image *image)
{
        ImageState state = image->state;
        int r;

        image->state = IMAGE_ATTACHED;
        r = record_write(image);
        if (r >= 0)
                r = registry_add(registry, image);
        if (r >= 0)
                return 0;
        image->state = state;
        (void)TRY_TWICE(record_write(image));
        return r;
}

void record_remove(uint64_t id)
{
        char path[96];

        snprintf(path, sizeof(path), RUN_IMAGES_DIR "/%" PRIu64, id);
        (void)TRY_TWICE(unlink(path));
}

/* ---- Reading ---- */

static int parse_state(const char *value, ImageState *ret)
{
        for (ImageState state = IMAGE_ATTACHING; state <= IMAGE_STUCK; state++)
                if (streq(value, image_state_to_string(state))) {
                        *ret = state;
                        return 0;
                }
        return -EBADMSG;
}

static int parse_value(const Field *field, void *object, const char *value)
{
        void *member = (char *)object + field->offset;
        uint64_t number;

        switch (field->kind) {
        case FIELD_STATE:
                return parse_state(value, member);
        case FIELD_TEXT:
                free(*(char **)member);
                *(char **)member = strdup(value);
                return *(char **)member ? 0 : -ENOMEM;
        case FIELD_BOOL:
                if (text_parse_uint(value, 1, &number) < 0)
                        return -EBADMSG;
                *(bool *)member = number;
                return 0;
        case FIELD_U32:
                if (text_parse_uint(value, UINT32_MAX, &number) < 0)
                        return -EBADMSG;
                *(uint32_t *)member = (uint32_t)number;
                return 0;
        case FIELD_U64:
                return text_parse_uint(value, UINT64_MAX, member) < 0 ? -EBADMSG : 0;
        }
        return -EBADMSG;
}

static const Field *find_field(const Field *fields, size_t n_fields, const char *key)
{
        for (size_t i = 0; i < n_fields; i++)
                if (streq(fields[i].key, key))
                        return &fields[i];
        return NULL;
}

static int start_volume(Image *image, const char *value, Volume **ret)
{
        uint64_t number;
        Volume *volume;
        int r;

        if (text_parse_uint(value, INT32_MAX, &number) < 0)
                return -EBADMSG;
        volume = volume_new((unsigned)number);
        if (!volume)
                return -ENOMEM;
        r = image_add_volume(image, volume);
        if (r < 0)
                return r == -EEXIST ? -EBADMSG : r;
        *ret = volume;
        return 0;
}

static int parse_line(Image *image, Volume **volume, char *line)
{
        char *value = strchr(line, '=');
        const Field *field;

        if (!value)
                return -EBADMSG;
        *value++ = 0;
        if (streq(line, "VOLUME"))
                return start_volume(image, value, volume);
        if (*volume)
                field = find_field(volume_fields, ELEMENTSOF(volume_fields), line);
        else
                field = find_field(image_fields, ELEMENTSOF(image_fields), line);
        /* A key of a newer version: leave it. */
        if (!field)
                return 0;
        return parse_value(field, *volume ? (void *)*volume : (void *)image, value);
}

int record_parse(const char *text, size_t size, Image **ret)
{
        _cleanup_(image_freep) Image *image = image_new();
        _cleanup_free_ char *copy = strndup(text, size);
        Volume *volume = NULL;
        char *position = copy, *line;

        if (!image || !copy)
                return -ENOMEM;
        while ((line = strsep(&position, "\n"))) {
                int r = *line ? parse_line(image, &volume, line) : 0;

                if (r < 0)
                        return r;
        }
        if (image->id == 0 || image->id != image->diskseq || image->devnum == 0)
                return -EBADMSG;
        *ret = TAKE_PTR(image);
        return 0;
}

int record_parse_device(const char *text, size_t size, unsigned *ret_number)
{
        _cleanup_free_ char *copy = strndup(text, size);
        char *position = copy, *line;
        uint64_t number;

        if (!copy)
                return -ENOMEM;
        while ((line = strsep(&position, "\n")) && strncmp(line, "VOLUME=", strlen("VOLUME=")) != 0)
                if (strncmp(line, "LOOP=", strlen("LOOP=")) == 0 &&
                    text_parse_uint(line + strlen("LOOP="), UINT32_MAX, &number) >= 0) {
                        *ret_number = (unsigned)number;
                        return 0;
                }
        return -EBADMSG;
}

static int read_file(uint64_t id, char **ret_text, size_t *ret_size)
{
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *text = NULL;
        char path[96];
        size_t allocated = 0;
        ssize_t n;

        snprintf(path, sizeof(path), RUN_IMAGES_DIR "/%" PRIu64, id);
        f = fopen(path, "re");
        if (!f)
                return -errno;
        n = getdelim(&text, &allocated, 0, f);
        if (n < 0)
                return feof(f) ? -EBADMSG : -errno;
        *ret_text = TAKE_PTR(text);
        *ret_size = (size_t)n;
        return 0;
}

int record_read_device(uint64_t id, unsigned *ret_number)
{
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        int r = read_file(id, &text, &size);

        return r < 0 ? r : record_parse_device(text, size, ret_number);
}

int record_read(uint64_t id, Image **ret)
{
        _cleanup_(image_freep) Image *image = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        int r = read_file(id, &text, &size);

        if (r >= 0)
                r = record_parse(text, size, &image);
        if (r < 0)
                return r;
        if (image->id != id)
                return -EBADMSG;
        *ret = TAKE_PTR(image);
        return 0;
}

static void closedirp(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

int record_list(uint64_t **ret_ids, size_t *ret_n)
{
        _cleanup_(closedirp) DIR *directory = opendir(RUN_IMAGES_DIR);
        _cleanup_free_ uint64_t *ids = NULL;
        struct dirent *entry;
        size_t n = 0;

        if (!directory)
                return -errno;
        for (errno = 0; (entry = readdir(directory)); errno = 0) {
                uint64_t id, *grown;

                /* Also what a crash between writing and renaming has left. */
                if (text_parse_uint(entry->d_name, UINT64_MAX, &id) < 0) {
                        (void)unlinkat(dirfd(directory), entry->d_name, 0);
                        continue;
                }
                grown = reallocarray(ids, n + 1, sizeof(*ids));
                if (!grown)
                        return -ENOMEM;
                ids = grown;
                ids[n++] = id;
        }
        if (errno != 0)
                return -errno;
        *ret_ids = TAKE_PTR(ids);
        *ret_n = n;
        return 0;
}
