/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image that is bound to the sessions of its owner is detached when the last of
 * them has ended: the newest first, since the file of one may be in another, and
 * one after the other. As long as there are such images, and no longer, logind's
 * files are watched; it says nothing about which user has changed, so the owners
 * of all images are looked at; when an image has come, its owner alone is.
 *
 * What is in use then stays attached. The user's service manager ends some seconds
 * behind his last session, and what it runs lets go; so what is in use at first is
 * not worth a word. What still is after that is told once in the journal, with who uses
 * it, and tried again every minute, until it works, the user is back, or the machine
 * is shut down.
 */
#include <systemd/sd-login.h>
#include <time.h>

#include "base/log.h"
#include "base/session.h"
#include "sessions.h"
#include "story/detach.h"

/* logind stops the user's service manager after 10 s (UserStopDelaySec= in logind.conf(5)). */
#define FIRST_RETRY_USEC (15 * USEC_PER_SEC)
#define RETRY_USEC (60 * USEC_PER_SEC)

/* One user's images on their way out. */
typedef struct Departure {
        Sessions *sessions;
        uid_t owner;
        uint64_t image_id; /* the one that is tried; those before it are yet to be */
        struct Departure *next;
} Departure;

struct Sessions {
        Service *service;
        sd_login_monitor *monitor;
        sd_event_source *on_logind;
        sd_event_source *on_change;
        sd_event_source *on_retry;
        Departure *departures;
        enum { LOOK_FOR_NOBODY, LOOK_FOR_ONE, LOOK_FOR_ALL } look; /* whether they are there */
        uid_t one;
};

static const Caller own_caller = { 0 };

static uint64_t now_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static bool is_bound(const Image *image)
{
        return image->session_bound && image->state == IMAGE_ATTACHED;
}

/* When in doubt he is. */
static bool may_be_there(uid_t uid)
{
        return session_is_any(uid) != 0;
}

/* ---- Trying again ---- */

static void arm_retry(Sessions *sessions, uint64_t usec)
{
        (void)sd_event_source_set_time_relative(sessions->on_retry, usec);
        (void)sd_event_source_set_enabled(sessions->on_retry, SD_EVENT_ONESHOT);
}

static void note_busy(Sessions *sessions, Image *image, const char *detail)
{
        LogSubject subject = {
                .image_id = image->id,
                .backing_file = image->backing_file,
                .owner = image->owner,
        };
        bool waited = image->left_behind_usec > 0 && now_usec() >= image->left_behind_usec + FIRST_RETRY_USEC;

        if (image->left_behind_usec == 0)
                image->left_behind_usec = now_usec();
        arm_retry(sessions, waited ? RETRY_USEC : FIRST_RETRY_USEC);
        if (!waited || image->left_behind_told)
                return;
        image->left_behind_told = true;
        log_about(LOG_WARNING, &subject, "%s stays attached though %s has logged out: %s", image->backing_file,
                  image->owner_name, isempty(detail) ? "it is in use" : detail);
}

/* ---- A departure ---- */

static void end(Departure *departure)
{
        for (Departure **link = &departure->sessions->departures; *link; link = &(*link)->next)
                if (*link == departure) {
                        *link = departure->next;
                        break;
                }
        free(departure);
}

static Image *find_next(const Departure *departure)
{
        Image *image, *next = NULL;

        for (size_t i = 0; (image = registry_nth(departure->sessions->service->registry, i)); i++)
                if (is_bound(image) && image->owner == departure->owner && image->id < departure->image_id &&
                    (!next || image->id > next->id))
                        next = image;
        return next;
}

static void go_on(Departure *departure);

static void on_detached(Story *story, const Failure *failure, void *userdata)
{
        Departure *departure = userdata;
        Sessions *sessions = departure->sessions;
        Image *image = registry_find(sessions->service->registry, departure->image_id);

        (void)story;
        if (failure && failure->error == -EBUSY && image && is_bound(image))
                note_busy(sessions, image, failure->detail);
        /* It may have been detached meanwhile. */
        else if (failure && failure->error != -ENOENT)
                log_message(LOG_WARNING,
                            "An image of uid %u, who has logged out, cannot be detached completely: %s%s%s",
                            departure->owner, strerror(-failure->error), failure->detail ? ": " : "",
                            strempty(failure->detail));
        go_on(departure);
}

static void go_on(Departure *departure)
{
        Service *service = departure->sessions->service;
        Image *image = service->stopping || may_be_there(departure->owner) ? NULL : find_next(departure);
        Story *story;

        if (!image) {
                end(departure);
                return;
        }
        departure->image_id = image->id;
        if (detach_start(service, &own_caller, image, false, on_detached, departure, &story) < 0) {
                arm_retry(departure->sessions, FIRST_RETRY_USEC);
                end(departure);
        }
}

static bool is_departing(const Sessions *sessions, uid_t owner)
{
        for (const Departure *departure = sessions->departures; departure; departure = departure->next)
                if (departure->owner == owner)
                        return true;
        return false;
}

