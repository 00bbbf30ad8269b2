/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A daemon that may end at any time, and what has to be true whatever becomes of
 * it. In place of lib/ground.h, which ends the test when a daemon ends: here the
 * first problem of a point is noted, and the next point goes on from a clean state.
 */
#pragma once

#include "lib/bus.h"
#include "lib/image.h"
#include "lib/snapshot.h"
#include "tracer.h"

typedef struct Bench {
        GDBusConnection *root, *ann;
        char *raw, *parts; /* image files: ext4; GPT with three volumes of ext4 */
        int raw_fd, parts_fd;
        TestSnapshot *clean; /* without a daemon */
        TestSnapshot *idle;  /* of the daemon that is running, without images */

        bool outside; /* the daemon is started as the unit does it: in a mount namespace of its own */
        pid_t daemon;
        bool ended;
        int status; /* as waitpid(2) gives it, when ended */
        bool has_name;

        char *problem; /* the first one of this point */
} Bench;

void bench_set_up(Bench *bench);

/* Ends what is running, and fails unless all is as it was before. */
void bench_tear_down(Bench *bench);

void bench_complain(Bench *bench, const char *format, ...) _printf_(2, 3);

/* Runs the main loop until it is true; a problem if that takes too long. */
bool bench_wait(Bench *bench, bool (*condition)(Bench *bench, gpointer userdata), gpointer userdata, const char *what);

/* Starts a daemon; with an @order it is followed from its execve(2) on. True: it is up; false: it has ended. */
bool bench_start(Bench *bench, const TracerOrder *order);

/* Asks it something, which it answers when it has taken over what is there. */
bool bench_greet(Bench *bench);

/* Both, for one that must come up, and that is not disturbed. */
void bench_restart(Bench *bench);

/* SIGKILL; comes back when the bus has noticed. */
void bench_kill(Bench *bench);

/* Waits until it is dead and the bus has noticed. */
void bench_wait_ended(Bench *bench);

/* Waits until the daemon has done all that it was asked for, and has no children that do something; or has ended. */
void bench_wait_idle(Bench *bench);

/* Waits until the call is answered. */
void bench_wait_call(Bench *bench, TestCall *call);

/* How many images there are; -1: some that are not wholly attached, or not ann's. */
int bench_count_images(Bench *bench);

/* Detaches all images, as ann; a problem if that fails. */
void bench_detach_all(Bench *bench);

/* Waits until all is as it was in @before. */
void bench_compare(Bench *bench, const TestSnapshot *before, pid_t daemon);

/* Behind a problem: ends the daemon, takes away by hand what is left, forgets the problem. */
void bench_recover(Bench *bench);
