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
#include "base/flat.h"
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

/* What the child is sent: this, the folder of the mount points, then for each volume its number and the mount point's
 * name. With the two descriptors of ArmingFd. */
typedef struct ArmingOrder {
        uint64_t idle_usec;
        size_t n_volumes;
} ArmingOrder;

enum ArmingFd {
        ARMING_PIPE,   /* for the triggers' requests */
        ARMING_SOCKET, /* for the triggers themselves */
        N_ARMING_FDS,
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

typedef struct Task {
        ArmingOrder order;
        const JobOrder *message;
        const char *parent;
        int parent_fd;
} Task;

static int put_trigger(const Task *task, uint32_t number, const char *name, uint64_t *ret_id)
{
        TriggerSpec spec = { .pipe_fd = task->message->fds[ARMING_PIPE], .idle_usec = task->order.idle_usec };
        _cleanup_close_ int mount_fd = -1, fd = -1;
        _cleanup_free_ char *path = NULL;
        int r = trigger_create(&spec, &mount_fd, &fd);

        if (r >= 0)
                r = send_trigger(task->message->fds[ARMING_SOCKET], number, fd);
        if (r >= 0 && asprintf(&path, "%s/%s", task->parent, name) < 0)
                r = -ENOMEM;
        /* A trigger without a line in utab is one all the same. */
        if (r >= 0)
                (void)utab_add_trigger(TRIGGER_SOURCE, path);
        if (r >= 0)
                r = mount_attach(mount_fd, task->parent_fd, name, ret_id);
        return r;
}

static int put_triggers(const Task *task, FlatReader *reader, ArmingResult *results)
{
        int r = 0;

        for (size_t i = 0; r >= 0 && i < task->order.n_volumes; i++) {
                const char *name;
                uint32_t number;

                r = flat_read(reader, &number, sizeof(number));
                if (r >= 0)
                        r = flat_read_text(reader, &name);
                if (r >= 0)
                        r = put_trigger(task, number, name, &results[i].trigger_id);
        }
        return r;
}

static int run_arming(int channel, const JobOrder *message)
{
        FlatReader reader = { message->data, message->size };
        Task task = { .message = message };
        _cleanup_free_ ArmingResult *results = NULL;
        _cleanup_close_ int parent_fd = -1;
        int r = message->n_fds == N_ARMING_FDS ? flat_read(&reader, &task.order, sizeof(task.order)) : -EBADMSG;

        if (r >= 0)
                r = flat_read_text(&reader, &task.parent);
        if (r >= 0)
                r = mount_enter();
        if (r < 0)
                return r;
        results = calloc(task.order.n_volumes + 1, sizeof(ArmingResult));
        if (!results)
                return -ENOMEM;
        task.parent_fd = parent_fd = open(task.parent, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = parent_fd < 0 ? -errno : put_triggers(&task, &reader, results);
        return r < 0 ? r : job_answer(channel, results, task.order.n_volumes * sizeof(ArmingResult), NULL, 0);
}

/* ---- In the daemon ---- */

static int write_order(const Arming *arming, FlatWriter *writer)
{
        ArmingOrder order = { .idle_usec = arming->image->idle_usec };
        _cleanup_free_ char *parent = strdup(mounting_nth(arming->mounting, 0)->mount_point);
        const Volume *volume;

        if (!parent)
                return -ENOMEM;
        *strrchr(parent, '/') = 0;
        while (mounting_nth(arming->mounting, order.n_volumes))
                order.n_volumes++;
        flat_write(writer, &order, sizeof(order));
        flat_write_text(writer, parent);
        for (size_t i = 0; (volume = mounting_nth(arming->mounting, i)); i++) {
                flat_write(writer, &volume->number, sizeof(volume->number));
                flat_write_text(writer, strrchr(volume->mount_point, '/') + 1);
        }
        return flat_finish(writer);
}

int arming_run(Story *story, Image *image, Mounting *mounting, JobDone done, Arming **ret)
{
        Arming *arming = *ret = calloc(1, sizeof(*arming));
        _cleanup_free_ char *order = NULL;
        FlatWriter writer = { 0 };
        int r;

        if (!arming)
                return -ENOMEM;
        *arming = (Arming){ .story = story, .image = image, .mounting = mounting, .sockets = { -1, -1 } };
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, arming->sockets) < 0)
                return -errno;
        r = mounting_prepare(mounting);
        if (r >= 0)
                r = write_order(arming, &writer);
        order = writer.data;
        JobSpec spec = {
                .name = "arm",
                .work = run_arming,
                .order = order,
                .order_size = writer.size,
                .fds = { [ARMING_PIPE] = story->service->trigger_pipe, [ARMING_SOCKET] = arming->sockets[0] },
                .n_fds = N_ARMING_FDS,
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        return r < 0 ? r : story_run_job(story, &spec, done);
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
