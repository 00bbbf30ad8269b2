/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * open: what a double click on an image does. Nobody looks at a terminal, so that
 * what goes wrong is also told on the desktop.
 *
 * The image is attached, unless this user has it attached already; the file
 * manager shows what is in it; and a notification offers to show it again and to
 * eject it. Who has put that up serves it, and so stays until it is closed or the
 * image is gone. While it does, it owns a name on the session bus that is made
 * from the image's id: whoever opens the same file meanwhile cannot get the name,
 * shows the folder, and is done.
 */
#include <inttypes.h>
#include <signal.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "attach.h"
#include "base/text.h"
#include "detach.h"
#include "errors.h"
#include "file-manager.h"
#include "i18n.h"
#include "interrupt.h"
#include "notification.h"
#include "target.h"
#include "verbs.h"

typedef struct Opening {
        const Settings *settings;
        const char *name; /* of the file, as given */
        char *title;      /* the last part of that, made harmless */
        Connection connection;
        sd_bus *session; /* NULL: there is none */
        sd_event *event;
        char *path;            /* the image's object */
        char *folder;          /* what the file manager is to show */
        uint32_t notification; /* 0: there is none, or nobody to answer it */
        pid_t file_manager;    /* one that we have started and wait for, or 0 */
        int status;
} Opening;

static void opening_clear(Opening *opening)
{
        free(opening->title);
        free(opening->path);
        free(opening->folder);
        connection_close(&opening->connection);
        sd_bus_flush_close_unref(opening->session);
        sd_event_unref(opening->event);
}

/* Nothing is to be answered any more. */
static int leave(Opening *opening)
{
        opening->notification = 0;
        return opening->file_manager ? 0 : sd_event_exit(opening->event, 0);
}

static bool is_mounted(const Volume *volume)
{
        return volume->mount_points && volume->mount_points[0];
}

static const Volume *first_mounted(const Image *image)
{
        for (const Volume *v = image->volumes; v; v = v->next)
                if (is_mounted(v))
                        return v;
        return NULL;
}

/* ---- attach, unless it is attached ---- */

/* Looks for an image of the file that this user has and that will do. Gives an exit code. */
static int find_attached(Opening *opening, int fd)
{
        _cleanup_model_ Model model = { 0 };
        const uid_t uid = getuid();
        struct stat st;
        int status;

        if (fstat(fd, &st) < 0)
                return error_print(STATUS_FAILED, opening->name, "%s", strerror(errno));
        status = model_list(&opening->connection, &(ModelFilter){ .file = &st, .owner = &uid }, &model);
        for (const Image *image = model.images; image && !opening->path; image = image->next)
                if (first_mounted(image) && !(opening->settings->writable && image->read_only)) {
                        opening->path = strdup(image->path);
                        if (!opening->path)
                                return error_print(STATUS_FAILED, opening->name, "%s", strerror(ENOMEM));
                }
        return status;
}

/* A double click is no wish to run what is in the image. */
static int attach(Opening *opening, int fd)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_attached_ Attached attached = { 0 };
        Settings settings = *opening->settings;
        char options[] = "noexec";
        int r;

        settings.mount_options = options;
        interrupt_catch();
        r = attach_call(&opening->connection, &settings, fd, &error, &attached);
        if (r < 0)
                interrupt_end();
        if (r < 0)
                return error_print_bus(opening->name, &error, r);
        opening->path = TAKE_PTR(attached.path);
        return STATUS_OK;
}

/* One volume: its own folder. Several: the one where all of them are, each under its name. */
static char *choose_folder(const Image *image)
{
        const Volume *first = first_mounted(image);
        const char *path = first->mount_points[0], *end = strrchr(path, '/');

        for (const Volume *v = first->next; v; v = v->next)
                if (is_mounted(v) && end > path)
                        return strndup(path, (size_t)(end - path));
        return strdup(path);
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
        Opening *opening = userdata;
        const char *path;

        (void)ret_error;
        if (sd_bus_message_read_basic(m, 'o', &path) >= 0 && streq(path, opening->path) && opening->notification) {
                notification_close(opening->session, opening->notification);
                leave(opening);
        }
        return 0;
}

/* Before it is looked at: from then on its end cannot be missed. */
static int watch_image(Opening *opening)
{
        int r = sd_bus_match_signal(opening->connection.bus, NULL, BUS_NAME, ROOT_PATH, OBJECT_MANAGER_INTERFACE,
                                    "InterfacesRemoved", on_removed, opening);

        return r < 0 ? error_print(STATUS_FAILED, opening->name, "%s", strerror(-r)) : STATUS_OK;
}

