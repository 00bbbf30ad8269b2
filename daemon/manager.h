/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon as a whole: its event loop, its name on the bus, when it comes and when it goes. */
#pragma once

#include "base/macro.h"

/*
 * Runs until it is told to stop or there is nothing to look after. Gives the exit
 * status; -errno: it could not start.
 */
int manager_run(void);

/*
 * Detaches all images, whoever uses them, and gives 0 when no more can be done.
 * While another daemon has the name on the bus it does nothing.
 */
int manager_detach_all(void);
