/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attaching an image, from the caller's descriptor to the reply:
 *
 *   probe       a sandboxed child has read what is in the file
 *   authorise   polkit, which is told the types of the file systems, says yes
 *   user        the owner's name is known
 *   lock        no other story is about the same file; perhaps it is attached already
 *   plan        it is clear what will be mounted, and with which options
 *   bind        a loop device is bound to the file
 *   partitions  it has a device for each partition
 *   mount       the file systems are mounted, or wait to be entered
 *   settle      udev has seen the devices, if the caller wants to wait for that
 *   commit      the image is on record and on the bus
 *
 * The probe comes before the device: most of what can be wrong with an image is
 * found while there is nothing to undo, and one LOOP_CONFIGURE with the right
 * sector size is all that the device needs.
 *
 * Nobody sees the image before the last step. If one fails, undo() takes away
 * what there is: the mounts and the device in a child, then the record.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/closer.h"
#include "base/session.h"
#include "base/text.h"
#include "mechanism/fdstore.h"
#include "mechanism/holes.h"
#include "mechanism/mount-point.h"
#include "mechanism/parcel.h"
#include "mechanism/probe.h"
#include "mechanism/settle.h"
#include "model/record.h"
#include "story/arming.h"
#include "story/attach.h"
#include "story/looking.h"
#include "story/partitioning.h"
#include "story/permission.h"
#include "story/probing.h"
#include "story/releasing.h"
#include "story/user.h"
#include "story/volumes.h"

/* udevd does what it can; an image is not given up because udevd is slow. */
#define SETTLE_TIMEOUT_USEC (10 * USEC_PER_SEC)
/* How many a user's images may have on average, if they are as many as permitted. */
#define VOLUMES_PER_IMAGE ((size_t)16)

typedef struct Attach {
        Story story;
        AttachRequest request;
        Image *image;  /* ours until it is published */
        bool existing; /* ... or one that was there before */
        Mounting *mounting;
        Arming *arming;
        Releasing *releasing;
        Settle *settle;
} Attach;

static Attach *attach_of(Story *story)
{
        return container_of(story, Attach, story);
}

static const char *file_name(const Attach *attach)
{
        const char *slash = strrchr(attach->request.backing_file, '/');

        return slash ? slash + 1 : attach->request.backing_file;
}

/* ---- probe ---- */

static int take_probe(Attach *attach, const JobAnswer *answer)
{
        _cleanup_free_ ProbeVolume *probed = NULL;
        ProbeSummary summary;
        Story *story = &attach->story;
        int r = probe_parse(answer->data, answer->size, &summary, &probed);

        if (r < 0)
                return r;
        if (attach->request.offset % summary.sector_size != 0)
                return story_fail(story, -ERANGE, "the offset is no multiple of the sector size, %u bytes",
                                  summary.sector_size);
        if (summary.size < summary.sector_size)
                return story_fail(story, -ENODATA, "it is smaller than one sector of %u bytes", summary.sector_size);
        if (summary.n_volumes > story->service->config->max_volumes_per_image)
                return story_fail(story, -EDQUOT, "it has more than %u partitions",
                                  story->service->config->max_volumes_per_image);
        story->file_device = summary.file_device;
        story->file_inode = summary.file_inode;
        r = image_from_probe(attach->image, &summary, probed, file_name(attach));
        return r < 0 ? r : image_find_obstacles(attach->image, story->service->config);
}

/* ---- authorise ---- */

static bool is_equal(const Attach *attach, const Image *image)
{
        const AttachRequest *request = &attach->request;

        return image->owner == attach->story.owner && image->offset == request->offset &&
               image->size == attach->image->size && image->sector_size == attach->image->sector_size &&
               image->read_only == request->read_only && image->partition_scan == request->partition_scan &&
               image->state == IMAGE_ATTACHED;
}

static bool is_usable(const Volume *volume)
{
        return volume && (volume_is_mounted(volume) || volume_is_waiting(volume));
}

