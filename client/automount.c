/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * automount: units of the user's own service manager, one for each image. They
 * are instances of a template that is installed with us, so that "systemctl --user"
 * starts, stops, shows, edits and disables them as any other; all that is done here
 * a user could do with it. What is not in the name of the unit (options, or a path
 * that does not fit there) is in a drop-in file below ~/.config.
 *
 * Which images there are is what the service manager says: the units that are
 * wanted at its start, and the command line of each.
 */
#include "automount.h"

#include <limits.h>

#include "base/text.h"
#include "errors.h"
#include "i18n.h"
#include "output.h"
#include "service-manager.h"
#include "verbs.h"

static void strv_freep(char ***strv)
{
        for (char **s = *strv; s && *s; s++)
                free(*s);
        free(*strv);
}

/* What is @name to the user is @unit to the service manager. */
static int complain(const sd_bus_error *error, int r, const char *name, const char *unit)
{
        bool said = error && sd_bus_error_is_set(error);

        if (r == -ETIMEDOUT && !said)
                return error_print(STATUS_FAILED, name, _("it takes too long; see 'systemctl --user status %s'"), unit);
        return error_print(STATUS_FAILED, name, _("your service manager says: %s"),
                           said ? error->message : strerror(-r));
}

/* A file that is not there may come later; then the path has to be clear without it. */
static int find_path(const char *name, char **ret)
{
        char *path = realpath(name, NULL);

        if (!path && errno == ENOENT && name[0] == '/' && !strstr(name, "/./") && !strstr(name, "/../") &&
            !strstr(name, "//") && name[strlen(name) - 1] != '/')
                path = strdup(name);
        if (!path)
                return error_print(errno == ENOENT ? STATUS_NOT_FOUND : STATUS_FAILED, name, "%s", strerror(errno));
        *ret = path;
        return STATUS_OK;
}

/* Why it does not run: its process ends with our exit codes, its last words are a sentence. NULL: out of memory. */
static char *explain(const UnitState *state, int *ret_status)
{
        bool ours = state->status > STATUS_OK && state->status <= STATUS_UNREACHABLE && !isempty(state->text);

        *ret_status = ours ? state->status : STATUS_FAILED;
        if (ours)
                return strdup(state->text);
        if (streq(state->active, "inactive"))
                return strdup(_("somebody has stopped its unit"));
        return text_printf(_("its unit has failed: %s"), state->result);
}

/* What is in use stays. */
static int stop(const char *name, const char *unit, ServiceManager *manager)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *doing = text_printf(_("Detaching %s"), name), *why = NULL;
        _cleanup_unit_state_ UnitState state = { 0 };
        int r = service_manager_stop(manager, unit, doing, &error, &state), status;

        if (r < 0)
                return complain(&error, r, name, unit);
        if (streq(state.active, "inactive"))
                return STATUS_OK;
        if (unit_state_is_running(&state))
                return error_print(STATUS_FAILED, name, _("somebody has started its unit again; it stays enabled"));
        why = explain(&state, &status);
        return error_print(status, name, _("%s; it stays enabled"), strempty(why));
}

/* ---- enable ---- */

/* An image to be enabled, and what there was before. */
typedef struct Change {
        const char *name;
        char *path;
        char *doing;
        char unit[AUTOMOUNT_UNIT_SIZE];
        char *old_drop_in, *drop_in; /* NULL: none */
        bool was_enabled, was_running;
} Change;

static void change_clear(Change *change)
{
        free(change->path);
        free(change->doing);
        free(change->old_drop_in);
        free(change->drop_in);
}

/* There is one only where the name of the unit does not say it all. */
static int plan_drop_in(Change *change, const Settings *settings)
{
        bool name_is_path = automount_unit_name(change->path, change->unit);

        if (settings->n_given == 0 && name_is_path)
                return 0;
        change->drop_in = automount_unit_settings(PROGRAM, settings->given, settings->n_given, change->path);
        return change->drop_in ? 0 : -ENOMEM;
}

