/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount, unmount, rescan: what is done to an image that is attached.
 *
 * Which volumes are meant is decided here and the same way for both: those
 * given with --volume; else the one that TARGET names; else all for which
 * there is something to do. They are done one after the other; one that fails
 * does not keep the others from being tried.
 */
#include <inttypes.h>

#include "attach.h"
#include "errors.h"
#include "i18n.h"
#include "interrupt.h"
#include "target.h"
#include "verbs.h"

static bool is_mounted(const Volume *volume)
{
        return volume->mount_points && *volume->mount_points;
}

/* With a type given by the user a volume may be one that was not recognised, if there is no choice. */
static bool wants_mount(const Volume *volume, const Settings *settings)
{
        bool only_one = volume == volume->image->volumes && !volume->next;

        return (!is_mounted(volume) || volume->waiting) &&
               (streq(strempty(volume->usage), "filesystem") || (settings->type && only_one));
}

static bool wants_unmount(const Volume *volume, const Settings *settings)
{
        (void)settings;
        return is_mounted(volume) && !volume->waiting;
}

static int mount_volume(Connection *connection, const Settings *settings, const Volume *volume)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        const char *mount_point;
        int r;

        connection_say(connection, _("Mounting %s"), settings->operands[0]);
        r = connection_new_call(connection, volume->path, VOLUME_INTERFACE, "Mount", &call);
        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "{sv}");
        if (r >= 0)
                r = attach_append_mount_options(call, settings);
        if (r >= 0)
                r = sd_bus_message_close_container(call);
        if (r >= 0) {
                interrupt_catch();
                r = connection_call(connection, call, &error, &reply);
        }
        if (r >= 0)
                r = sd_bus_message_read_basic(reply, 's', &mount_point);
        if (r < 0 && connection->cancelled)
                return STATUS_FAILED;
        if (r < 0)
                return error_print_bus(settings->operands[0], &error, r);
        puts(mount_point);
        return STATUS_OK;
}

static int unmount_volume(Connection *connection, const Settings *settings, const Volume *volume)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        connection_say(connection, _("Unmounting %s"), settings->operands[0]);
        r = connection_call_simple(connection, volume->path, VOLUME_INTERFACE, "Unmount", &error);
        return r < 0 ? error_print_bus(settings->operands[0], &error, r) : STATUS_OK;
}

typedef struct Action {
        bool (*wants)(const Volume *volume, const Settings *settings);
        int (*act)(Connection *connection, const Settings *settings, const Volume *volume);
        const char *nothing_to_do;
        bool tell_obstacles; /* when there is nothing to do */
} Action;

static int act_on_numbers(const Action *action, Connection *connection, const Settings *settings, const Image *image)
{
        int first = STATUS_OK;

        for (size_t i = 0; i < settings->n_volumes && !interrupt_signal(); i++) {
                const Volume *volume = image_find_volume(image, settings->volumes[i]);
                int status;

                if (volume)
                        status = action->act(connection, settings, volume);
                else
                        status = error_print(STATUS_NOT_FOUND, settings->operands[0], _("has no volume %" PRIu32),
                                             settings->volumes[i]);
                if (first == STATUS_OK)
                        first = status;
        }
        return first;
}

static int act_on_all(const Action *action, Connection *connection, const Settings *settings, const Image *image)
{
        int first = STATUS_OK;
        bool any = false;

        for (const Volume *v = image->volumes; v && !interrupt_signal(); v = v->next) {
                int status;

                if (!action->wants(v, settings))
                        continue;
                any = true;
                status = action->act(connection, settings, v);
                if (first == STATUS_OK)
                        first = status;
        }
        if (!any && action->tell_obstacles)
                attach_print_obstacles(image, settings->operands[0]);
        if (!any)
                return error_print(STATUS_NOT_FOUND, settings->operands[0], "%s", _(action->nothing_to_do));
        return first;
}

static int act_on_target(const Action *action, const Settings *settings)
{
        _cleanup_connection_ Connection connection = { 0 };
        _cleanup_target_ Target target = { 0 };
        int status;

        status = connection_open(&connection, !settings->no_ask_password);
        if (status == STATUS_OK)
                status = target_resolve_one(&connection, settings->operands[0], &target);
        if (status != STATUS_OK)
                return status;

        target_leave_folder();
        if (settings->n_volumes > 0)
                return act_on_numbers(action, &connection, settings, target.model.images);
        if (target.volume)
                return action->act(&connection, settings, target.volume);
        return act_on_all(action, &connection, settings, target.model.images);
}

int verb_mount(const Settings *settings)
{
        static const Action action = { wants_mount, mount_volume, N_("nothing is left in it that could be mounted"),
                                       true };
        int status = act_on_target(&action, settings);

        interrupt_end();
        return status;
}

int verb_unmount(const Settings *settings)
{
        static const Action action = { wants_unmount, unmount_volume, N_("is not mounted"), false };

        return act_on_target(&action, settings);
}

int verb_rescan(const Settings *settings)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_connection_ Connection connection = { 0 };
        _cleanup_target_ Target target = { 0 };
        int r, status;

        status = connection_open(&connection, !settings->no_ask_password);
        if (status == STATUS_OK)
                status = target_resolve_one(&connection, settings->operands[0], &target);
        if (status != STATUS_OK)
                return status;

        connection_say(&connection, _("Looking through %s"), settings->operands[0]);
        r = connection_call_simple(&connection, target.model.images->path, IMAGE_INTERFACE, "Rescan", &error);
        return r < 0 ? error_print_bus(settings->operands[0], &error, r) : STATUS_OK;
}
