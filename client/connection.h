/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way to the daemon: the system bus, and calls that may ask for a password. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

#define BUS_NAME "org.loopmount1"
#define ROOT_PATH "/org/loopmount1"
#define MANAGER_INTERFACE "org.loopmount1.Manager"
#define IMAGE_INTERFACE "org.loopmount1.Image"
#define OBJECT_MANAGER_INTERFACE "org.freedesktop.DBus.ObjectManager"
#define VOLUME_INTERFACE "org.loopmount1.Volume"

typedef struct Connection {
        sd_bus *bus;
        bool ask_password;
        bool no_agent;  /* who asks for it is there already, or nobody is */
        bool cancelled; /* by a signal (see interrupt.h): the daemon has been told */
        char *doing;    /* see connection_say() */
} Connection;

/* Connects, or says why not. Gives an exit code. */
int connection_open(Connection *connection, bool ask_password);
void connection_close(Connection *connection);

/* A new call of @member of @interface at @path, to be filled by the caller. -errno. */
int connection_new_call(Connection *connection, const char *path, const char *interface, const char *member,
                        sd_bus_message **ret_call);

/* What the following calls do, "Attaching disk.img": to be shown to those who have to wait for it. */
void connection_say(Connection *connection, const char *format, ...) _printf_(2, 3);

/*
 * Sends @call and waits for the reply for as long as it takes: the daemon has
 * deadlines of its own, and a person may be typing a password. If the daemon
 * wants authentication the call is made again with leave to ask for it. A signal
 * that interrupt_catch() lets come does not end the wait: the daemon is told to
 * cancel the call, and the reply says whether it has.
 * @ret_reply may be NULL. -errno, with @error set.
 */
int connection_call(Connection *connection, sd_bus_message *call, sd_bus_error *error, sd_bus_message **ret_reply);

/* A call whose only argument is an empty a{sv}. */
int connection_call_simple(Connection *connection, const char *path, const char *interface, const char *member,
                           sd_bus_error *error);

#define _cleanup_connection_ _cleanup_(connection_close)