/* Attached by the same user with the same parameters: it is what this request will return. */
static Image *find_equal(const Attach *attach)
{
        const Story *story = &attach->story;
        Image *image;

        for (size_t i = 0; (image = registry_nth(story->service->registry, i)); i++)
                if (image->file_device == story->file_device && image->file_inode == story->file_inode &&
                    is_equal(attach, image))
                        return image;
        return NULL;
}

static int find_permission(Attach *attach)
{
        const AttachRequest *request = &attach->request;
        const Image *equal = find_equal(attach), *image = equal ? equal : attach->image;
        Story *story = &attach->story;

        if (!request->mount) {
                story->purpose.types = strdup("");
                return story->purpose.types ? 0 : -ENOMEM;
        }
        return permission_find(story, image, &request->wish, request->volumes, request->n_volumes);
}

static void on_probed(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        if (error >= 0)
                error = take_probe(attach_of(story), answer);
        if (error >= 0)
                error = find_permission(attach_of(story));
        story_resume(story, error);
}

static int probe(Story *story)
{
        const AttachRequest *request = &attach_of(story)->request;
        ProbeSpec spec = {
                .fd = request->parcel,
                .regular_only = true,
                .offset = request->offset,
                .size = request->size,
                .sector_size = request->sector_size,
                .partition_scan = request->partition_scan,
        };

        return probing_run(story, &spec, on_probed);
}

/* ---- lock ---- */

static uint64_t page_size(void)
{
        return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* " (bytes 512 to 1023)", or nothing if it is the whole file. @text is freed by the caller. */
static int format_range(const Image *image, char **ret)
{
        *ret = NULL;
        if (image->size_limit > 0)
                *ret = text_printf(" (bytes %" PRIu64 " to %" PRIu64 ")", image->offset,
                                   image->offset + image->size_limit - 1);
        else if (image->offset > 0)
                *ret = text_printf(" (bytes %" PRIu64 " to its end)", image->offset);
        else
                *ret = strdup("");
        return *ret ? 0 : -ENOMEM;
}

static int fail_attached_already(Story *story, const Image *image)
{
        const char *mode = image->read_only ? "read-only" : "writable";
        _cleanup_free_ char *range = NULL;
        Volume *volume;
        char node[32];

        if (format_range(image, &range) < 0)
                return -ENOMEM;
        image_node(image, node);
        if (image->owner != story->owner && image->file_owner == story->caller.uid)
                return story_fail(
                        story, -EEXIST,
                        "by the user %s, %s as %s%s; you own the file, so you may detach this image, id:%" PRIu64,
                        image->owner_name, mode, node, range, image->id);
        if (image->owner != story->owner)
                return story_fail(story, -EEXIST, "by another user%s", range);
        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume_is_mounted(volume))
                        return story_fail(story, -EEXIST, "%s as %s%s, mounted at %s", mode, node, range,
                                          volume->mount_point);
        return story_fail(story, -EEXIST, "%s as %s%s", mode, node, range);
}

/*
 * Two writers of the same bytes, or a writer and a reader, would not see the same file. If only one of two writers goes
 * by the page cache, this is also true of bytes in the same page. A reader that was given up keeps nobody out: whoever
 * holds its device may have it open for ever.
 */
static bool is_in_conflict(const Attach *attach, const Image *image)
{
        const AttachRequest *request = &attach->request;
        bool direct = image->direct_io || request->direct_io == LOOP_DIRECT_IO_YES;

        if (image->read_only && (request->read_only || image->state != IMAGE_ATTACHED))
                return false;
        return image_overlaps(image, request->offset, request->size,
                              direct && !image->read_only && !request->read_only ? page_size() : 1);
}

/* The same request again gives the same image. */
static int lock_file(Story *story)
{
        Attach *attach = attach_of(story);
        Image *image;
        int r = looking_lock(story);

        if (r != 0)
                return r;
        for (size_t i = 0; (image = registry_nth(story->service->registry, i)); i++) {
                if (image->file_device != story->file_device || image->file_inode != story->file_inode)
                        continue;
                if (is_equal(attach, image)) {
                        image_free(attach->image);
                        attach->image = image;
                        attach->existing = true;
                        return 0;
                }
                if (is_in_conflict(attach, image))
                        return fail_attached_already(story, image);
        }
        return 0;
}

