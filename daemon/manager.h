/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon as a whole: its event loop, its name on the bus, when it comes and when it goes. */
#pragma once

#include "base/macro.h"

/*
 * Runs until it is told to stop or there is nothing to look after. Gives the exit
 * status; -errno: it could not start.
 */
int manager_run(void);
