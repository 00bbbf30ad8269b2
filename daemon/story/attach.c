/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attaching an image, from the caller's descriptor to the reply:
 *
 *   authorise   polkit says yes
 *   user        the owner's name is known
 *   probe       a sandboxed child has read what is in the file
 *   lock        no other story is about the same file; perhaps it is attached already
 *   plan        it is clear what will be mounted, and with which options
 *   bind        a loop device is bound to the file
 *   partitions  it has a device for each partition
 *   mount       the file systems are mounted
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
#include <sys/stat.h>
#include <time.h>

#include "base/text.h"
#include "mechanism/parcel.h"
#include "mechanism/probe.h"
#include "mechanism/settle.h"
#include "model/record.h"
#include "story/attach.h"
#include "story/partitioning.h"
#include "story/probing.h"
#include "story/releasing.h"
#include "story/user.h"
#include "story/volumes.h"

/* udevd does what it can; an image is not given up because udevd is slow. */
#define SETTLE_TIMEOUT_USEC (10 * USEC_PER_SEC)

typedef struct Attach {
        Story story;
        AttachRequest request;
        Image *image;  /* ours until it is published */
        bool existing; /* ... or one that was there before */
        Mounting *mounting;
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
        return image_from_probe(attach->image, &summary, probed, file_name(attach));
}

static void on_probed(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, error < 0 ? error : take_probe(attach_of(story), answer));
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

static bool is_equal(const Attach *attach, const Image *image)
{
        const AttachRequest *request = &attach->request;

        return image->owner == attach->story.owner && image->offset == request->offset &&
               image->size == attach->image->size && image->sector_size == attach->image->sector_size &&
               image->read_only == request->read_only && image->partition_scan == request->partition_scan &&
               image->state == IMAGE_ATTACHED;
}

static int fail_attached_already(Story *story, const Image *image)
{
        Volume *volume;
        char node[32];

        if (image->owner != story->owner)
                return story_fail(story, -EEXIST, "by another user");
        image_node(image, node);
        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume_is_mounted(volume))
                        return story_fail(story, -EEXIST, "%s as %s, mounted at %s",
                                          image->read_only ? "read-only" : "writable", node, volume->mount_point);
        return story_fail(story, -EEXIST, "%s as %s", image->read_only ? "read-only" : "writable", node);
}

/* The same request again gives the same image; two writers, or a writer and a reader, would not see the same file. */
static int lock_file(Story *story)
{
        Attach *attach = attach_of(story);
        Image *image;
        int r = story_lock(story);

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
                if (!image->read_only || !attach->request.read_only)
                        return fail_attached_already(story, image);
        }
        return 0;
}

/* ---- plan ---- */

static int check_limit(Story *story)
{
        const Config *config = story->service->config;
        size_t n = registry_count_of(story->service->registry, story->owner);

        /* Those that are behind this step already count as attached. */
        for (const Story *other = story->service->stories; other; other = other->next)
                if (other != story && other->type == story->type && other->owner == story->owner &&
                    other->step->stage > STAGE_PLAN && !attach_of((Story *)other)->existing)
                        n++;
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
        image->read_only = request->read_only;
        image->partition_scan = request->partition_scan;
        image->owner = attach->story.owner;
        image->owner_gid = user->gid;
        image->owner_name = strdup(user->name);
        image->backing_file = text_escape(request->backing_file, strlen(request->backing_file));
        return image->owner_name && image->backing_file ? image_find_obstacles(image, attach->story.service->config)
                                                        : -ENOMEM;
}

/* -EEXIST: what is asked for differs from what is there. */
static int plan_existing(Attach *attach)
{
        const AttachRequest *request = &attach->request;
        const Image *image = attach->image;
        Story *story = &attach->story;
        _cleanup_free_ uint32_t *missing = calloc(request->n_volumes + 1, sizeof(*missing));
        size_t n_missing = 0;

        if (!missing)
                return -ENOMEM;
        if ((request->auto_detach >= 0 && request->auto_detach != image->auto_detach) ||
            (request->direct_io != LOOP_DIRECT_IO_AUTO &&
             (request->direct_io == LOOP_DIRECT_IO_YES) != image->direct_io))
                return story_fail(story, -EEXIST, "with other options");
        if (!request->mount)
                return 0;
        for (size_t i = 0; i < request->n_volumes; i++) {
                const Volume *volume = image_find_volume(image, request->volumes[i]);

                if (!volume || !volume_is_mounted(volume))
                        missing[n_missing++] = request->volumes[i];
        }
        if (n_missing > 0 || (request->n_volumes == 0 && image_count_mounted(image) == 0))
                return mounting_plan(story, attach->image, &request->wish, missing, n_missing, &attach->mounting);
        if (request->wish.filesystem_type || request->wish.options)
                return story_fail(story, -EEXIST, "and mounted with other options");
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
                r = fill_image(attach);
        if (r < 0 || !request->mount)
                return r;
        return mounting_plan(story, attach->image, &request->wish, request->volumes, request->n_volumes,
                             &attach->mounting);
}

