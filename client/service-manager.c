/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The user's service manager answers a call to start or stop something when it has made a
 * job of that. What becomes of the job it tells by a signal, to those who subscribed. It
 * counts a stop as done whether or not the process ended well, and a start when the process
 * says so: what came of it is to be read from the unit.
 */
#include "service-manager.h"

#include <signal.h>

#include "base/text.h"
#include "errors.h"
#include "i18n.h"
#include "progress.h"

#define NAME "org.freedesktop.systemd1"
#define PATH "/org/freedesktop/systemd1"
#define MANAGER NAME ".Manager"
#define SERVICE NAME ".Service"

/* A bit more than units of ours have to stop, see units/user. */
#define WAIT_USEC (UINT64_C(330) * USEC_PER_SEC)

/* ---- Opening ---- */

static int on_job_removed(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
        ServiceManager *manager = userdata;
        const char *job, *result;

        (void)error;
        if (manager->job && !manager->result && sd_bus_message_read(signal, "uoss", NULL, &job, NULL, &result) >= 0 &&
            streq(job, manager->job))
                manager->result = strdup(result);
        return 0;
}

static int on_changed(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
        ServiceManager *manager = userdata;

        (void)signal, (void)error;
        manager->changed = true;
        return 0;
}

static int subscribe(ServiceManager *manager)
{
        int r = sd_bus_match_signal(manager->bus, NULL, NAME, PATH, MANAGER, "JobRemoved", on_job_removed, manager);

        if (r >= 0)
                r = sd_bus_match_signal(manager->bus, NULL, NAME, NULL, "org.freedesktop.DBus.Properties",
                                        "PropertiesChanged", on_changed, manager);
        return r < 0 ? r : service_manager_call(manager, NULL, "Subscribe", "");
}

int service_manager_open(ServiceManager *ret)
{
        int r = sd_bus_open_user(&ret->bus);

        if (r >= 0)
                r = subscribe(ret);
        if (r >= 0)
                return STATUS_OK;
        return error_print(STATUS_UNREACHABLE, NULL,
                           _("your service manager cannot be reached: %s; it runs while you are logged in"),
                           strerror(-r));
}

void service_manager_close(ServiceManager *manager)
{
        sd_bus_flush_close_unref(manager->bus);
        free(manager->job);
        free(manager->result);
}

/* ---- Calls ---- */

static int call(ServiceManager *manager, sd_bus_error *error, sd_bus_message **ret_reply, const char *method,
                const char *types, va_list arguments)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        int r = sd_bus_message_new_method_call(manager->bus, &message, NAME, PATH, MANAGER, method);

        if (r >= 0)
                r = sd_bus_message_appendv(message, types, arguments);
        return r < 0 ? r : sd_bus_call(manager->bus, message, 0, error, ret_reply);
}

int service_manager_call(ServiceManager *manager, sd_bus_error *error, const char *method, const char *types, ...)
{
        va_list arguments;
        int r;

        va_start(arguments, types);
        r = call(manager, error, NULL, method, types, arguments);
        va_end(arguments);
        return r;
}

/* For a call that gives the path of an object. */
static int call_for_object(ServiceManager *manager, sd_bus_error *error, char **ret, const char *method,
                           const char *types, ...)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *object;
        va_list arguments;
        int r;

        va_start(arguments, types);
        r = call(manager, error, &reply, method, types, arguments);
        va_end(arguments);
        if (r >= 0)
                r = sd_bus_message_read_basic(reply, 'o', &object);
        if (r < 0)
                return r;
        *ret = strdup(object);
        return *ret ? 0 : -ENOMEM;
}

/* ---- Units ---- */

/* A unit that could not be loaded has no process, and no arguments. */
static int read_arguments(sd_bus *bus, const char *object, char ***ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r = sd_bus_get_property(bus, NAME, object, SERVICE, "ExecStart", NULL, &reply, "a(sasbttttuii)");

        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(sasbttttuii)");
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'r', "sasbttttuii");
        if (r <= 0)
                return r;
        r = sd_bus_message_skip(reply, "s");
        return r < 0 ? r : sd_bus_message_read_strv(reply, ret);
}

