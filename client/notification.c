/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Notifications, and what is left where there is no service for them.
 *
 * Labels and file names are anybody's: a body is markup for most services (links
 * and images among it), so all of it is escaped for those that say so. Summaries
 * are plain text everywhere.
 *
 * A dialog is the last resort for an error. Of zenity and xmessage one is there on
 * nearly every desktop without a notification service, and neither takes our text
 * for markup or for options.
 *
 * There is no action "default", for a click on the text: some services show it as a
 * button, beside the one for "open".
 */
#include "notification.h"

#include <spawn.h>
#include <sys/wait.h>

#include "i18n.h"

#define DESKTOP_ENTRY "org.loopmount1.attach"
#define ICON "loopmount"
#define EXPIRES_AS_USUAL (-1)
#define EXPIRES_NEVER 0
#define URGENCY_NORMAL 1
#define URGENCY_CRITICAL 2

/* What answers may have to be started first, on a slow machine. The bus itself gives up before. */
#define ANSWER_TIMEOUT_USEC (180 * USEC_PER_SEC)

extern char **environ;

sd_bus *notification_open_bus(void)
{
        sd_bus *session = NULL;

        if (sd_bus_open_user(&session) < 0)
                return NULL;
        (void)sd_bus_set_method_call_timeout(session, ANSWER_TIMEOUT_USEC);
        return session;
}

char *notification_escape(const char *text)
{
        static const struct {
                char character;
                const char *entity;
        } entities[] = { { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" }, { '"', "&quot;" }, { '\'', "&#39;" } };
        char *escaped = malloc(strlen(text) * strlen("&quot;") + 1), *end = escaped;

        if (!escaped)
                return NULL;
        for (; *text; text++) {
                const char *entity = NULL;

                for (size_t i = 0; i < ELEMENTSOF(entities); i++)
                        if (*text == entities[i].character)
                                entity = entities[i].entity;
                if (entity)
                        end = stpcpy(end, entity);
                else
                        *end++ = *text;
        }
        *end = 0;
        return escaped;
}

/* What the service can do; starts it if need be. -errno. */
static int get_capabilities(sd_bus *session, bool *ret_markup, bool *ret_actions)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *capability;
        int r;

        r = sd_bus_call_method(session, NOTIFICATION_NAME, NOTIFICATION_PATH, NOTIFICATION_INTERFACE, "GetCapabilities",
                               NULL, &reply, NULL);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "s");
        *ret_markup = *ret_actions = false;
        while (r >= 0 && (r = sd_bus_message_read_basic(reply, 's', &capability)) > 0) {
                *ret_markup |= streq(capability, "body-markup");
                *ret_actions |= streq(capability, "actions");
        }
        return r;
}

static int append(sd_bus_message *call, const Notification *notification, const char *body, bool actions)
{
        int r = sd_bus_message_append(call, "susss", "loopmount", UINT32_C(0), ICON, notification->summary, body);

        if (r >= 0)
                r = actions ? sd_bus_message_append(call, "as", 4, "open", _("Open"), "eject", _("Eject"))
                            : sd_bus_message_append(call, "as", 0);
        if (r >= 0)
                r = sd_bus_message_append(call, "a{sv}", 2, "desktop-entry", "s", DESKTOP_ENTRY, "urgency", "y",
                                          notification->is_error ? URGENCY_CRITICAL : URGENCY_NORMAL);
        if (r >= 0)
                r = sd_bus_message_append(call, "i", notification->is_error ? EXPIRES_NEVER : EXPIRES_AS_USUAL);
        return r;
}

int notification_show(sd_bus *session, const Notification *notification, uint32_t *ret_id)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_free_ char *body = NULL;
        bool markup, actions;
        int r;

        r = get_capabilities(session, &markup, &actions);
        if (r < 0)
                return r;
        actions &= notification->offers_actions;
        body = markup ? notification_escape(notification->body) : strdup(notification->body);
        if (!body)
                return -ENOMEM;

        r = sd_bus_message_new_method_call(session, &call, NOTIFICATION_NAME, NOTIFICATION_PATH, NOTIFICATION_INTERFACE,
                                           "Notify");
        if (r >= 0)
                r = append(call, notification, body, actions);
        if (r >= 0)
                r = sd_bus_call(session, call, 0, NULL, &reply);
        if (r >= 0)
                r = sd_bus_message_read_basic(reply, 'u', ret_id);
        return r < 0 ? r : actions;
}

void notification_close(sd_bus *session, uint32_t id)
{
        /* One that is closed already is an error, and what was wanted. */
        (void)sd_bus_call_method(session, NOTIFICATION_NAME, NOTIFICATION_PATH, NOTIFICATION_INTERFACE,
                                 "CloseNotification", NULL, NULL, "u", id);
}

/* False: there is no such program. */
static bool run_dialog(char **command)
{
        pid_t child;
        int status;

        if (posix_spawnp(&child, command[0], NULL, NULL, command, environ) != 0)
                return false;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                ;
        return true;
}

static void show_dialog(const char *summary, const char *body)
{
        _cleanup_free_ char *text = NULL, *option = NULL;

        if ((isempty(getenv("DISPLAY")) && isempty(getenv("WAYLAND_DISPLAY"))) ||
            asprintf(&text, "%s\n\n%s", summary, body) < 0 || asprintf(&option, "--text=%s", text) < 0)
                return;
        if (!run_dialog((char *[]){ (char *)"zenity", (char *)"--error", (char *)"--no-markup",
                                    (char *)"--title=loopmount", option, NULL }))
                run_dialog((char *[]){ (char *)"xmessage", (char *)"-center", (char *)"-title", (char *)"loopmount",
                                       text, NULL });
}

void notification_tell_error(sd_bus *session, const char *summary, const char *body)
{
        Notification notification = { .summary = summary, .body = body, .is_error = true };
        uint32_t id;

        if (!session || notification_show(session, &notification, &id) < 0)
                show_dialog(summary, body);
}