/* ---- plan ---- */

/* Those that are behind this step already count as attached. */
static bool counts_beside(const Story *story, const Story *other)
{
        return other != story && other->type == story->type && other->owner == story->owner &&
               other->step->stage > STAGE_PLAN && !attach_of((Story *)other)->existing;
}

/* All are on the bus, and in each list of what there is. */
static int check_volume_limit(Story *story)
{
        const Config *config = story->service->config;
        size_t n = attach_of(story)->image->n_volumes;
        const size_t max = MAX(config->max_images_per_user * VOLUMES_PER_IMAGE, config->max_volumes_per_image);
        const Image *image;

        for (size_t i = 0; (image = registry_nth(story->service->registry, i)); i++)
                if (image->owner == story->owner)
                        n += image->n_volumes;
        for (const Story *other = story->service->stories; other; other = other->next)
                if (counts_beside(story, other))
                        n += attach_of((Story *)other)->image->n_volumes;
        if (story->caller.uid != 0 && n > max)
                return story_fail(story, -EDQUOT, "there would be %zu volumes, and a user may have %zu", n, max);
        return 0;
}

static int check_limit(Story *story)
{
        const Config *config = story->service->config;
        size_t n = registry_count_of(story->service->registry, story->owner);

        for (const Story *other = story->service->stories; other; other = other->next)
                n += counts_beside(story, other);
        if (story->caller.uid != 0 && n >= config->max_images_per_user)
                return story_fail(story, -EDQUOT, "%zu images are attached, which is as many as a user may have", n);
        return 0;
}

static int fill_image(Attach *attach)
{
        const User *user = user_find(attach->story.service, attach->story.owner);
        Image *image = attach->image;
        const AttachRequest *request = &attach->request;

        image->state = IMAGE_ATTACHING;
        image->file_device = attach->story.file_device;
        image->file_inode = attach->story.file_inode;
        image->offset = request->offset;
        image->size_limit = request->size;
        image->read_only = request->read_only;
        image->partition_scan = request->partition_scan;
        image->on_access = request->on_access;
        image->idle_usec = request->on_access ? request->idle_usec : 0;
        image->hardened_only = !permission_includes_unhardened(&attach->story);
        image->session_bound =
                request->session_bound != 0 && session_is_behind(attach->story.caller.pid, attach->story.owner);
        image->owner = attach->story.owner;
        image->owner_gid = user->gid;
        image->owner_name = strdup(user->name);
        image->backing_file = text_escape(request->backing_file, strlen(request->backing_file));
        return image->owner_name && image->backing_file ? 0 : -ENOMEM;
}

/* Returns the name of an option that asks for something else than what is there, or NULL. */
static const char *find_difference(const AttachRequest *request, const Image *image)
{
        if (request->auto_detach >= 0 && request->auto_detach != image->auto_detach)
                return "auto-detach";
        if (request->session_bound >= 0 && request->session_bound != image->session_bound)
                return "session-bound";
        if (request->direct_io != LOOP_DIRECT_IO_AUTO && (request->direct_io == LOOP_DIRECT_IO_YES) != image->direct_io)
                return "direct-io";
        if (request->on_access && !image->on_access)
                return "on-access";
        if (request->on_access && request->idle_usec != image->idle_usec)
                return "idle-timeout";
        return NULL;
}

/* Returns true if @volume has the mount point that the wish would have got: that name, or the name and a number. */
static bool is_called(const Volume *volume, const char *wish)
{
        _cleanup_free_ char *name = NULL;
        const char *found = strrchr(volume->mount_point, '/') + 1;

        if (mount_point_sanitise(wish, &name) < 0 || strncmp(found, name, strlen(name)) != 0)
                return false;
        found += strlen(name);
        return found[strspn(found, " 0123456789")] == 0;
}

