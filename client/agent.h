/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A password agent on this terminal, for the time of one call. */
#pragma once

#include <sys/types.h>

/*
 * Starts polkit's textual agent for this process and waits until it has
 * registered. Gives its pid, or 0 if there is no terminal to ask on, nobody to
 * ask (root) or no such agent: not an error, the desktop may have one.
 */
pid_t agent_start(void);

/* Ends the agent and reaps it; nothing for 0. */
void agent_stop(pid_t agent);
