/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Planning it, the mount points, the order and its result; what the child does is in mounting-work.c. */
#include <fcntl.h>
#include <inttypes.h>

#include "base/flat.h"
#include "base/text.h"
#include "mechanism/device-guard.h"
#include "mechanism/filesystem.h"
#include "mechanism/mount-point.h"
#include "mechanism/mount.h"
#include "model/record.h"
#include "story/mounting-work.h"
#include "story/mounting.h"
#include "story/permission.h"
#include "story/user.h"

#define MAKE_TRIES 10U

typedef struct MountItem {
        Volume *volume;
        const FilesystemType *type;
        FilesystemOptions options;
        char *name;
        char *superblock; /* see Volume */
        bool has_folder;
} MountItem;

struct Mounting {
        Story *story;
        Image *image;
        bool chosen; /* the caller has named the volumes: each of them has to be mounted */
        MountItem *items;
        size_t n_items;
        char *parent;
        int parent_fd;
        gid_t pass; /* of the child that mounts */
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
                free(mounting->items[i].superblock);
        }
        free(mounting->items);
        free(mounting->parent);
        safe_close(mounting->parent_fd);
        device_guard_drop_pass(mounting->pass);
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
        if (r == -EPERM && request.read_only && offender && streq(offender, "rw"))
                return story_fail(story, r, "the option \"rw\" needs an image that is attached writable (--writable)");
        if (r == -EPERM)
                return story_fail(story, r, "the option \"%s\" is not permitted for %s", strempty(offender), type);
        if (r == -EINVAL && !offender)
                return story_fail(story, -EPERM, "there are too many of them");
        if (r == -EINVAL)
                return story_fail(story, -EPERM, "the option \"%s\" is not one for %s, or its value is wrong", offender,
                                  type);
        return r;
}

static bool is_recognised(const Volume *volume)
{
        return *volume->usage && !streq(volume->usage, "ambivalent");
}

/* A type that was named is tried where nothing was recognised; and where the journal is missing, if nothing is written.
 */
static bool must_be_left(const Mounting *mounting, const Volume *volume, const MountWish *wish)
{
        bool named = wish->filesystem_type && (mounting->image->read_only || !streq(volume->usage, "incomplete"));

        return !named && *volume->obstacle && !streq(volume->usage, "filesystem");
}