/* ---- bind ---- */

/* The probe has read hostile bytes before it said which file it was: trust it no further than this. */
static int check_identity(int fd, const Image *image)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        return st.st_dev == image->file_device && st.st_ino == image->file_inode ? 0 : -ESTALE;
}

static int run_bind(int channel, const void *parameters)
{
        const Attach *attach = parameters;
        const Image *image = attach->image;
        LoopSpec spec = {
                .read_only = image->read_only,
                .partition_scan = image->partition_scan,
                .offset = image->offset,
                .size = attach->request.size,
                .sector_size = image->sector_size,
                .direct_io = attach->request.direct_io,
                .owner = image->owner,
        };
        _cleanup_close_ int fd = -1;
        LoopDevice device;
        int r = parcel_unwrap(attach->request.parcel, &spec.file_fd);

        if (r >= 0)
                r = check_identity(spec.file_fd, image);
        if (r >= 0)
                r = loop_bind(&spec, &device, &fd);
        return r < 0 ? r : job_answer(channel, &device, sizeof(device), &fd, 1);
}

static int take_device(Attach *attach, JobAnswer *answer)
{
        Image *image = attach->image;
        LoopDevice device;

        if (answer->size != sizeof(device) || answer->n_fds != 1)
                return -EBADMSG;
        memcpy(&device, answer->data, sizeof(device));
        image->fd = TAKE_FD(answer->fds[0]);
        image->id = image->diskseq = device.diskseq;
        image->loop_number = device.number;
        image->devnum = device.devnum;
        image->size = device.size;
        image->sector_size = device.sector_size;
        image->direct_io = device.direct_io;
        return record_write(image);
}

static void on_bound(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        story_resume(story, error < 0 ? error : take_device(attach_of(story), answer));
}

static int bind_device(Story *story)
{
        Attach *attach = attach_of(story);
        JobSpec spec = {
                .name = "bind",
                .function = run_bind,
                .parameters = attach,
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

static int mount_volumes(Story *story)
{
        Attach *attach = attach_of(story);

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

static int publish(Story *story, Image *image)
{
        int r;

        image->state = IMAGE_ATTACHED;
        image->quiet_until = settle_get_seqnum();
        image->attached_at_usec = now_realtime_usec();
        image->auto_detach = attach_of(story)->request.auto_detach < 0 ? image_count_mounted(image) > 0
                                                                       : attach_of(story)->request.auto_detach;
        r = record_write(image);
        return r < 0 ? r : registry_add(story->service->registry, image);
}

static int commit(Story *story)
{
        Attach *attach = attach_of(story);
        Volume *volume;

        if (!attach->existing) {
                int r = publish(story, attach->image);

                attach->image->state = r < 0 ? IMAGE_ATTACHING : IMAGE_ATTACHED;
                return r;
        }
        if (!attach->mounting)
                return 0;
        IMAGE_FOREACH_VOLUME (volume, attach->image)
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
static int undo(Story *story)
{
        Attach *attach = attach_of(story);
        Volume *volume;
        int r;

        attach->settle = settle_cancel(attach->settle);
        if (story->failure.stage == STAGE_BIND)
                story->service->markers_stale = true;
        if (attach->existing ? !attach->mounting : attach->image->fd < 0)
                return 0;
        r = releasing_new(story, attach->image, NULL, !attach->existing, &attach->releasing);
        if (r < 0)
                return r;
        IMAGE_FOREACH_VOLUME (volume, attach->image)
                if (attach->existing && !mounting_includes(attach->mounting, volume))
                        releasing_keep(attach->releasing, volume);
        return releasing_run(attach->releasing, on_released);
}

static void destroy(Story *story)
{
        Attach *attach = attach_of(story);

        if (!attach->existing && attach->image && attach->image->state == IMAGE_ATTACHING) {
                if (attach->image->fd >= 0)
                        job_close(story->service->event, TAKE_FD(attach->image->fd));
                image_free(attach->image);
        }
        mounting_free(attach->mounting);
        releasing_free(attach->releasing);
        attach_request_done(&attach->request);
        free(attach);
}

void attach_request_done(AttachRequest *request)
{
        if (request->parcel >= 0)
                job_close(request->event, request->parcel);
        free(request->backing_file);
        free(request->volumes);
        mount_wish_done(&request->wish);
        *request = (AttachRequest){ .parcel = -1 };
}

static const StoryStep steps[] = {
        { STAGE_AUTHORISE, story_authorise },
        { STAGE_USER, story_look_up_user },
        { STAGE_PROBE, probe },
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
