/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A kernel with a parser for the table has made the partitions itself when the
 * device was bound; another one is told of them here. Nothing waits for device
 * nodes: devtmpfs has them when the kernel has the partition.
 */
#include "story/partitioning.h"
#include "mechanism/partition.h"

typedef struct PartitionOrder {
        unsigned loop_number, number;
        bool gone; /* to be taken away, else to be there */
        uint64_t offset, size;
} PartitionOrder;

typedef struct PartitionResult {
        unsigned number;
        int error;
        dev_t devnum;
} PartitionResult;

static int run_partitions(int channel, const JobOrder *message)
{
        size_t n_orders = message->size / sizeof(PartitionOrder), n = 0;
        _cleanup_free_ PartitionResult *results = calloc(n_orders + 1, sizeof(*results));

        if (!results)
                return -ENOMEM;
        if (message->n_fds != 1)
                return -EBADMSG;
        for (size_t i = 0; i < n_orders; i++) {
                PartitionResult *result = &results[n];
                PartitionOrder order;

                memcpy(&order, (const char *)message->data + i * sizeof(order), sizeof(order));
                if (order.gone) {
                        (void)partition_remove(message->fds[0], order.number);
                        continue;
                }
                result->number = order.number;
                result->error = partition_ensure(message->fds[0], order.loop_number, order.number, order.offset,
                                                 order.size, &result->devnum);
                n++;
        }
        return job_answer(channel, results, n * sizeof(*results), NULL, 0);
}

int partitioning_run(Story *story, const Image *image, const unsigned *gone, size_t n_gone, JobDone done)
{
        _cleanup_free_ PartitionOrder *orders = calloc(image->n_volumes + n_gone + 1, sizeof(*orders));
        size_t n = 0;
        Volume *volume;

        if (!orders)
                return -ENOMEM;
        for (size_t i = 0; i < n_gone; i++)
                orders[n++] = (PartitionOrder){ image->loop_number, gone[i], true, 0, 0 };
        IMAGE_FOREACH_VOLUME (volume, image)
                if (volume->number > 0)
                        orders[n++] = (PartitionOrder){ image->loop_number, volume->number, false, volume->offset,
                                                        volume->size };
        JobSpec spec = {
                .name = "partitions",
                .work = run_partitions,
                .order = orders,
                .order_size = n * sizeof(*orders),
                .fds = { image->fd },
                .n_fds = 1,
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        return n > 0 ? story_run_job(story, &spec, done) : 0;
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
