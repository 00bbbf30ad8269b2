/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ways that are calls over D-Bus, from a connection that stays: loopmountd's, those of the daemon that
 * only does the raw calls, and udisksd's.
 */
#include <fcntl.h>
#include <signal.h>
#include <systemd/sd-bus.h>

#include "base/macro.h"
#include "bus.h"
#include "way.h"

#define WAIT_MAX_NSEC UINT64_C(60000000000)

/* What was attached last, by whichever way. */
static char object[256];

static int keep_object(sd_bus_message *reply)
{
        const char *path;
        int r = sd_bus_message_read_basic(reply, 'o', &path);

        if (r >= 0)
                snprintf(object, sizeof(object), "%s", path);
        return way_failed(r, "reply");
}

/* ---- loopmountd ---------------------------------------------------------------------- */

static int loopmount_attach(const Task *task, uid_t uid, bool settle)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_close_ int file = way_open(task);
        int r;

        if (file < 0)
                return file;
        r = sd_bus_call_method(bench_bus(uid), "org.loopmount1", "/org/loopmount1", "org.loopmount1.Manager", "Attach",
                               &error, &reply, "ha{sv}", file, 2, "read-only", "b", !task->writable, "settle", "b",
                               settle);
        return r < 0 ? bench_bus_failed(r, &error, "Attach") : keep_object(reply);
}

static int loopmount_detach(uid_t uid)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bench_bus(uid), "org.loopmount1", object, "org.loopmount1.Image", "Detach", &error,
                                   NULL, "a{sv}", 0);

        return bench_bus_failed(r, &error, "Detach");
}

static int bus_attach(const Task *task)
{
        return loopmount_attach(task, 0, false);
}

static int bus_detach(const Task *task)
{
        (void)task;
        return loopmount_detach(0);
}

static int user_attach(const Task *task)
{
        return loopmount_attach(task, BENCH_USER, false);
}

static int user_detach(const Task *task)
{
        (void)task;
        return loopmount_detach(BENCH_USER);
}

static int settle_attach(const Task *task)
{
        return loopmount_attach(task, 0, true);
}

/* ---- polkit: the question that a user's attach costs, as loopmountd asks it ---------------- */

static int polkit_ask(const Task *task)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *user;
        int r = sd_bus_get_unique_name(bench_bus(BENCH_USER), &user);

        (void)task;
        if (r >= 0)
                r = sd_bus_call_method(bench_bus(0), "org.freedesktop.PolicyKit1",
                                       "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
                                       "CheckAuthorization", &error, NULL, "(sa{sv})sa{ss}us", "system-bus-name", 1,
                                       "name", "s", user, "org.loopmount1.attach", 0, 0, "");
        return bench_bus_failed(r, &error, "CheckAuthorization");
}

/* ---- the null daemon ----------------------------------------------------------------- */

static int null_attach(const Task *task)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_close_ int file = way_open(task);
        int r;

        if (file < 0)
                return file;
        r = sd_bus_call_method(bench_bus(0), BENCH_NULL_NAME, "/null", BENCH_NULL_NAME, "Attach", &error, &reply, "hsb",
                               file, task->type, task->writable);
        return r < 0 ? bench_bus_failed(r, &error, "Attach") : keep_object(reply);
}

static int null_detach(const Task *task)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bench_bus(0), BENCH_NULL_NAME, "/null", BENCH_NULL_NAME, "Detach", &error, NULL, "o",
                                   object);

        (void)task;
        return bench_bus_failed(r, &error, "Detach");
}

/* ---- udisksd ------------------------------------------------------------------------- */

static int udisks_call(const char *interface, const char *method)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bench_bus(0), "org.freedesktop.UDisks2", object, interface, method, &error, NULL,
                                   "a{sv}", 0);

        return bench_bus_failed(r, &error, method);
}

