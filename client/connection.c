/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls to the daemon, and the question for a password.
 *
 * A call is first made without the flag that allows interactive
 * authorisation: in the usual case, where the user may do what is asked for,
 * nothing else is needed and nothing else is started. Only if the daemon says
 * NotAuthorized the same call is sent once more with the flag, and with an agent
 * on the terminal if there is no other. The daemon authorises before it acts,
 * so that the first call has had no effect.
 *
 * A user who interrupts a call wants it undone. To close the connection would
 * cancel the call, but if it was just done nobody would read the reply, and what it
 * has attached would stay. So the daemon is asked to cancel what is under way
 * (Release), by the same connection, and the wait goes on: the reply is that it is
 * undone, or that it was done before.
 */
#include "connection.h"

#include <stdarg.h>
#include <time.h>

#include "agent.h"
#include "base/text.h"
#include "errors.h"
#include "i18n.h"
#include "interrupt.h"
#include "progress.h"

int connection_open(Connection *connection, bool ask_password)
{
        int r;

        *connection = (Connection){ .ask_password = ask_password };
        r = sd_bus_open_system(&connection->bus);
        if (r < 0)
                return error_print(STATUS_UNREACHABLE, NULL, _("the system bus cannot be reached: %s"), strerror(-r));
        return STATUS_OK;
}

void connection_close(Connection *connection)
{
        connection->bus = sd_bus_flush_close_unref(connection->bus);
        free(connection->doing);
        connection->doing = NULL;
}

void connection_say(Connection *connection, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&text, format, arguments) < 0)
                text = NULL;
        va_end(arguments);
        free(connection->doing);
        connection->doing = text ? text_escape(text, strlen(text)) : NULL;
}

int connection_new_call(Connection *connection, const char *path, const char *interface, const char *member,
                        sd_bus_message **ret_call)
{
        return sd_bus_message_new_method_call(connection->bus, ret_call, BUS_NAME, path, interface, member);
}

/* A sealed message cannot be changed: its copy gets the flag. */
static int copy_interactive(Connection *connection, sd_bus_message *call, sd_bus_message **ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *copy = NULL;
        int r;

        r = connection_new_call(connection, sd_bus_message_get_path(call), sd_bus_message_get_interface(call),
                                sd_bus_message_get_member(call), &copy);
        if (r < 0)
                return r;
        r = sd_bus_message_set_allow_interactive_authorization(copy, true);
        if (r < 0)
                return r;
        r = sd_bus_message_rewind(call, true);
        if (r < 0)
                return r;
        r = sd_bus_message_copy(copy, call, true);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(copy);
        return 0;
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
        sd_bus_message **ret = userdata;

        (void)ret_error;
        *ret = sd_bus_message_ref(reply);
        return 0;
}

static uint64_t now_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

/* As sd_bus_wait(), but signals can come in. @notice: as interrupt_poll(). */
static int wait_for_bus(sd_bus *bus, uint64_t timeout_usec, bool notice)
{
        struct pollfd pollfd = { .fd = sd_bus_get_fd(bus) };
        uint64_t until, now = now_usec();
        int r = sd_bus_get_events(bus);

        if (r < 0)
                return r;
        pollfd.events = (short)r;
        r = sd_bus_get_timeout(bus, &until);
        if (r < 0)
                return r;
        if (until != UINT64_MAX)
                timeout_usec = MIN(timeout_usec, until > now ? until - now : 0);
        return interrupt_poll(&pollfd, timeout_usec, notice);
}

/* Nobody waits for a reply to this: that of the call is enough. */
static int cancel(Connection *connection)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        int r = connection_new_call(connection, ROOT_PATH, MANAGER_INTERFACE, "Release", &call);

        if (r >= 0)
                r = sd_bus_message_append(call, "a{sv}", 0);
        if (r >= 0)
                r = sd_bus_message_set_expect_reply(call, false);
        if (r >= 0)
                r = sd_bus_send(connection->bus, call, NULL);
        connection->cancelled = true;
        return r;
}

/* As sd_bus_call() does, for as long as it takes; @doing is shown meanwhile, if it is not NULL. */
static int call_and_wait(Connection *connection, sd_bus_message *call, const char *doing, sd_bus_error *error,
                         sd_bus_message **ret_reply)
{
        sd_bus *bus = connection->bus;
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_progress_ Progress progress = progress_begin(doing);
        int r;

        /* With a file in the message it waits until the bus has accepted the connection, and a signal ends that. */
        do
                r = sd_bus_call_async(bus, &slot, call, on_reply, &reply, UINT64_MAX);
        while (r == -EINTR);
        while (r >= 0 && !reply) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = wait_for_bus(bus, progress_show(&progress), !connection->cancelled);
                if (r == -EINTR)
                        r = interrupt_signal() && !connection->cancelled ? cancel(connection) : 0;
        }
        if (!reply)
                return sd_bus_error_set_errno(error, r);
        if (sd_bus_message_is_method_error(reply, NULL))
                return sd_bus_error_copy(error, sd_bus_message_get_error(reply));
        if (ret_reply)
                *ret_reply = TAKE_PTR(reply);
        return 0;
}

int connection_call(Connection *connection, sd_bus_message *call, sd_bus_error *error, sd_bus_message **ret_reply)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *again = NULL;
        pid_t agent;
        int r;

        r = call_and_wait(connection, call, connection->doing, error, ret_reply);
        if (r >= 0 || !connection->ask_password || connection->cancelled || geteuid() == 0 ||
            !sd_bus_error_has_name(error, "org.loopmount1.Error.NotAuthorized"))
                return r;

        sd_bus_error_free(error);
        r = copy_interactive(connection, call, &again);
        if (r < 0)
                return sd_bus_error_set_errno(error, r);

        /* What asks for the password has the terminal to itself. */
        agent = connection->no_agent ? 0 : agent_start();
        r = call_and_wait(connection, again, agent > 0 ? NULL : connection->doing, error, ret_reply);
        agent_stop(agent);
        return r;
}

int connection_call_simple(Connection *connection, const char *path, const char *interface, const char *member,
                           sd_bus_error *error)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        int r;

        r = connection_new_call(connection, path, interface, member, &call);
        if (r < 0)
                return sd_bus_error_set_errno(error, r);
        r = sd_bus_message_append(call, "a{sv}", 0);
        if (r < 0)
                return sd_bus_error_set_errno(error, r);
        return connection_call(connection, call, error, NULL);
}
