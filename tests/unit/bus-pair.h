/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two ends of a D-Bus connection in one process, without a bus between them. Aborts the test on failure. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

typedef struct BusPair {
        sd_bus *client, *server;
} BusPair;

void bus_pair_open(BusPair *pair);
void bus_pair_close(BusPair *pair);

/* Until neither end has anything to do. */
void bus_pair_turn(BusPair *pair);
