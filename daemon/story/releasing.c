/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The child that unmounts and releases.
 *
 * Before the first of several volumes is unmounted, a detached copy of each is
 * made. If one turns out to be in use, the copies of those that are unmounted
 * already are put back: nobody finds half of an image gone. Only when all are
 * unmounted are the copies closed, which is when the file systems write back.
 *
 * A rollback may find somebody inside of a mount that was never announced: it is
 * taken from the tree all the same, and the device goes when that one leaves it.
 *
 * The daemon's descriptor of the loop device moves into the child, because the
 * last close of it writes back too. It comes back if the device is not released.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/text.h"
#include "mechanism/fdstore.h"
#include "mechanism/holders.h"
#include "mechanism/loop.h"
#include "mechanism/mount-point.h"
#include "mechanism/mount.h"
#include "model/record.h"
#include "story/releasing.h"

/* How long a device may be held by those who look at it only for a moment, as udev does. */
#define RELEASE_GRACE_USEC (3 * USEC_PER_SEC)
/* Writing back what was written to an image takes as long as it takes; a kernel that hangs takes longer. */
#define WRITE_BACK_FACTOR 10U
#define UNMOUNT_TRIES 6U
#define UNMOUNT_PAUSE_MSEC 20
#define HOLDERS_MAX 64U
#define HOLDERS_TIMEOUT_MSEC 2000
#define DETAIL_SIZE 1024U

typedef struct ReleaseItem {
        Volume *volume;
        uint64_t mount_id; /* 0: whatever is there, of a mount that was not finished */
        bool unmounted;    /* in the child */
        int clone;         /* in the child */
} ReleaseItem;

struct Releasing {
        Story *story;
        Image *image;
        bool release;
        bool rollback;
        ReleaseItem *items;
        size_t n_items;
};

typedef struct ReleaseAnswer {
        int error;
        Stage stage;
        char detail[DETAIL_SIZE];
        /* Behind it: a ReleaseResult for each item. */
} ReleaseAnswer;

typedef struct ReleaseResult {
        bool unmounted;
        uint64_t mount_id; /* may be another one than before, of a mount that was put back */
} ReleaseResult;

Releasing *releasing_free(Releasing *releasing)
{
        if (!releasing)
                return NULL;
        free(releasing->items);
        free(releasing);
        return NULL;
}

int releasing_new(Story *story, Image *image, Volume *only, bool release, Releasing **ret)
{
        _cleanup_(releasing_freep) Releasing *releasing = calloc(1, sizeof(*releasing));
        Volume *volume;

        if (!releasing)
                return -ENOMEM;
        releasing->story = story;
        releasing->image = image;
        releasing->release = release;
        releasing->rollback = story->undoing || image->state == IMAGE_ATTACHING;
        releasing->items = calloc(image->n_volumes + 1, sizeof(ReleaseItem));
        if (!releasing->items)
                return -ENOMEM;
        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume->mount_point && (release || !only || only == volume))
                        releasing->items[releasing->n_items++] =
                                (ReleaseItem){ .volume = volume, .mount_id = volume->mount_id, .clone = -1 };
        *ret = TAKE_PTR(releasing);
        return 0;
}

void releasing_keep(Releasing *releasing, const Volume *volume)
{
        for (size_t i = 0; i < releasing->n_items; i++)
                if (releasing->items[i].volume == volume) {
                        releasing->items[i] = releasing->items[--releasing->n_items];
                        return;
                }
}

/* ---- The job's child: unmounting ---- */

static int clone_mount(ReleaseItem *item)
{
        int r = 0;

        if (item->mount_id == 0)
                r = mount_get_id(item->volume->mount_point, &item->mount_id);
        if (r >= 0)
                r = mount_clone(item->volume->mount_point, item->mount_id, &item->clone);
        if (r == -ESTALE && mount_is_there(item->volume->mount_point, item->mount_id))
                return -EBUSY; /* something else is mounted on top of it */
        /* Somebody else has unmounted it: as good as done. */
        if (r == -ESTALE || r == -ENOENT) {
                item->unmounted = true;
                return 0;
        }
        return r;
}