/* The device is there before udisksd knows what is in it, which takes the longer the more there are. */
static int udisks_mount(void)
{
        uint64_t began = way_now_nsec();

        for (;;) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                int r = sd_bus_call_method(bench_bus(0), "org.freedesktop.UDisks2", object,
                                           "org.freedesktop.UDisks2.Filesystem", "Mount", &error, NULL, "a{sv}", 0);

                if (!sd_bus_error_has_names(&error, SD_BUS_ERROR_UNKNOWN_METHOD, SD_BUS_ERROR_UNKNOWN_INTERFACE) ||
                    way_now_nsec() - began > WAIT_MAX_NSEC)
                        return bench_bus_failed(r, &error, "Mount");
                usleep(5000);
        }
}

/* What cannot be mounted does not stay. */
static int udisks_attach(const Task *task)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_close_ int file = way_open(task);
        int r;

        if (file < 0)
                return file;
        r = sd_bus_call_method(bench_bus(0), "org.freedesktop.UDisks2", "/org/freedesktop/UDisks2/Manager",
                               "org.freedesktop.UDisks2.Manager", "LoopSetup", &error, &reply, "ha{sv}", file, 1,
                               "read-only", "b", !task->writable);
        if (r < 0)
                return bench_bus_failed(r, &error, "LoopSetup");
        r = keep_object(reply);
        if (r >= 0)
                r = udisks_mount();
        if (r < 0)
                udisks_call("org.freedesktop.UDisks2.Loop", "Delete");
        return r;
}

static int udisks_detach(const Task *task)
{
        int r = udisks_call("org.freedesktop.UDisks2.Filesystem", "Unmount"),
            q = udisks_call("org.freedesktop.UDisks2.Loop", "Delete");

        (void)task;
        return r < 0 ? r : q;
}

/* ---- a service that the bus has to start ----------------------------------------------- */

static int first_reply(const char *name, const char *path, const char *interface)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *version = NULL;
        int r = sd_bus_get_property_string(bench_bus(0), name, path, interface, "Version", &error, &version);

        return bench_bus_failed(r, &error, name);
}

/* Until the process has gone, and the bus knows; -ETIMEDOUT: it does not go. */
static int end_service(const char *name)
{
        uint64_t began = way_now_nsec();
        int r;

        do {
                _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
                pid_t pid;

                r = sd_bus_get_name_creds(bench_bus(0), name, SD_BUS_CREDS_PID, &creds);
                if (r >= 0 && sd_bus_creds_get_pid(creds, &pid) >= 0)
                        kill(pid, SIGTERM);
                if (r >= 0 && way_now_nsec() - began > WAIT_MAX_NSEC)
                        r = -ETIMEDOUT;
        } while (r >= 0 && usleep(1000) >= 0);
        return r == -ENXIO ? 0 : way_failed(r, name);
}

static int activate_loopmount(const Task *task)
{
        (void)task;
        return first_reply("org.loopmount1", "/org/loopmount1", "org.loopmount1.Manager");
}

static int end_loopmount(const Task *task)
{
        (void)task;
        return end_service("org.loopmount1");
}

static int activate_udisks(const Task *task)
{
        (void)task;
        return first_reply("org.freedesktop.UDisks2", "/org/freedesktop/UDisks2/Manager",
                           "org.freedesktop.UDisks2.Manager");
}

static int end_udisks(const Task *task)
{
        (void)task;
        return end_service("org.freedesktop.UDisks2");
}

const Way ways_bus[] = {
        { "bus", bus_attach, bus_detach },
        { "bus, user", user_attach, user_detach },
        { "bus, settle", settle_attach, bus_detach },
        { "polkit", polkit_ask, NULL },
        { "null", null_attach, null_detach },
        { "udisks", udisks_attach, udisks_detach },
        { "activate loopmountd", activate_loopmount, end_loopmount },
        { "activate udisksd", activate_udisks, end_udisks },

        { 0 },
};
