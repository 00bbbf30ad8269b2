/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "way.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/macro.h"

const Way *way_find(const char *name)
{
        static const Way *const all[] = { ways_raw, ways_bus, ways_command };

        for (size_t i = 0; i < ELEMENTSOF(all); i++)
                for (const Way *way = all[i]; way->name; way++)
                        if (streq(way->name, name))
                                return way;
        fprintf(stderr, "bench: there is no way '%s'\n", name);
        exit(2);
}

const char *way_target(void)
{
        static char target[64];
        char folder[80];

        if (!target[0]) {
                snprintf(target, sizeof(target), "/run/bench-%d", (int)getpid());
                mkdir(target, 0755);
                for (unsigned i = 0; i < 16; i++) {
                        snprintf(folder, sizeof(folder), "%s/%u", target, i);
                        mkdir(folder, 0755);
                }
        }
        return target;
}

int way_open(const Task *task)
{
        return way_failed_errno(open(task->image, (task->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC), task->image);
}

int way_failed(int r, const char *what)
{
        if (r < 0)
                fprintf(stderr, "bench: %s: %s\n", what, strerror(-r));
        return r;
}

int way_failed_errno(int r, const char *what)
{
        return way_failed(r < 0 ? -errno : r, what);
}

uint64_t way_now_nsec(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
