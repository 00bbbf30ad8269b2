/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a probe says of an image is bytes that somebody chose. Here they become
 * text that can be shown and names that can be made; behind this file nothing
 * sees the bytes themselves.
 */
#include "story/volumes.h"
#include "base/text.h"
#include "mechanism/filesystem.h"
#include "mechanism/mount-point.h"

#define USUAL_BLOCK_SIZE 4096U

static int escape(char **member, const char *bytes)
{
        free(*member);
        *member = text_escape(bytes, strlen(bytes));
        return *member ? 0 : -ENOMEM;
}

/* The file's name, with the partition's number where there is one: "disk.img 2". */
static int name_from_file(const char *file_name, unsigned number, char **ret)
{
        _cleanup_free_ char *numbered = NULL;

        if (number == 0)
                return mount_point_sanitise(file_name, ret);
        if (asprintf(&numbered, "%s %u", file_name, number) < 0)
                return -ENOMEM;
        return mount_point_sanitise(numbered, ret);
}

/* The first usable one of label, partition name, file name, UUID; "image" if a hostile one has none. */
static int choose_name(const ProbeVolume *probed, const char *file_name, char **ret)
{
        int r = mount_point_sanitise(probed->label, ret);

        if (r == -EINVAL)
                r = mount_point_sanitise(probed->partition_name, ret);
        if (r == -EINVAL)
                r = name_from_file(file_name, probed->number, ret);
        if (r == -EINVAL)
                r = mount_point_sanitise(probed->uuid, ret);
        return r == -EINVAL ? mount_point_sanitise("image", ret) : r;
}

static const char *usage_of(const ProbeVolume *probed)
{
        if (probed->ambivalent)
                return "ambivalent";
        return probed->incomplete ? "incomplete" : probed->usage;
}

int volume_from_probe(const ProbeVolume *probed, const char *file_name, Volume **ret)
{
        _cleanup_(volume_freep) Volume *volume = volume_new(probed->number);
        int r;

        if (!volume)
                return -ENOMEM;
        volume->offset = probed->offset;
        volume->size = probed->size;
        volume->block_size = probed->block_size;
        r = choose_name(probed, file_name, &volume->name);
        if (r < 0)
                return r;
        if (escape(&volume->usage, usage_of(probed)) < 0 || escape(&volume->type, probed->type) < 0 ||
            escape(&volume->version, probed->version) < 0 || escape(&volume->label, probed->label) < 0 ||
            escape(&volume->uuid, probed->uuid) < 0 || escape(&volume->partition_type, probed->partition_type) < 0 ||
            escape(&volume->partition_name, probed->partition_name) < 0 ||
            escape(&volume->partition_uuid, probed->partition_uuid) < 0 || escape(&volume->obstacle, "") < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(volume);
        return 0;
}

int image_from_probe(Image *image, const ProbeSummary *summary, const ProbeVolume *probed, const char *file_name)
{
        const char *name = file_name;

        for (uint32_t i = 0; i < summary->n_volumes; i++) {
                Volume *volume;
                int r = volume_from_probe(&probed[i], file_name, &volume);

                if (r >= 0)
                        r = image_add_volume(image, volume);
                if (r < 0)
                        return r;
                if (probed[i].number == 0 && probed[i].label[0])
                        name = probed[i].label;
        }
        image->size = summary->size;
        image->sector_size = summary->sector_size;
        if (escape(&image->table, summary->table) < 0 || escape(&image->name, name) < 0)
                return -ENOMEM;
        return 0;
}

bool image_needs_partition_scan(const Image *image)
{
        const Volume *first = image->n_volumes == 1 ? image->volumes[0] : NULL;

        return image->partition_scan && !(first && first->number == 0 && !isempty(first->usage));
}

/* ---- Obstacles ---- */

static bool is_file_system(const Volume *volume)
{
        return streq(volume->usage, "filesystem");
}

/* A file system on the whole image, which the partitions are a part of: nothing is mounted twice. */
static const Volume *find_whole(const Image *image)
{
        const Volume *whole = image_find_volume(image, 0);

        return whole && is_file_system(whole) ? whole : NULL;
}

static char *describe_unknown(const Volume *volume)
{
        if (streq(volume->usage, "ambivalent"))
                return strdup("it has the signatures of several file systems; name the right one as its type");
        return strdup(volume->number == 0 ? "nothing was recognised in it" : "nothing was recognised in the partition");
}

static char *describe_obstacle(const Image *image, const Volume *volume, const Config *config)
{
        char *text = NULL;
        int n = 0;

        if (volume->offset >= image->size || volume->size > image->size - volume->offset)
                return strdup("it reaches beyond the end of the image, which may be truncated");
        if (volume->number > 0 && find_whole(image))
                return strdup("its bytes belong to the file system on the whole image");
        if (streq(volume->usage, "crypto"))
                n = asprintf(&text, "it is encrypted (%s)", volume->type);
        else if (streq(volume->usage, "raid"))
                n = asprintf(&text, "it is a part of a volume group or an array (%s)", volume->type);
        else if (streq(volume->usage, "other"))
                n = asprintf(&text, "it holds no files (%s)", volume->type);
        else if (streq(volume->usage, "incomplete"))
                n = asprintf(&text, "its journal is on another device; attach it read-only, as the type %s",
                             volume->type);
        else if (!is_file_system(volume))
                return describe_unknown(volume);
        else if (!filesystem_find(volume->type))
                n = asprintf(&text, "its file system, %s, is not supported", volume->type);
        else if (!config_allows_filesystem(config, volume->type))
                n = asprintf(&text, "the administrator does not permit its file system, %s", volume->type);
        else
                return strdup("");
        return n < 0 ? NULL : text;
}

int image_find_obstacles(Image *image, const Config *config)
{
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image) {
                free(volume->obstacle);
                volume->obstacle = describe_obstacle(image, volume, config);
                if (!volume->obstacle)
                        return -ENOMEM;
        }
        return 0;
}

