/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * At shutdown images are detached before the file systems that their files are on
 * are unmounted: loopmount-shutdown.service is stopped before local-fs.target and
 * remote-fs.target. But mounts with "nofail", and others that are ordered
 * otherwise, are not behind these targets. So for each mount that an attached
 * file is on there is an instance of loopmount-backing@.target, which does nothing
 * but stand between that mount and the service. It is there as long as there are
 * such images.
 *
 * This compares what should be there with what is, when nothing else is to be
 * done. A start of a unit costs the service manager a millisecond or two; nobody
 * waits for it, and if it fails the machine is shut down all the same.
 */
#include <systemd/sd-daemon.h>

#include "backing.h"
#include "mechanism/mount.h"
#include "mechanism/unit.h"

/* A mount that an attached file is on. */
typedef struct BackingMount {
        uint64_t id;
        dev_t device;
        char *unit; /* NULL: none stands for it */
        bool used;
} BackingMount;

struct Backing {
        Service *service;
        sd_event_source *on_change;
        sd_bus_slot *listing;
        BackingMount *mounts;
        size_t n_mounts;
        char **units; /* that run, as far as we know */
        size_t n_units;
};

/* ---- The mounts ---- */

static int find_unit(const Image *image, char **ret)
{
        _cleanup_free_ char *path = NULL;
        char name[UNIT_NAME_SIZE];
        char *unit = NULL;

        if (mount_find(image->file_mount_id, image->file_device, &path) >= 0 && unit_name_backing(path, name) >= 0) {
                unit = strdup(name);
                if (!unit)
                        return -ENOMEM;
        }
        *ret = unit;
        return 0;
}

static int add_mount(Backing *backing, const Image *image)
{
        BackingMount *grown = reallocarray(backing->mounts, backing->n_mounts + 1, sizeof(BackingMount));
        BackingMount mount = { .id = image->file_mount_id, .device = image->file_device, .used = true };
        int r;

        if (!grown)
                return -ENOMEM;
        backing->mounts = grown;
        r = find_unit(image, &mount.unit);
        if (r >= 0)
                grown[backing->n_mounts++] = mount;
        return r;
}

static bool note_use(const Backing *backing, const Image *image)
{
        for (size_t i = 0; i < backing->n_mounts; i++)
                if (backing->mounts[i].id == image->file_mount_id && backing->mounts[i].device == image->file_device) {
                        backing->mounts[i].used = true;
                        return true;
                }
        return false;
}

static void drop_unused(Backing *backing)
{
        size_t n = 0;

        for (size_t i = 0; i < backing->n_mounts; i++)
                if (backing->mounts[i].used)
                        backing->mounts[n++] = backing->mounts[i];
                else
                        free(backing->mounts[i].unit);
        backing->n_mounts = n;
}

/* The mount table is read for those alone that are not known yet; as long as one is used its id means no other. */
static void find_mounts(Backing *backing)
{
        const Registry *registry = backing->service->registry;
        const Image *image;

        for (size_t i = 0; i < backing->n_mounts; i++)
                backing->mounts[i].used = false;
        for (size_t i = 0; (image = registry_nth(registry, i)); i++)
                if (!note_use(backing, image))
                        (void)add_mount(backing, image);
        drop_unused(backing);
}

/* ---- Their units ---- */

static bool is_wanted(const Backing *backing, const char *unit)
{
        for (size_t i = 0; i < backing->n_mounts; i++)
                if (backing->mounts[i].unit && streq(backing->mounts[i].unit, unit))
                        return true;
        return false;
}

static bool is_running(const Backing *backing, const char *unit)
{
        for (size_t i = 0; i < backing->n_units; i++)
                if (streq(backing->units[i], unit))
                        return true;
        return false;
}

static int note_running(Backing *backing, const char *unit)
{
        char **grown = reallocarray(backing->units, backing->n_units + 1, sizeof(char *));

        if (!grown)
                return -ENOMEM;
        backing->units = grown;
        grown[backing->n_units] = strdup(unit);
        if (!grown[backing->n_units])
                return -ENOMEM;
        backing->n_units++;
        return 0;
}

static void stop_unwanted(Backing *backing)
{
        size_t n = 0;

        for (size_t i = 0; i < backing->n_units; i++) {
                if (is_wanted(backing, backing->units[i])) {
                        backing->units[n++] = backing->units[i];
                        continue;
                }
                (void)unit_stop(backing->service->ask_bus, backing->units[i]);
                free(backing->units[i]);
        }
        backing->n_units = n;
}

static void start_wanted(Backing *backing)
{
        for (size_t i = 0; i < backing->n_mounts; i++) {
                const char *unit = backing->mounts[i].unit;

                if (unit && !is_running(backing, unit) && note_running(backing, unit) >= 0)
                        (void)unit_start(backing->service->ask_bus, unit);
        }
}

static int on_change(sd_event_source *source, void *userdata)
{
        Backing *backing = userdata;

        (void)source;
        find_mounts(backing);
        stop_unwanted(backing);
        start_wanted(backing);
        return 0;
}

/* One that an earlier daemon has started: it may be needed no more. */
static void on_unit_found(const char *name, void *userdata)
{
        Backing *backing = userdata;

        if (!is_running(backing, name) && note_running(backing, name) >= 0)
                backing_changed(backing);
}

/* ---- */

void backing_changed(Backing *backing)
{
        if (backing)
                (void)sd_event_source_set_enabled(backing->on_change, SD_EVENT_ONESHOT);
}

Backing *backing_free(Backing *backing)
{
        if (!backing)
                return NULL;
        sd_event_source_disable_unref(backing->on_change);
        sd_bus_slot_unref(backing->listing);
        for (size_t i = 0; i < backing->n_mounts; i++)
                free(backing->mounts[i].unit);
        for (size_t i = 0; i < backing->n_units; i++)
                free(backing->units[i]);
        free(backing->mounts);
        free(backing->units);
        free(backing);
        return NULL;
}

int backing_new(Service *service, Backing **ret)
{
        _cleanup_(backing_freep) Backing *backing = NULL;
        int r;

        if (sd_booted() <= 0)
                return 0;
        backing = calloc(1, sizeof(*backing));
        if (!backing)
                return -ENOMEM;
        backing->service = service;
        r = sd_event_add_defer(service->event, &backing->on_change, on_change, backing);
        if (r >= 0)
                r = sd_event_source_set_priority(backing->on_change, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                r = unit_list(service->ask_bus, on_unit_found, backing, &backing->listing);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(backing);
        return 0;
}
