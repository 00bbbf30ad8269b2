/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One child mounts all volumes: a mount takes the kernel less time than a fork.
 * It first makes all the mounts, detached; were it killed then, they would be
 * gone with it. Attaching them is quick, and is undone by the story if the child
 * dies in the middle of it: the record says at which mount points to look.
 */
#include <fcntl.h>

#include "mechanism/filesystem.h"
#include "mechanism/loop.h"
#include "mechanism/mount-point.h"
#include "mechanism/mount.h"
#include "mechanism/partition.h"
#include "model/record.h"
#include "story/mounting.h"
#include "story/user.h"

typedef struct MountItem {
        Volume *volume;
        const FilesystemType *type;
        FilesystemOptions options;
        char *name;
        char node[32];
} MountItem;

typedef struct MountResult {
        int error;
        uint64_t mount_id;
        char message[MOUNT_MESSAGE_SIZE];
} MountResult;

struct Mounting {
        Story *story;
        Image *image;
        bool chosen; /* the caller has named the volumes: each of them has to be mounted */
        MountItem *items;
        size_t n_items;
        char *parent;
        int parent_fd;
};

void mount_wish_done(MountWish *wish)
{
        free(wish->filesystem_type);
        free(wish->options);
        free(wish->name);
        *wish = (MountWish){ 0 };
}

Mounting *mounting_free(Mounting *mounting)
{
        if (!mounting)
                return NULL;
        for (size_t i = 0; i < mounting->n_items; i++) {
                filesystem_options_done(&mounting->items[i].options);
                free(mounting->items[i].name);
        }
        free(mounting->items);
        free(mounting->parent);
        safe_close(mounting->parent_fd);
        free(mounting);
        return NULL;
}

/* ---- The plan ---- */

static int resolve_options(Mounting *mounting, MountItem *item, const MountWish *wish)
{
        Story *story = mounting->story;
        const Config *config = story->service->config;
        const User *user = user_find(story->service, mounting->image->owner);
        const char *type = filesystem_name(item->type);
        FilesystemRequest request = {
                .read_only = mounting->image->read_only,
                .allow_exec = config->allow_exec,
                .uid = mounting->image->owner,
                .gid = user ? user->gid : mounting->image->owner_gid,
                .configured = config_filesystem_options(config, type),
                .requested = wish->options,
        };
        _cleanup_free_ char *offender = NULL;
        int r;

        /* Among other volumes one that can only be read is no surprise; alone it is not what was asked for. */
        if (!request.read_only && item->volume->number == 0 && filesystem_is_read_only(item->type))
                return story_fail(story, -EROFS, "%s can only be read; attach it read-only", type);
        r = filesystem_options(item->type, &request, &item->options, &offender);
        if (r == -EPERM)
                return story_fail(story, r, "the option \"%s\" is not permitted for %s", strempty(offender), type);
        if (r == -EINVAL && !offender)
                return story_fail(story, -EPERM, "there are too many of them");
        if (r == -EINVAL)
                return story_fail(story, -EPERM, "the option \"%s\" is not one for %s, or its value is wrong", offender,
                                  type);
        return r;
}

static int resolve_type(Mounting *mounting, MountItem *item, const MountWish *wish)
{
        Story *story = mounting->story;
        const char *name = wish->filesystem_type ? wish->filesystem_type : item->volume->type;

        if (!wish->filesystem_type && *item->volume->obstacle && !streq(item->volume->usage, "filesystem"))
                return story_fail(story, -EPROTONOSUPPORT, "volume %u cannot be mounted: %s", item->volume->number,
                                  item->volume->obstacle);
        item->type = filesystem_find(name);
        if (!item->type || !config_allows_filesystem(story->service->config, name))
                return story_fail(story, -EPROTONOSUPPORT, "file systems of the type \"%s\" are not %s here", name,
                                  item->type ? "permitted" : "supported");
        return 0;
}

/* With a wish: NAME for the first, "NAME 2" for volume 2. */
static int resolve_name(Mounting *mounting, MountItem *item, const MountWish *wish)
{
        _cleanup_free_ char *wished = NULL;
        int r;

        if (!wish->name) {
                item->name = strdup(item->volume->name);
                return item->name ? 0 : -ENOMEM;
        }
        if (mounting->n_items == 0)
                wished = strdup(wish->name);
        else if (asprintf(&wished, "%s %u", wish->name, item->volume->number) < 0)
                wished = NULL;
        if (!wished)
                return -ENOMEM;
        r = mount_point_sanitise(wished, &item->name);
        if (r == -EINVAL)
                return story_fail(mounting->story, r, "nothing of the wished name can be used for a mount point");
        return r;
}

