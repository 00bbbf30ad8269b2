/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The child has a read-only descriptor of the file and the channel for its answer,
 * and nothing else; it reads one image, and ends. The one for the next is made in advance (see
 * job.c), so that nobody waits for that.
 */
#include "story/probing.h"
#include "mechanism/parcel.h"

#define WORKER_IS_SPENT 1

static int run_probe(int channel, const JobOrder *order)
{
        ProbeSpec spec;
        void *data;
        size_t size;
        int r = 0;

        if (order->size != sizeof(spec) || order->n_fds != 1)
                return -EBADMSG;
        memcpy(&spec, order->data, sizeof(spec));
        spec.fd = order->fds[0];
        /* A file to attach is wrapped up, a device to look at again is not. */
        if (spec.regular_only)
                r = parcel_unwrap(spec.fd, &spec.fd);
        if (r >= 0)
                r = probe_run(&spec, channel, &data, &size);
        if (r >= 0)
                r = job_answer(channel, data, size, NULL, 0);
        return r < 0 ? r : WORKER_IS_SPENT;
}

int probing_run(Story *story, const ProbeSpec *spec, JobDone done)
{
        JobSpec job = {
                .name = "probe",
                .work = run_probe,
                .replace = true,
                .order = spec,
                .order_size = sizeof(*spec),
                .fds = { spec->fd },
                .n_fds = 1,
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        return story_run_job(story, &job, done);
}
