/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The child has the file's descriptor and the channel for its answer, and nothing else. */
#include "story/probing.h"

static int run_probe(int channel, const void *parameters)
{
        void *data;
        size_t size;
        int r = probe_run(parameters, &data, &size);

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