static int look_before(Change *change, const Settings *settings, const char *name, ServiceManager *manager)
{
        _cleanup_unit_state_ UnitState state = { 0 };
        int r, status = find_path(name, &change->path);

        if (status != STATUS_OK)
                return status;
        change->name = name;
        change->doing = text_printf(_("Attaching %s"), name);
        r = plan_drop_in(change, settings);
        if (r >= 0)
                r = automount_drop_in_read(change->unit, &change->old_drop_in);
        if (r >= 0)
                r = service_manager_look(manager, change->unit, &state);
        change->was_enabled = automount_is_enabled(change->unit);
        change->was_running = unit_state_is_running(&state);
        return r < 0 ? complain(NULL, r, name, change->unit) : STATUS_OK;
}

/* What the first try gave is what the user wants to know: where it is, what it waits for, or that it is no image. */
static int tell_first_try(const Change *change, const UnitState *state)
{
        _cleanup_free_ char *why = NULL;
        int status;

        if (unit_state_is_running(state)) {
                puts(change->unit);
                return error_print(STATUS_OK, change->name, "%s", state->text);
        }
        why = explain(state, &status);
        return error_print(status, change->name,
                           change->was_enabled ? _("%s; it stays enabled as it was") : _("%s; it is not enabled"),
                           strempty(why));
}

static int make_change(const Change *change, ServiceManager *manager)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_unit_state_ UnitState state = { 0 };
        int r = automount_drop_in_write(change->unit, change->drop_in);

        if (r < 0)
                return error_print(STATUS_FAILED, change->name, _("the options cannot be written down: %s"),
                                   strerror(-r));
        r = service_manager_call(manager, &error, "EnableUnitFiles", "asbb", 1, change->unit, 0, 1);
        if (r >= 0)
                r = service_manager_call(manager, &error, "Reload", "");
        if (r >= 0)
                r = service_manager_start(manager, change->unit, change->doing, &error, &state);
        return r < 0 ? complain(&error, r, change->name, change->unit) : tell_first_try(change, &state);
}

/* All that can be done about an error here is to go on. */
static void take_back(const Change *change, ServiceManager *manager)
{
        _cleanup_unit_state_ UnitState state = { 0 };

        (void)automount_drop_in_write(change->unit, change->old_drop_in);
        if (!change->was_enabled)
                (void)service_manager_call(manager, NULL, "DisableUnitFiles", "asb", 1, change->unit, 0);
        (void)service_manager_call(manager, NULL, "Reload", "");
        if (change->was_running)
                (void)service_manager_start(manager, change->unit, NULL, NULL, &state);
        else {
                (void)service_manager_stop(manager, change->unit, NULL, NULL, &state);
                (void)service_manager_call(manager, NULL, "ResetFailedUnit", "s", change->unit);
        }
}

/* All or nothing. */
static int enable(const Settings *settings, const char *name, ServiceManager *manager)
{
        _cleanup_(change_clear) Change change = { 0 };
        int status = look_before(&change, settings, name, manager);

        if (status != STATUS_OK)
                return status;
        /* With other options it would be another image, and the one that is in use nobody's. */
        if (change.was_enabled && change.was_running && !streq(strempty(change.drop_in), strempty(change.old_drop_in)))
                status = stop(name, change.unit, manager);
        if (status == STATUS_OK)
                status = make_change(&change, manager);
        if (status != STATUS_OK)
                take_back(&change, manager);
        return status;
}

/* ---- disable ---- */

static int forget(const char *name, const char *unit, ServiceManager *manager)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        (void)automount_drop_in_write(unit, NULL);
        /* One that has failed before would be shown for ever. */
        (void)service_manager_call(manager, NULL, "ResetFailedUnit", "s", unit);
        r = service_manager_call(manager, &error, "Reload", "");
        return r < 0 ? complain(&error, r, name, unit) : STATUS_OK;
}

