/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process of an automount's unit. It attaches the image as soon as its file is
 * there and polkit permits it without a password, which is usually when the
 * user is in front of the screen. polkit itself is asked, whenever a session has
 * changed; so it is the administrator's rules that count, and no attempt is refused.
 *
 * Then there is nothing to be done: the daemon detaches the image with the user's
 * last session, unless it was attached with --keep. Behind that, and if the
 * service manager goes on for a user without a session, all begins anew. An image
 * that somebody has detached by hand is left alone until its file has gone and come
 * back, or until the user has logged out.
 *
 * The service manager is told that it has started at once: nobody waits for an image
 * at login. SIGTERM detaches. Who has enabled or disabled it reads from the unit's status
 * what the first try gave, or why it has failed.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <systemd/sd-login.h>

#include "attach.h"
#include "automount.h"
#include "base/session.h"
#include "base/text.h"
#include "detach.h"
#include "errors.h"
#include "i18n.h"
#include "path-watch.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE POLKIT_NAME ".Authority"

typedef struct Automount {
        const Settings *settings;
        const char *path;
        sd_event *event;
        Connection connection;
        sd_login_monitor *sessions;
        sd_event_source *on_check;
        PathWatch *watch; /* while it is not attached */
        char *object;     /* the attached image; NULL: it is not */
        bool bound;       /* it was attached in a session, and goes with it */
        bool left;        /* ... and that has ended since */
        bool off;         /* somebody has detached it */
        bool missing;     /* its file, when that was looked for last */
        bool came;        /* it was missing before, so that it may be on its way still */
        bool written;     /* somebody had it open for writing then */
} Automount;

static void automount_clear(Automount *automount)
{
        path_watch_free(automount->watch);
        sd_event_source_disable_unref(automount->on_check);
        sd_login_monitor_unref(automount->sessions);
        connection_close(&automount->connection);
        free(automount->object);
        sd_event_unref(automount->event);
}

/* What "systemctl status" shows. */
static void tell_status(const char *text, const char *mount_point)
{
        (void)sd_notifyf(0, "STATUS=%s%s", text, strempty(mount_point));
}

static void tell_waiting(void)
{
        tell_status(_("Waiting until attaching is permitted without a password"), NULL);
}

/* ---- May it be attached? ---- */

/* What is not a clear yes is no. */
static bool is_permitted(const Automount *automount)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        sd_bus *bus = automount->connection.bus;
        const char *self;
        int yes = 0;

        if (geteuid() == 0)
                return true;
        if (sd_bus_get_unique_name(bus, &self) < 0 ||
            sd_bus_call_method(bus, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE, "CheckAuthorization", NULL, &reply,
                               "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s", self, "org.loopmount1.attach", 0,
                               0, "") < 0 ||
            sd_bus_message_enter_container(reply, 'r', "bba{ss}") < 0 ||
            sd_bus_message_read_basic(reply, 'b', &yes) < 0)
                return false;
        return yes;
}

static bool is_there(Automount *automount)
{
        bool there = access(automount->path, F_OK) >= 0;

        if (!there && !automount->missing)
                error_print(STATUS_OK, automount->path, _("it is not there; it is attached when it appears"));
        automount->came |= there && automount->missing;
        automount->missing = !there;
        return there;
}

/* One that is just being copied to its place. Nobody gets a lease for reading while a file is open for writing. */
static bool is_being_written(Automount *automount)
{
        _cleanup_close_ int fd = -1;
        struct stat st;

        automount->written = false;
        if (!automount->came || stat(automount->path, &st) < 0 || !S_ISREG(st.st_mode))
                return false;
        fd = open(automount->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        automount->written = fd >= 0 && fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN;
        return automount->written;
}

/* ---- Attaching ---- */

static int attach(Automount *automount)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_attached_ Attached attached = { 0 };
        _cleanup_close_ int fd = -1;
        int r, status = attach_open(automount->path, automount->settings->writable, &fd);

        if (status != STATUS_OK)
                return status;
        automount->bound = !automount->settings->keep && session_is_any(getuid());
        r = attach_call(&automount->connection, automount->settings, fd, &error, &attached);
        if (r < 0) {
                status = error_status(error.name);
                if (status != STATUS_NOT_AUTHORIZED || is_permitted(automount))
                        return error_print_bus(automount->path, &error, r);
                /* The session that it was permitted for has just ended, or gone to the background: the next one. */
                tell_waiting();
                return STATUS_OK;
        }
        automount->object = TAKE_PTR(attached.path);
        automount->came = automount->left = false;
        if (attached.mount_points && attached.mount_points[0])
                tell_status(_("Attached, mounted at "), attached.mount_points[0]);
        else
                tell_status(_("Attached"), NULL);
        return STATUS_OK;
}

static void on_path(void *userdata);

static int watch_path(Automount *automount)
{
        if (automount->object) {
                automount->watch = path_watch_free(automount->watch);
                return 0;
        }
        if (automount->watch)
                return 0;
        return path_watch_new(automount->event, automount->path, on_path, automount, &automount->watch);
}

