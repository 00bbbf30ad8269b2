/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The user's own service manager: what it is asked, and what becomes of that. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

typedef struct ServiceManager {
        sd_bus *bus;
        char *job;    /* what is waited for; NULL: nothing */
        char *result; /* how it ended; NULL: it has not */
        bool changed; /* something about some unit */
} ServiceManager;

/* One unit, as the service manager has it. */
typedef struct UnitState {
        char **arguments; /* of its process */
        char *active;     /* "active", "failed", ... */
        char *text;       /* what its process has said that it does, or why it failed */
        char *result;     /* "success", or why it failed: "exit-code", "timeout", ... */
        int status;       /* the exit code, if its process ended by itself; else 0 */
} UnitState;

/* Connects, or says why not. Gives an exit code. */
int service_manager_open(ServiceManager *ret);
void service_manager_close(ServiceManager *manager);

/* A call whose answer is of no interest. -errno, with @error set. */
int service_manager_call(ServiceManager *manager, sd_bus_error *error, const char *method, const char *types, ...);

/* What the unit is now. -errno. */
int service_manager_look(ServiceManager *manager, const char *unit, UnitState *ret);

/*
 * Starts the unit, anew if it runs, and waits until its process has said what it does, or has
 * failed; or stops it, and waits for the end. @doing is shown meanwhile, see Progress. What has
 * become of it is in @ret. -errno, with @error set, if the service manager will not do it;
 * -ETIMEDOUT, without an @error, if it does not come to an end.
 */
int service_manager_start(ServiceManager *manager, const char *unit, const char *doing, sd_bus_error *error,
                          UnitState *ret);
int service_manager_stop(ServiceManager *manager, const char *unit, const char *doing, sd_bus_error *error,
                         UnitState *ret);

/* It is not over: the unit is active, or on its way to or from there. */
bool unit_state_is_running(const UnitState *state);
void unit_state_clear(UnitState *state);

#define _cleanup_service_manager_ _cleanup_(service_manager_close)
#define _cleanup_unit_state_ _cleanup_(unit_state_clear)