static const Volume *find_largest_file_system(const Image *image)
{
        const Volume *largest = NULL, *volume;

        IMAGE_FOREACH_VOLUME (volume, image)
                if (is_file_system(volume) && (!largest || volume->size > largest->size))
                        largest = volume;
        return largest;
}

/* Of the types whose block is what libblkid calls so: xfs, say, has that of its disk there. */
bool image_writes_small_blocks(const Image *image)
{
        const Volume *largest = find_largest_file_system(image);

        return largest && strncmp(largest->type, "ext", 3) == 0 && largest->block_size > 0 &&
               largest->block_size < USUAL_BLOCK_SIZE;
}

bool volume_equals(const Volume *volume, const Volume *other)
{
        return volume->number == other->number && volume->offset == other->offset && volume->size == other->size &&
               streq(volume->usage, other->usage) && streq(volume->type, other->type) &&
               streq(volume->version, other->version) && streq(volume->label, other->label) &&
               streq(volume->uuid, other->uuid) && streq(volume->partition_type, other->partition_type) &&
               streq(volume->partition_name, other->partition_name) &&
               streq(volume->partition_uuid, other->partition_uuid);
}

/* All that a probe says of what is in a volume, and what follows from that. */
static const size_t content_texts[] = {
        offsetof(Volume, usage),          offsetof(Volume, type),           offsetof(Volume, version),
        offsetof(Volume, label),          offsetof(Volume, uuid),           offsetof(Volume, partition_type),
        offsetof(Volume, partition_name), offsetof(Volume, partition_uuid), offsetof(Volume, name),
        offsetof(Volume, obstacle),
};

void volume_take_contents(Volume *volume, Volume *other)
{
        uint32_t block_size = volume->block_size;

        volume->block_size = other->block_size;
        other->block_size = block_size;
        for (size_t i = 0; i < ELEMENTSOF(content_texts); i++) {
                char **mine = (char **)((char *)volume + content_texts[i]);
                char **others = (char **)((char *)other + content_texts[i]);
                char *text = *mine;

                *mine = *others;
                *others = text;
        }
}

void volume_clear_contents(Volume *volume)
{
        char *const texts[] = { volume->usage, volume->type, volume->version, volume->label, volume->uuid };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                *texts[i] = 0;
        volume->block_size = 0;
}
