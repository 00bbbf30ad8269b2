/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The child that unmounts and releases.
 *
 * Before the first of several volumes is unmounted, a detached copy of each is
 * made. If one turns out to be in use, the copies of those that are unmounted
 * already are put back: nobody finds half of an image gone. Only when all are
 * unmounted are the copies closed, which is when the file systems write back.
 *
 * A rollback may find somebody inside of a mount that was never announced, and at
 * shutdown one may not end: it is taken from the tree all the same, and the
 * device goes when that one leaves it.
 *
 * The daemon's descriptor of a loop device that is to be released moves into the
 * child, because the last close of it writes back too. It comes back if the device
 * is not released. Of a device that stays the child gets a copy: the image has to
 * outlive a child that dies.
 *
 * What is given up is taken from the tree in any case, which does not block; what
 * follows, the closes, may block for ever. So a second process answers for the
 * child, at the latest after the order's grace_usec, and tells whether the child has
 * come back from them.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/flat.h"
#include "mechanism/btrfs.h"
#include "mechanism/holders.h"
#include "mechanism/loop.h"
#include "mechanism/mount.h"
#include "mechanism/partition.h"
#include "mechanism/trigger.h"
#include "mechanism/utab.h"
#include "story/releasing-work.h"

#define UNMOUNT_ROUNDS 2U
#define UNMOUNT_TRIES 6U /* in each */
#define UNMOUNT_PAUSE_MSEC 20
#define HOLDERS_MAX 64U
#define HOLDERS_TIMEOUT_MSEC 2000
/* It has left a process behind, which may hang. */
#define WORKER_IS_SPENT 1

/* ---- What it was told ---- */

typedef struct ReleaseItem {
        ReleaseOrderItem order;
        const char *path;
        bool unmounted;
        bool disarmed;
        int clone;
} ReleaseItem;

typedef struct Release {
        ReleaseOrder order;
        ReleaseItem *items;
        dev_t *devices; /* of its partitions (0: it has none), and room for its own */
} Release;

static void release_done(Release *release)
{
        free(release->items);
        free(release->devices);
}

static int read_order(const JobOrder *message, Release *ret)
{
        FlatReader reader = { message->data, message->size };
        ReleaseOrder *order = &ret->order;
        int r = flat_read(&reader, order, sizeof(*order));

        if (r < 0)
                return r;
        ret->items = calloc(order->n_items + 1, sizeof(ReleaseItem));
        ret->devices = calloc(order->n_devices + 1, sizeof(dev_t));
        if (!ret->items || !ret->devices)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < order->n_items; i++) {
                ret->items[i].clone = -1;
                r = flat_read(&reader, &ret->items[i].order, sizeof(ret->items[i].order));
                if (r >= 0)
                        r = flat_read_text(&reader, &ret->items[i].path);
        }
        return r < 0 ? r : flat_read(&reader, ret->devices, order->n_devices * sizeof(dev_t));
}

/* ---- Unmounting ---- */

/* What is alone and has nothing to write back needs none: there is nothing to do between its end and the answer. */
static bool needs_clone(const Release *release, const ReleaseItem *item)
{
        return release->order.n_items > 1 || !item->order.read_only || release->order.forced;
}

static bool is_there(const Release *release, const ReleaseItem *item)
{
        char node[32];

        if (item->order.number > 0)
                partition_node(release->order.loop_number, item->order.number, node);
        else
                snprintf(node, sizeof(node), "/dev/loop%u", release->order.loop_number);
        return mount_is_there(item->path, item->order.mount_id, node);
}

/* -ENOENT: it is not there, and what is there is not ours, whatever its number. */
static int find_mount(const Release *release, ReleaseItem *item)
{
        int r = 0;

        if (item->order.mount_id == 0)
                r = mount_get_id(item->path, &item->order.mount_id);
        /* It waits to be entered. */
        if (r >= 0 && item->order.mount_id == item->order.trigger_id)
                return -ENOENT;
        if (r >= 0 && !is_there(release, item))
                return -ENOENT;
        if (r >= 0 && needs_clone(release, item) && item->clone < 0)
                r = mount_clone(item->path, item->order.mount_id, &item->clone);
        return r;
}

/* As good as done: somebody else has unmounted it. */
static bool is_gone(const Release *release, const ReleaseItem *item, int error)
{
        return error == -ENOENT || (error == -ESTALE && !is_there(release, item));
}

