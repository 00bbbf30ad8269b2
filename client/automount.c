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

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>

#include "base/text.h"
#include "errors.h"
#include "i18n.h"
#include "output.h"
#include "verbs.h"

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER SYSTEMD_NAME ".Manager"
#define DROP_IN "50-loopmount.conf"
#define WANTS "default.target.wants"

static void strv_freep(char ***strv)
{
        for (char **s = *strv; s && *s; s++)
                free(*s);
        free(*strv);
}

static int complain(sd_bus_error *error, int r, const char *subject)
{
        return error_print(STATUS_FAILED, subject, _("your service manager says: %s"),
                           sd_bus_error_is_set(error) ? error->message : strerror(-r));
}

static int open_manager(sd_bus **ret)
{
        int r = sd_bus_open_user(ret);

        if (r < 0)
                return error_print(STATUS_UNREACHABLE, NULL,
                                   _("your service manager cannot be reached: %s; it runs while you are logged in"),
                                   strerror(-r));
        return STATUS_OK;
}

/* ---- Paths ---- */

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

/* The user's folder for units. */
static char *unit_folder(void)
{
        const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

        if (config && config[0] == '/')
                return text_printf("%s/systemd/user", config);
        return home ? text_printf("%s/.config/systemd/user", home) : NULL;
}

static int make_folders(char *path)
{
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = 0;
                if (mkdir(path, 0755) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        return 0;
}

static int write_drop_in(char *path, const char *text)
{
        _cleanup_close_ int fd = -1;
        int r = make_folders(path);

        if (r < 0)
                return r;
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
                return -errno;
        return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : errno_or_else(ENOSPC);
}

static void remove_drop_in(char *path)
{
        (void)unlink(path);
        *strrchr(path, '/') = 0;
        /* There may be another one, of the user's own. */
        (void)rmdir(path);
}

/* Only where the name of the unit does not say it all. */
static int configure(const Settings *settings, const char *path, const char *unit, bool name_is_path)
{
        _cleanup_free_ char *folder = unit_folder();
        _cleanup_free_ char *drop_in = folder ? text_printf("%s/%s.d/" DROP_IN, folder, unit) : NULL;
        _cleanup_free_ char *text = automount_unit_settings(PROGRAM, settings->given, settings->n_given, path);
        int r;

        if (!drop_in || !text)
                return error_print(STATUS_FAILED, path, "%s", strerror(ENOMEM));
        if (settings->n_given == 0 && name_is_path) {
                remove_drop_in(drop_in);
                return STATUS_OK;
        }
        r = write_drop_in(drop_in, text);
        return r < 0 ? error_print(STATUS_FAILED, drop_in, "%s", strerror(-r)) : STATUS_OK;
}

/* ---- enable, disable ---- */

static int call_manager(sd_bus *bus, sd_bus_error *error, const char *method, const char *types, ...)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        va_list arguments;
        int r = sd_bus_message_new_method_call(bus, &call, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, method);

        va_start(arguments, types);
        if (r >= 0)
                r = sd_bus_message_appendv(call, types, arguments);
        va_end(arguments);
        return r < 0 ? r : sd_bus_call(bus, call, 0, error, NULL);
}

static int enable(const Settings *settings, const char *name, sd_bus *bus)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = NULL;
        char unit[AUTOMOUNT_UNIT_SIZE];
        int r, status = find_path(name, &path);

        if (status != STATUS_OK)
                return status;
        status = configure(settings, path, unit, automount_unit_name(path, unit));
        if (status != STATUS_OK)
                return status;
        r = call_manager(bus, &error, "EnableUnitFiles", "asbb", 1, unit, 0, 1);
        if (r >= 0)
                r = call_manager(bus, &error, "Reload", "");
        if (r >= 0)
                r = call_manager(bus, &error, "RestartUnit", "ss", unit, "replace");
        if (r < 0)
                return complain(&error, r, name);
        puts(unit);
        return STATUS_OK;
}

static int disable(const Settings *settings, const char *name, sd_bus *bus)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = NULL, *folder = unit_folder(), *drop_in = NULL, *link = NULL;
        char unit[AUTOMOUNT_UNIT_SIZE];
        int r, status = find_path(name, &path);

        (void)settings;
        if (status != STATUS_OK)
                return status;
        (void)automount_unit_name(path, unit);
        link = folder ? text_printf("%s/" WANTS "/%s", folder, unit) : NULL;
        drop_in = folder ? text_printf("%s/%s.d/" DROP_IN, folder, unit) : NULL;
        if (!link || !drop_in)
                return error_print(STATUS_FAILED, name, "%s", strerror(ENOMEM));
        if (faccessat(AT_FDCWD, link, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return error_print(STATUS_NOT_FOUND, name, _("it is not mounted automatically"));
        r = call_manager(bus, &error, "StopUnit", "ss", unit, "replace");
        if (r >= 0 || sd_bus_error_has_name(&error, "org.freedesktop.systemd1.NoSuchUnit"))
                r = call_manager(bus, NULL, "DisableUnitFiles", "asb", 1, unit, 0);
        remove_drop_in(drop_in);
        if (r >= 0)
                r = call_manager(bus, NULL, "Reload", "");
        return r < 0 ? complain(&error, r, name) : STATUS_OK;
}

/* ---- list ---- */

/* One unit, as the service manager has it. */
typedef struct Entry {
        char **arguments; /* of its process */
        char *state;
        char *text;
} Entry;

static void entry_clear(Entry *entry)
{
        strv_freep(&entry->arguments);
        free(entry->state);
        free(entry->text);
}

static int read_arguments(sd_bus *bus, const char *object, char ***ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r = sd_bus_get_property(bus, SYSTEMD_NAME, object, SYSTEMD_NAME ".Service", "ExecStart", NULL, &reply,
                                    "a(sasbttttuii)");

        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(sasbttttuii)");
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'r', "sasbttttuii");
        if (r >= 0)
                r = sd_bus_message_skip(reply, "s");
        return r < 0 ? r : sd_bus_message_read_strv(reply, ret);
}

