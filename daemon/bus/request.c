/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a message to a story and back. While the story is under way the caller is
 * watched: when it leaves the bus, the story is told to give up.
 *
 * Who the caller is comes from the bus, not from the message.
 */
#include "bus/request.h"
#include "bus/errors.h"
#include "story/detach.h"

struct Request {
        sd_bus_message *message;
        RequestReply reply;
        Caller caller;
        Story *story;
        bool starting; /* inside of story_start(), which may already end the story */
        bool done;
        bool linked;
        Request *next;
};

/* How long nobody has to ask until departures are not heard of any more. */
#define QUIET_USEC (3 * USEC_PER_SEC)
#define CALLERS_MAX 16U
#define UNIQUE_NAME_SIZE 32U

static Request *requests;
/*
 * While there are requests, and a little longer. One for all of them: the bus has 512 match rules for each of its
 * users.
 */
static sd_bus_slot *departures;
static sd_event_source *on_quiet;

/*
 * Who has asked since then: the bus never gives a unique name out again, so what it has told of one stays true, and
 * that it has left is heard.
 */
static struct {
        char name[UNIQUE_NAME_SIZE];
        uid_t uid;
        pid_t pid;
} callers[CALLERS_MAX];
static unsigned next_caller;

/* A message of @name's may still arrive, since it comes over another connection than the news that @name has left. */
static void forget(const char *name)
{
        for (size_t i = 0; i < CALLERS_MAX; i++)
                if (streq(callers[i].name, name))
                        callers[i].name[0] = 0;
}

static void wait_for_quiet(void)
{
        (void)sd_event_source_set_time_relative(on_quiet, QUIET_USEC);
        (void)sd_event_source_set_enabled(on_quiet, SD_EVENT_ONESHOT);
}

static void unlink_request(Request *request)
{
        for (Request **link = &requests; *link; link = &(*link)->next)
                if (*link == request) {
                        *link = request->next;
                        break;
                }
        if (!requests)
                wait_for_quiet();
}

Request *request_free(Request *request)
{
        if (!request)
                return NULL;
        if (request->linked)
                unlink_request(request);
        sd_bus_message_unref(request->message);
        free(request);
        return NULL;
}

static Request *find_request_of(const char *sender)
{
        Request *request = requests;

        while (request && !streq(request->caller.sender, sender))
                request = request->next;
        return request;
}

/* What is in use stays mounted, held by nobody. */
static void release_for(Service *service, const char *name)
{
        const Caller own_caller = { 0 };
        Story *story;

        if (registry_is_held_by(service->registry, name))
                (void)release_start(service, &own_caller, name, NULL, NULL, &story);
}

static int on_name_lost(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
        Service *service = userdata;
        const char *name;
        Request *request;

        (void)error;
        if (sd_bus_message_read(signal, "sss", &name, NULL, NULL) < 0)
                return 0;
        forget(name);
        while ((request = find_request_of(name))) {
                Story *story = request->story;

                request_free(request);
                story_abandon(story);
        }
        release_for(service, name);
        if (!requests)
                wait_for_quiet();
        return 0;
}

static int on_quiet_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        const Service *service = userdata;

        (void)source, (void)usec;
        if (requests || registry_is_held_by(service->registry, NULL))
                return 0;
        departures = sd_bus_slot_unref(departures);
        memset(callers, 0, sizeof(callers));
        return 0;
}

static int listen_for_departures(Service *service)
{
        int r = 0;

        if (!on_quiet)
                r = sd_event_add_time_relative(service->event, &on_quiet, CLOCK_MONOTONIC, QUIET_USEC, 0, on_quiet_time,
                                               service);
        if (r >= 0 && !departures)
                r = sd_bus_add_match_async(service->ask_bus, &departures,
                                           "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                           "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
                                           on_name_lost, NULL, service);
        return r;
}

static int watch_for_departure(Request *request, Service *service)
{
        int r = listen_for_departures(service);

        if (r < 0)
                return r;
        request->linked = true;
        request->next = requests;
        requests = request;
        return 0;
}

static bool find_known(const char *sender, Caller *caller)
{
        const Request *request = find_request_of(sender);

        if (request) {
                caller->uid = request->caller.uid;
                caller->pid = request->caller.pid;
                return true;
        }
        for (size_t i = 0; i < CALLERS_MAX; i++)
                if (streq(callers[i].name, sender)) {
                        caller->uid = callers[i].uid;
                        caller->pid = callers[i].pid;
                        return true;
                }
        return false;
}

static void remember(const Caller *caller)
{
        if (strlen(caller->sender) >= UNIQUE_NAME_SIZE)
                return;
        strcpy(callers[next_caller].name, caller->sender);
        callers[next_caller].uid = caller->uid;
        callers[next_caller].pid = caller->pid;
        next_caller = (next_caller + 1) % CALLERS_MAX;
}