/* Gives an exit code. @ret: all that is known of the image. */
static int attach_and_load(Opening *opening, Model *model, const Image **ret)
{
        _cleanup_close_ int fd = -1;
        int status;

        status = attach_open(opening->name, opening->settings->writable, &fd);
        if (status == STATUS_OK)
                status = connection_open(&opening->connection, !opening->settings->no_ask_password);
        /* The desktop asks, and not this program's terminal, which may be the one that the desktop was started on. */
        opening->connection.no_agent = true;
        if (status == STATUS_OK)
                status = find_attached(opening, fd);
        if (status == STATUS_OK && !opening->path)
                status = attach(opening, fd);
        if (status == STATUS_OK)
                status = watch_image(opening);
        if (status == STATUS_OK)
                status = model_list(&opening->connection, &(ModelFilter){ .id = model_id_of(opening->path) }, model);
        if (status != STATUS_OK)
                return status;

        *ret = model_find_image(model, opening->path);
        /* The daemon does not attach what it cannot mount; but anybody may have unmounted it since. */
        if (!*ret || !first_mounted(*ret))
                return error_print(STATUS_NOT_FOUND, opening->name, _("was attached, and is detached again"));
        return STATUS_OK;
}

/* ---- the file manager ---- */

/* What has been printed, to the desktop too. */
static void tell_errors(Opening *opening)
{
        _cleanup_free_ char *summary = text_printf(_("%s: cannot be opened"), opening->title);

        notification_tell_error(opening->session, strempty(summary), errors_kept());
}

static void complain_not_shown(Opening *opening, int r)
{
        opening->status = error_print(STATUS_FAILED, opening->folder,
                                      _("is mounted, but no file manager could be started: %s"), strerror(-r));
        tell_errors(opening);
}

static int on_file_manager_ended(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        Opening *opening = userdata;
        int r;

        (void)source;
        opening->file_manager = 0;
        if (info->si_code == CLD_EXITED && info->si_status != 0) {
                r = file_manager_show_any(opening->session, opening->folder);
                if (r < 0)
                        complain_not_shown(opening, r);
        }
        return opening->notification ? 0 : sd_event_exit(opening->event, 0);
}

static void show_folder(Opening *opening)
{
        pid_t child = 0;
        int r;

        r = file_manager_show(opening->session, opening->folder, &child);
        if (r >= 0 && child > 0 && !opening->file_manager) {
                r = sd_event_add_child(opening->event, NULL, child, WEXITED, on_file_manager_ended, opening);
                if (r >= 0)
                        opening->file_manager = child;
        }
        if (r < 0)
                complain_not_shown(opening, r);
}

/* ---- the notification ---- */

/* What the folder is called, or why there is none. NULL: nothing to say. */
static char *describe_volume(const Volume *volume)
{
        _cleanup_free_ char *name = NULL;
        const char *last;

        if (!is_mounted(volume))
                return isempty(volume->obstacle) ? NULL
                                                 : text_printf(_("volume %" PRIu32 " is not mounted: %s"),
                                                               volume->number, volume->obstacle);
        last = strrchr(volume->mount_points[0], '/') + 1;
        name = text_escape(last, strlen(last));
        return text_printf("%s (%s)", strempty(name), volume->read_only ? _("read-only") : _("writable"));
}

/* A line for each volume. */
static char *describe(const Image *image)
{
        char *text = strdup("");

        for (const Volume *v = image->volumes; v && text; v = v->next) {
                _cleanup_free_ char *line = describe_volume(v), *before = NULL;

                if (line) {
                        before = text;
                        text = text_printf("%s%s%s", before, *before ? "\n" : "", line);
                }
        }
        return text;
}

static void put_up(Opening *opening, const char *summary, const char *body, bool is_error)
{
        Notification notification = {
                .summary = summary,
                .body = body,
                .offers_actions = true,
                .is_error = is_error,
        };
        uint32_t id;
        int r;

        r = notification_show(opening->session, &notification, &id);
        opening->notification = r > 0 ? id : 0;
        if (r < 0 && is_error)
                notification_tell_error(NULL, summary, body);
}

static int eject(Opening *opening)
{
        _cleanup_free_ char *summary = NULL;
        uint32_t id = opening->notification;

        errors_keep(true);
        opening->status = detach_image(&opening->connection, opening->path, opening->name, false);
        notification_close(opening->session, id);
        if (opening->status == STATUS_OK)
                return leave(opening);

        /* It may be tried again. */
        summary = text_printf(_("%s: cannot be ejected"), opening->title);
        put_up(opening, strempty(summary), errors_kept(), true);
        return opening->notification ? 0 : leave(opening);
}

