/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A full netlink socket loses events without a word, and udevd may be slow or
 * gone: there is always a deadline, and nothing depends on an event alone.
 */
#include <inttypes.h>

#include "mechanism/settle.h"

struct Settle {
        sd_device_monitor *monitor;
        sd_event_source *on_deadline;
        sd_id128_t *pending; /* the events that are awaited */
        size_t n_pending;
        SettleDone done;
        void *userdata;
};

/* Without udevd a monitor starts as well, and stays silent. */
static bool have_udevd(void)
{
        return access("/run/udev/control", F_OK) >= 0;
}

static void monitor_unrefp(sd_device_monitor **monitor)
{
        sd_device_monitor_unref(*monitor);
}

int settle_monitor(sd_event *event, sd_device_monitor_handler_t handler, void *userdata, sd_device_monitor **ret)
{
        _cleanup_(monitor_unrefp) sd_device_monitor *monitor = NULL;
        int r = sd_device_monitor_new(&monitor);

        if (r >= 0)
                r = sd_device_monitor_attach_event(monitor, event);
        if (r >= 0)
                r = sd_device_monitor_filter_add_match_subsystem_devtype(monitor, "block", NULL);
        if (r >= 0)
                r = sd_device_monitor_filter_add_match_tag(monitor, SETTLE_TAG);
        if (r >= 0)
                r = sd_device_monitor_filter_update(monitor);
        if (r >= 0)
                r = sd_device_monitor_start(monitor, handler, userdata);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(monitor);
        return 0;
}

uint64_t settle_get_seqnum(void)
{
        _cleanup_fclose_ FILE *f = fopen("/sys/kernel/uevent_seqnum", "re");
        uint64_t seqnum;

        return f && fscanf(f, "%" SCNu64, &seqnum) == 1 ? seqnum : 0;
}

Settle *settle_cancel(Settle *settle)
{
        if (!settle)
                return NULL;
        sd_device_monitor_unref(settle->monitor);
        sd_event_source_disable_unref(settle->on_deadline);
        free(settle->pending);
        free(settle);
        return NULL;
}

static void finish(Settle *settle, int error)
{
        SettleDone done = settle->done;
        void *userdata = settle->userdata;

        settle_cancel(settle);
        done(error, userdata);
}

static int on_event(sd_device_monitor *monitor, sd_device *device, void *userdata)
{
        Settle *settle = userdata;
        sd_id128_t uuid;

        (void)monitor;
        if (sd_device_get_trigger_uuid(device, &uuid) < 0)
                return 0;
        for (size_t i = 0; i < settle->n_pending; i++)
                if (sd_id128_equal(settle->pending[i], uuid)) {
                        settle->pending[i] = settle->pending[--settle->n_pending];
                        break;
                }
        if (settle->n_pending == 0)
                finish(settle, 0);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec;
        finish(userdata, -ETIMEDOUT);
        return 0;
}

static void device_unrefp(sd_device **device)
{
        sd_device_unref(*device);
}

static int trigger(Settle *settle, dev_t devnum)
{
        _cleanup_(device_unrefp) sd_device *device = NULL;
        int r = sd_device_new_from_devnum(&device, 'b', devnum);

        if (r >= 0)
                r = sd_device_trigger_with_uuid(device, SD_DEVICE_CHANGE, &settle->pending[settle->n_pending]);
        if (r >= 0)
                settle->n_pending++;
        return r;
}

int settle_start(sd_event *event, const dev_t *devices, size_t n_devices, uint64_t timeout_usec, SettleDone done,
                 void *userdata, Settle **ret)
{
        _cleanup_(settle_cancelp) Settle *settle = NULL;
        int r;

        if (!have_udevd() || n_devices == 0)
                return 0;
        settle = calloc(1, sizeof(*settle));
        if (!settle)
                return -ENOMEM;
        settle->done = done;
        settle->userdata = userdata;
        settle->pending = calloc(n_devices, sizeof(sd_id128_t));
        if (!settle->pending)
                return -ENOMEM;
        r = settle_monitor(event, on_event, settle, &settle->monitor);
        for (size_t i = 0; i < n_devices && r >= 0; i++)
                r = trigger(settle, devices[i]);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &settle->on_deadline, CLOCK_MONOTONIC, timeout_usec, 0,
                                               on_deadline, settle);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(settle);
        return 1;
}
