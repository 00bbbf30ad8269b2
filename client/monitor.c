/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * monitor: what is attached now, and what happens from then on.
 *
 * It subscribes first, then asks for what is there; signals that come before
 * the answer are older than it and are dropped, so that nothing is missed and
 * nothing is told twice. After that the model is kept up to date from the
 * signals alone. The daemon leaves when it is idle and must not be woken: it
 * is asked again only when a new instance has appeared, and the difference to
 * what was known is told.
 *
 * Anyone may send us a signal; only those of the name's owner count.
 */
#include <inttypes.h>

#include "errors.h"
#include "i18n.h"
#include "output.h"
#include "verbs.h"

typedef struct Monitor {
        Connection connection;
        const Settings *settings;
        Model model;
        bool loaded; /* the answer has come */
        char *owner; /* unique name of the daemon that gave it */
        int status;  /* set when it cannot go on */
} Monitor;

static void monitor_clear(Monitor *monitor)
{
        connection_close(&monitor->connection);
        model_clear(&monitor->model);
        free(monitor->owner);
}

static bool is_shown(const Monitor *monitor, const Image *image)
{
        return monitor->settings->all_users || image->owner_uid == getuid();
}

/* Starts an event about @image, or one of its volumes. */
static Json begin_event(const char *event, const Image *image, const Volume *volume)
{
        Json json = { .f = stdout };

        json_open(&json, NULL, '{');
        json_string(&json, "event", event);
        json_string(&json, "image_id", strempty(image->id));
        if (volume)
                json_number(&json, "volume_number", volume->number);
        return json;
}

static void tell_image(const Monitor *monitor, const char *event, const Image *image)
{
        if (!is_shown(monitor, image))
                return;
        if (monitor->settings->json) {
                Json json = begin_event(event, image, NULL);
                output_json_image(&json, "image", image);
                json_end(&json);
        } else {
                printf("%s %s: %s, %s\n", strempty(image->id), _(event), image_file_name(image),
                       strempty(image->device));
                fflush(stdout);
        }
}

static void tell_volume(const Monitor *monitor, bool added, const Volume *volume)
{
        if (!is_shown(monitor, volume->image))
                return;
        if (monitor->settings->json) {
                Json json = begin_event(added ? "volume-added" : "volume-removed", volume->image, volume);
                output_json_volume(&json, "volume", volume);
                json_end(&json);
        } else {
                printf(added ? _("%s volume %" PRIu32 " added: %s%s%s\n")
                             : _("%s volume %" PRIu32 " removed: %s%s%s\n"),
                       strempty(volume->image->id), volume->number, isempty(volume->type) ? _("unknown") : volume->type,
                       isempty(volume->label) ? "" : ", ", strempty(volume->label));
                fflush(stdout);
        }
}

static void tell_mount(const Monitor *monitor, const char *event, const Volume *volume, const char *mount_point)
{
        if (!is_shown(monitor, volume->image))
                return;
        if (monitor->settings->json) {
                Json json = begin_event(event, volume->image, volume);
                json_string(&json, "mount_point", mount_point);
                json_end(&json);
        } else {
                printf(_("%s volume %" PRIu32 " %s: %s\n"), strempty(volume->image->id), volume->number, _(event),
                       mount_point);
                fflush(stdout);
        }
}

/* @volume is NULL for a property of the image. */
static void tell_property(const Monitor *monitor, const Field *field, const Image *image, const Volume *volume)
{
        const void *object = volume ? (const void *)volume : image;

        if (!field->key || !is_shown(monitor, image))
                return;
        if (monitor->settings->json) {
                Json json = begin_event("changed", image, volume);
                json_string(&json, "property", field->key);
                output_json_value(&json, "value", field, object);
                json_end(&json);
        } else {
                _cleanup_free_ char *value = output_value(field, object);

                if (volume)
                        printf(_("%s volume %" PRIu32 " changed: %s: %s\n"), strempty(image->id), volume->number,
                               _(field->label), strempty(value));
                else
                        printf(_("%s changed: %s: %s\n"), strempty(image->id), _(field->label), strempty(value));
                fflush(stdout);
        }
}

static bool contains(char **strings, const char *string)
{
        for (char **s = strings; s && *s; s++)
                if (streq(*s, string))
                        return true;
        return false;
}

/* Tells the mount points that are in @these and not in @those. */
static void tell_mounts(const Monitor *monitor, const char *event, const Volume *volume, char **these, char **those)
{
        for (char **s = these; s && *s; s++)
                if (!contains(those, *s))
                        tell_mount(monitor, event, volume, *s);
}