static int put_back(ReleaseItem *item)
{
        _cleanup_free_ char *parent = strdup(item->volume->mount_point);
        _cleanup_close_ int parent_fd = -1;
        char *name = parent ? strrchr(parent, '/') : NULL;

        if (!name)
                return -ENOMEM;
        *name++ = 0;
        parent_fd = open(parent, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (parent_fd < 0)
                return -errno;
        return mount_attach(item->clone, parent_fd, name, &item->mount_id);
}

static void put_all_back(Releasing *releasing)
{
        for (size_t i = 0; i < releasing->n_items; i++) {
                ReleaseItem *item = &releasing->items[i];

                if (item->unmounted && item->clone >= 0 && put_back(item) >= 0)
                        item->unmounted = false;
        }
}

/* Somebody who is just about to leave, or looks at it for a moment, does not make a detach fail. */
static int unmount_patiently(const Releasing *releasing, const ReleaseItem *item)
{
        int r = -EBUSY;

        for (unsigned i = 0; r == -EBUSY && i < UNMOUNT_TRIES; i++) {
                if (i > 0)
                        (void)poll(NULL, 0, UNMOUNT_PAUSE_MSEC);
                r = mount_detach(item->volume->mount_point, item->mount_id, releasing->rollback);
        }
        return r;
}

static int unmount_all(Releasing *releasing, size_t *ret_failed)
{
        for (size_t i = 0; i < releasing->n_items; i++) {
                ReleaseItem *item = &releasing->items[i];
                int r = clone_mount(item);

                if (r >= 0 && !item->unmounted)
                        r = unmount_patiently(releasing, item);
                if (r < 0 && r != -ESTALE) {
                        *ret_failed = i;
                        return r;
                }
                item->unmounted = true;
        }
        return 0;
}

/* The file systems write back here. */
static void drop_clones(Releasing *releasing)
{
        for (size_t i = 0; i < releasing->n_items; i++) {
                ReleaseItem *item = &releasing->items[i];

                item->clone = safe_close(item->clone);
                if (item->unmounted)
                        (void)mount_utab_remove(item->volume->mount_point);
        }
}

/* ---- The job's child: who holds it? ---- */

static char *find_holders(const Releasing *releasing, uint64_t mount_id)
{
        const Image *image = releasing->image;
        _cleanup_free_ dev_t *devices = calloc(image->n_volumes + 1, sizeof(dev_t));
        _cleanup_free_ Holder *holders = NULL;
        size_t n_holders = 0, n_devices = 0;
        Volume *volume;

        if (!devices)
                return NULL;
        if (mount_id == 0) {
                devices[n_devices++] = image->devnum;
                IMAGE_FOREACH_VOLUME (volume, image)
                        if (volume->devnum != 0)
                                devices[n_devices++] = volume->devnum;
        }
        if (holders_find(&mount_id, mount_id ? 1 : 0, devices, n_devices, HOLDERS_MAX, &holders, &n_holders) < 0 ||
            n_holders == 0)
                return NULL;
        return holders_describe(holders, n_holders, releasing->story->caller.uid);
}

/* Another process of ours looks for them: one that is looked at may make it hang, and the answer has to go out. */
static ssize_t ask_for_holders(const Releasing *releasing, uint64_t mount_id, char *text, size_t size)
{
        struct pollfd pollfd = { .events = POLLIN };
        int ends[2];
        ssize_t n = 0;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return 0;
        pid = fork();
        if (pid == 0) {
                _cleanup_free_ char *who = find_holders(releasing, mount_id);

                (void)send(ends[1], strempty(who), who ? strlen(who) : 0, MSG_NOSIGNAL);
                _exit(EXIT_SUCCESS);
        }
        safe_close(ends[1]);
        pollfd.fd = ends[0];
        if (pid > 0 && poll(&pollfd, 1, HOLDERS_TIMEOUT_MSEC) > 0)
                n = recv(ends[0], text, size - 1, 0);
        if (pid > 0)
                (void)kill(pid, SIGKILL);
        safe_close(ends[0]);
        n = MAX(n, 0);
        text[n] = 0;
        return n;
}

static void describe_holders(const Releasing *releasing, uint64_t mount_id, ReleaseAnswer *answer)
{
        char who[DETAIL_SIZE / 2];

        if (ask_for_holders(releasing, mount_id, who, sizeof(who)) > 0)
                snprintf(answer->detail, sizeof(answer->detail), "it is in use by %s", who);
        else if (mount_id == 0)
                snprintf(answer->detail, sizeof(answer->detail),
                         "the device is in use: by the kernel, by a mount elsewhere or in another mount namespace");
        else
                snprintf(answer->detail, sizeof(answer->detail),
                         "something is mounted below it, or the kernel uses it");
}

/* ---- The job's child: the whole ---- */

static int release_device(const Releasing *releasing, int fd)
{
        const Image *image = releasing->image;

        if (fd < 0) {
                int r = loop_open(image->loop_number, image->devnum, image->diskseq, O_RDONLY, &fd);

                if (r < 0)
                        return r == -ESTALE ? 0 : r;
        }
        return loop_release(fd, image->loop_number, image->diskseq, RELEASE_GRACE_USEC);
}

static int send_answer(int channel, const Releasing *releasing, const ReleaseAnswer *answer, int fd)
{
        size_t size = sizeof(*answer) + releasing->n_items * sizeof(ReleaseResult);
        _cleanup_free_ char *data = calloc(1, size);
        ReleaseResult *results;

        if (!data)
                return -ENOMEM;
        memcpy(data, answer, sizeof(*answer));
        results = (ReleaseResult *)(data + sizeof(*answer));
        for (size_t i = 0; i < releasing->n_items; i++)
                results[i] = (ReleaseResult){ releasing->items[i].unmounted, releasing->items[i].mount_id };
        return job_answer(channel, data, size, &fd, fd >= 0 ? 1 : 0);
}

static int run_release(int channel, const void *parameters)
{
        Releasing *releasing = *(Releasing *const *)parameters;
        int fd = releasing->image->fd;
        ReleaseAnswer answer = { .stage = STAGE_UNMOUNT };
        size_t failed = 0;

        /* What is taken over from an earlier daemon and was mounted would go with its last mount. */
        if (!releasing->release && fd < 0)
                (void)loop_open(releasing->image->loop_number, releasing->image->devnum, releasing->image->diskseq,
                                O_RDONLY, &fd);
        answer.error = unmount_all(releasing, &failed);
        if (answer.error < 0) {
                put_all_back(releasing);
                if (answer.error == -EBUSY)
                        describe_holders(releasing, releasing->items[failed].mount_id, &answer);
        }
        drop_clones(releasing);
        if (answer.error >= 0 && releasing->release) {
                answer.stage = STAGE_RELEASE;
                answer.error = release_device(releasing, fd);
                fd = -1;
                if (answer.error == -EBUSY)
                        describe_holders(releasing, 0, &answer);
        }
        return send_answer(channel, releasing, &answer, fd);
}

/* A daemon that starts after a crash in the middle of this finishes it. */
static void note_release(Image *image)
{
        ImageState state = image->state;

        if (state == IMAGE_ATTACHING)
                return;
        image->state = IMAGE_DETACHING;
        (void)record_write(image);
        image->state = state;
}

int releasing_run(Releasing *releasing, JobDone done)
{
        Image *image = releasing->image;
        uint64_t timeout_usec = releasing->story->service->config->job_timeout_usec;
        JobSpec spec = {
                .name = "release",
                .function = run_release,
                .parameters = &releasing,
                .fds = { image->fd },
                .n_fds = image->fd >= 0,
                .n_given = image->fd >= 0,
                .timeout_usec = image->read_only ? timeout_usec : timeout_usec * WRITE_BACK_FACTOR,
        };
        int r;

        /* The service manager's copy would keep the device open. */
        if (releasing->release && image->stored) {
                fdstore_drop(image->id);
                image->stored = false;
        }
        if (releasing->release)
                note_release(image);
        r = story_run_job(releasing->story, &spec, done);
        if (r > 0)
                image->fd = -1;
        return r;
}

/* ---- The result, in the daemon ---- */

static void forget_mount(Volume *volume)
{
        (void)mount_point_remove(volume->mount_point);
        free(volume->mount_point);
        volume->mount_point = NULL;
        volume->mount_id = 0;
}

/* All of an image that is gone: mount points, marker, record, registry. */
static void forget(Service *service, Image *image)
{
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume->mount_point)
                        forget_mount(volume);
        if (image->state == IMAGE_ATTACHING)
                (void)mount_point_remove_user(service->config->root, image->owner_name);
        loop_forget(image->loop_number);
        record_remove(image->id);
        if (registry_find(service->registry, image->id) == image)
                registry_remove(service->registry, image);
        else
                image_free(image);
}

