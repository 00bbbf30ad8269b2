/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"

#include "base/macro.h"
#include "way.h"

/* With many images udisksd takes its time. */
#define CALL_MAX_USEC (120 * USEC_PER_SEC)

static sd_bus *connections[BENCH_N_USERS + 1];

/* Who connects is what the bus tells others about the caller; what happens later is root's. */
static sd_bus *connect_as(uid_t uid)
{
        sd_bus *bus = NULL;
        const char *name;

        if (way_failed_errno(seteuid(uid), "seteuid") < 0 || way_failed(sd_bus_open_system(&bus), "system bus") < 0 ||
            way_failed(sd_bus_get_unique_name(bus, &name), "system bus") < 0 ||
            way_failed(sd_bus_set_method_call_timeout(bus, CALL_MAX_USEC), "system bus") < 0 ||
            way_failed_errno(seteuid(0), "seteuid") < 0)
                exit(EXIT_FAILURE);
        return bus;
}

sd_bus *bench_bus(uid_t uid)
{
        sd_bus **bus = &connections[uid == 0 ? 0 : uid - BENCH_USER + 1];

        if (!*bus)
                *bus = connect_as(uid);
        return *bus;
}

int bench_bus_failed(int r, const sd_bus_error *error, const char *method)
{
        if (r < 0)
                fprintf(stderr, "bench: %s: %s\n", method, error->message ? error->message : strerror(-r));
        return r < 0 ? r : 0;
}

int bench_managed_objects(const char *name, sd_bus_message **ret)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        char path[256];
        int r;

        snprintf(path, sizeof(path), "/%s", name);
        for (char *dot = strchr(path, '.'); dot; dot = strchr(dot, '.'))
                *dot = '/';
        r = sd_bus_call_method(bench_bus(0), name, path, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects",
                               &error, ret, NULL);
        if (r < 0)
                return bench_bus_failed(r, &error, "GetManagedObjects");
        return way_failed(sd_bus_message_enter_container(*ret, 'a', "{oa{sa{sv}}}"), "GetManagedObjects");
}

int bench_next_object(sd_bus_message *objects, const char **ret_path)
{
        int r = sd_bus_message_enter_container(objects, 'e', "oa{sa{sv}}");

        if (r <= 0)
                return r;
        r = sd_bus_message_read_basic(objects, 'o', ret_path);
        if (r >= 0)
                r = sd_bus_message_skip(objects, "a{sa{sv}}");
        if (r >= 0)
                r = sd_bus_message_exit_container(objects);
        return r < 0 ? r : 1;
}

bool bench_is_image(const char *path)
{
        const char prefix[] = "/org/loopmount1/image/";

        return strncmp(path, prefix, sizeof(prefix) - 1) == 0 && !strchr(path + sizeof(prefix) - 1, '/');
}
