/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images, volumes and the registry. The registry is an array sorted by id: ids
 * only ever grow, so adding is appending, finding is a binary search, and a walk
 * goes in the order of attachment.
 */
#include "model/image.h"
#include "base/text.h"
#include "mechanism/fdstore.h"
#include "mechanism/partition.h"
#include "mechanism/trigger.h"

typedef struct Owner {
        uid_t uid;
        size_t n_images;
} Owner;

struct Registry {
        Image **images;
        size_t n_images;
        Owner *owners; /* of at least one image */
        size_t n_owners;
        RegistryObserver observer;
        void *userdata;
};

Volume *volume_new(unsigned number)
{
        Volume *volume = calloc(1, sizeof(*volume));

        if (volume) {
                volume->number = number;
                volume->trigger_fd = -1;
        }
        return volume;
}

Volume *volume_free(Volume *volume)
{
        if (!volume)
                return NULL;
        free(volume->usage);
        free(volume->type);
        free(volume->version);
        free(volume->label);
        free(volume->uuid);
        free(volume->partition_type);
        free(volume->partition_name);
        free(volume->partition_uuid);
        free(volume->name);
        free(volume->obstacle);
        free(volume->mount_point);
        free(volume->held_by);
        free(volume->superblock);
        trigger_close(volume->trigger_fd);
        free(volume);
        return NULL;
}

Image *image_new(void)
{
        Image *image = calloc(1, sizeof(*image));

        if (image)
                image->fd = -1;
        return image;
}

Image *image_free(Image *image)
{
        if (!image)
                return NULL;
        for (size_t i = 0; i < image->n_volumes; i++)
                volume_free(image->volumes[i]);
        free(image->volumes);
        free(image->owner_name);
        free(image->name);
        free(image->backing_file);
        free(image->table);
        free(image->wished_type);
        free(image->wished_options);
        safe_close(image->fd);
        free(image);
        return NULL;
}

/* Makes room for one more at @position of an array of pointers. */
static int insert(void ***array, size_t *n, size_t position, void *item)
{
        void **grown = reallocarray(*array, *n + 1, sizeof(void *));

        if (!grown)
                return -ENOMEM;
        memmove(grown + position + 1, grown + position, (*n - position) * sizeof(void *));
        grown[position] = item;
        *array = grown;
        (*n)++;
        return 0;
}

static void drop(void **array, size_t *n, const void *item)
{
        for (size_t i = 0; i < *n; i++) {
                if (array[i] != item)
                        continue;
                (*n)--;
                memmove(array + i, array + i + 1, (*n - i) * sizeof(void *));
                return;
        }
}

int image_add_volume(Image *image, Volume *volume)
{
        size_t position = 0;
        int r;

        while (position < image->n_volumes && image->volumes[position]->number < volume->number)
                position++;
        if (position < image->n_volumes && image->volumes[position]->number == volume->number)
                r = -EEXIST;
        else
                r = insert((void ***)&image->volumes, &image->n_volumes, position, volume);
        if (r < 0) {
                volume_free(volume);
                return r;
        }
        volume->image = image;
        return 0;
}

void image_remove_volume(Image *image, Volume *volume)
{
        drop((void **)image->volumes, &image->n_volumes, volume);
        volume_free(volume);
}

Volume *image_find_volume(const Image *image, unsigned number)
{
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume->number == number)
                        return volume;
        return NULL;
}

/* The first byte past it, rounded up to @granularity. */
static uint64_t end_of(uint64_t offset, uint64_t size, uint64_t granularity)
{
        uint64_t end;

        if (size == 0 || __builtin_add_overflow(offset, size, &end) || end > UINT64_MAX - granularity)
                return UINT64_MAX;
        return (end + granularity - 1) / granularity * granularity;
}

bool image_overlaps(const Image *image, uint64_t offset, uint64_t size, uint64_t granularity)
{
        return image->offset / granularity * granularity < end_of(offset, size, granularity) &&
               offset / granularity * granularity < end_of(image->offset, image->size_limit, granularity);
}

void image_node(const Image *image, char node[static 32])
{
        snprintf(node, 32, "/dev/loop%u", image->loop_number);
}

void volume_node(const Volume *volume, char node[static 32])
{
        if (volume->number == 0)
                image_node(volume->image, node);
        else if (volume->devnum != 0)
                partition_node(volume->image->loop_number, volume->number, node);
        else
                node[0] = 0;
}

bool volume_is_mounted(const Volume *volume)
{
        return volume->mount_point && volume->mount_id != 0;
}

size_t image_count_mounted(const Image *image)
{
        Volume *volume;
        size_t n = 0;

        IMAGE_FOREACH_VOLUME (volume, image)
                n += volume_is_mounted(volume);
        return n;
}

bool volume_is_held_by(const Volume *volume, const char *name)
{
        return volume->held_by && text_list_has(volume->held_by, ' ', name);
}

int volume_hold(Volume *volume, const char *name)
{
        char *names;

        if (volume_is_held_by(volume, name))
                return 0;
        names = volume->held_by ? text_printf("%s %s", volume->held_by, name) : strdup(name);
        if (!names)
                return -ENOMEM;
        free(volume->held_by);
        volume->held_by = names;
        return 0;
}