static void apply_results(Releasing *releasing, const char *results)
{
        Registry *registry = releasing->story->service->registry;

        for (size_t i = 0; i < releasing->n_items; i++) {
                Volume *volume = releasing->items[i].volume;
                ReleaseResult result;

                memcpy(&result, results + i * sizeof(result), sizeof(result));
                if (!result.unmounted) {
                        volume->mount_id = result.mount_id;
                        continue;
                }
                forget_mount(volume);
                if (registry_find(registry, releasing->image->id) == releasing->image)
                        registry_notify(registry, REGISTRY_VOLUME_CHANGED, releasing->image, volume);
        }
}

static void set_state(Releasing *releasing, ImageState state)
{
        Registry *registry = releasing->story->service->registry;
        Image *image = releasing->image;

        if (image->state == state || registry_find(registry, image->id) != image)
                return;
        image->state = state;
        registry_notify(registry, REGISTRY_IMAGE_CHANGED, image, NULL);
}

int releasing_apply(Releasing *releasing, int error, JobAnswer *answer, Failure *failure, bool *ret_gone)
{
        Image *image = releasing->image;
        ReleaseAnswer result;

        *ret_gone = false;
        if (error >= 0 && answer->size != sizeof(result) + releasing->n_items * sizeof(ReleaseResult))
                error = -EBADMSG;
        if (error < 0) {
                set_state(releasing, IMAGE_STUCK);
                failure_set(failure, STAGE_RELEASE, error, NULL);
                return error;
        }
        memcpy(&result, answer->data, sizeof(result));
        result.detail[sizeof(result.detail) - 1] = 0;
        /* First the descriptor: a device that stays, and is not mounted any more, is kept by a copy of it. */
        if (answer->n_fds > 0) {
                image->fd = answer->fds[0];
                answer->fds[0] = -1;
        }
        apply_results(releasing, (const char *)answer->data + sizeof(result));
        if (result.error >= 0 && releasing->release) {
                forget(releasing->story->service, image);
                *ret_gone = true;
                return 0;
        }
        set_state(releasing, result.stage == STAGE_RELEASE ? IMAGE_DETACHING : IMAGE_ATTACHED);
        /* Gone since the child looked last: the event that tells of it may be over. */
        if (result.stage == STAGE_RELEASE && loop_is_gone(image->loop_number, image->diskseq)) {
                forget(releasing->story->service, image);
                *ret_gone = true;
                return 0;
        }
        (void)record_write(image);
        if (result.error < 0)
                failure_set(failure, result.stage, result.error, result.detail[0] ? "%s" : NULL, result.detail);
        return result.error;
}