/* Nothing about a volume that is mounted can be changed. -EALREADY: that would be needed. */
static int check_mounted(Story *story, const Volume *volume)
{
        const MountWish *wish = &attach_of(story)->request.wish;
        const Image *image = volume->image;

        if (wish->name && !is_called(volume, wish->name))
                return story_fail(story, -EALREADY, "volume %u is mounted at %s; unmount it to give it another name",
                                  volume->number, volume->mount_point);
        if (!wish->filesystem_type && !wish->options)
                return 0;
        if (volume_is_armed(volume) && streq(strempty(wish->filesystem_type), strempty(image->wished_type)) &&
            streq(strempty(wish->options), strempty(image->wished_options)))
                return 0;
        return story_fail(story, -EALREADY, "volume %u is mounted at %s; unmount it to mount it with other options",
                          volume->number, volume->mount_point);
}

/* Plans to mount those of the named volumes that are not mounted. */
static int plan_missing(Attach *attach)
{
        const AttachRequest *request = &attach->request;
        _cleanup_free_ uint32_t *missing = calloc(request->n_volumes, sizeof(*missing));
        size_t n_missing = 0;
        int r = 0;

        if (!missing)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < request->n_volumes; i++) {
                const Volume *volume = image_find_volume(attach->image, request->volumes[i]);

                if (is_usable(volume))
                        r = check_mounted(&attach->story, volume);
                else
                        missing[n_missing++] = request->volumes[i];
        }
        if (r < 0 || n_missing == 0)
                return r;
        return mounting_plan(&attach->story, attach->image, &request->wish, missing, n_missing, &attach->mounting);
}

/* The same for all volumes that nothing is in the way of. */
static int plan_all_missing(Attach *attach)
{
        bool complete = image_count_usable(attach->image) > 0;
        Volume *volume;
        int r = 0;

        IMAGE_FOREACH_VOLUME (volume, attach->image) {
                if (r >= 0 && is_usable(volume))
                        r = check_mounted(&attach->story, volume);
                complete &= is_usable(volume) || *volume->obstacle;
        }
        if (r < 0 || complete)
                return r;
        return mounting_plan(&attach->story, attach->image, &attach->request.wish, NULL, 0, &attach->mounting);
}

/* What is asked for and cannot be had of an image that is attached is an error. */
static int plan_existing(Attach *attach)
{
        const AttachRequest *request = &attach->request;
        const char *difference = find_difference(request, attach->image);

        if (difference)
                return story_fail(&attach->story, -EEXIST, "with other options: %s differs; detach it to change that",
                                  difference);
        if (!request->mount)
                return 0;
        return request->n_volumes > 0 ? plan_missing(attach) : plan_all_missing(attach);
}

/* Each has a descriptor in the daemon, and there are only so many: a user has as many of them as images. */
static int check_armed_limit(Story *story)
{
        const Service *service = story->service;
        size_t n = mounting_count(attach_of(story)->mounting);
        const Image *image;
        Volume *volume;

        for (size_t i = 0; (image = registry_nth(service->registry, i)); i++)
                if (image->owner == story->owner)
                        IMAGE_FOREACH_VOLUME (volume, image)
                                n += volume_is_armed(volume);
        for (const Story *other = service->stories; other; other = other->next)
                if (other != story && other->type == story->type && other->owner == story->owner &&
                    other->step->stage > STAGE_PLAN && attach_of((Story *)other)->request.on_access)
                        n += mounting_count(attach_of((Story *)other)->mounting);
        if (story->caller.uid != 0 && n > service->config->max_images_per_user)
                return story_fail(story, -EDQUOT, "%zu volumes would be mounted on access, more than a user may have",
                                  n);
        return 0;
}

/* Any image may lose its mounts later, and is kept by a copy of its descriptor then; a trigger always is. */
static size_t count_to_keep(const Image *image)
{
        size_t n = 1;
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image)
                n += volume_is_armed(volume);
        return n;
}