static void announce_volume(const Monitor *monitor, const Volume *volume)
{
        tell_volume(monitor, true, volume);
        tell_mounts(monitor, N_("mounted"), volume, volume->mount_points, NULL);
}

static void forget_volume(Monitor *monitor, Volume *volume)
{
        tell_mounts(monitor, N_("unmounted"), volume, volume->mount_points, NULL);
        tell_volume(monitor, false, volume);
        model_remove_volume(volume);
}

static void forget_image(Monitor *monitor, Image *image)
{
        while (image->volumes)
                forget_volume(monitor, image->volumes);
        tell_image(monitor, N_("detached"), image);
        model_remove_image(&monitor->model, image);
}

/* Takes over those values of @fresh that @seen has a bit for, and tells which are new. */
static void update_volume(const Monitor *monitor, Volume *volume, Volume *fresh, uint32_t seen)
{
        for (const Field *f = volume_fields; f->property; f++) {
                if (!(seen & (UINT32_C(1) << (f - volume_fields))) || field_equal(f, volume, fresh))
                        continue;
                field_swap(f, volume, fresh);
                if (!streq(f->property, "MountPoints")) {
                        tell_property(monitor, f, volume->image, volume);
                        continue;
                }
                tell_mounts(monitor, N_("unmounted"), volume, fresh->mount_points, volume->mount_points);
                tell_mounts(monitor, N_("mounted"), volume, volume->mount_points, fresh->mount_points);
        }
}

static void update_image(const Monitor *monitor, Image *image, Image *fresh, uint32_t seen)
{
        for (const Field *f = image_fields; f->property; f++)
                if ((seen & (UINT32_C(1) << (f - image_fields))) && !field_equal(f, image, fresh)) {
                        field_swap(f, image, fresh);
                        tell_property(monitor, f, image, NULL);
                }
}

static void take_volume(Monitor *monitor, Volume *fresh)
{
        Volume *known = model_find_volume(&monitor->model, fresh->path);

        if (known) {
                update_volume(monitor, known, fresh, UINT32_MAX);
                return;
        }
        known = model_provide_volume(&monitor->model, fresh->path);
        if (!known)
                return;
        for (const Field *f = volume_fields; f->property; f++)
                field_swap(f, known, fresh);
        if (known->image->id)
                announce_volume(monitor, known);
}

/* An image without an id is one that only a volume has told of so far. */
static void take_image(Monitor *monitor, Image *fresh)
{
        Image *known = model_provide_image(&monitor->model, fresh->path);

        if (!known)
                return;
        if (known->id) {
                update_image(monitor, known, fresh, UINT32_MAX);
                return;
        }
        for (const Field *f = image_fields; f->property; f++)
                field_swap(f, known, fresh);
        tell_image(monitor, N_("attached"), known);
        for (const Volume *v = known->volumes; v; v = v->next)
                announce_volume(monitor, v);
}

/* Takes over all that is in @fresh. */
static void take_model(Monitor *monitor, const Model *fresh)
{
        for (Image *image = fresh->images; image; image = image->next) {
                if (image->id)
                        take_image(monitor, image);
                for (Volume *v = image->volumes; v; v = v->next)
                        take_volume(monitor, v);
        }
}

/* Forgets all that is not in @fresh. */
static void forget_missing(Monitor *monitor, const Model *fresh)
{
        for (Image *image = monitor->model.images, *next; image; image = next) {
                next = image->next;
                if (!model_find_image(fresh, image->path)) {
                        forget_image(monitor, image);
                        continue;
                }
                for (Volume *v = image->volumes, *following; v; v = following) {
                        following = v->next;
                        if (!model_find_volume(fresh, v->path))
                                forget_volume(monitor, v);
                }
        }
}

static int on_added(Monitor *monitor, sd_bus_message *m)
{
        _cleanup_model_ Model fresh = { 0 };
        const char *path;
        int r;

        r = sd_bus_message_read_basic(m, 'o', &path);
        if (r < 0)
                return r;
        r = model_read_object(&fresh, path, m);
        if (r < 0)
                return r;
        take_model(monitor, &fresh);
        return 0;
}

static int on_removed(Monitor *monitor, sd_bus_message *m)
{
        const char *path, *interface;
        int r;

        r = sd_bus_message_read_basic(m, 'o', &path);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(m, 'a', "s");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read_basic(m, 's', &interface)) > 0) {
                Image *image = streq(interface, IMAGE_INTERFACE) ? model_find_image(&monitor->model, path) : NULL;
                Volume *volume = streq(interface, VOLUME_INTERFACE) ? model_find_volume(&monitor->model, path) : NULL;

                if (image)
                        forget_image(monitor, image);
                if (volume)
                        forget_volume(monitor, volume);
        }
        return r;
}

