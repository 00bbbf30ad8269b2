/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections to the system bus that stay open, one for each user that this process speaks as. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

/* The users of tests/harness/namespaces: ann, bob and carol. */
#define BENCH_USER 61001
#define BENCH_N_USERS 3

/* The daemon that only does the raw calls: null-daemon.c. */
#define BENCH_NULL_NAME "org.loopmount1.bench.Null"

/* Ends the process if there is no bus. */
sd_bus *bench_bus(uid_t uid);

/*
 * The objects below the root object of the service @name, which is called as the name is; and the next one of them:
 * 0 behind the last. @ret_path is the message's.
 */
int bench_managed_objects(const char *name, sd_bus_message **ret);
int bench_next_object(sd_bus_message *objects, const char **ret_path);

/* Whether it is one of loopmountd's images, and not a volume of one. */
bool bench_is_image(const char *path);

/* Says which method has failed; gives @r, or 0. */
int bench_bus_failed(int r, const sd_bus_error *error, const char *method);