bool volume_let_go(Volume *volume, const char *name)
{
        char *rest = volume->held_by, *end = rest;

        if (!volume_is_held_by(volume, name))
                return false;
        /* What stays moves to the left, in place. */
        for (const char *word; (word = strsep(&rest, " "));) {
                size_t length = strlen(word);

                if (streq(word, name))
                        continue;
                if (end > volume->held_by)
                        *end++ = ' ';
                memmove(end, word, length);
                end += length;
        }
        *end = 0;
        if (*volume->held_by)
                return false;
        free(volume->held_by);
        volume->held_by = NULL;
        return true;
}

bool volume_is_armed(const Volume *volume)
{
        return volume->trigger_fd >= 0;
}

bool volume_is_waiting(const Volume *volume)
{
        return volume_is_armed(volume) && volume->mount_point && volume->mount_id == 0;
}

size_t image_count_usable(const Image *image)
{
        Volume *volume;
        size_t n = 0;

        IMAGE_FOREACH_VOLUME (volume, image)
                n += volume_is_mounted(volume) || volume_is_waiting(volume);
        return n;
}

void volume_disarm(Volume *volume)
{
        if (volume_is_armed(volume))
                fdstore_drop_volume(volume->image->id, volume->number);
        volume->trigger_fd = trigger_close(volume->trigger_fd);
}

const char *image_state_to_string(ImageState state)
{
        static const char *const names[] = {
                [IMAGE_ATTACHING] = "attaching",
                [IMAGE_ATTACHED] = "attached",
                [IMAGE_DETACHING] = "detaching",
                [IMAGE_STUCK] = "stuck",
        };

        return names[state];
}

Registry *registry_new(RegistryObserver observer, void *userdata)
{
        Registry *registry = calloc(1, sizeof(*registry));

        if (registry) {
                registry->observer = observer;
                registry->userdata = userdata;
        }
        return registry;
}

Registry *registry_free(Registry *registry)
{
        if (!registry)
                return NULL;
        for (size_t i = 0; i < registry->n_images; i++)
                image_free(registry->images[i]);
        free(registry->images);
        free(registry->owners);
        free(registry);
        return NULL;
}

void registry_notify(Registry *registry, RegistryEvent event, Image *image, Volume *volume)
{
        registry->observer(event, image, volume, registry->userdata);
}

/* Where an image of this id is, or would be. */
static size_t position_of(const Registry *registry, uint64_t id)
{
        size_t low = 0, high = registry->n_images;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (registry->images[middle]->id < id)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static Owner *find_owner(const Registry *registry, uid_t uid)
{
        for (size_t i = 0; i < registry->n_owners; i++)
                if (registry->owners[i].uid == uid)
                        return &registry->owners[i];
        return NULL;
}

static int make_owner(Registry *registry, uid_t uid, Owner **ret)
{
        Owner *owner = find_owner(registry, uid), *grown;

        if (!owner) {
                grown = reallocarray(registry->owners, registry->n_owners + 1, sizeof(Owner));
                if (!grown)
                        return -ENOMEM;
                registry->owners = grown;
                owner = &grown[registry->n_owners++];
                *owner = (Owner){ .uid = uid };
        }
        *ret = owner;
        return 0;
}

/* The last one takes the place of one who has no images any more. */
static void drop_owner_without_images(Registry *registry, Owner *owner)
{
        if (owner->n_images == 0)
                *owner = registry->owners[--registry->n_owners];
}

int registry_add(Registry *registry, Image *image)
{
        size_t position = position_of(registry, image->id);
        Owner *owner;
        int r;

        if (position < registry->n_images && registry->images[position]->id == image->id)
                return -EEXIST;
        r = make_owner(registry, image->owner, &owner);
        if (r < 0)
                return r;
        r = insert((void ***)&registry->images, &registry->n_images, position, image);
        owner->n_images += r >= 0;
        drop_owner_without_images(registry, owner);
        if (r < 0)
                return r;
        registry_notify(registry, REGISTRY_IMAGE_ADDED, image, NULL);
        return 0;
}

void registry_remove(Registry *registry, Image *image)
{
        Owner *owner = find_owner(registry, image->owner);

        registry_notify(registry, REGISTRY_IMAGE_REMOVED, image, NULL);
        drop((void **)registry->images, &registry->n_images, image);
        owner->n_images--;
        drop_owner_without_images(registry, owner);
        image_free(image);
}

Image *registry_find(const Registry *registry, uint64_t id)
{
        size_t position = position_of(registry, id);

        return position < registry->n_images && registry->images[position]->id == id ? registry->images[position]
                                                                                     : NULL;
}

Image *registry_find_by_loop(const Registry *registry, unsigned loop_number)
{
        for (size_t i = 0; i < registry->n_images; i++)
                if (registry->images[i]->loop_number == loop_number)
                        return registry->images[i];
        return NULL;
}

size_t registry_count(const Registry *registry)
{
        return registry->n_images;
}

size_t registry_count_of(const Registry *registry, uid_t owner)
{
        const Owner *found = find_owner(registry, owner);

        return found ? found->n_images : 0;
}

bool registry_is_held_by(const Registry *registry, const char *name)
{
        const Image *image;
        Volume *volume;

        for (size_t i = 0; (image = registry_nth(registry, i)); i++)
                IMAGE_FOREACH_VOLUME (volume, image)
                        if (name ? volume_is_held_by(volume, name) : volume->held_by != NULL)
                                return true;
        return false;
}

size_t registry_count_owners(const Registry *registry)
{
        return registry->n_owners;
}

uid_t registry_nth_owner(const Registry *registry, size_t n)
{
        return registry->owners[n].uid;
}

Image *registry_nth(const Registry *registry, size_t n)
{
        return n < registry->n_images ? registry->images[n] : NULL;
}