static size_t count_to_keep_of(const Attach *attach)
{
        return attach->existing
                       ? 0
                       : 1 + (attach->request.on_access && attach->mounting ? mounting_count(attach->mounting) : 0);
}

static int check_store_limit(Story *story)
{
        size_t n_of_all = count_to_keep_of(attach_of(story)), n_of_user = n_of_all;
        const Image *image;

        for (size_t i = 0; (image = registry_nth(story->service->registry, i)); i++) {
                n_of_all += count_to_keep(image);
                n_of_user += image->owner == story->owner ? count_to_keep(image) : 0;
        }
        for (Story *other = story->service->stories; other; other = other->next)
                if (other != story && other->type == story->type && other->step->stage > STAGE_PLAN) {
                        n_of_all += count_to_keep_of(attach_of(other));
                        n_of_user += other->owner == story->owner ? count_to_keep_of(attach_of(other)) : 0;
                }
        if (fdstore_check(story->caller.uid, n_of_user, n_of_all) < 0)
                return story_fail(story, -EDQUOT, "not all of them could be kept over a restart of the service");
        return 0;
}

/* What is wished for goes for each mount to come. */
static int remember_wish(Attach *attach)
{
        const MountWish *wish = &attach->request.wish;
        Image *image = attach->image;

        /* It has to fit into a line of the record. */
        if (strchr(strempty(wish->options), '\n'))
                return story_fail(&attach->story, -EPERM, "there is a line break in them");
        if ((wish->filesystem_type && !(image->wished_type = strdup(wish->filesystem_type))) ||
            (wish->options && !(image->wished_options = strdup(wish->options))))
                return -ENOMEM;
        return 0;
}

static int plan(Story *story)
{
        Attach *attach = attach_of(story);
        const AttachRequest *request = &attach->request;
        int r;

        if (!request->read_only && !story->service->config->allow_writable)
                return story_fail(story, -EPERM, "the administrator permits reading only");
        if (attach->existing)
                return plan_existing(attach);
        r = check_limit(story);
        if (r >= 0)
                r = check_volume_limit(story);
        if (r >= 0)
                r = fill_image(attach);
        if (r >= 0 && request->mount)
                r = mounting_plan(story, attach->image, &request->wish, request->volumes, request->n_volumes,
                                  &attach->mounting);
        if (r >= 0)
                r = check_store_limit(story);
        if (r < 0 || !request->mount)
                return r;
        if (request->on_access)
                r = check_armed_limit(story);
        return r < 0 || !request->on_access ? r : remember_wish(attach);
}

/* ---- bind ---- */

typedef struct BindOrder {
        LoopSpec spec; /* but for the file, which comes wrapped up */
        gid_t owner_gid;
        dev_t file_device;
        ino_t file_inode;
} BindOrder;

typedef struct Binding {
        LoopDevice device;
        uint64_t file_mount_id;
        uid_t file_owner;
} Binding;

/* The probe has read hostile bytes before it said which file it was: trust it no further than this. */
static int check_identity(const BindOrder *order, Binding *binding)
{
        struct statx stx;

        if (statx(order->spec.file_fd, "", AT_EMPTY_PATH, STATX_INO | STATX_UID | STATX_MNT_ID, &stx) < 0)
                return -errno;
        if (makedev(stx.stx_dev_major, stx.stx_dev_minor) != order->file_device || stx.stx_ino != order->file_inode)
                return -ESTALE;
        binding->file_mount_id = stx.stx_mask & STATX_MNT_ID ? stx.stx_mnt_id : 0;
        /* Root's, if it cannot be told: root may do anything in any case. */
        binding->file_owner = stx.stx_mask & STATX_UID ? stx.stx_uid : 0;
        return 0;
}

