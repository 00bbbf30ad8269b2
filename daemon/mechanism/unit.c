/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The service manager is only told, never waited for: it may be busy, stopped,
 * or another program without these units. Where systemd does not run the calls
 * lead nowhere.
 *
 * A mount point may have been named by a user (FUSE, a medium's label). In a
 * unit's name all bytes but letters, digits and a few more are \xNN.
 */
#include "mechanism/unit.h"

#include "base/text.h"

#define MANAGER_NAME "org.freedesktop.systemd1"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE MANAGER_NAME ".Manager"

#define PREFIX "loopmount-backing@"
#define SUFFIX ".target"

/* The path is the kernel's, and as such has no "//", "." or ".." in it. */
int unit_name_backing(const char *path, char name[static UNIT_NAME_SIZE])
{
        char escaped[UNIT_NAME_SIZE - sizeof(PREFIX SUFFIX) + 1];
        int r = text_escape_unit(path, escaped, sizeof(escaped));

        if (r >= 0)
                snprintf(name, UNIT_NAME_SIZE, PREFIX "%s" SUFFIX, escaped);
        return r;
}

static int new_call(sd_bus *bus, const char *method, sd_bus_message **ret)
{
        int r = sd_bus_message_new_method_call(bus, ret, MANAGER_NAME, MANAGER_PATH, MANAGER_INTERFACE, method);

        if (r >= 0)
                r = sd_bus_message_set_auto_start(*ret, false);
        return r;
}

static int tell(sd_bus *bus, const char *method, const char *name)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        int r = new_call(bus, method, &call);

        if (r >= 0)
                r = sd_bus_message_set_expect_reply(call, false);
        if (r >= 0)
                r = sd_bus_message_append(call, "ss", name, "replace");
        if (r >= 0)
                r = sd_bus_send(bus, call, NULL);
        return r;
}

int unit_start(sd_bus *bus, const char *name)
{
        return tell(bus, "StartUnit", name);
}

int unit_stop(sd_bus *bus, const char *name)
{
        return tell(bus, "StopUnit", name);
}

/* ---- Which are there? ---- */

typedef struct Listing {
        UnitFound found;
        void *userdata;
} Listing;

static int on_list(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const Listing *listing = userdata;
        const char *name;

        (void)error;
        if (sd_bus_message_is_method_error(reply, NULL) ||
            sd_bus_message_enter_container(reply, 'a', "(ssssssouso)") < 0)
                return 0;
        while (sd_bus_message_read(reply, "(ssssssouso)", &name, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) >
               0)
                listing->found(name, listing->userdata);
        return 0;
}

int unit_list(sd_bus *bus, UnitFound found, void *userdata, sd_bus_slot **ret_slot)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        _cleanup_free_ Listing *listing = calloc(1, sizeof(*listing));
        int r = new_call(bus, "ListUnitsByPatterns", &call);

        if (!listing)
                return -ENOMEM;
        *listing = (Listing){ found, userdata };
        if (r >= 0)
                r = sd_bus_message_append(call, "asas", 1, "active", 1, PREFIX "*" SUFFIX);
        if (r >= 0)
                r = sd_bus_call_async(bus, ret_slot, call, on_list, listing, UINT64_MAX);
        if (r >= 0)
                r = sd_bus_slot_set_destroy_callback(*ret_slot, free);
        if (r >= 0)
                TAKE_PTR(listing);
        return r;
}