static int put_back(ReleaseItem *item)
{
        _cleanup_free_ char *parent = strdup(item->path);
        _cleanup_close_ int parent_fd = -1;
        char *name = parent ? strrchr(parent, '/') : NULL;

        if (!name)
                return -ENOMEM;
        *name++ = 0;
        parent_fd = open(parent, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (parent_fd < 0)
                return -errno;
        return mount_attach(item->clone, parent_fd, name, &item->order.mount_id);
}

static void put_all_back(Release *release)
{
        for (size_t i = 0; i < release->order.n_items; i++) {
                ReleaseItem *item = &release->items[i];

                if (!item->unmounted || item->clone < 0 || put_back(item) < 0)
                        continue;
                item->unmounted = false;
                /* It is of the tree again, and would keep it from being unmounted. */
                item->clone = safe_close(item->clone);
        }
}

/* Somebody who is just about to leave, or looks at it for a moment, does not make a detach fail. */
static int unmount_patiently(const Release *release, const ReleaseItem *item)
{
        int r = -EBUSY;

        for (unsigned i = 0; r == -EBUSY && i < UNMOUNT_TRIES; i++) {
                if (i > 0)
                        (void)poll(NULL, 0, UNMOUNT_PAUSE_MSEC);
                r = mount_detach(item->path, item->order.mount_id, release->order.lazy);
        }
        return r;
}

static int unmount(const Release *release, ReleaseItem *item)
{
        int r = find_mount(release, item);

        if (r >= 0)
                r = unmount_patiently(release, item);
        if (is_gone(release, item, r))
                return 0;
        /* Something else is mounted on top of it. */
        return r == -ESTALE ? -EBUSY : r;
}

static int unmount_all(Release *release, size_t *ret_failed)
{
        /* A mount keeps its device. Without that, what is there is somebody else's, though it may have the same id: the
         * kernel gives them out again. */
        bool gone = loop_is_gone(release->order.loop_number, release->order.diskseq);

        for (size_t i = 0; i < release->order.n_items; i++) {
                int r = gone || release->items[i].unmounted ? 0 : unmount(release, &release->items[i]);

                if (r < 0) {
                        *ret_failed = i;
                        return r;
                }
                release->items[i].unmounted = true;
        }
        return 0;
}

/* Whoever waits there for the daemon does not keep it. */
static int remove_trigger(const ReleaseItem *item)
{
        uint64_t id = item->order.trigger_id;
        int r = 0;

        /* Its image was about to be attached when the daemon died. */
        if (id == 0)
                r = trigger_is_at(item->path) ? mount_get_id(item->path, &id) : -ESTALE;
        return r < 0 ? r : mount_detach(item->path, id, true);
}

/* Behind the volumes. A trigger that nobody answers for goes in any case. */
static void disarm_all(Release *release)
{
        for (size_t i = 0; i < release->order.n_items; i++) {
                ReleaseItem *item = &release->items[i];
                int r;

                if (!release->order.on_access || (!release->order.release && item->order.armed))
                        continue;
                r = TRY_TWICE(remove_trigger(item));
                item->disarmed = r >= 0 || r == -ESTALE;
                if (item->disarmed)
                        (void)utab_remove_trigger(item->path);
        }
}

static void forget_utab(const Release *release)
{
        for (size_t i = 0; i < release->order.n_items; i++)
                if (release->items[i].unmounted)
                        (void)utab_remove_volume(release->items[i].path);
}

/* The last chance to hear of what could not be written: no unmount and no close tells. */
static int write_back(const Release *release)
{
        int first = 0;

        for (size_t i = 0; i < release->order.n_items; i++) {
                const ReleaseItem *item = &release->items[i];
                _cleanup_close_ int fd = -1;

                if (item->clone < 0 || item->order.read_only)
                        continue;
                fd = TRY_TWICE(openat(item->clone, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
                if ((fd < 0 || syncfs(fd) < 0) && first == 0)
                        first = -errno;
        }
        return first;
}

/* The file systems write back here what they have kept until now. */
static void drop_clones(Release *release)
{
        for (size_t i = 0; i < release->order.n_items; i++)
                release->items[i].clone = safe_close(release->items[i].clone);
}

/* After the file systems have ended, and before anybody else can have the device. */
static void forget_registered(const Release *release)
{
        const ReleaseOrder *order = &release->order;
        int folder;

        if (!order->registered)
                return;
        /* Closed after the answer, with all else. */
        folder = mount_make_private();
        release->devices[order->n_devices] = order->devnum;
        if (folder >= 0)
                btrfs_forget(folder, release->devices, order->n_devices + 1);
        btrfs_announce_others();
}

/* ---- Who holds it? ---- */

static char *find_holders(const Release *release, uint64_t mount_id)
{
        const ReleaseOrder *order = &release->order;
        _cleanup_free_ dev_t *devices = calloc(order->n_devices + 1, sizeof(dev_t));
        _cleanup_free_ Holder *holders = NULL;
        size_t n_holders = 0, n_devices = 0;

        if (!devices)
                return NULL;
        if (mount_id == 0) {
                devices[n_devices++] = order->devnum;
                for (size_t i = 0; i < order->n_devices; i++)
                        if (release->devices[i] != 0)
                                devices[n_devices++] = release->devices[i];
        }
        if (holders_find(&mount_id, mount_id ? 1 : 0, devices, n_devices, HOLDERS_MAX, &holders, &n_holders) < 0 ||
            n_holders == 0)
                return NULL;
        return holders_describe(holders, n_holders, order->caller);
}

/*
 * Another process of ours looks for them: one that is looked at may make it hang, and the answer has to go out. It has
 * nothing of the image, so that this may go meanwhile. < 0: it does not know.
 */
static ssize_t ask_for_holders(const Release *release, uint64_t mount_id, char *text, size_t size)
{
        struct pollfd pollfd = { .events = POLLIN };
        int ends[2];
        ssize_t n = -1;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        pid = fork();
        if (pid == 0) {
                _cleanup_free_ char *who = NULL;

                if (dup2(ends[1], STDIN_FILENO) < 0 || close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
                        _exit(EXIT_FAILURE);
                who = find_holders(release, mount_id);
                (void)send(STDIN_FILENO, strempty(who), who ? strlen(who) : 0, MSG_NOSIGNAL);
                _exit(EXIT_SUCCESS);
        }
        safe_close(ends[1]);
        pollfd.fd = ends[0];
        if (pid > 0 && poll(&pollfd, 1, HOLDERS_TIMEOUT_MSEC) > 0)
                n = recv(ends[0], text, size - 1, 0);
        if (pid > 0)
                (void)kill(pid, SIGKILL);
        safe_close(ends[0]);
        text[MAX(n, 0)] = 0;
        return n;
}

/* False: there are none. */
static bool describe_holders(const Release *release, uint64_t mount_id, ReleaseAnswer *answer)
{
        char who[RELEASE_DETAIL_SIZE / 2];
        ssize_t n = ask_for_holders(release, mount_id, who, sizeof(who));

        if (n > 0)
                snprintf(answer->detail, sizeof(answer->detail), "it is in use by %s", who);
        else if (mount_id == 0)
                snprintf(answer->detail, sizeof(answer->detail),
                         "the device is in use: by the kernel, by a mount elsewhere or in another mount namespace");
        else
                snprintf(answer->detail, sizeof(answer->detail),
                         "something is mounted below it, or the kernel uses it");
        return n != 0;
}

/* Whoever had it and is not found any more has left while he was looked for: then it is tried again. */
static int unmount_or_explain(Release *release, ReleaseAnswer *answer, bool *ret_asked)
{
        size_t failed = 0;
        int r = 0;

        for (unsigned i = 0; i < UNMOUNT_ROUNDS; i++) {
                *answer->detail = 0;
                r = unmount_all(release, &failed);
                if (r < 0)
                        put_all_back(release);
                if (r != -EBUSY)
                        break;
                *ret_asked = true;
                if (describe_holders(release, release->items[failed].order.mount_id, answer))
                        break;
        }
        return r;
}

/* ---- The device ---- */

static int release_device(const ReleaseOrder *order, int fd)
{
        if (fd < 0) {
                int r = loop_open(order->loop_number, order->devnum, order->diskseq, O_RDONLY, &fd);

                if (r < 0)
                        return r == -ESTALE ? 0 : r;
        }
        return loop_release(fd, order->loop_number, order->diskseq, order->grace_usec);
}

static int send_answer(int channel, const Release *release, const ReleaseAnswer *answer, int fd)
{
        size_t size = sizeof(*answer) + release->order.n_items * sizeof(ReleaseResult);
        _cleanup_free_ char *data = calloc(1, size);
        ReleaseResult *results;

        if (!data)
                return -ENOMEM;
        memcpy(data, answer, sizeof(*answer));
        results = (ReleaseResult *)(data + sizeof(*answer));
        for (size_t i = 0; i < release->order.n_items; i++)
                results[i] = (ReleaseResult){ release->items[i].unmounted, release->items[i].disarmed,
                                              release->items[i].order.mount_id };
        return job_answer(channel, data, size, &fd, fd >= 0 ? 1 : 0);
}

/* ---- Giving it up ---- */

/* What the process that answers has of the child's is closed before the child closes: no last close is its own. */
_Noreturn static void bear_witness(int channel, Release *release, int fd, int child)
{
        const ReleaseOrder *order = &release->order;
        ReleaseAnswer answer = { .stage = STAGE_RELEASE };
        char done;

        drop_clones(release);
        safe_close(fd);
        (void)send(child, "", 1, MSG_NOSIGNAL);
        answer.error = loop_wait_until_gone(order->loop_number, order->diskseq, order->grace_usec);
        if (answer.error == -EBUSY && recv(child, &done, 1, MSG_DONTWAIT) != 1)
                answer.error = -ETIMEDOUT;
        (void)send_answer(channel, release, &answer, -1);
        _exit(EXIT_SUCCESS);
}

/*
 * The device is not opened for this: whoever hangs in its last close has it
 * locked. It clears itself when all have closed it.
 */
static int give_up(int channel, Release *release, int fd)
{
        int ends[2];
        char go;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                safe_close(ends[0]);
                bear_witness(channel, release, fd, ends[1]);
        }
        safe_close(ends[1]);
        (void)recv(ends[0], &go, 1, 0);
        drop_clones(release);
        forget_registered(release);
        if (fd >= 0)
                (void)loop_release(fd, release->order.loop_number, release->order.diskseq, 0);
        (void)send(ends[0], "", 1, MSG_NOSIGNAL);
        (void)waitpid(pid, NULL, 0);
        return WORKER_IS_SPENT;
}

/* ---- The whole ---- */

/* @given: @fd is the daemon's. */
static int unmount_and_release(Release *release, int fd, bool given, int channel)
{
        const ReleaseOrder *order = &release->order;
        ReleaseAnswer answer = { .stage = STAGE_UNMOUNT };
        bool asked = false;
        int r;

        answer.error = unmount_or_explain(release, &answer, &asked);
        forget_utab(release);
        if (answer.error >= 0)
                disarm_all(release);
        if (answer.error >= 0 && order->forced)
                return give_up(channel, release, fd);
        if (answer.error >= 0)
                answer.write_back = write_back(release);
        drop_clones(release);
        forget_registered(release);
        if (!order->read_only && fd >= 0 && fsync(fd) < 0 && answer.write_back == 0)
                answer.write_back = -errno;
        if (answer.error >= 0 && order->release) {
                answer.stage = STAGE_RELEASE;
                answer.error = release_device(order, fd);
                fd = -1;
                if (answer.error == -EBUSY) {
                        asked = true;
                        (void)describe_holders(release, 0, &answer);
                }
        }
        /* Of one that stays the daemon has it. */
        r = send_answer(channel, release, &answer, order->release || !given ? fd : -1);
        return r < 0 || !asked ? r : WORKER_IS_SPENT;
}

int releasing_work(int channel, const JobOrder *message)
{
        _cleanup_(release_done) Release release = { 0 };
        const ReleaseOrder *order = &release.order;
        int fd = message->n_fds > 0 ? message->fds[0] : -1;
        int r = read_order(message, &release);

        if (r >= 0)
                r = mount_enter();
        if (r < 0)
                return r;
        /* What is taken over from an earlier daemon and was mounted would go with its last mount. */
        if (!order->release && fd < 0)
                (void)loop_open(order->loop_number, order->devnum, order->diskseq, O_RDONLY, &fd);
        return unmount_and_release(&release, fd, message->n_fds > 0, channel);
}
