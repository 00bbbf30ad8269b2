/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * detach: takes images away. What counts is that the image is gone in the
 * end: one that went by itself between our look and our call is no error, and
 * nor is the same image named twice.
 */
#include "detach.h"

#include "errors.h"
#include "target.h"
#include "verbs.h"

int detach_image(Connection *connection, const char *path, const char *name)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = connection_call_simple(connection, path, IMAGE_INTERFACE, "Detach", &error);
        if (r < 0 && !sd_bus_error_has_name(&error, SD_BUS_ERROR_UNKNOWN_OBJECT))
                return error_print_bus(name, &error, r);
        return STATUS_OK;
}

static int detach_all(Connection *connection)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = connection_call_simple(connection, ROOT_PATH, MANAGER_INTERFACE, "DetachAll", &error);
        return r < 0 ? error_print_bus(NULL, &error, r) : STATUS_OK;
}

static int detach_target(Connection *connection, const Target *target)
{
        int first = STATUS_OK;

        for (size_t i = 0; i < target->n_images; i++) {
                int status = detach_image(connection, target->images[i]->path, target->argument);
                if (first == STATUS_OK)
                        first = status;
        }
        return first;
}

/* Finds all of them before anything goes: two operands may mean the same image. */
static int detach_targets(Connection *connection, const Model *model, const Settings *settings)
{
        _cleanup_free_ Target *targets = calloc(settings->n_operands, sizeof(Target));
        int first = STATUS_OK;

        if (!targets)
                return error_print(STATUS_FAILED, NULL, "%s", strerror(ENOMEM));
        for (size_t i = 0; i < settings->n_operands; i++) {
                int status = target_resolve(connection, model, settings->operands[i], &targets[i]);
                if (first == STATUS_OK)
                        first = status;
        }
        target_leave_folder();
        for (size_t i = 0; i < settings->n_operands; i++) {
                int status = detach_target(connection, &targets[i]);
                if (first == STATUS_OK)
                        first = status;
                target_clear(&targets[i]);
        }
        return first;
}

int verb_detach(const Settings *settings)
{
        _cleanup_connection_ Connection connection = { 0 };
        _cleanup_model_ Model model = { 0 };
        int status;

        status = connection_open(&connection, !settings->no_ask_password);
        if (status == STATUS_OK && settings->all) {
                target_leave_folder();
                return detach_all(&connection);
        }
        if (status == STATUS_OK)
                status = model_load(&connection, &model);
        if (status != STATUS_OK)
                return status;
        return detach_targets(&connection, &model, settings);
}