static int plan_volume(Mounting *mounting, Volume *volume, const MountWish *wish)
{
        MountItem *item = &mounting->items[mounting->n_items];
        int r;

        if (volume_is_mounted(volume))
                return story_fail(mounting->story, -EALREADY, "it is mounted at %s", volume->mount_point);
        item->volume = volume;
        r = resolve_type(mounting, item, wish);
        if (r >= 0)
                r = resolve_name(mounting, item, wish);
        if (r >= 0) {
                mounting->n_items++;
                r = resolve_options(mounting, item, wish);
        }
        return r;
}

static int plan_chosen(Mounting *mounting, const MountWish *wish, const uint32_t *numbers, size_t n_numbers)
{
        mounting->chosen = true;
        for (size_t i = 0; i < n_numbers; i++) {
                Volume *volume = image_find_volume(mounting->image, numbers[i]);
                int r;

                if (!volume)
                        return story_fail(mounting->story, -ENOENT, "there is no volume %u in it", numbers[i]);
                for (size_t j = 0; j < i; j++)
                        if (numbers[j] == numbers[i])
                                return story_fail(mounting->story, -ENOENT, "volume %u is named twice", numbers[i]);
                r = plan_volume(mounting, volume, wish);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* All reasons in one line: "volume 1: it is encrypted (crypto_LUKS); volume 2: ...". */
static int fail_without_volumes(Mounting *mounting)
{
        _cleanup_free_ char *reasons = NULL;
        size_t size;
        Volume *volume;
        bool recognised = false;
        FILE *f = open_memstream(&reasons, &size);

        if (!f)
                return -ENOMEM;
        IMAGE_FOREACH_VOLUME (volume, mounting->image) {
                if (volume->number == 0)
                        fprintf(f, "%s", volume->obstacle);
                else
                        fprintf(f, "%svolume %u: %s", ftell(f) > 0 ? "; " : "", volume->number, volume->obstacle);
                recognised |= *volume->usage && !streq(volume->usage, "ambivalent");
        }
        if (mounting->image->n_volumes == 0)
                fprintf(f, "its partition table (%s) has no partitions", mounting->image->table);
        if (fclose(f) != 0)
                return -ENOMEM;
        return story_fail(mounting->story, recognised ? -EPROTONOSUPPORT : -ENODATA, "%s", reasons);
}

static int plan_all(Mounting *mounting, const MountWish *wish)
{
        Volume *volume;
        int r = 0;

        IMAGE_FOREACH_VOLUME (volume, mounting->image)
                if (!*volume->obstacle && !volume_is_mounted(volume) && r >= 0)
                        r = plan_volume(mounting, volume, wish);
        if (r < 0 || mounting->n_items > 0)
                return r;
        /* A type that was named is tried even where nothing was recognised. */
        volume = image_find_volume(mounting->image, 0);
        if (wish->filesystem_type && volume)
                return plan_volume(mounting, volume, wish);
        return fail_without_volumes(mounting);
}

int mounting_plan(Story *story, Image *image, const MountWish *wish, const uint32_t *numbers, size_t n_numbers,
                  Mounting **ret)
{
        _cleanup_(mounting_freep) Mounting *mounting = calloc(1, sizeof(*mounting));
        int r;

        if (!mounting)
                return -ENOMEM;
        mounting->story = story;
        mounting->image = image;
        mounting->parent_fd = -1;
        mounting->items = calloc(MAX(image->n_volumes, n_numbers) + 1, sizeof(MountItem));
        if (!mounting->items)
                return -ENOMEM;
        r = n_numbers > 0 ? plan_chosen(mounting, wish, numbers, n_numbers) : plan_all(mounting, wish);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(mounting);
        return 0;
}

/* ---- The job's child ---- */

static int create(const MountItem *item, char message[static MOUNT_MESSAGE_SIZE], int *ret_fd)
{
        _cleanup_free_ MountOption *options = calloc(item->options.n_items + 1, sizeof(MountOption));
        MountSpec spec = {
                .driver = filesystem_driver(item->type),
                .source = item->node,
                .read_only = item->options.read_only,
                .options = options,
                .n_options = item->options.n_items,
                .attributes = item->options.attributes,
        };

        if (!options)
                return -ENOMEM;
        for (size_t i = 0; i < item->options.n_items; i++)
                options[i] = (MountOption){ item->options.items[i].key, item->options.items[i].value };
        return mount_create(&spec, ret_fd, message);
}

static int attach(const Mounting *mounting, const MountItem *item, int mount_fd, uint64_t *ret_id)
{
        const char *name = strrchr(item->volume->mount_point, '/') + 1;
        int r = mount_attach(mount_fd, mounting->parent_fd, name, ret_id);

        if (r < 0)
                return r;
        /* Without its line in utab the user could not unmount it with plain umount(8); it is still mounted. */
        (void)mount_utab_add(item->node, item->volume->mount_point, filesystem_driver(item->type));
        return 0;
}

/*
 * The device may have gone since it was looked at, and its number may be somebody
 * else's by now: it is opened, which keeps it, and compared. -ESTALE.
 */
static int pin_device(const Volume *volume, int *ret_fd)
{
        const Image *image = volume->image;

        if (volume->number == 0)
                return loop_open(image->loop_number, image->devnum, image->diskseq, O_RDONLY, ret_fd);
        if (volume->devnum == 0)
                return -ESTALE;
        return partition_open(image->loop_number, image->diskseq, volume->number, volume->devnum, volume->offset,
                              volume->size, ret_fd);
}

/* @pins: the descriptors that keep the devices. */
static int isolate(const Mounting *mounting, MountResult *results, int *pins, int *ret_root)
{
        _cleanup_free_ MountNode *nodes = calloc(mounting->n_items, sizeof(MountNode));
        size_t n = 0;

        if (!nodes)
                return -ENOMEM;
        for (size_t i = 0; i < mounting->n_items; i++) {
                const Volume *volume = mounting->items[i].volume;

                pins[i] = -1;
                results[i].error = pin_device(volume, &pins[i]);
                if (results[i].error >= 0)
                        nodes[n++] = (MountNode){ mounting->items[i].node,
                                                  volume->number == 0 ? volume->image->devnum : volume->devnum };
        }
        return mount_isolate(nodes, n, ret_root);
}

/* True: all of them are made. */
static bool create_all(const Mounting *mounting, MountResult *results, int *fds)
{
        bool all = true;

        for (size_t i = 0; i < mounting->n_items; i++) {
                fds[i] = -1;
                if (results[i].error >= 0)
                        results[i].error = create(&mounting->items[i], results[i].message, &fds[i]);
                all &= results[i].error >= 0;
        }
        return all;
}

static int run_mounts(int channel, const void *parameters)
{
        const Mounting *mounting = *(Mounting *const *)parameters;
        _cleanup_free_ MountResult *results = calloc(mounting->n_items, sizeof(MountResult));
        _cleanup_free_ int *fds = calloc(mounting->n_items, sizeof(int));
        _cleanup_free_ int *pins = calloc(mounting->n_items, sizeof(int));
        int root = -1, r;
        bool all;

        if (!results || !fds || !pins)
                return -ENOMEM;
        r = isolate(mounting, results, pins, &root);
        if (r < 0)
                return r;
        all = create_all(mounting, results, fds);
        r = mount_leave_isolation(root);
        if (r < 0)
                return r;
        for (size_t i = 0; i < mounting->n_items; i++)
                if (results[i].error >= 0 && (all || !mounting->chosen))
                        results[i].error = attach(mounting, &mounting->items[i], fds[i], &results[i].mount_id);
        /* Whoever hears that it is mounted may unmount it at once. */
        for (size_t i = 0; i < mounting->n_items; i++) {
                safe_close(fds[i]);
                safe_close(pins[i]);
        }
        return job_answer(channel, results, mounting->n_items * sizeof(MountResult), NULL, 0);
}

/* ---- Running it ---- */

typedef struct Announcement {
        const Mounting *mounting;
        Volume *volume;
} Announcement;

static int announce(const char *name, void *userdata)
{
        Announcement *announcement = userdata;
        char *path;

        if (asprintf(&path, "%s/%s", announcement->mounting->parent, name) < 0)
                return -ENOMEM;
        free(announcement->volume->mount_point);
        announcement->volume->mount_point = path;
        announcement->volume->mount_id = 0;
        return record_write(announcement->mounting->image);
}

static int make_mount_point(Mounting *mounting, MountItem *item)
{
        Announcement announcement = { mounting, item->volume };
        _cleanup_free_ char *name = NULL;
        int r = mount_point_make(mounting->parent_fd, item->name, announce, &announcement, &name);

        if (r < 0) {
                free(item->volume->mount_point);
                item->volume->mount_point = NULL;
                return story_fail(mounting->story, r, "cannot make a folder for \"%s\" in %s", item->name,
                                  mounting->parent);
        }
        volume_node(item->volume, item->node);
        return 0;
}

static int make_mount_points(Mounting *mounting)
{
        const Config *config = mounting->story->service->config;
        const Image *image = mounting->image;
        int r = mount_point_open_user(config->root, image->owner_name, image->owner, &mounting->parent,
                                      &mounting->parent_fd);

        if (r < 0)
                return story_fail(mounting->story, r, "the folder %s/%s cannot be used", config->root,
                                  image->owner_name);
        for (size_t i = 0; i < mounting->n_items && r >= 0; i++)
                r = make_mount_point(mounting, &mounting->items[i]);
        return r;
}

int mounting_run(Mounting *mounting, JobDone done)
{
        int r = make_mount_points(mounting);
        JobSpec spec = {
                .name = "mount",
                .function = run_mounts,
                .parameters = &mounting,
                .fds = { mounting->parent_fd },
                .n_fds = 1,
                .timeout_usec = mounting->story->service->config->job_timeout_usec,
        };

        return r < 0 ? r : story_run_job(mounting->story, &spec, done);
}

/* ---- Its answer ---- */

static const char *explain(int error)
{
        switch (-error) {
        case ENODEV:
                return "this kernel has no driver for it";
        case EINVAL:
        case EUCLEAN:
        case EBADMSG:
                return "the file system is damaged, or it is not one of this type";
        case ESTALE:
                return "its device is not what it was";
        case EIO:
        case ENXIO:
                return "the file system cannot be read; the image may be truncated";
        case EROFS:
        case EACCES:
                return "the file system can only be mounted read-only";
        case EBUSY:
        case EEXIST:
                return "the same file system is mounted from elsewhere";
        case EOPNOTSUPP:
                return "the file system uses features that this kernel does not have";
        default:
                return NULL;
        }
}

static void describe_failure(MountItem *item, const MountResult *result)
{
        const char *reason = explain(result->error);
        char *text = NULL;

        /* Not tried, since another one failed; or there is no device, and what was in the way of that is said. */
        if (result->error == 0 || (item->volume->number > 0 && item->volume->devnum == 0))
                return;

        if (!reason)
                reason = strerror(-result->error);
        if (result->message[0]
                    ? asprintf(&text, "mounting it as %s failed: %s (%s)", filesystem_name(item->type), reason,
                               result->message) < 0
                    : asprintf(&text, "mounting it as %s failed: %s", filesystem_name(item->type), reason) < 0)
                return;
        free(item->volume->obstacle);
        item->volume->obstacle = text;
}

static void apply_success(MountItem *item, uint64_t mount_id)
{
        item->volume->mount_id = mount_id;
        item->volume->mounted_read_only = item->options.read_only;
        *item->volume->obstacle = 0;
}

static void apply_failure(MountItem *item, const MountResult *result)
{
        describe_failure(item, result);
        (void)mount_point_remove(item->volume->mount_point);
        free(item->volume->mount_point);
        item->volume->mount_point = NULL;
}

/* The kernel's words may quote the image: they are hostile, too. */
static void sanitise_message(MountResult *result)
{
        result->message[sizeof(result->message) - 1] = 0;
        for (char *c = result->message; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
}

int mounting_apply(Mounting *mounting, const JobAnswer *answer)
{
        MountItem *failed = NULL;
        int error = 0;

        if (answer->size != mounting->n_items * sizeof(MountResult))
                return -EBADMSG;
        for (size_t i = 0; i < mounting->n_items; i++) {
                MountItem *item = &mounting->items[i];
                MountResult result;

                memcpy(&result, (const char *)answer->data + i * sizeof(result), sizeof(result));
                sanitise_message(&result);
                if (result.mount_id != 0) {
                        apply_success(item, result.mount_id);
                        continue;
                }
                if (result.error < 0 && !failed) {
                        failed = item;
                        error = result.error;
                }
                apply_failure(item, &result);
        }
        if (!failed || (!mounting->chosen && image_count_mounted(mounting->image) > 0))
                return 0;
        if (failed->volume->number == 0)
                return story_fail(mounting->story, error, "%s", failed->volume->obstacle);
        return story_fail(mounting->story, error, "volume %u: %s", failed->volume->number, failed->volume->obstacle);
}

bool mounting_includes(const Mounting *mounting, const Volume *volume)
{
        for (size_t i = 0; i < mounting->n_items; i++)
                if (mounting->items[i].volume == volume)
                        return true;
        return false;
}
