/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One child mounts all volumes: a mount takes the kernel less time than a fork.
 * It first makes all the mounts, detached; were it killed then, they would be
 * gone with it. Attaching them is quick, and is undone by the story if the child
 * dies in the middle of it: the record says at which mount points to look.
 */
#include <fcntl.h>

#include "base/flat.h"
#include "base/text.h"
#include "mechanism/btrfs.h"
#include "mechanism/device-guard.h"
#include "mechanism/loop.h"
#include "mechanism/partition.h"
#include "mechanism/utab.h"
#include "story/mounting-work.h"

/* ---- What it was told ---- */

typedef struct Task {
        MountOrderItem item;
        const char *driver, *name;
        MountOption *options;
        MountResult result;
        int pin; /* keeps the device */
        int fd;  /* the mount */
} Task;

typedef struct Tasks {
        MountOrder order;
        const int *guard_fds;
        const char *parent;
        Task *tasks;
} Tasks;

static void tasks_done(Tasks *tasks)
{
        for (size_t i = 0; tasks->tasks && i < tasks->order.n_items; i++)
                free(tasks->tasks[i].options);
        free(tasks->tasks);
}

static int read_task(FlatReader *reader, Task *task)
{
        int r = flat_read(reader, &task->item, sizeof(task->item));

        if (r >= 0)
                r = flat_read_text(reader, &task->driver);
        if (r >= 0)
                r = flat_read_text(reader, &task->name);
        if (r < 0)
                return r;
        task->pin = task->fd = -1;
        task->options = calloc(task->item.n_options + 1, sizeof(MountOption));
        if (!task->options)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < task->item.n_options; i++) {
                r = flat_read_text(reader, &task->options[i].key);
                if (r >= 0)
                        r = flat_read_text(reader, &task->options[i].value);
        }
        return r;
}

static int read_order(const JobOrder *message, Tasks *ret)
{
        FlatReader reader = { message->data, message->size };
        int r = flat_read(&reader, &ret->order, sizeof(ret->order));

        if (r >= 0)
                r = flat_read_text(&reader, &ret->parent);
        if (r >= 0 && ret->order.pass && message->n_fds < DEVICE_GUARD_FDS)
                r = -EBADMSG;
        if (r < 0)
                return r;
        ret->guard_fds = message->fds;
        ret->tasks = calloc(ret->order.n_items, sizeof(Task));
        if (!ret->tasks)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < ret->order.n_items; i++)
                r = read_task(&reader, &ret->tasks[i]);
        return r;
}

/* ---- Mounting ---- */

static int create(const Tasks *tasks, Task *task)
{
        MountSpec spec = {
                .driver = task->driver,
                .source = task->item.node,
                .read_only = task->item.read_only,
                .may_share = task->item.may_share,
                .options = task->options,
                .n_options = task->item.n_options,
                .attributes = task->item.attributes,
        };
        int r = tasks->order.pass ? device_guard_enter(tasks->guard_fds, tasks->order.pass, task->item.devnum) : 0;

        if (r >= 0)
                r = mount_create(&spec, &task->fd, task->result.message);
        /* The driver wants another device than this one, which the guard refuses. */
        return r == -EPERM && tasks->order.pass ? -EXDEV : r;
}

static int attach(int parent_fd, const char *parent, Task *task)
{
        _cleanup_free_ char *path = text_printf("%s/%s", parent, task->name);
        int r = mount_attach(task->fd, parent_fd, task->name, &task->result.mount_id);

        if (r < 0)
                return r;
        /* Without its line in utab the user could not unmount it with plain umount(8); it is still mounted. */
        if (path)
                (void)utab_add_volume(task->item.node, path);
        return 0;
}

/*
 * The device may have gone since it was looked at, and its number may be somebody
 * else's by now: it is opened, which keeps it, and compared. -ESTALE.
 */
static int pin_device(const MountOrder *order, Task *task)
{
        const MountOrderItem *item = &task->item;

        if (item->number == 0)
                return loop_open(order->loop_number, item->devnum, order->diskseq, O_RDONLY, &task->pin);
        if (item->devnum == 0)
                return -ESTALE;
        return partition_open(order->loop_number, order->diskseq, item->number, item->devnum, item->offset, item->size,
                              &task->pin);
}