static int on_changed(Monitor *monitor, sd_bus_message *m)
{
        _cleanup_(volume_clear) Volume fresh_volume = { 0 };
        _cleanup_(image_clear) Image fresh_image = { 0 };
        const char *interface, *path = sd_bus_message_get_path(m);
        Volume *volume = model_find_volume(&monitor->model, path);
        Image *image = model_find_image(&monitor->model, path);
        uint32_t seen;
        int r;

        r = sd_bus_message_read_basic(m, 's', &interface);
        if (r < 0)
                return r;
        if (image && streq(interface, IMAGE_INTERFACE)) {
                r = fields_read(image_fields, &fresh_image, m, &seen);
                if (r >= 0)
                        update_image(monitor, image, &fresh_image, seen);
        } else if (volume && streq(interface, VOLUME_INTERFACE)) {
                r = fields_read(volume_fields, &fresh_volume, m, &seen);
                if (r >= 0)
                        update_volume(monitor, volume, &fresh_volume, seen);
        }
        return r;
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
        Monitor *monitor = userdata;

        (void)ret_error;
        if (!monitor->loaded || !streq(strempty(sd_bus_message_get_sender(m)), monitor->owner))
                return 0;
        if (sd_bus_message_is_signal(m, OBJECT_MANAGER_INTERFACE, "InterfacesAdded"))
                return on_added(monitor, m);
        if (sd_bus_message_is_signal(m, OBJECT_MANAGER_INTERFACE, "InterfacesRemoved"))
                return on_removed(monitor, m);
        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Properties", "PropertiesChanged"))
                return on_changed(monitor, m);
        return 0;
}

static int on_objects(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
        _cleanup_model_ Model fresh = { 0 };
        Monitor *monitor = userdata;
        int r;

        (void)ret_error;
        if (sd_bus_message_is_method_error(reply, NULL)) {
                /* An instance that is gone again is followed by another, or nothing is left to tell. */
                if (!monitor->owner)
                        monitor->status = error_print_bus(NULL, sd_bus_message_get_error(reply), 0);
                return 0;
        }
        r = model_read(&fresh, reply);
        if (r < 0)
                return r;
        free(monitor->owner);
        monitor->owner = strdup(strempty(sd_bus_message_get_sender(reply)));
        if (!monitor->owner)
                return -ENOMEM;
        forget_missing(monitor, &fresh);
        take_model(monitor, &fresh);
        monitor->loaded = true;
        return 0;
}

static int ask_for_objects(Monitor *monitor)
{
        monitor->loaded = false;
        return sd_bus_call_method_async(monitor->connection.bus, NULL, BUS_NAME, ROOT_PATH, OBJECT_MANAGER_INTERFACE,
                                        "GetManagedObjects", on_objects, monitor, NULL);
}

static int on_name_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
        Monitor *monitor = userdata;
        const char *name, *old_owner, *new_owner;
        int r;

        (void)ret_error;
        r = sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner);
        if (r < 0)
                return r;
        /* The first answer is still to come, from whichever instance: it will do. */
        if (isempty(new_owner) || !monitor->owner || streq(new_owner, monitor->owner))
                return 0;
        return ask_for_objects(monitor);
}

static int subscribe(Monitor *monitor)
{
        sd_bus *bus = monitor->connection.bus;
        int r;

        r = sd_bus_add_match(bus, NULL, "type='signal',sender='" BUS_NAME "',path_namespace='" ROOT_PATH "'", on_signal,
                             monitor);
        if (r < 0)
                return r;
        r = sd_bus_add_match(bus, NULL,
                             "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                             "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
                             on_name_owner_changed, monitor);
        if (r < 0)
                return r;
        return ask_for_objects(monitor);
}

int verb_monitor(const Settings *settings)
{
        _cleanup_(monitor_clear) Monitor monitor = { .settings = settings };
        int r;

        r = connection_open(&monitor.connection, false);
        if (r != STATUS_OK)
                return r;
        r = subscribe(&monitor);
        while (r >= 0 && monitor.status == STATUS_OK) {
                r = sd_bus_process(monitor.connection.bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(monitor.connection.bus, UINT64_MAX);
                if (r == -EINTR)
                        r = 0;
        }
        if (monitor.status != STATUS_OK)
                return monitor.status;
        return error_print(STATUS_UNREACHABLE, NULL, _("the system bus is gone: %s"), strerror(-r));
}
