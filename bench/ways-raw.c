/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The raw calls; and the same until udevd has processed the device, which is as early as anybody can tell that it has.
 */
#include <systemd/sd-device.h>

#include "base/macro.h"
#include "raw.h"

#define SETTLE_MAX_USEC (10 * USEC_PER_SEC)

static RawImage current;

static int attach(const Task *task)
{
        _cleanup_close_ int file = way_open(task);

        return file < 0 ? file : raw_attach(task, file, way_target(), &current);
}

static int detach(const Task *task)
{
        (void)task;
        return raw_detach(&current, way_target());
}

/* ---- with udev ------------------------------------------------------------------------- */

static int on_event(sd_device_monitor *monitor, sd_device *device, void *userdata)
{
        const char *sequence;
        uint64_t *last = userdata;

        (void)monitor;
        if (sd_device_get_property_value(device, "DISKSEQ", &sequence) >= 0)
                *last = strtoull(sequence, NULL, 10);
        return 0;
}

static int start_monitor(sd_device_monitor **ret, uint64_t *last)
{
        int r = sd_device_monitor_new(ret);

        if (r >= 0)
                r = sd_device_monitor_filter_add_match_subsystem_devtype(*ret, "block", "disk");
        if (r >= 0)
                r = sd_device_monitor_start(*ret, on_event, last);
        return way_failed(r, "monitor");
}

/* One monitor for all rounds: it has to be there before the device. */
static int settled_attach(const Task *task)
{
        static sd_device_monitor *monitor;
        static uint64_t last;
        int r = monitor ? 0 : start_monitor(&monitor, &last);

        if (r >= 0)
                r = attach(task);
        while (r >= 0 && last < current.sequence)
                r = sd_event_run(sd_device_monitor_get_event(monitor), SETTLE_MAX_USEC);
        return way_failed(r, "waiting for udev");
}

const Way ways_raw[] = { { "raw", attach, detach }, { "raw, settle", settled_attach, detach }, { 0 } };