static int read_entry(sd_bus *bus, const char *unit, Entry *ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *object;
        int r = sd_bus_call_method(bus, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "LoadUnit", NULL, &reply, "s",
                                   unit);

        if (r >= 0)
                r = sd_bus_message_read_basic(reply, 'o', &object);
        if (r >= 0)
                r = sd_bus_get_property_string(bus, SYSTEMD_NAME, object, SYSTEMD_NAME ".Unit", "ActiveState", NULL,
                                               &ret->state);
        if (r >= 0)
                r = sd_bus_get_property_string(bus, SYSTEMD_NAME, object, SYSTEMD_NAME ".Service", "StatusText", NULL,
                                               &ret->text);
        return r < 0 ? r : read_arguments(bus, object, &ret->arguments);
}

static const char *image_of(const Entry *entry)
{
        char **last = entry->arguments;

        while (last && *last && last[1])
                last++;
        return last ? strempty(*last) : "";
}

static void write_entry(Json *json, const Entry *entry, const char *unit)
{
        json_open(json, NULL, '{');
        json_string(json, "image", image_of(entry));
        json_string(json, "unit", unit);
        json_open(json, "options", '[');
        for (char **s = entry->arguments; s && *s && s[1] && !streq(*s, "--"); s++)
                if (strncmp(*s, "-", 1) == 0)
                        json_string(json, NULL, *s);
        json_close(json, ']');
        json_string(json, "state", entry->state);
        json_string(json, "status", strempty(entry->text));
        json_close(json, '}');
}

static void print_entry(const Entry *entry)
{
        _cleanup_free_ char *image = text_escape(image_of(entry), strlen(image_of(entry)));
        _cleanup_free_ char *text = text_escape(strempty(entry->text), strlen(strempty(entry->text)));

        printf("%s: %s%s%s\n", strempty(image), entry->state, isempty(text) ? "" : ", ", strempty(text));
}

static int is_automount(const struct dirent *entry)
{
        size_t n = strlen(entry->d_name);

        return n > strlen(AUTOMOUNT_PREFIX AUTOMOUNT_SUFFIX) &&
               strncmp(entry->d_name, AUTOMOUNT_PREFIX, strlen(AUTOMOUNT_PREFIX)) == 0 &&
               streq(entry->d_name + n - strlen(AUTOMOUNT_SUFFIX), AUTOMOUNT_SUFFIX);
}

/* The names of the units that are enabled, sorted; none if there is no such folder. */
static int find_units(char ***ret)
{
        _cleanup_free_ char *folder = unit_folder(), *wants = folder ? text_printf("%s/" WANTS, folder) : NULL;
        struct dirent **entries = NULL;
        int n = wants ? scandir(wants, &entries, is_automount, alphasort) : -1;
        char **units = calloc((size_t)MAX(n, 0) + 1, sizeof(char *));

        for (int i = 0; i < n; i++) {
                if (units)
                        units[i] = strdup(entries[i]->d_name);
                free(entries[i]);
        }
        free(entries);
        *ret = units;
        return units ? STATUS_OK : error_print(STATUS_FAILED, NULL, "%s", strerror(ENOMEM));
}

static int list(const Settings *settings, sd_bus *bus)
{
        _cleanup_(strv_freep) char **units = NULL;
        Json json = { .f = stdout };
        int status = find_units(&units);

        if (settings->json) {
                json_open(&json, NULL, '{');
                json_open(&json, "automounts", '[');
        }
        for (char **unit = units; status == STATUS_OK && *unit; unit++) {
                _cleanup_(entry_clear) Entry entry = { 0 };
                int r = read_entry(bus, *unit, &entry);

                if (r < 0)
                        error_print(STATUS_OK, *unit, "%s", strerror(-r));
                else if (settings->json)
                        write_entry(&json, &entry, *unit);
                else
                        print_entry(&entry);
        }
        if (settings->json) {
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

static int for_each(const Settings *settings, int (*act)(const Settings *settings, const char *name, sd_bus *bus))
{
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        int first = open_manager(&bus);

        if (first != STATUS_OK)
                return first;
        for (size_t i = 1; i < settings->n_operands; i++) {
                int status = act(settings, settings->operands[i], bus);

                if (first == STATUS_OK)
                        first = status;
        }
        return first;
}

static int list_all(const Settings *settings)
{
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        int status = open_manager(&bus);

        return status == STATUS_OK ? list(settings, bus) : status;
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
        bool takes_options, takes_json;
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
        if (settings->json && !actions[i].takes_json)
                return error_print(STATUS_USAGE, name, _("--%s means nothing here; see 'loopmount %s --help'"), "json",
                                   "automount");
        if (settings->n_given > (settings->json ? 1 : 0) && !actions[i].takes_options)
                return error_print(STATUS_USAGE, name, _("it takes no options; see 'loopmount %s --help'"),
                                   "automount");
        return actions[i].act(settings);
}