static int stop_and_disable(const char *name, const char *unit, bool is_running, ServiceManager *manager)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r, status = is_running ? stop(name, unit, manager) : STATUS_OK;

        if (status != STATUS_OK)
                return status;
        r = service_manager_call(manager, &error, "DisableUnitFiles", "asb", 1, unit, 0);
        return r < 0 ? complain(&error, r, name, unit) : STATUS_OK;
}

/* All or nothing, too: an image that is in use keeps its unit, which detaches it some day. */
static int disable(const Settings *settings, const char *name, ServiceManager *manager)
{
        _cleanup_unit_state_ UnitState before = { 0 }, after = { 0 };
        _cleanup_free_ char *path = NULL;
        char unit[AUTOMOUNT_UNIT_SIZE];
        int r, status = find_path(name, &path);
        bool was_running;

        (void)settings;
        if (status != STATUS_OK)
                return status;
        (void)automount_unit_name(path, unit);
        if (!automount_is_enabled(unit))
                return error_print(STATUS_NOT_FOUND, name, _("it is not mounted automatically"));
        r = service_manager_look(manager, unit, &before);
        if (r < 0)
                return complain(NULL, r, name, unit);
        was_running = unit_state_is_running(&before);
        status = stop_and_disable(name, unit, was_running, manager);
        if (status == STATUS_OK)
                return forget(name, unit, manager);
        if (was_running)
                (void)service_manager_start(manager, unit, NULL, NULL, &after);
        return status;
}

/* ---- list ---- */

static const char *image_of(const UnitState *state)
{
        char **last = state->arguments;

        while (last && *last && last[1])
                last++;
        return last ? strempty(*last) : "";
}

static void write_state(Json *json, const UnitState *state, const char *unit)
{
        json_open(json, NULL, '{');
        json_string(json, "image", image_of(state));
        json_string(json, "unit", unit);
        json_open(json, "options", '[');
        for (char **s = state->arguments; s && *s && s[1] && !streq(*s, "--"); s++)
                if (strncmp(*s, "-", 1) == 0)
                        json_string(json, NULL, *s);
        json_close(json, ']');
        json_string(json, "state", state->active);
        json_string(json, "status", strempty(state->text));
        json_close(json, '}');
}

static void print_state(const UnitState *state)
{
        _cleanup_free_ char *image = text_escape(image_of(state), strlen(image_of(state)));
        _cleanup_free_ char *text = text_escape(strempty(state->text), strlen(strempty(state->text)));

        printf("%s: %s%s%s\n", strempty(image), state->active, isempty(text) ? "" : ", ", strempty(text));
}

static int find_units(char ***ret)
{
        *ret = automount_find_enabled();
        return *ret ? STATUS_OK : error_print(STATUS_FAILED, NULL, "%s", strerror(ENOMEM));
}

static int list_unit(const Settings *settings, const char *unit, ServiceManager *manager, Json *json)
{
        _cleanup_unit_state_ UnitState state = { 0 };
        int r = service_manager_look(manager, unit, &state);

        if (r < 0)
                return error_print(STATUS_FAILED, unit, "%s", strerror(-r));
        if (settings->targets)
                puts(image_of(&state));
        else if (settings->json)
                write_state(json, &state, unit);
        else
                print_state(&state);
        return STATUS_OK;
}

static int list(const Settings *settings, ServiceManager *manager)
{
        bool json_wanted = settings->json && !settings->targets;
        _cleanup_(strv_freep) char **units = NULL;
        Json json = { .f = stdout };
        int status = find_units(&units);

        if (json_wanted) {
                json_open(&json, NULL, '{');
                json_open(&json, "automounts", '[');
        }
        for (char **unit = units; unit && *unit; unit++) {
                int one = list_unit(settings, *unit, manager, &json);

                if (status == STATUS_OK)
                        status = one;
        }
        if (json_wanted) {
                json_close(&json, ']');
                json_end(&json);
        }
        return status;
}

/* ---- status ---- */

