/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * polkit over sd-bus. The subject is the caller's unique bus name: polkit asks
 * the bus for the process behind it, and a name is never given out twice, so
 * nobody can slip into another's place while a prompt is open.
 *
 * A prompt may stay open as long as its user likes: the call has no time-out
 * then, and is taken back by its cancellation id when the caller goes away.
 */
#include "mechanism/polkit.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_USER_INTERACTION 1U

struct PolkitCheck {
        sd_bus *bus;
        sd_bus_slot *slot;
        uint64_t cancellation_id;
        PolkitDone done;
        void *userdata;
};

static uint64_t last_cancellation_id;

static PolkitCheck *check_free(PolkitCheck *check)
{
        sd_bus_slot_unref(check->slot);
        sd_bus_unref(check->bus);
        free(check);
        return NULL;
}
DEFINE_CLEANUP(PolkitCheck *, check_free)

static void format_cancellation_id(const PolkitCheck *check, char id[static 32])
{
        snprintf(id, 32, "loopmount-%llu", (unsigned long long)check->cancellation_id);
}

PolkitCheck *polkit_cancel(PolkitCheck *check)
{
        char id[32];

        if (!check)
                return NULL;
        format_cancellation_id(check, id);
        (void)sd_bus_call_method_async(check->bus, NULL, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                                       "CancelCheckAuthorization", NULL, NULL, "s", id);
        return check_free(check);
}

static int read_verdict(sd_bus_message *reply)
{
        int authorised, challenge;

        if (sd_bus_message_is_method_error(reply, POLKIT_INTERFACE ".Error.Cancelled") ||
            sd_bus_message_is_method_error(reply, "org.freedesktop.PolicyKit1.Error.Cancelled"))
                return -ECANCELED;
        /* The details behind it, ours and polkit's, do not matter. */
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_enter_container(reply, 'r', "bba{ss}") < 0 ||
            sd_bus_message_read(reply, "bb", &authorised, &challenge) < 0)
                return -EACCES;
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
        check_free(check);
        done(verdict, done_userdata);
        return 0;
}

static int append_question(sd_bus_message *call, const PolkitQuestion *question, const char *cancellation_id)
{
        int r = sd_bus_message_append(call, "(sa{sv})s", "system-bus-name", 1, "name", "s", question->sender,
                                      question->action);

        if (r >= 0 && question->detail_name)
                r = sd_bus_message_append(call, "a{ss}", 1, question->detail_name, question->detail_value);
        else if (r >= 0)
                r = sd_bus_message_append(call, "a{ss}", 0);
        if (r >= 0)
                r = sd_bus_message_append(call, "us", question->interactive ? ALLOW_USER_INTERACTION : 0U,
                                          cancellation_id);
        return r;
}

int polkit_check(sd_bus *bus, const PolkitQuestion *question, PolkitDone done, void *userdata, PolkitCheck **ret)
{
        _cleanup_(check_freep) PolkitCheck *check = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        char id[32];
        int r;

        if (question->uid == 0)
                return 1;
        check = calloc(1, sizeof(*check));
        if (!check)
                return -ENOMEM;
        check->bus = sd_bus_ref(bus);
        check->cancellation_id = ++last_cancellation_id;
        check->done = done;
        check->userdata = userdata;
        format_cancellation_id(check, id);

        r = sd_bus_message_new_method_call(bus, &call, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                                           "CheckAuthorization");
        if (r >= 0)
                r = append_question(call, question, id);
        if (r >= 0)
                r = sd_bus_call_async(bus, &check->slot, call, on_reply, check, question->interactive ? UINT64_MAX : 0);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(check);
        return 0;
}
