/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A kernel with a parser for the table has made the partitions itself when the
 * device was bound; another one is told of them here. Nothing waits for device
 * nodes: devtmpfs has them when the kernel has the partition.
 */
#include "story/partitioning.h"
#include "mechanism/partition.h"

typedef struct Parameters {
        const Image *image;
        const unsigned *gone;
        size_t n_gone;
} Parameters;

typedef struct PartitionResult {
        unsigned number;
        int error;
        dev_t devnum;
} PartitionResult;

static int run_partitions(int channel, const void *userdata)
{
        const Parameters *parameters = userdata;
        const Image *image = parameters->image;
        _cleanup_free_ PartitionResult *results = calloc(image->n_volumes + 1, sizeof(*results));
        size_t n = 0;
        Volume *volume;

        if (!results)
                return -ENOMEM;
        for (size_t i = 0; i < parameters->n_gone; i++)
                (void)partition_remove(image->fd, parameters->gone[i]);
        IMAGE_FOREACH_VOLUME (volume, image) {
                PartitionResult *result = &results[n];

                if (volume->number == 0)
                        continue;
                result->number = volume->number;
                result->error = partition_ensure(image->fd, image->loop_number, volume->number, volume->offset,
                                                 volume->size, &result->devnum);
                n++;
        }
        return job_answer(channel, results, n * sizeof(*results), NULL, 0);
}

int partitioning_run(Story *story, const Image *image, const unsigned *gone, size_t n_gone, JobDone done)
{
        Parameters parameters = { .image = image, .gone = gone, .n_gone = n_gone };
        JobSpec spec = {
                .name = "partitions",
                .function = run_partitions,
                .parameters = &parameters,
                .fds = { image->fd },
                .n_fds = 1,
                .timeout_usec = story->service->config->job_timeout_usec,
        };
        bool needed = n_gone > 0;
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image)
                needed |= volume->number > 0;
        return needed ? story_run_job(story, &spec, done) : 0;
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