/* The service manager's own command tells it best, with what is in the journal. */
static int show_status(const Settings *settings)
{
        size_t n = settings->n_operands - 1;
        _cleanup_(strv_freep) char **units = NULL;
        char **words;
        int status = n > 0 ? STATUS_OK : find_units(&units);

        if (n > 0 && !(units = calloc(n + 1, sizeof(char *))))
                return error_print(STATUS_FAILED, NULL, "%s", strerror(ENOMEM));
        for (size_t i = 0; status == STATUS_OK && i < n; i++) {
                _cleanup_free_ char *path = NULL;
                char unit[AUTOMOUNT_UNIT_SIZE];

                status = find_path(settings->operands[i + 1], &path);
                if (status != STATUS_OK)
                        return status;
                (void)automount_unit_name(path, unit);
                units[i] = strdup(unit);
        }
        for (n = 0; units && units[n];)
                n++;
        if (status != STATUS_OK || n == 0)
                return status;
        words = calloc(n + 5, sizeof(char *));
        if (!words)
                return error_print(STATUS_FAILED, NULL, "%s", strerror(ENOMEM));
        memcpy(words, (char *const[]){ (char *)"systemctl", (char *)"--user", (char *)"--no-pager", (char *)"status" },
               4 * sizeof(char *));
        memcpy(words + 4, units, n * sizeof(char *));
        (void)execvp(words[0], words);
        free(words);
        return error_print(STATUS_FAILED, "systemctl", "%s", strerror(errno));
}

/* ---- The verb ---- */

static int for_each(const Settings *settings,
                    int (*act)(const Settings *settings, const char *name, ServiceManager *manager))
{
        _cleanup_service_manager_ ServiceManager manager = { 0 };
        int first = service_manager_open(&manager);

        if (first != STATUS_OK)
                return first;
        for (size_t i = 1; i < settings->n_operands; i++) {
                int status = act(settings, settings->operands[i], &manager);

                if (first == STATUS_OK)
                        first = status;
        }
        return first;
}

static int list_all(const Settings *settings)
{
        _cleanup_service_manager_ ServiceManager manager = { 0 };
        int status = service_manager_open(&manager);

        return status == STATUS_OK ? list(settings, &manager) : status;
}

static int enable_all(const Settings *settings)
{
        return for_each(settings, enable);
}

static int disable_all(const Settings *settings)
{
        return for_each(settings, disable);
}

static int run(const Settings *settings)
{
        return automount_run(settings, settings->operands[1]);
}

static const struct {
        const char *name;
        size_t min_images, max_images;
        bool takes_options, is_list;
        int (*act)(const Settings *settings);
} actions[] = {
        { "enable", 1, SIZE_MAX - 1, true, false, enable_all },
        { "disable", 1, SIZE_MAX - 1, false, false, disable_all },
        { "list", 0, 0, false, true, list_all },
        { "status", 0, SIZE_MAX - 1, false, false, show_status },
        { "run", 1, 1, true, false, run },
};

int verb_automount(const Settings *settings)
{
        const char *name = settings->operands[0];
        size_t i = 0, n_images = settings->n_operands - 1;

        while (i < ELEMENTSOF(actions) && !streq(actions[i].name, name))
                i++;
        if (i == ELEMENTSOF(actions))
                return error_print(STATUS_USAGE, name, _("enable, disable, list or status? See 'loopmount %s --help'"),
                                   "automount");
        if (n_images < actions[i].min_images)
                return error_print(STATUS_USAGE, name, _("which image? See 'loopmount %s --help'"), "automount");
        if (n_images > actions[i].max_images)
                return error_print(STATUS_USAGE, settings->operands[actions[i].max_images + 1],
                                   _("one too many; see 'loopmount %s --help'"), "automount");
        if ((settings->json || settings->targets) && !actions[i].is_list)
                return error_print(STATUS_USAGE, name, _("--%s means nothing here; see 'loopmount %s --help'"),
                                   settings->json ? "json" : "targets", "automount");
        if (settings->n_given > (size_t)settings->json + settings->targets && !actions[i].takes_options)
                return error_print(STATUS_USAGE, name, _("it takes no options; see 'loopmount %s --help'"),
                                   "automount");
        return actions[i].act(settings);
}