static void begin(Sessions *sessions, uid_t owner)
{
        Departure *departure = calloc(1, sizeof(*departure));

        if (!departure) {
                arm_retry(sessions, FIRST_RETRY_USEC);
                return;
        }
        *departure = (Departure){
                .sessions = sessions,
                .owner = owner,
                .image_id = UINT64_MAX,
                .next = sessions->departures,
        };
        sessions->departures = departure;
        go_on(departure);
}

/* ---- Looking who is there ---- */

static void stop_watching(Sessions *sessions)
{
        sessions->on_logind = sd_event_source_disable_unref(sessions->on_logind);
        sessions->monitor = sd_login_monitor_unref(sessions->monitor);
}

static void look_soon(Sessions *sessions)
{
        sessions->look = LOOK_FOR_ALL;
        (void)sd_event_source_set_enabled(sessions->on_change, SD_EVENT_ONESHOT);
}

static int on_logind(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        Sessions *sessions = userdata;

        (void)source, (void)fd, (void)events;
        (void)sd_login_monitor_flush(sessions->monitor);
        look_soon(sessions);
        return 0;
}

/* Each session of a user that changes changes the user's own file, too. */
static int watch(Sessions *sessions)
{
        int r = sd_login_monitor_new("uid", &sessions->monitor);

        if (r >= 0)
                r = sd_event_add_io(sessions->service->event, &sessions->on_logind,
                                    sd_login_monitor_get_fd(sessions->monitor),
                                    (uint32_t)sd_login_monitor_get_events(sessions->monitor), on_logind, sessions);
        if (r < 0)
                stop_watching(sessions);
        return r;
}

/* The watch first: who leaves behind the look is told of. */
static void watch_if_needed(Sessions *sessions)
{
        bool needed = false;
        Image *image;

        for (size_t i = 0; !needed && (image = registry_nth(sessions->service->registry, i)); i++)
                needed = is_bound(image);
        if (!needed)
                stop_watching(sessions);
        else if (!sessions->monitor && watch(sessions) < 0)
                arm_retry(sessions, RETRY_USEC);
}

static void note_presence(Sessions *sessions, uid_t owner)
{
        Image *image;

        for (size_t i = 0; (image = registry_nth(sessions->service->registry, i)); i++)
                if (image->owner == owner) {
                        image->left_behind_usec = 0;
                        image->left_behind_told = false;
                }
}

static void look_for(Sessions *sessions, uid_t owner)
{
        if (may_be_there(owner))
                note_presence(sessions, owner);
        else if (!is_departing(sessions, owner))
                begin(sessions, owner);
}

static void look(Sessions *sessions)
{
        const Registry *registry = sessions->service->registry;

        if (sessions->look == LOOK_FOR_ONE)
                look_for(sessions, sessions->one);
        /* From the end: one whose last image goes does not move those that are still to come. */
        for (size_t i = registry_count_owners(registry); sessions->look == LOOK_FOR_ALL && i > 0; i--)
                if (i <= registry_count_owners(registry))
                        look_for(sessions, registry_nth_owner(registry, i - 1));
        sessions->look = LOOK_FOR_NOBODY;
}

static int on_change(sd_event_source *source, void *userdata)
{
        Sessions *sessions = userdata;

        (void)source;
        watch_if_needed(sessions);
        look(sessions);
        return 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec;
        look_soon(userdata);
        return 0;
}

void sessions_changed(Sessions *sessions, RegistryEvent event, const Image *image)
{
        if (!sessions)
                return;
        if (event == REGISTRY_IMAGE_ADDED && image->session_bound) {
                sessions->look = sessions->look == LOOK_FOR_NOBODY ? LOOK_FOR_ONE : LOOK_FOR_ALL;
                sessions->one = image->owner;
        }
        (void)sd_event_source_set_enabled(sessions->on_change, SD_EVENT_ONESHOT);
}

Sessions *sessions_free(Sessions *sessions)
{
        if (!sessions)
                return NULL;
        while (sessions->departures)
                end(sessions->departures);
        stop_watching(sessions);
        sd_event_source_disable_unref(sessions->on_change);
        sd_event_source_disable_unref(sessions->on_retry);
        free(sessions);
        return NULL;
}

int sessions_new(Service *service, Sessions **ret)
{
        _cleanup_(sessions_freep) Sessions *sessions = calloc(1, sizeof(*sessions));
        int r;

        if (!sessions)
                return -ENOMEM;
        sessions->service = service;
        sessions->look = LOOK_FOR_ALL;
        r = sd_event_add_defer(service->event, &sessions->on_change, on_change, sessions);
        if (r >= 0)
                r = sd_event_add_time_relative(service->event, &sessions->on_retry, CLOCK_MONOTONIC, 0, 0, on_retry,
                                               sessions);
        if (r >= 0)
                r = sd_event_source_set_enabled(sessions->on_retry, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(sessions);
        return 0;
}