/* One question for both. The bus need not know the process. */
static int ask_bus(const Service *service, Caller *caller)
{
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        int r = sd_bus_get_name_creds(service->ask_bus, caller->sender, SD_BUS_CREDS_EUID | SD_BUS_CREDS_PID, &creds);

        if (r < 0)
                return r;
        (void)sd_bus_creds_get_pid(creds, &caller->pid);
        r = sd_bus_creds_get_euid(creds, &caller->uid);
        if (r >= 0)
                remember(caller);
        return r;
}

int request_new(sd_bus_message *message, RequestReply reply, Request **ret)
{
        _cleanup_(request_freep) Request *request = calloc(1, sizeof(*request));
        Service *service = request_service(message);
        bool known;
        int r = 0;

        if (!request)
                return -ENOMEM;
        request->message = sd_bus_message_ref(message);
        request->reply = reply;
        request->starting = true;
        request->caller.sender = sd_bus_message_get_sender(message);
        request->caller.interactive = sd_bus_message_get_allow_interactive_authorization(message) > 0;
        known = find_known(request->caller.sender, &request->caller);
        /* The match first: whoever leaves before the bus answers makes that an error. */
        if (!known || !story_would_exceed_limit(service, &request->caller))
                r = watch_for_departure(request, service);
        if (r >= 0 && !known)
                r = ask_bus(service, &request->caller);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(request);
        return 0;
}

int request_new_with_options(sd_bus_message *message, const OptionRule *rules, size_t n_rules, RequestReply reply,
                             Request **ret)
{
        _cleanup_free_ char *complaint = NULL;
        int r = options_read(message, rules, n_rules, &complaint);

        *ret = NULL;
        if (r == -EINVAL && complaint)
                return error_reply_invalid(message, "%s", complaint);
        if (r >= 0)
                r = request_new(message, reply, ret);
        return r < 0 ? error_reply_early(message, r) : 0;
}

const Caller *request_get_caller(const Request *request)
{
        return &request->caller;
}

Story **request_story(Request *request)
{
        return &request->story;
}

static int reply(const Request *request, const Story *story, const Failure *failure)
{
        if (failure)
                return error_reply(request->message, failure);
        if (request->reply)
                return request->reply(request->message, story);
        return sd_bus_reply_method_return(request->message, NULL);
}

void request_done(Story *story, const Failure *failure, void *userdata)
{
        Request *request = userdata;
        int r = reply(request, story, failure);

        /* What it tells of is done: want of memory for a moment must not make it an error. */
        if (r < 0)
                r = reply(request, story, failure);
        /* There is an answer in any case. */
        if (r < 0)
                (void)sd_bus_reply_method_errno(request->message, r, NULL);
        request->done = true;
        if (!request->starting)
                request_free(request);
}

int request_refuse(sd_bus_message *message, int error)
{
        Failure failure = { .stage = STAGE_LIMITS, .error = error };
        int r = error_reply(message, &failure);

        return r < 0 ? r : 1;
}

int request_started(Request *request, int r)
{
        request->starting = false;
        if (r >= 0 && !request->done)
                return 1;
        r = r < 0 ? request_refuse(request->message, r) : 1;
        request_free(request);
        return r;
}

bool request_is_surplus(sd_bus_message *message)
{
        const Service *service = request_service(message);
        Caller caller = { .sender = sd_bus_message_get_sender(message) };

        return find_known(caller.sender, &caller) && story_would_exceed_limit(service, &caller);
}

Service *request_service(sd_bus_message *message)
{
        return sd_bus_slot_get_userdata(sd_bus_get_current_slot(sd_bus_message_get_bus(message)));
}

void request_cancel_others(sd_bus_message *message)
{
        story_cancel_all(request_service(message), sd_bus_message_get_sender(message));
}

/* ---- Those who hold what an earlier daemon has mounted ---- */

static bool has_left(sd_bus *bus, const char *name)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int there = true;

        if (sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                               "NameHasOwner", NULL, &reply, "s", name) >= 0)
                (void)sd_bus_message_read_basic(reply, 'b', &there);
        return !there;
}

static int find_holders_of(Service *service, const Image *image)
{
        Volume *volume;

        IMAGE_FOREACH_VOLUME (volume, image) {
                _cleanup_free_ char *names = volume->held_by ? strdup(volume->held_by) : NULL;
                char *rest = names;

                if (volume->held_by && !names)
                        return -ENOMEM;
                for (const char *name; (name = strsep(&rest, " "));)
                        if (has_left(service->ask_bus, name))
                                release_for(service, name);
        }
        return 0;
}

int request_find_holders(Service *service)
{
        int r;

        if (!registry_is_held_by(service->registry, NULL))
                return 0;
        /* Subscribe before asking, so that nobody leaves in between unseen. */
        r = listen_for_departures(service);
        for (size_t i = registry_count(service->registry); r >= 0 && i > 0; i--)
                r = find_holders_of(service, registry_nth(service->registry, i - 1));
        return r;
}
