/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * polkit over sd-bus. The subject is the caller's unique bus name: polkit asks
 * the bus for the process behind it, and a name is never given out twice, so
 * nobody can slip into another's place while a prompt is open.
 *
 * A prompt may stay open as long as its user likes: the call has no time-out then.
 * It is closed by polkitd itself when the caller goes away, or the daemon: it
 * watches both names. CancelCheckAuthorization would do no more, and do harm: when
 * the caller's agent dies at the same moment, as it does with Ctrl-C on a
 * terminal, that second cancellation can stop polkitd for good (seen with polkit
 * 122 and GLib 2.74, once in some 250 times): one of its threads then sends to the
 * agent while another waits for that to end, with the lock of the connection held.
 */
#include "mechanism/polkit.h"
#include "base/log.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_USER_INTERACTION 1U
/* polkitd takes one question after the other: of many at once, on a slow machine, the last one waits long. */
#define ANSWER_TIMEOUT_USEC (120 * USEC_PER_SEC)
#define NOT_TO_BE_CANCELLED ""     /* the cancellation id */
#define GETTEXT_DOMAIN "loopmount" /* polkitd looks the message up there, in the language of the agent */

struct PolkitCheck {
        sd_bus_slot *slot;
        PolkitDone done;
        void *userdata;
};

PolkitCheck *polkit_abandon(PolkitCheck *check)
{
        if (check)
                sd_bus_slot_unref(check->slot);
        free(check);
        return NULL;
}
DEFINE_CLEANUP(PolkitCheck *, polkit_abandon)

/* The first of several: whoever asks again and again does not fill the journal. */
static void log_failure(const sd_bus_error *failure)
{
        static bool logged;

        if (failure && !logged)
                log_message(LOG_WARNING, "polkit gives no answer: %s: %s", failure->name, strempty(failure->message));
        logged = failure;
}

/* Nobody has the name, and nobody could be started to have it: what the bus says, and what systemd says by the bus. */
static bool is_not_running(const sd_bus_error *failure)
{
        static const char *const families[] = { "org.freedesktop.DBus.Error.Spawn.", "org.freedesktop.systemd1." };

        for (size_t i = 0; i < ELEMENTSOF(families); i++)
                if (strncmp(failure->name, families[i], strlen(families[i])) == 0)
                        return true;
        return sd_bus_error_has_name(failure, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
               sd_bus_error_has_name(failure, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
}

/* A question or an answer that was lost is no "no", and must not be told as one. */
static int read_verdict(sd_bus_message *reply)
{
        const sd_bus_error *failure = sd_bus_message_get_error(reply);
        int authorised, challenge;

        if (sd_bus_message_is_method_error(reply, POLKIT_INTERFACE ".Error.Cancelled") ||
            sd_bus_message_is_method_error(reply, "org.freedesktop.PolicyKit1.Error.Cancelled"))
                return -ECANCELED;
        log_failure(failure);
        if (failure)
                return is_not_running(failure) ? -ESRCH : -ENOMSG;
        /* The details after the two, ours and polkit's, do not matter. */
        if (sd_bus_message_enter_container(reply, 'r', "bba{ss}") < 0 ||
            sd_bus_message_read(reply, "bb", &authorised, &challenge) < 0)
                return -ENOMSG;
        if (authorised)
                return 0;
        return challenge ? -EKEYREJECTED : -EACCES;
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        PolkitCheck *check = userdata;
        PolkitDone done = check->done;
        void *done_userdata = check->userdata;
        int verdict = read_verdict(reply);

        (void)error;
        polkit_abandon(check);
        done(verdict, done_userdata);
        return 0;
}

static int append_question(sd_bus_message *call, const PolkitQuestion *question)
{
        int r = sd_bus_message_append(call, "(sa{sv})s", "system-bus-name", 1, "name", "s", question->sender,
                                      question->action);

        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "{ss}");
        for (size_t i = 0; r >= 0 && i < question->n_details; i++)
                r = sd_bus_message_append(call, "{ss}", question->details[i].name, question->details[i].value);
        if (r >= 0 && question->message)
                r = sd_bus_message_append(call, "{ss}{ss}", "polkit.message", question->message,
                                          "polkit.gettext_domain", GETTEXT_DOMAIN);
        if (r >= 0)
                r = sd_bus_message_close_container(call);
        if (r >= 0)
                r = sd_bus_message_append(call, "us", question->interactive ? ALLOW_USER_INTERACTION : 0U,
                                          NOT_TO_BE_CANCELLED);
        return r;
}

int polkit_check(sd_bus *bus, const PolkitQuestion *question, PolkitDone done, void *userdata, PolkitCheck **ret)
{
        _cleanup_(polkit_abandonp) PolkitCheck *check = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        int r;

        if (question->uid == 0)
                return 1;
        check = calloc(1, sizeof(*check));
        if (!check)
                return -ENOMEM;
        check->done = done;
        check->userdata = userdata;

        r = sd_bus_message_new_method_call(bus, &call, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                                           "CheckAuthorization");
        if (r >= 0)
                r = append_question(call, question);
        if (r >= 0)
                r = sd_bus_call_async(bus, &check->slot, call, on_reply, check,
                                      question->interactive ? UINT64_MAX : ANSWER_TIMEOUT_USEC);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(check);
        return 0;
}
