/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The child has the file's descriptor and the channel for its answer, and nothing else. */
#include "story/probing.h"
#include "mechanism/parcel.h"

static int run_probe(int channel, const void *parameters)
{
        ProbeSpec spec = *(const ProbeSpec *)parameters;
        void *data;
        size_t size;
        int r = 0;

        /* A file to attach is wrapped up, a device to look at again is not. */
        if (spec.regular_only)
                r = parcel_unwrap(spec.fd, &spec.fd);
        if (r >= 0)
                r = probe_run(&spec, &data, &size);
        return r < 0 ? r : job_answer(channel, data, size, NULL, 0);
}

int probing_run(Story *story, const ProbeSpec *spec, JobDone done)
{
        JobSpec job = {
                .name = "probe",
                .function = run_probe,
                .parameters = spec,
                .fds = { spec->fd },
                .n_fds = 1,
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        return story_run_job(story, &job, done);
}
