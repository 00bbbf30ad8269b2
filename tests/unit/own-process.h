/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this process has. */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

/* Without one closer that waits; those that have ended and are not reaped count. */
unsigned own_children(void);

/* The first of the children that has this name in the process list; 0: none has. */
pid_t own_child_named(const char *name);

/* 0: none waits. */
pid_t own_idle_closer(void);

size_t own_descriptors(void);

/* That there are so many, after a moment in which closers may have to close some, and are reaped. */
void own_assert_descriptors(sd_event *event, size_t n);