/* Does what can be done now. An error that waiting does not help against ends the process, and makes the unit fail. */
static void look(Automount *automount)
{
        int r = watch_path(automount), status = STATUS_OK;

        errors_keep(false);
        if (r < 0)
                status = error_print(STATUS_FAILED, automount->path, "%s", strerror(-r));
        else if (!automount->object) {
                bool there = is_there(automount);

                automount->off = automount->off && there && (!automount->bound || session_is_any(getuid()));
                if (automount->off)
                        tell_status(_("Detached by hand; a restart attaches it again"), NULL);
                else if (!there)
                        tell_status(_("The file is not there; it is attached when it appears"), NULL);
                else if (is_being_written(automount))
                        tell_status(_("Waiting until the file is closed: somebody writes to it"), NULL);
                else if (!is_permitted(automount))
                        tell_waiting();
                else
                        status = attach(automount);
                if (status == STATUS_OK && automount->object)
                        (void)watch_path(automount);
        }
        if (status != STATUS_OK)
                (void)sd_event_exit(automount->event, status);
}

static void on_path(void *userdata)
{
        Automount *automount = userdata;
        bool there = access(automount->path, F_OK) >= 0;

        if (there == automount->missing || automount->written)
                look(automount);
}

static int on_sessions(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        Automount *automount = userdata;

        (void)source, (void)fd, (void)events;
        (void)sd_login_monitor_flush(automount->sessions);
        automount->left |= automount->bound && !session_is_any(getuid());
        look(automount);
        return 0;
}

/* ---- Detached ---- */

static void forget(Automount *automount)
{
        free(TAKE_PTR(automount->object));
        automount->off = !automount->left && (!automount->bound || session_is_any(getuid()));
        look(automount);
}

/* The daemon is asked: signals may come from anybody. */
static int on_check(sd_event_source *source, void *userdata)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *state = NULL;
        Automount *automount = userdata;

        (void)source;
        if (automount->object &&
            sd_bus_get_property_string(automount->connection.bus, BUS_NAME, automount->object, IMAGE_INTERFACE, "State",
                                       &error, &state) < 0 &&
            sd_bus_error_has_name(&error, SD_BUS_ERROR_UNKNOWN_OBJECT))
                forget(automount);
        return 0;
}

/* Not from within a signal, which may come while a call waits for its answer. */
static void check_soon(Automount *automount)
{
        (void)sd_event_source_set_enabled(automount->on_check, SD_EVENT_ONESHOT);
}

static int on_removed(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
        Automount *automount = userdata;
        const char *object;

        (void)error;
        if (automount->object && sd_bus_message_read_basic(signal, 'o', &object) >= 0 &&
            streq(object, automount->object))
                check_soon(automount);
        return 0;
}

/* A daemon that was started anew may not have the image any more. */
static int on_owner(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
        Automount *automount = userdata;
        const char *owner;

        (void)error;
        if (automount->object && sd_bus_message_read(signal, "sss", NULL, NULL, &owner) >= 0 && !isempty(owner))
                check_soon(automount);
        return 0;
}

/* ---- Beginning and end ---- */

/* What is busy at logout the daemon detaches later. */
static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        Automount *automount = userdata;
        int status = STATUS_OK;

        (void)source, (void)info;
        (void)sd_notifyf(0, "STOPPING=1\nSTATUS=%s", _("Detaching"));
        errors_keep(false);
        if (automount->object)
                status = detach_image(&automount->connection, automount->object, automount->path, false);
        if (automount->bound && !session_is_any(getuid()))
                status = STATUS_OK;
        return sd_event_exit(automount->event, status);
}

static int watch_signals(Automount *automount)
{
        sigset_t signals;
        int r;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -errno;
        r = sd_event_add_signal(automount->event, NULL, SIGTERM, on_terminate, automount);
        return r < 0 ? r : sd_event_add_signal(automount->event, NULL, SIGINT, on_terminate, automount);
}

/* Where there is no logind, there are no sessions that could change. */
static int watch_sessions(Automount *automount)
{
        if (sd_login_monitor_new(NULL, &automount->sessions) < 0)
                return 0;
        return sd_event_add_io(automount->event, NULL, sd_login_monitor_get_fd(automount->sessions),
                               (uint32_t)sd_login_monitor_get_events(automount->sessions), on_sessions, automount);
}

static int watch_daemon(Automount *automount)
{
        sd_bus *bus = automount->connection.bus;
        int r = sd_bus_match_signal(bus, NULL, BUS_NAME, ROOT_PATH, OBJECT_MANAGER_INTERFACE, "InterfacesRemoved",
                                    on_removed, automount);

        if (r >= 0)
                r = sd_bus_add_match(bus, NULL,
                                     "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                     "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
                                     on_owner, automount);
        if (r >= 0)
                r = sd_event_add_defer(automount->event, &automount->on_check, on_check, automount);
        if (r >= 0)
                r = sd_event_source_set_enabled(automount->on_check, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(bus, true);
        return r < 0 ? r : sd_bus_attach_event(bus, automount->event, SD_EVENT_PRIORITY_NORMAL);
}

static int run(Automount *automount)
{
        int r, status = connection_open(&automount->connection, false);

        if (status != STATUS_OK)
                return status;
        r = sd_event_new(&automount->event);
        if (r >= 0)
                r = watch_signals(automount);
        if (r >= 0)
                r = watch_daemon(automount);
        if (r >= 0)
                r = watch_sessions(automount);
        if (r < 0)
                return error_print(STATUS_FAILED, automount->path, "%s", strerror(-r));
        (void)sd_notify(0, "READY=1");
        look(automount);
        return sd_event_loop(automount->event);
}

int automount_run(const Settings *settings, const char *path)
{
        _cleanup_(automount_clear) Automount automount = { .settings = settings, .path = path };
        int status;

        errors_keep(false);
        status = run(&automount);
        /* In one message, so that nobody takes it for what an active unit does. */
        if (status != STATUS_OK)
                (void)sd_notifyf(0, "STOPPING=1\nSTATUS=%s", errors_kept());
        return status;
}
