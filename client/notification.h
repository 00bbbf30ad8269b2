/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages on the user's desktop: org.freedesktop.Notifications, on the session bus. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

#define NOTIFICATION_NAME "org.freedesktop.Notifications"
#define NOTIFICATION_PATH "/org/freedesktop/Notifications"
#define NOTIFICATION_INTERFACE "org.freedesktop.Notifications"

/* The user's session bus, or NULL if there is none: then nobody can be told anything. */
sd_bus *notification_open_bus(void);

typedef struct Notification {
        const char *summary, *body; /* plain text, UTF-8 */
        bool offers_actions;        /* "open" and "eject", to be heard as ActionInvoked */
        bool is_error;
} Notification;

/*
 * Shows it; @ret_id is what the service's signals call it. 1: somebody may
 * choose an action now; 0: this service has no actions, or none was wanted.
 * -errno, as when there is no such service.
 */
int notification_show(sd_bus *session, const Notification *notification, uint32_t *ret_id);
void notification_close(sd_bus *session, uint32_t id);

/*
 * Shows an error for which nobody may be looking at a terminal: as a
 * notification, or else in a dialog, which is waited for. @session may be NULL.
 */
void notification_tell_error(sd_bus *session, const char *summary, const char *body);

/* @text for a service that takes bodies for markup. NULL when out of memory. */
char *notification_escape(const char *text);
