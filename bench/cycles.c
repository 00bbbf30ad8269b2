/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long do attach + mount and unmount + detach take, in each of some ways?
 *
 *   cycles IMAGE TYPE ro|rw PARTITIONS ROUNDS WAY...
 *
 * Each round goes every way once, so that a noisy machine is noisy for all of them, and every second one in the
 * opposite order, so that none always follows the same other; and each begins when udevd has done its work for the
 * one before, for which that one has not waited. The first round only warms up. Prints a line of
 * "WAY<tab>ATTACH<tab>DETACH" for each cycle, in nanoseconds.
 */
#include <inttypes.h>

#include "base/macro.h"
#include "way.h"

#define SETTLE_MAX_NSEC UINT64_C(10000000000)

/* udevd has this file while it has something to do. */
static void wait_for_udev(void)
{
        uint64_t began = way_now_nsec();

        while (access("/run/udev/queue", F_OK) >= 0 && way_now_nsec() - began < SETTLE_MAX_NSEC)
                usleep(200);
}

static void cycle(const Way *way, const Task *task, bool print)
{
        uint64_t began, attached, detached;

        wait_for_udev();
        began = way_now_nsec();
        if (way->attach(task) < 0)
                exit(EXIT_FAILURE);
        attached = way_now_nsec();
        if (way->detach && way->detach(task) < 0)
                exit(EXIT_FAILURE);
        detached = way_now_nsec();
        if (print)
                printf("%s\t%" PRIu64 "\t%" PRIu64 "\n", way->name, attached - began, detached - attached);
}

int main(int argc, char *argv[])
{
        Task task;
        int rounds;

        if (argc < 7) {
                fprintf(stderr, "cycles IMAGE TYPE ro|rw PARTITIONS ROUNDS WAY...\n");
                return 2;
        }
        task = (Task){
                .image = argv[1],
                .type = argv[2],
                .writable = streq(argv[3], "rw"),
                .n_partitions = (unsigned)strtoul(argv[4], NULL, 10),
        };
        rounds = atoi(argv[5]);
        for (int round = -1; round < rounds; round++)
                for (int i = 6; i < argc; i++)
                        cycle(way_find(argv[round % 2 ? i : argc + 5 - i]), &task, round >= 0);
        return EXIT_SUCCESS;
}
