/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A kernel with a parser for the table has made the partitions itself when the
 * device was bound; another one is told of them here. Nothing waits for device
 * nodes: devtmpfs has them when the kernel has the partition.
 */
#include "story/partitioning.h"
#include "mechanism/loop.h"
#include "mechanism/partition.h"
#include "mechanism/probe.h"
#include "story/volumes.h"

typedef struct PartitionOrder {
        unsigned number;
        bool gone; /* to be taken away, else to be there */
        uint64_t offset, size;
} PartitionOrder;

/* Those that go, those that are mounted and stay what they are, and those that are to be there. */
#define PARTITIONS_ORDERED_MAX ((size_t)3 * PROBE_VOLUMES_MAX)

typedef struct PartitionsOrder {
        unsigned loop_number;
        bool scan; /* the kernel has to look for partitions */
        unsigned n_volumes_max;
        size_t n_partitions;
        PartitionOrder partitions[PARTITIONS_ORDERED_MAX];
} PartitionsOrder;

typedef struct PartitionResult {
        unsigned number;
        int error;
        dev_t devnum;
} PartitionResult;

/* All that are to be there are tried; of those that cannot be, the result says why. */
static size_t make_partitions(const PartitionsOrder *order, int fd, PartitionResult *results)
{
        int scan = order->scan ? loop_scan_partitions(fd) : 0;
        size_t n = 0;

        for (size_t i = 0; i < order->n_partitions; i++) {
                const PartitionOrder *partition = &order->partitions[i];
                PartitionResult *result = &results[n];

                if (partition->gone) {
                        (void)partition_remove(fd, partition->number);
                        continue;
                }
                result->number = partition->number;
                /* Without a scan they would outlive the attachment. */
                result->error = scan < 0 ? scan
                                         : partition_ensure(fd, order->loop_number, partition->number,
                                                            partition->offset, partition->size, &result->devnum);
                n++;
        }
        return n;
}

static int run_partitions(int channel, const JobOrder *message)
{
        PartitionResult results[PARTITIONS_ORDERED_MAX] = { 0 };
        unsigned numbers[PARTITIONS_ORDERED_MAX];
        PartitionsOrder order;
        size_t n;
        int r;

        if (message->size != sizeof(order) || message->n_fds != 1)
                return -EBADMSG;
        memcpy(&order, message->data, sizeof(order));
        n = make_partitions(&order, message->fds[0], results);
        for (size_t i = 0; i < n; i++)
                numbers[i] = results[i].number;
        r = partition_limit(message->fds[0], order.loop_number, numbers, n, order.n_volumes_max);
        return r < 0 ? r : job_answer(channel, results, n * sizeof(*results), NULL, 0);
}

int partitioning_run(Story *story, const Image *image, const unsigned *gone, size_t n_gone, JobDone done)
{
        PartitionsOrder order = {
                .loop_number = image->loop_number,
                .scan = image_needs_partition_scan(image),
                .n_volumes_max = story->service->config->max_volumes_per_image,
        };
        JobSpec spec = {
                .name = "partitions",
                .work = run_partitions,
                .order = &order,
                .order_size = sizeof(order),
                .fds = { image->fd },
                .n_fds = 1,
                .timeout_usec = story->service->config->job_timeout_usec,
        };
        Volume *volume;

        if (!order.scan && n_gone == 0)
                return 0;
        if (image->n_volumes + n_gone > PARTITIONS_ORDERED_MAX)
                return -EDQUOT;
        for (size_t i = 0; i < n_gone; i++)
                order.partitions[order.n_partitions++] = (PartitionOrder){ gone[i], true, 0, 0 };
        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume->number > 0)
                        order.partitions[order.n_partitions++] =
                                (PartitionOrder){ volume->number, false, volume->offset, volume->size };
        return story_run_job(story, &spec, done);
}

static int set_obstacle(Volume *volume, int error)
{
        char *text;

        if (*volume->obstacle)
                return 0;
        if (asprintf(&text, "its device could not be made: %s",
                     error == -EEXIST ? "the partition overlaps another one" : strerror(-error)) < 0)
                return -ENOMEM;
        free(volume->obstacle);
        volume->obstacle = text;
        return 0;
}

int partitioning_apply(Image *image, const JobAnswer *answer)
{
        if (answer->size % sizeof(PartitionResult) != 0)
                return -EBADMSG;
        for (size_t i = 0; i < answer->size / sizeof(PartitionResult); i++) {
                PartitionResult result;
                Volume *volume;

                memcpy(&result, (const char *)answer->data + i * sizeof(result), sizeof(result));
                volume = image_find_volume(image, result.number);
                if (!volume)
                        continue;
                volume->devnum = result.error < 0 ? 0 : result.devnum;
                if (result.error < 0 && set_obstacle(volume, result.error) < 0)
                        return -ENOMEM;
        }
        return 0;
}