static int run_bind(int channel, const JobOrder *message)
{
        _cleanup_close_ int fd = -1;
        Binding binding = { 0 };
        BindOrder order;
        int r;

        if (message->size != sizeof(order) || message->n_fds != 1)
                return -EBADMSG;
        memcpy(&order, message->data, sizeof(order));
        r = parcel_unwrap(message->fds[0], &order.spec.file_fd);
        if (r >= 0)
                r = check_identity(&order, &binding);
        /* Root may write wherever root wants. */
        if (r >= 0 && !order.spec.read_only && order.spec.owner != 0)
                r = holes_fill(order.spec.file_fd, order.spec.offset, order.spec.size, order.spec.owner,
                               order.owner_gid);
        if (r >= 0)
                r = loop_bind(&order.spec, &binding.device, &fd);
        if (r < 0)
                return r;
        r = job_answer(channel, &binding, sizeof(binding), &fd, 1);
        /* Nobody knows of it. */
        if (r < 0) {
                (void)loop_release(TAKE_FD(fd), binding.device.number, binding.device.diskseq, 0);
                loop_forget(binding.device.number, binding.device.diskseq);
        }
        return r;
}

static int take_device(Attach *attach, JobAnswer *answer)
{
        Image *image = attach->image;
        Binding binding;

        if (answer->size != sizeof(binding) || answer->n_fds != 1)
                return -EBADMSG;
        memcpy(&binding, answer->data, sizeof(binding));
        image->fd = TAKE_FD(answer->fds[0]);
        image->id = image->diskseq = binding.device.diskseq;
        image->loop_number = binding.device.number;
        image->devnum = binding.device.devnum;
        image->size = binding.device.size;
        image->sector_size = binding.device.sector_size;
        image->direct_io = binding.device.direct_io;
        image->file_mount_id = binding.file_mount_id;
        image->file_owner = binding.file_owner;
        /* Whatever is made from now on, the user's folder first of all, does not go by itself. */
        return record_write(image);
}

static void on_bound(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, error < 0 ? error : take_device(attach_of(story), answer));
}

/* The page at one of its ends may have bytes of another range of the file, which is written by the page cache. */
static bool shares_pages(const AttachRequest *request)
{
        return request->offset % page_size() != 0 || (request->offset + request->size) % page_size() != 0;
}

/*
 * ext4 and xfs, below the image, write what is smaller than one of their blocks past the page cache alone, with all
 * others waiting; that takes four times as long as by the page cache (docs/performance.md).
 */
static LoopDirectIO choose_direct_io(const Attach *attach)
{
        const AttachRequest *request = &attach->request;

        if (request->direct_io == LOOP_DIRECT_IO_AUTO && !request->read_only &&
            (image_writes_small_blocks(attach->image) || shares_pages(request)))
                return LOOP_DIRECT_IO_NO;
        return request->direct_io;
}

static int bind_device(Story *story)
{
        Attach *attach = attach_of(story);
        const Image *image = attach->image;
        BindOrder order = {
                .spec = {
                        .read_only = image->read_only,
                        .partition_scan = image_needs_partition_scan(image),
                        .offset = image->offset,
                        .size = attach->request.size,
                        .sector_size = image->sector_size,
                        .direct_io = choose_direct_io(attach),
                        .owner = image->owner,
                },
                .owner_gid = image->owner_gid,
                .file_device = image->file_device,
                .file_inode = image->file_inode,
        };
        JobSpec spec = {
                .name = "bind",
                .work = run_bind,
                .order = &order,
                .order_size = sizeof(order),
                .fds = { attach->request.parcel },
                .n_fds = 1,
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        return attach->existing ? 0 : story_run_job(story, &spec, on_bound);
}

/* ---- partitions ---- */

static void on_partitions(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, error < 0 ? error : partitioning_apply(attach_of(story)->image, answer));
}

static int add_partitions(Story *story)
{
        Attach *attach = attach_of(story);

        return attach->existing ? 0 : partitioning_run(story, attach->image, NULL, 0, on_partitions);
}

/* ---- mount ---- */

static void on_mounted(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, error < 0 ? error : mounting_apply(attach_of(story)->mounting, answer));
}

static void on_armed(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, arming_apply(attach_of(story)->arming, error, answer));
}