static int on_action(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
        Opening *opening = userdata;
        const char *action;
        uint32_t id;

        (void)ret_error;
        if (sd_bus_message_read(m, "us", &id, &action) < 0 || id != opening->notification)
                return 0;
        if (streq(action, "eject"))
                return eject(opening);
        if (streq(action, "open"))
                show_folder(opening);
        return 0;
}

static int on_closed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
        Opening *opening = userdata;
        uint32_t id;

        (void)ret_error;
        if (sd_bus_message_read(m, "u", &id) < 0 || id != opening->notification)
                return 0;
        return leave(opening);
}

/* The service is gone, and with it what it has shown. */
static int on_service_gone(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
        Opening *opening = userdata;

        (void)m;
        (void)ret_error;
        return opening->notification ? leave(opening) : 0;
}

/* ---- all of it ---- */

static int subscribe(Opening *opening)
{
        sd_bus *session = opening->session;
        int r;

        r = sd_bus_match_signal(session, NULL, NULL, NOTIFICATION_PATH, NOTIFICATION_INTERFACE, "ActionInvoked",
                                on_action, opening);
        if (r >= 0)
                r = sd_bus_match_signal(session, NULL, NULL, NOTIFICATION_PATH, NOTIFICATION_INTERFACE,
                                        "NotificationClosed", on_closed, opening);
        if (r >= 0)
                r = sd_bus_add_match(session, NULL,
                                     "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',"
                                     "arg0='" NOTIFICATION_NAME "',arg2=''",
                                     on_service_gone, opening);
        if (r >= 0)
                r = sd_bus_attach_event(opening->connection.bus, opening->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_attach_event(session, opening->event, SD_EVENT_PRIORITY_NORMAL);
        return r;
}

/* True: nobody else has put up a notification of this image. */
static bool claim(Opening *opening, const Image *image)
{
        char name[64];

        snprintf(name, sizeof(name), "org.loopmount1.Open.image%s", strempty(image->id));
        return sd_bus_request_name(opening->session, name, 0) >= 0;
}

static void notify(Opening *opening, const Image *image)
{
        _cleanup_free_ char *summary = NULL, *body = NULL;

        if (!opening->session || !claim(opening, image) || subscribe(opening) < 0)
                return;
        summary = text_printf(_("%s is open"), opening->title);
        body = describe(image);
        if (summary && body)
                put_up(opening, summary, body, false);
}

static int start(Opening *opening)
{
        sigset_t child;
        int r;

        /* As sd-event wants it. */
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigprocmask(SIG_BLOCK, &child, NULL);
        signal(SIGCHLD, SIG_DFL);
        r = sd_event_default(&opening->event);
        if (r < 0)
                return error_print(STATUS_FAILED, NULL, "%s", strerror(-r));
        opening->session = notification_open_bus();
        if (opening->session)
                sd_bus_set_exit_on_disconnect(opening->session, true);
        return STATUS_OK;
}

static int open_image(Opening *opening)
{
        _cleanup_model_ Model model = { 0 };
        const Image *image = NULL;
        int r, status;

        status = attach_and_load(opening, &model, &image);
        if (status != STATUS_OK)
                return status;
        opening->folder = choose_folder(image);
        if (!opening->folder)
                return error_print(STATUS_FAILED, opening->name, "%s", strerror(ENOMEM));
        show_folder(opening);
        interrupt_end();
        notify(opening, image);
        /* If it went in between, nobody tells us any more. */
        if (opening->notification || opening->file_manager) {
                r = sd_event_loop(opening->event);
                if (r < 0 && opening->status == STATUS_OK)
                        return error_print(STATUS_FAILED, opening->name, "%s", strerror(-r));
        }
        return STATUS_OK;
}

int verb_open(const Settings *settings)
{
        _cleanup_(opening_clear) Opening opening = { .settings = settings, .name = settings->operands[0] };
        const char *last = strrchr(opening.name, '/');
        int status;

        errors_keep(true);
        last = last && last[1] ? last + 1 : opening.name;
        opening.title = text_escape(last, strlen(last));
        status = opening.title ? start(&opening) : error_print(STATUS_FAILED, opening.name, "%s", strerror(ENOMEM));
        if (status == STATUS_OK)
                status = open_image(&opening);
        if (status != STATUS_OK)
                tell_errors(&opening);
        return status == STATUS_OK ? opening.status : status;
}
