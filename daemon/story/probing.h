/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A shared part: the probe in its job. */
#pragma once

#include "mechanism/probe.h"
#include "story/story.h"

/* spec->fd: a parcel (see parcel.h), or the descriptor of a device. Starts the job; its answer is for probe_parse().
 * Errors as of probe_run(). */
int probing_run(Story *story, const ProbeSpec *spec, JobDone done);