static int mount_volumes(Story *story)
{
        Attach *attach = attach_of(story);

        if (attach->mounting && attach->image->on_access && !attach->existing)
                return arming_run(story, attach->image, attach->mounting, on_armed, &attach->arming);
        return attach->mounting ? mounting_run(attach->mounting, on_mounted) : 0;
}

/* ---- settle ---- */

static void on_settled(int error, void *userdata)
{
        Story *story = userdata;

        (void)error;
        attach_of(story)->settle = NULL;
        story_resume(story, 0);
}

static int settle(Story *story)
{
        Attach *attach = attach_of(story);
        _cleanup_free_ dev_t *devices = NULL;
        size_t n = 0;
        Volume *volume;

        if (!attach->request.settle)
                return 0;
        devices = calloc(attach->image->n_volumes + 1, sizeof(dev_t));
        if (!devices)
                return -ENOMEM;
        devices[n++] = attach->image->devnum;
        IMAGE_FOREACH_VOLUME (volume, attach->image)
                if (volume->devnum != 0)
                        devices[n++] = volume->devnum;
        return settle_start(story->service->event, devices, n, SETTLE_TIMEOUT_USEC, on_settled, story, &attach->settle);
}

/* ---- commit ---- */

static uint64_t now_realtime_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

/* Returns the n-th of the volumes that were asked for, or NULL past the end. */
static Volume *nth_asked(const Attach *attach, size_t n)
{
        const AttachRequest *request = &attach->request;
        Volume *volume;

        if (!request->mount)
                return NULL;
        if (request->n_volumes > 0)
                return n < request->n_volumes ? image_find_volume(attach->image, request->volumes[n]) : NULL;
        IMAGE_FOREACH_VOLUME (volume, attach->image)
                if (is_usable(volume) && n-- == 0)
                        return volume;
        return NULL;
}

/* A volume that was mounted for good, or is asked for without a hold, stays. */
static int hold(const Attach *attach)
{
        Volume *volume;
        int r = 0;

        for (size_t i = 0; r >= 0 && (volume = nth_asked(attach, i)); i++) {
                bool is_new = !attach->existing || mounting_includes(attach->mounting, volume);

                if (attach->request.hold && (is_new || volume->held_by)) {
                        r = volume_hold(volume, attach->story.sender);
                } else if (!attach->request.hold) {
                        free(volume->held_by);
                        volume->held_by = NULL;
                }
        }
        return r;
}

static int publish(Story *story, Image *image)
{
        if (!image->read_only)
                image->quiet_until = settle_get_seqnum();
        image->attached_at_usec = now_realtime_usec();
        image->auto_detach = attach_of(story)->request.auto_detach < 0 ? image_count_usable(image) > 0
                                                                       : attach_of(story)->request.auto_detach;
        return record_publish(story->service->registry, image);
}

static int commit(Story *story)
{
        Attach *attach = attach_of(story);
        Volume *volume;
        int r = hold(attach);

        if (r < 0)
                return r;
        if (!attach->existing)
                return publish(story, attach->image);
        IMAGE_FOREACH_VOLUME (volume, attach->image)
                if (mounting_includes(attach->mounting, volume))
                        registry_notify(story->service->registry, REGISTRY_VOLUME_CHANGED, attach->image, volume);
        return record_write(attach->image);
}

/* ---- The end ---- */

/* What could not be undone is shown, counts, and can be detached; it goes when nobody holds it any more. */
static void show_remains(Attach *attach)
{
        Image *image = attach->image;

        image->state = IMAGE_DETACHING;
        image->attached_at_usec = now_realtime_usec();
        (void)record_write(image);
        if (registry_add(attach->story.service->registry, image) < 0)
                image->state = IMAGE_ATTACHING;
}

static void on_released(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;
        Attach *attach = attach_of(story);
        Failure ignored = { 0 };
        bool gone;

        story->job = NULL;
        (void)releasing_apply(attach->releasing, error, answer, &ignored, &gone);
        failure_done(&ignored);
        if (gone)
                attach->image = NULL;
        else if (!attach->existing)
                show_remains(attach);
        story_undone(story);
}