/*
 * What is not mounted must not be registered (see btrfs.h): before a mount is tried, since an entry of an earlier
 * tenant of the device makes it fail, and after it has failed. The devices are pinned, so that their numbers are nobody
 * else's.
 */
static void forget_unmounted(const Tasks *tasks, bool tried)
{
        _cleanup_free_ dev_t *devices = calloc(tasks->order.n_items, sizeof(dev_t));
        size_t n = 0;
        int folder;

        for (size_t i = 0; devices && i < tasks->order.n_items; i++) {
                const Task *task = &tasks->tasks[i];

                if (task->item.registers && task->pin >= 0 && task->result.mount_id == 0)
                        devices[n++] = task->item.devnum;
        }
        if (n == 0)
                return;
        /* Closed after the answer, with all else. */
        folder = mount_make_private();
        if (folder >= 0)
                btrfs_forget(folder, devices, n);
        if (tried)
                btrfs_announce_others();
}

static int isolate(Tasks *tasks, int *ret_old, int *ret_root)
{
        _cleanup_free_ MountNode *nodes = calloc(tasks->order.n_items, sizeof(MountNode));
        size_t n = 0;

        if (!nodes)
                return -ENOMEM;
        for (size_t i = 0; i < tasks->order.n_items; i++) {
                Task *task = &tasks->tasks[i];

                task->result.error = pin_device(&tasks->order, task);
                /* What others have mounted may have other options. In the isolated root there is no mount table. */
                if (task->item.may_share && mount_is_device_mounted(task->item.devnum, task->item.node))
                        task->item.may_share = false;
                if (task->result.error >= 0)
                        nodes[n++] = (MountNode){ task->item.node, task->item.devnum };
        }
        forget_unmounted(tasks, false);
        return mount_isolate(nodes, n, ret_old, ret_root);
}

/* True: all of them are made. */
static bool create_all(Tasks *tasks)
{
        bool all = true;

        for (size_t i = 0; i < tasks->order.n_items; i++) {
                Task *task = &tasks->tasks[i];

                if (task->result.error >= 0)
                        task->result.error = create(tasks, task);
                all &= task->result.error >= 0;
        }
        return all;
}

static int send_results(int channel, const Tasks *tasks)
{
        _cleanup_free_ MountResult *results = calloc(tasks->order.n_items + 1, sizeof(MountResult));

        if (!results)
                return -ENOMEM;
        for (size_t i = 0; i < tasks->order.n_items; i++)
                results[i] = tasks->tasks[i].result;
        return job_answer(channel, results, tasks->order.n_items * sizeof(MountResult), NULL, 0);
}

static int mount_all(Tasks *tasks, int parent_fd)
{
        /* The root is closed behind the answer, with all else. */
        int old, root, r = isolate(tasks, &old, &root);
        bool all;

        if (r < 0)
                return r;
        all = create_all(tasks);
        r = tasks->order.pass ? device_guard_leave() : 0;
        if (r >= 0)
                r = mount_leave_isolation(old);
        safe_close(old);
        if (r < 0)
                return r;
        for (size_t i = 0; i < tasks->order.n_items; i++) {
                Task *task = &tasks->tasks[i];

                if (task->result.error >= 0 && (all || !tasks->order.chosen))
                        task->result.error = attach(parent_fd, tasks->parent, task);
        }
        return 0;
}

int mounting_work(int channel, const JobOrder *message)
{
        _cleanup_(tasks_done) Tasks tasks = { 0 };
        _cleanup_close_ int parent_fd = -1;
        int r = read_order(message, &tasks);

        if (r >= 0)
                r = mount_enter();
        if (r < 0)
                return r;
        parent_fd = open(tasks.parent, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = parent_fd < 0 ? -errno : mount_all(&tasks, parent_fd);
        if (r < 0)
                return r;
        /* Whoever hears that it is mounted may unmount it at once. */
        for (size_t i = 0; i < tasks.order.n_items; i++)
                safe_close(tasks.tasks[i].fd);
        forget_unmounted(&tasks, true);
        for (size_t i = 0; i < tasks.order.n_items; i++)
                safe_close(tasks.tasks[i].pin);
        return send_results(channel, &tasks);
}
