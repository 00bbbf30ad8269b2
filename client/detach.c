/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * detach: takes images away. What counts is that the image is gone in the
 * end: one that went by itself between our look and our call is no error, and
 * nor is the same image named twice.
 */
#include "detach.h"

#include "errors.h"
#include "i18n.h"
#include "notification.h"
#include "target.h"
#include "verbs.h"

static int call(Connection *connection, const char *path, const char *interface, const char *member, bool force,
                sd_bus_error *error)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        int r;

        if (!force)
                return connection_call_simple(connection, path, interface, member, error);
        r = connection_new_call(connection, path, interface, member, &message);
        if (r >= 0)
                r = sd_bus_message_append(message, "a{sv}", 1, "force", "b", 1);
        if (r < 0)
                return sd_bus_error_set_errno(error, r);
        return connection_call(connection, message, error, NULL);
}

/* What was given up may be there for a while. */
static void tell_state(Connection *connection, const char *path, const char *name)
{
        _cleanup_free_ char *state = NULL;

        if (sd_bus_get_property_string(connection->bus, BUS_NAME, path, IMAGE_INTERFACE, "State", NULL, &state) < 0)
                return;
        if (streq(state, "stuck"))
                error_print(STATUS_OK, name,
                            _("it is unmounted; its device is stuck in the kernel, and goes when that "
                              "lets go"));
        else
                error_print(STATUS_OK, name, _("it is unmounted; it goes when the last program closes it"));
}

int detach_image(Connection *connection, const char *path, const char *name, bool force)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        connection_say(connection, _("Detaching %s"), name);
        r = call(connection, path, IMAGE_INTERFACE, "Detach", force, &error);
        if (r < 0 && !sd_bus_error_has_name(&error, SD_BUS_ERROR_UNKNOWN_OBJECT))
                return error_print_bus(name, &error, r);
        if (force)
                tell_state(connection, path, name);
        return STATUS_OK;
}

static int detach_all(Connection *connection, bool force)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        connection_say(connection, _("Detaching all images"));
        r = call(connection, ROOT_PATH, MANAGER_INTERFACE, "DetachAll", force, &error);
        return r < 0 ? error_print_bus(NULL, &error, r) : STATUS_OK;
}

static int detach_target(Connection *connection, const Target *target, bool force)
{
        int first = STATUS_OK;

        for (const Image *image = target->model.images; image; image = image->next) {
                int status = detach_image(connection, image->path, target->argument, force);
                if (first == STATUS_OK)
                        first = status;
        }
        return first;
}

/* Finds all of them before anything goes: two operands may mean the same image. */
static int detach_targets(Connection *connection, const Settings *settings)
{
        _cleanup_free_ Target *targets = calloc(settings->n_operands, sizeof(Target));
        int first = STATUS_OK;

        if (!targets)
                return error_print(STATUS_FAILED, NULL, "%s", strerror(ENOMEM));
        for (size_t i = 0; i < settings->n_operands; i++) {
                int status = target_resolve(connection, settings->operands[i], &targets[i]);
                if (first == STATUS_OK)
                        first = status;
        }
        target_leave_folder();
        for (size_t i = 0; i < settings->n_operands; i++) {
                int status = detach_target(connection, &targets[i], settings->force);
                if (first == STATUS_OK)
                        first = status;
                target_clear(&targets[i]);
        }
        return first;
}

static int detach(const Settings *settings)
{
        _cleanup_connection_ Connection connection = { 0 };
        int status;

        status = connection_open(&connection, !settings->no_ask_password);
        if (status != STATUS_OK)
                return status;
        if (!settings->all)
                return detach_targets(&connection, settings);
        target_leave_folder();
        return detach_all(&connection, settings->force);
}

/* For who has no terminal: a file manager's menu runs us, for one. */
static void tell_desktop(void)
{
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *session = notification_open_bus();

        notification_tell_error(session, _("The image cannot be ejected"), errors_kept());
}

int verb_detach(const Settings *settings)
{
        int status;

        if (!settings->notify)
                return detach(settings);
        errors_keep(true);
        status = detach(settings);
        if (status != STATUS_OK)
                tell_desktop();
        return status;
}
