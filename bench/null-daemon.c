/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The least that a service for mounts can be: the raw calls behind two methods. It asks nobody, looks into
 * nothing, keeps nothing that would outlive it, and has one call at a time. What loopmountd takes longer
 * than this is what its promises cost.
 */
#include <sys/stat.h>
#include <systemd/sd-bus.h>

#include "base/macro.h"
#include "bus.h"
#include "raw.h"

#define MAX_IMAGES 4096

static RawImage images[MAX_IMAGES];
static bool taken[MAX_IMAGES];

static void target_of(unsigned number, char *ret, size_t size)
{
        snprintf(ret, size, "/run/bench-null-%u", number);
}

static int method_attach(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Task task = { .image = "" };
        char target[64], path[64];
        int file, writable, r;
        unsigned i = 0;

        (void)userdata;
        (void)error;
        r = sd_bus_message_read(m, "hsb", &file, &task.type, &writable);
        if (r < 0)
                return r;
        task.writable = writable;
        while (taken[i])
                if (++i == MAX_IMAGES)
                        return -ENOSPC;
        target_of(i, target, sizeof(target));
        if (mkdir(target, 0755) < 0)
                return -errno;
        r = raw_attach(&task, file, target, &images[i]);
        if (r < 0)
                return r;
        taken[i] = true;
        snprintf(path, sizeof(path), "/null/%u", i);
        return sd_bus_reply_method_return(m, "o", path);
}

static int method_detach(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *path;
        char target[64];
        unsigned i;
        int r;

        (void)userdata;
        (void)error;
        r = sd_bus_message_read(m, "o", &path);
        if (r < 0)
                return r;
        i = (unsigned)strtoul(strrchr(path, '/') + 1, NULL, 10);
        if (i >= MAX_IMAGES || !taken[i])
                return -ENOENT;
        target_of(i, target, sizeof(target));
        r = raw_detach(&images[i], target);
        if (r < 0)
                return r;
        taken[i] = false;
        if (rmdir(target) < 0)
                return -errno;
        return sd_bus_reply_method_return(m, NULL);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Attach", "hsb", "o", method_attach, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Detach", "o", NULL, method_detach, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

int main(void)
{
        sd_bus *bus = bench_bus(0);
        int r = sd_bus_add_object_vtable(bus, NULL, "/null", BENCH_NULL_NAME, vtable, NULL);

        if (r >= 0)
                r = sd_bus_request_name(bus, BENCH_NULL_NAME, 0);
        while (r >= 0) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
        }
        way_failed(r, "null-daemon");
        return EXIT_FAILURE;
}