static int resolve_type(Mounting *mounting, MountItem *item, const MountWish *wish)
{
        Story *story = mounting->story;
        const char *name = wish->filesystem_type ? wish->filesystem_type : item->volume->type;

        if (must_be_left(mounting, item->volume, wish))
                return story_fail(story, is_recognised(item->volume) ? -EPROTONOSUPPORT : -ENODATA,
                                  "volume %u cannot be mounted: %s", item->volume->number, item->volume->obstacle);
        item->type = filesystem_find(name);
        if (!item->type || !config_allows_filesystem(story->service->config, name))
                return story_fail(story, -EPROTONOSUPPORT, "file systems of the type \"%s\" are not %s here", name,
                                  item->type ? "permitted" : "supported");
        if (!permission_includes(story, item->type))
                return story_fail(story, -EACCES, "volume %u has a file system of the type \"%s\" now; try again",
                                  item->volume->number, name);
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

/* "ext4 ro errors=remount-ro" */
static int describe_superblock(MountItem *item)
{
        const FilesystemOptions *options = &item->options;
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return -ENOMEM;
        fprintf(f, "%s %s", filesystem_driver(item->type), options->read_only ? "ro" : "rw");
        for (size_t i = 0; i < options->n_items; i++)
                fprintf(f, " %s%s%s", options->items[i].key, options->items[i].value ? "=" : "",
                        strempty(options->items[i].value));
        if (fclose(f) != 0)
                return -ENOMEM;
        item->superblock = text_escape(text, size);
        return item->superblock ? 0 : -ENOMEM;
}

static int plan_volume(Mounting *mounting, Volume *volume, const MountWish *wish)
{
        MountItem *item = &mounting->items[mounting->n_items];
        int r;

        if (volume_is_mounted(volume))
                return story_fail(mounting->story, -EALREADY, "it is mounted at %s", volume->mount_point);
        item->volume = volume;
        item->has_folder = volume_is_armed(volume);
        r = resolve_type(mounting, item, wish);
        if (r >= 0)
                r = resolve_name(mounting, item, wish);
        if (r >= 0) {
                mounting->n_items++;
                r = resolve_options(mounting, item, wish);
        }
        return r < 0 ? r : describe_superblock(item);
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
                recognised |= is_recognised(volume);
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
                if (!*volume->obstacle && !volume_is_mounted(volume) && !volume_is_waiting(volume) && r >= 0)
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

/* ---- What the job's child is told ---- */

/*
 * A name that a driver keeps must not lead to a later device: it is one that does not exist outside of the driver's
 * root directory, and that is not used again before the next boot, as the disk sequence number is not.
 */
static void name_node(const MountItem *item, char ret[static MOUNT_NODE_SIZE])
{
        char node[32];

        volume_node(item->volume, node);
        if (filesystem_registers_devices(item->type))
                snprintf(ret, MOUNT_NODE_SIZE, "%s.%" PRIu64, node, item->volume->image->diskseq);
        else
                snprintf(ret, MOUNT_NODE_SIZE, "%s", node);
}

static void write_item(FlatWriter *writer, const MountItem *item)
{
        const Volume *volume = item->volume;
        const FilesystemOptions *options = &item->options;
        MountOrderItem order = {
                .number = volume->number,
                .devnum = volume->number == 0 ? volume->image->devnum : volume->devnum,
                .offset = volume->offset,
                .size = volume->size,
                .read_only = options->read_only,
                .may_share = volume->superblock && streq(volume->superblock, item->superblock),
                .registers = filesystem_registers_devices(item->type),
                .attributes = options->attributes,
                .n_options = options->n_items,
        };

        name_node(item, order.node);
        flat_write(writer, &order, sizeof(order));
        flat_write_text(writer, filesystem_driver(item->type));
        flat_write_text(writer, strrchr(volume->mount_point, '/') + 1);
        for (size_t i = 0; i < options->n_items; i++) {
                flat_write_text(writer, options->items[i].key);
                flat_write_text(writer, options->items[i].value);
        }
}

static int write_order(const Mounting *mounting, FlatWriter *writer)
{
        const Image *image = mounting->image;
        MountOrder order = { image->loop_number, image->devnum,    image->diskseq,
                             mounting->pass,     mounting->chosen, mounting->n_items };

        flat_write(writer, &order, sizeof(order));
        flat_write_text(writer, mounting->parent);
        for (size_t i = 0; i < mounting->n_items; i++)
                write_item(writer, &mounting->items[i]);
        return flat_finish(writer);
}

/* ---- The mount points ---- */

/* Another volume is to have it, though there may be no folder yet. */
static bool is_reserved(const char *name, const void *userdata)
{
        const Mounting *mounting = userdata;

        for (size_t i = 0; i < mounting->n_items; i++) {
                const char *path = mounting->items[i].volume->mount_point;

                if (path && streq(strrchr(path, '/') + 1, name))
                        return true;
        }
        return false;
}

/* One that waits to be entered keeps it. */
static void forget_mount_point(Volume *volume)
{
        if (volume_is_armed(volume))
                return;
        free(volume->mount_point);
        volume->mount_point = NULL;
}

static int choose_mount_point(const Mounting *mounting, Volume *volume, const char *wish)
{
        _cleanup_free_ char *name = NULL;
        int r;

        forget_mount_point(volume);
        volume->mount_id = 0;
        r = mount_point_choose(mounting->parent_fd, wish, is_reserved, mounting, &name);
        if (r < 0)
                return r;
        volume->mount_point = text_printf("%s/%s", mounting->parent, name);
        return volume->mount_point ? 0 : -ENOMEM;
}

/*
 * All names, then the record of them, then the folders: nothing is there that a
 * restarted daemon would not know of, and however many volumes there are, the
 * record is written once. *ret_item: where it failed.
 */
static int try_mount_points(Mounting *mounting, MountItem **ret_item)
{
        MountItem *const end = mounting->items + mounting->n_items;
        int r = 0;

        for (MountItem *item = mounting->items; item < end && r >= 0; item++) {
                *ret_item = item;
                if (!item->has_folder)
                        r = choose_mount_point(mounting, item->volume, item->name);
                mounting->image->registered |= filesystem_registers_devices(item->type);
        }
        if (r >= 0)
                r = record_write(mounting->image);
        for (MountItem *item = mounting->items; item < end && r >= 0; item++) {
                *ret_item = item;
                if (!item->has_folder)
                        r = mount_point_make(mounting->parent_fd, strrchr(item->volume->mount_point, '/') + 1);
                item->has_folder = r >= 0;
        }
        return r;
}

static int make_mount_points(Mounting *mounting)
{
        MountItem *item = mounting->items;
        int r = -EEXIST;

        /* Other programs take names here, too: then there is another one. */
        for (unsigned i = 0; i < MAKE_TRIES && r == -EEXIST; i++)
                r = try_mount_points(mounting, &item);
        if (r >= 0)
                return 0;
        for (size_t i = 0; i < mounting->n_items; i++)
                if (!mounting->items[i].has_folder)
                        forget_mount_point(mounting->items[i].volume);
        return story_fail(mounting->story, r, "cannot make a folder for \"%s\" in %s", item->name, mounting->parent);
}

/* Mount points are where the administrator wants them: what waits to be entered may be where he wanted them before. */
static int check_old_mount_points(const Mounting *mounting)
{
        size_t length = strlen(mounting->parent);

        for (size_t i = 0; i < mounting->n_items; i++) {
                const MountItem *item = &mounting->items[i];
                const char *path = item->volume->mount_point;

                if (item->has_folder && (strncmp(path, mounting->parent, length) != 0 || path[length] != '/'))
                        return story_fail(mounting->story, -ESTALE, "mount points are in %s now", mounting->parent);
        }
        return 0;
}

int mounting_prepare(Mounting *mounting)
{
        const Config *config = mounting->story->service->config;
        const Image *image = mounting->image;
        int r = mount_point_open_user(config->root, image->owner_name, image->owner, &mounting->parent,
                                      &mounting->parent_fd);

        if (r < 0)
                story_fail(mounting->story, r, "the folder %s/%s cannot be used", config->root, image->owner_name);
        else
                r = check_old_mount_points(mounting);
        if (r >= 0)
                r = make_mount_points(mounting);
        /* It may have been made for this; if there is something in it, it stays. */
        if (r < 0)
                (void)TRY_TWICE(mount_point_remove_user(config->root, image->owner_name));
        return r;
}

/* ---- Running it ---- */

/* The guard was there when the permission was asked for, but may not be now. */
static int take_pass(Mounting *mounting)
{
        Story *story = mounting->story;

        mounting->pass = device_guard_new_pass();
        for (size_t i = 0; !mounting->pass && i < mounting->n_items; i++) {
                const MountItem *item = &mounting->items[i];

                if (filesystem_opens_devices(item->type, item->options.read_only) &&
                    !permission_includes_unhardened(story))
                        return story_fail(story, -EACCES, "volume %u cannot be kept away from other devices",
                                          item->volume->number);
        }
        return 0;
}

int mounting_run(Mounting *mounting, JobDone done)
{
        _cleanup_free_ char *order = NULL;
        FlatWriter writer = { 0 };
        int r = take_pass(mounting);

        if (r >= 0)
                r = mounting_prepare(mounting);

        if (r >= 0)
                r = write_order(mounting, &writer);
        order = writer.data;
        JobSpec spec = {
                .name = "mount",
                .work = mounting_work,
                .order = order,
                .order_size = writer.size,
                .n_fds = mounting->pass ? DEVICE_GUARD_FDS : 0,
                .timeout_usec = mounting->story->service->config->job_timeout_usec,
        };

        if (mounting->pass)
                device_guard_get_fds(spec.fds);
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
        case EXDEV:
                return "the file system wants to use another device, which it may not";
        case ENOTRECOVERABLE:
                return "it cannot be kept away from other devices";
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
        free(item->volume->superblock);
        item->volume->superblock = TAKE_PTR(item->superblock);
        item->volume->mount_id = mount_id;
        item->volume->mounted_read_only = item->options.read_only;
        *item->volume->obstacle = 0;
}

static void apply_failure(MountItem *item, const MountResult *result)
{
        describe_failure(item, result);
        if (!mount_is_anything_at(item->volume->mount_point))
                (void)TRY_TWICE(mount_point_remove(item->volume->mount_point));
        forget_mount_point(item->volume);
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
        if (!failed || (!mounting->chosen && image_count_usable(mounting->image) > 0))
                return 0;
        if (failed->volume->number == 0)
                return story_fail(mounting->story, error, "%s", failed->volume->obstacle);
        return story_fail(mounting->story, error, "volume %u: %s", failed->volume->number, failed->volume->obstacle);
}

Volume *mounting_nth(const Mounting *mounting, size_t n)
{
        return n < mounting->n_items ? mounting->items[n].volume : NULL;
}

size_t mounting_count(const Mounting *mounting)
{
        return mounting ? mounting->n_items : 0;
}

bool mounting_includes(const Mounting *mounting, const Volume *volume)
{
        for (size_t i = 0; i < mounting_count(mounting); i++)
                if (mounting->items[i].volume == volume)
                        return true;
        return false;
}
