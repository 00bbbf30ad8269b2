/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One question to polkit, asynchronously: may this bus client do that?
 * Deny is the answer to everything that is not a clear yes.
 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "base/macro.h"

typedef struct PolkitCheck PolkitCheck;

/* For polkit's rules, and for the message, which may contain $(name). */
typedef struct PolkitDetail {
        const char *name;
        const char *value;
} PolkitDetail;

typedef struct PolkitQuestion {
        const char *action;
        const char *sender; /* unique bus name */
        uid_t uid;          /* the sender's; root may do everything, and is not asked about */
        bool interactive;   /* a password may be asked for: then there is no time limit */
        /* What the agent says, in the user's language, marked with N_(); NULL: the message of the action. */
        const char *message;
        const PolkitDetail *details;
        size_t n_details;
} PolkitQuestion;

/*
 * Called once, never from within polkit_check(). 0: yes. -EACCES: no.
 * -EKEYREJECTED: not without a password, and none may be asked for. -ECANCELED:
 * the prompt was dismissed. -ESRCH: polkit is not running. -ENOMSG: polkit, or the
 * bus, failed, or no answer came in time.
 */
typedef void (*PolkitDone)(int result, void *userdata);

/*
 * @bus: a connection that others cannot fill with messages. The bus drops an answer
 * when its queue for the connection is full.
 * 1: yes, without asking (root): @done is not called. 0: asked. < 0: could not ask.
 */
int polkit_check(sd_bus *bus, const PolkitQuestion *question, PolkitDone done, void *userdata, PolkitCheck **ret);

/*
 * The callback will not be called. A prompt stays on the screen for as long as caller
 * and daemon are on the bus. Gives NULL.
 */
PolkitCheck *polkit_abandon(PolkitCheck *check);