/* Of an image that was there before only the new mounts go. */
static int new_releasing(Attach *attach)
{
        Story *story = &attach->story;
        _cleanup_free_ Volume **volumes = NULL;
        size_t n = mounting_count(attach->mounting);

        if (!attach->existing)
                return releasing_new(story, attach->image, &attach->releasing);
        volumes = calloc(n + 1, sizeof(Volume *));
        if (!volumes)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                volumes[i] = mounting_nth(attach->mounting, i);
        return releasing_new_unmount(story, attach->image, volumes, n, &attach->releasing);
}

static int undo(Story *story)
{
        Attach *attach = attach_of(story);
        int r;

        attach->settle = settle_cancel(attach->settle);
        if (story->failure.stage == STAGE_BIND)
                story->service->markers_stale = true;
        if (attach->existing ? !attach->mounting : attach->image->fd < 0)
                return 0;
        r = new_releasing(attach);
        if (r >= 0)
                r = releasing_run(attach->releasing, on_released);
        if (r < 0 && !attach->existing)
                show_remains(attach);
        return r;
}

static void destroy(Story *story)
{
        Attach *attach = attach_of(story);

        if (!attach->existing && attach->image && attach->image->state == IMAGE_ATTACHING) {
                if (attach->image->fd >= 0)
                        closer_close(story->service->event, TAKE_FD(attach->image->fd));
                image_free(attach->image);
        }
        mounting_free(attach->mounting);
        arming_free(attach->arming);
        releasing_free(attach->releasing);
        attach_request_done(&attach->request);
        free(attach);
}

void attach_request_done(AttachRequest *request)
{
        if (request->parcel >= 0)
                closer_close(request->event, request->parcel);
        free(request->backing_file);
        free(request->volumes);
        mount_wish_done(&request->wish);
        *request = (AttachRequest){ .parcel = -1 };
}

static const StoryStep steps[] = {
        { STAGE_PROBE, probe },
        { STAGE_AUTHORISE, story_authorise },
        { STAGE_USER, story_look_up_user },
        { STAGE_LOCK, lock_file },
        { STAGE_PLAN, plan },
        { STAGE_BIND, bind_device },
        { STAGE_PARTITIONS, add_partitions },
        { STAGE_MOUNT, mount_volumes },
        { STAGE_SETTLE, settle },
        { STAGE_COMMIT, commit },
        {},
};

static const StoryType type = {
        .name = "attach",
        .action = ACTION_ATTACH,
        .steps = steps,
        .undo = undo,
        .destroy = destroy,
};

int attach_start(Service *service, const Caller *caller, AttachRequest *request, StoryDone done, void *userdata,
                 Story **ret)
{
        Attach *attach = calloc(1, sizeof(*attach));
        int r;

        if (!attach || !(attach->image = image_new())) {
                free(attach);
                return -ENOMEM;
        }
        attach->request = *request;
        *request = (AttachRequest){ .parcel = -1 };
        attach->image->state = IMAGE_ATTACHING;
        attach->story.service = service;
        attach->story.owner = caller->uid;
        attach->image->name = text_escape(file_name(attach), strlen(file_name(attach)));
        attach->story.subject = attach->image->name;
        attach->story.purpose.writable = !attach->request.read_only;
        attach->story.purpose.on_access = attach->request.on_access;
        attach->story.purpose.keep = attach->request.auto_detach == 0 || attach->request.session_bound == 0;
        if (!attach->request.read_only)
                attach->story.message =
                        N_("Authentication is required to attach the disk image $(image) for reading and writing");
        *ret = &attach->story;
        r = !attach->image->name ? -ENOMEM : story_start(&attach->story, &type, service, caller, done, userdata);
        if (r < 0)
                destroy(&attach->story);
        return r;
}

const Image *attach_get_image(const Story *story)
{
        return attach_of((Story *)story)->image;
}

const char *attach_nth_mount_point(const Story *story, size_t n)
{
        const Volume *volume = nth_asked(attach_of((Story *)story), n);

        return volume ? volume->mount_point : NULL;
}