static int read_exit_code(sd_bus *bus, const char *object, int *ret)
{
        int code = 0, status = 0, r;

        r = sd_bus_get_property_trivial(bus, NAME, object, SERVICE, "ExecMainCode", NULL, 'i', &code);
        if (r >= 0)
                r = sd_bus_get_property_trivial(bus, NAME, object, SERVICE, "ExecMainStatus", NULL, 'i', &status);
        *ret = code == CLD_EXITED ? status : 0;
        return r;
}

int service_manager_look(ServiceManager *manager, const char *unit, UnitState *ret)
{
        _cleanup_free_ char *object = NULL;
        sd_bus *bus = manager->bus;
        int r = call_for_object(manager, NULL, &object, "LoadUnit", "s", unit);

        if (r >= 0)
                r = sd_bus_get_property_string(bus, NAME, object, NAME ".Unit", "ActiveState", NULL, &ret->active);
        if (r >= 0)
                r = sd_bus_get_property_string(bus, NAME, object, SERVICE, "StatusText", NULL, &ret->text);
        if (r >= 0)
                r = sd_bus_get_property_string(bus, NAME, object, SERVICE, "Result", NULL, &ret->result);
        if (r >= 0)
                r = read_exit_code(bus, object, &ret->status);
        return r < 0 ? r : read_arguments(bus, object, &ret->arguments);
}

bool unit_state_is_running(const UnitState *state)
{
        return state->active && !streq(state->active, "inactive") && !streq(state->active, "failed");
}

void unit_state_clear(UnitState *state)
{
        for (char **s = state->arguments; s && *s; s++)
                free(*s);
        free(state->arguments);
        free(state->active);
        free(state->text);
        free(state->result);
        *state = (UnitState){ 0 };
}

/* ---- Jobs ---- */

/* One message, or some time that passes without any. */
static int wait_a_bit(ServiceManager *manager, Progress *progress)
{
        uint64_t passed = progress_passed_usec(progress);
        int r = sd_bus_process(manager->bus, NULL);

        if (r == 0 && passed >= WAIT_USEC)
                return -ETIMEDOUT;
        if (r == 0)
                r = sd_bus_wait(manager->bus, MIN(progress_show(progress), WAIT_USEC - passed));
        return r == -EINTR ? 0 : r;
}

static int run_job(ServiceManager *manager, const char *method, const char *unit, Progress *progress,
                   sd_bus_error *error)
{
        int r;

        free(TAKE_PTR(manager->result));
        free(TAKE_PTR(manager->job));
        r = call_for_object(manager, error, &manager->job, method, "ss", unit, "replace");
        while (r >= 0 && !manager->result)
                r = wait_a_bit(manager, progress);
        return r;
}

/* Behind each change of any unit, until this one says something or is over. */
static int wait_for_text(ServiceManager *manager, const char *unit, Progress *progress, UnitState *ret)
{
        int r;

        for (;;) {
                manager->changed = false;
                unit_state_clear(ret);
                r = service_manager_look(manager, unit, ret);
                if (r < 0 || !unit_state_is_running(ret) || (streq(ret->active, "active") && !isempty(ret->text)))
                        return r;
                while (r >= 0 && !manager->changed)
                        r = wait_a_bit(manager, progress);
                if (r < 0)
                        return r;
        }
}

int service_manager_start(ServiceManager *manager, const char *unit, const char *doing, sd_bus_error *error,
                          UnitState *ret)
{
        _cleanup_progress_ Progress progress = progress_begin(doing);
        int r = run_job(manager, "RestartUnit", unit, &progress, error);

        return r < 0 ? r : wait_for_text(manager, unit, &progress, ret);
}

int service_manager_stop(ServiceManager *manager, const char *unit, const char *doing, sd_bus_error *error,
                         UnitState *ret)
{
        _cleanup_progress_ Progress progress = progress_begin(doing);
        int r = run_job(manager, "StopUnit", unit, &progress, error);

        return r < 0 ? r : service_manager_look(manager, unit, ret);
}
