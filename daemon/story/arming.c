/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One child makes all triggers. Somebody may enter one as soon as it is attached,
 * and waits then until he gets an answer; only with the trigger's descriptor can
 * that be given. So the daemon has it first: the child puts it into a socket,
 * where it lies even if the child is killed behind that.
 *
 * The request of who enters before the story is over is kept by triggers.c until then.
 */
#include <fcntl.h>
#include <sys/socket.h>

#include "base/fd-message.h"
#include "base/text.h"
#include "mechanism/fdstore.h"
#include "mechanism/mount.h"
#include "mechanism/trigger.h"
#include "mechanism/utab.h"
#include "story/arming.h"

struct Arming {
        Story *story;
        Image *image;
        Mounting *mounting;
        int sockets[2]; /* for the triggers' descriptors: the child's end and ours */
};

typedef struct ArmingResult {
        uint64_t trigger_id;
} ArmingResult;

Arming *arming_free(Arming *arming)
{
        if (!arming)
                return NULL;
        safe_close(arming->sockets[0]);
        safe_close(arming->sockets[1]);
        free(arming);
        return NULL;
}

/* ---- A descriptor on its way ---- */

static int send_trigger(int socket, uint32_t number, int fd)
{
        struct iovec part = { &number, sizeof(number) };

        return fd_message_send(socket, MSG_DONTWAIT, &part, 1, &fd, 1);
}

/* 0: there is no other one. */
static int receive_trigger(int socket, uint32_t *ret_number, int *ret_fd)
{
        size_t n_fds = 1;
        ssize_t n = fd_message_receive(socket, MSG_DONTWAIT, ret_number, sizeof(*ret_number), ret_fd, &n_fds);

        return n == sizeof(*ret_number) && n_fds == 1;
}

/* ---- The job's child ---- */

static int put_trigger(const Arming *arming, const Volume *volume, int parent_fd, uint64_t *ret_id)
{
        TriggerSpec spec = {
                .pipe_fd = arming->story->service->trigger_pipe,
                .idle_usec = arming->image->idle_usec,
        };
        _cleanup_close_ int mount_fd = -1, fd = -1;
        int r = trigger_create(&spec, &mount_fd, &fd);

        if (r >= 0)
                r = send_trigger(arming->sockets[0], volume->number, fd);
        /* A trigger without a line in utab is one all the same. */
        if (r >= 0)
                (void)utab_add_trigger(TRIGGER_SOURCE, volume->mount_point);
        if (r >= 0)
                r = mount_attach(mount_fd, parent_fd, strrchr(volume->mount_point, '/') + 1, ret_id);
        return r;
}

static int open_parent(const Volume *volume, int *ret_fd)
{
        _cleanup_free_ char *parent = strdup(volume->mount_point);

        if (!parent)
                return -ENOMEM;
        *strrchr(parent, '/') = 0;
        *ret_fd = open(parent, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return *ret_fd < 0 ? -errno : 0;
}

static int run_arming(int channel, const void *parameters)
{
        const Arming *arming = *(Arming *const *)parameters;
        _cleanup_free_ ArmingResult *results = calloc(arming->image->n_volumes, sizeof(ArmingResult));
        _cleanup_close_ int parent_fd = -1;
        const Volume *volume;
        size_t n = 0;
        int r = results ? mount_enter() : -ENOMEM;

        if (r >= 0)
                r = open_parent(mounting_nth(arming->mounting, 0), &parent_fd);
        for (; r >= 0 && (volume = mounting_nth(arming->mounting, n)); n++)
                r = put_trigger(arming, volume, parent_fd, &results[n].trigger_id);
        return r < 0 ? r : job_answer(channel, results, n * sizeof(ArmingResult), NULL, 0);
}

/* ---- In the daemon ---- */

int arming_run(Story *story, Image *image, Mounting *mounting, JobDone done, Arming **ret)
{
        Arming *arming = *ret = calloc(1, sizeof(*arming));
        JobSpec spec = {
                .name = "arm",
                .function = run_arming,
                .parameters = &arming,
                .timeout_usec = story->service->config->job_timeout_usec,
        };
        int r;

        if (!arming)
                return -ENOMEM;
        *arming = (Arming){ .story = story, .image = image, .mounting = mounting, .sockets = { -1, -1 } };
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, arming->sockets) < 0)
                return -errno;
        r = mounting_prepare(mounting);
        if (r < 0)
                return r;
        spec.fds[spec.n_fds++] = story->service->trigger_pipe;
        spec.fds[spec.n_fds++] = arming->sockets[0];
        return story_run_job(story, &spec, done);
}

static void take_triggers(Arming *arming)
{
        Image *image = arming->image;
        uint32_t number;
        int fd;

        while (receive_trigger(arming->sockets[1], &number, &fd) > 0) {
                Volume *volume = image_find_volume(image, number);

                if (!volume || volume_is_armed(volume)) {
                        trigger_close(fd);
                        continue;
                }
                volume->trigger_fd = fd;
                fdstore_put_volume(image->id, number, fd);
        }
}

int arming_apply(Arming *arming, int error, const JobAnswer *answer)
{
        Volume *volume;
        size_t n = 0;

        take_triggers(arming);
        if (error == -ENODEV)
                return story_fail(arming->story, -ENOSYS, "this kernel has no autofs");
        if (error < 0)
                return error;
        for (; (volume = mounting_nth(arming->mounting, n)); n++) {
                ArmingResult result;

                if (answer->size < (n + 1) * sizeof(result))
                        return -EBADMSG;
                memcpy(&result, (const char *)answer->data + n * sizeof(result), sizeof(result));
                volume->trigger_id = result.trigger_id;
        }
        return 0;
}
