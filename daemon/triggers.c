/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * - The kernel says through a pipe that somebody enters a volume which is not
 *   mounted. That is the ordinary story of mounting it, with the options that its
 *   image was attached with, and then an answer: go on, or an I/O error. Whoever
 *   may enter the folder may have it mounted: its owner and root; the owner was
 *   asked for permission when he attached it.
 * - From time to time the kernel is asked whether a volume was not used for long
 *   enough. If so it says, through the pipe again, that it be unmounted, and
 *   keeps everybody out until it has the answer. So the question blocks, and is
 *   asked in a child.
 *
 * Each request has to be answered, or somebody waits for ever. What cannot be
 * answered, because its trigger goes, is by that (trigger_close()).
 */
#include <sys/epoll.h>

#include "base/log.h"
#include "base/text.h"
#include "mechanism/trigger.h"
#include "story/detach.h"
#include "story/mount.h"
#include "triggers.h"

/* How often in an idle time it is asked whether that is over; the kernel counts in seconds. */
#define LOOKS_PER_IDLE_TIME 4U
#define LOOK_USEC_MIN USEC_PER_SEC

/* What was asked for, while a story, or a child, does it. */
typedef struct Errand {
        Triggers *triggers;
        TriggerRequest request;
        uint64_t image_id;
        unsigned volume;
        bool failed_before; /* ... and that was logged */
        Job *job;           /* of a question whether it was used */
        struct Errand *next;
} Errand;

struct Triggers {
        Service *service;
        int pipe[2];
        sd_event_source *on_request;
        sd_event_source *on_look;
        Errand *early;     /* about images that are not there yet */
        Errand *questions; /* whether it was used */
};

static Errand *unlink_errand(Errand **list, Errand *errand)
{
        for (Errand **link = list; *link; link = &(*link)->next)
                if (*link == errand) {
                        *link = errand->next;
                        break;
                }
        return errand;
}

static Volume *find_by_device(const Registry *registry, dev_t device)
{
        Image *image;
        Volume *volume;
        dev_t other;

        for (size_t i = 0; (image = registry_nth(registry, i)); i++)
                IMAGE_FOREACH_VOLUME (volume, image)
                        if (volume_is_armed(volume) && trigger_get_device(volume->trigger_fd, &other) >= 0 &&
                            other == device)
                                return volume;
        return NULL;
}

/* ---- What the kernel wants to have done ---- */

/* Gives back the volume, if it is still there. */
static Volume *answer(const Errand *errand, int error)
{
        Image *image = registry_find(errand->triggers->service->registry, errand->image_id);
        Volume *volume = image ? image_find_volume(image, errand->volume) : NULL;

        if (volume && volume_is_armed(volume))
                (void)trigger_answer(volume->trigger_fd, errand->request.token, error);
        return volume;
}

static void on_done(Story *story, const Failure *failure, void *userdata)
{
        _cleanup_free_ Errand *errand = userdata;
        /* Somebody else was faster. */
        bool failed = failure && failure->error != -EALREADY;
        const Volume *volume = answer(errand, failed ? -EIO : 0);

        (void)story;
        /* Whoever tries again and again does not fill the journal. */
        if (!volume || !failed || errand->failed_before || failure->error == -ECANCELED)
                return;
        log_message(LOG_WARNING, "Volume %u of %s cannot be %s: %s%s%s", volume->number, volume->image->backing_file,
                    errand->request.expire ? "unmounted" : "mounted", strerror(-failure->error),
                    failure->detail ? ": " : "", strempty(failure->detail));
}

static int mount_it(Errand *errand, Volume *volume)
{
        Service *service = errand->triggers->service;
        const Image *image = volume->image;
        _cleanup_(mount_wish_done) MountWish wish = { 0 };
        Caller caller = { .uid = image->owner };
        Story *story;

        /* Children that are stuck in the kernel count for its owner, who could have one made with each step. */
        if (story_hangs_too_often(image->owner) ||
            (image->owner != 0 && job_n_stuck(image->owner) >= service->config->max_requests_per_user))
                return -EDQUOT;
        if ((image->wished_type && !(wish.filesystem_type = strdup(image->wished_type))) ||
            (image->wished_options && !(wish.options = strdup(image->wished_options))))
                return -ENOMEM;
        return mount_start(service, &caller, volume, &wish, on_done, errand, &story);
}

static int unmount_it(Errand *errand, const Volume *volume)
{
        Caller caller = { .uid = volume->image->owner };
        Story *story;

        return unmount_start(errand->triggers->service, &caller, volume, on_done, errand, &story);
}

static void run(Errand *errand, Volume *volume)
{
        int r;

        errand->image_id = volume->image->id;
        errand->volume = volume->number;
        /* In use after all: that is nothing to be told of. */
        errand->failed_before = errand->request.expire || *volume->obstacle;
        r = errand->request.expire ? unmount_it(errand, volume) : mount_it(errand, volume);
        if (r >= 0)
                return;
        (void)answer(errand, -EIO);
        free(errand);
}

/* It may be about an image whose story is not over yet. */
static void take_request(Triggers *triggers, const TriggerRequest *request)
{
        Volume *volume = find_by_device(triggers->service->registry, request->device);
        Errand *errand = calloc(1, sizeof(*errand));

        if (!errand) {
                if (volume)
                        (void)trigger_answer(volume->trigger_fd, request->token, -ENOMEM);
                return;
        }
        errand->triggers = triggers;
        errand->request = *request;
        if (volume) {
                run(errand, volume);
                return;
        }
        errand->next = triggers->early;
        triggers->early = errand;
}

static int on_request(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        Triggers *triggers = userdata;
        TriggerRequest request;

        (void)source, (void)events;
        if (trigger_read(fd, &request) > 0)
                take_request(triggers, &request);
        return 0;
}

/* Those whose images are there now; if no story is left that could bring one, the trigger is gone. */
static void take_early_requests(Triggers *triggers)
{
        Errand *early = triggers->early;

        triggers->early = NULL;
        while (early) {
                Errand *errand = early;
                Volume *volume = find_by_device(triggers->service->registry, errand->request.device);

                early = errand->next;
                if (volume) {
                        run(errand, volume);
                } else if (triggers->service->stories) {
                        errand->next = triggers->early;
                        triggers->early = errand;
                } else
                        free(errand);
        }
}

/* ---- Was it used? ---- */

static int run_question(int channel, const JobOrder *order)
{
        int r = order->n_fds == 1 ? trigger_expire(order->fds[0]) : -EBADMSG;

        return r < 0 ? r : job_answer(channel, NULL, 0, NULL, 0);
}

static void on_answered(int error, JobAnswer *answer, void *userdata)
{
        Errand *errand = userdata;

        (void)error, (void)answer;
        free(unlink_errand(&errand->triggers->questions, errand));
}

static bool is_asked(const Triggers *triggers, const Volume *volume)
{
        for (const Errand *errand = triggers->questions; errand; errand = errand->next)
                if (errand->image_id == volume->image->id && errand->volume == volume->number)
                        return true;
        return false;
}

static void ask(Triggers *triggers, const Volume *volume)
{
        Errand *errand = calloc(1, sizeof(*errand));
        JobSpec spec = {
                .name = "expire",
                .work = run_question,
                .fds = { volume->trigger_fd },
                .n_fds = 1,
                .timeout_usec = triggers->service->config->job_timeout_usec,
                .uid = volume->image->owner,
        };

        if (!errand)
                return;
        *errand = (Errand){ .triggers = triggers, .image_id = volume->image->id, .volume = volume->number };
        if (job_start(triggers->service->event, &spec, on_answered, errand, &errand->job) < 0) {
                free(errand);
                return;
        }
        errand->next = triggers->questions;
        triggers->questions = errand;
}

static bool may_expire(const Volume *volume)
{
        return volume->image->idle_usec > 0 && volume_is_armed(volume) && volume_is_mounted(volume);
}

/* 0: there is nothing to look after. */
static uint64_t look_usec(const Registry *registry)
{
        uint64_t usec = 0;
        Image *image;
        Volume *volume;

        for (size_t i = 0; (image = registry_nth(registry, i)); i++) {
                if (image->idle_usec == 0)
                        continue;
                IMAGE_FOREACH_VOLUME (volume, image)
                        if (may_expire(volume) && (usec == 0 || image->idle_usec < usec * LOOKS_PER_IDLE_TIME))
                                usec = MAX(image->idle_usec / LOOKS_PER_IDLE_TIME, LOOK_USEC_MIN);
        }
        return usec;
}

static void arm_look(Triggers *triggers)
{
        uint64_t usec = look_usec(triggers->service->registry);
        int enabled = SD_EVENT_OFF;

        (void)sd_event_source_get_enabled(triggers->on_look, &enabled);
        if (usec == 0 || enabled != SD_EVENT_OFF)
                return;
        (void)sd_event_source_set_time_relative(triggers->on_look, usec);
        (void)sd_event_source_set_enabled(triggers->on_look, SD_EVENT_ONESHOT);
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata)
{
        Triggers *triggers = userdata;
        Service *service = triggers->service;
        Image *image;
        Volume *volume;

        (void)source, (void)usec;
        for (size_t i = 0; (image = registry_nth(service->registry, i)); i++)
                IMAGE_FOREACH_VOLUME (volume, image)
                        if (may_expire(volume) && !is_asked(triggers, volume) && !story_is_about(service, image))
                                ask(triggers, volume);
        arm_look(triggers);
        return 0;
}

void triggers_story_ended(Triggers *triggers)
{
        take_early_requests(triggers);
        arm_look(triggers);
}

/* ---- */

static void forget_errands(Errand *errand)
{
        while (errand) {
                Errand *next = errand->next;

                if (errand->job)
                        job_cancel(errand->job);
                free(errand);
                errand = next;
        }
}

Triggers *triggers_free(Triggers *triggers)
{
        if (!triggers)
                return NULL;
        forget_errands(triggers->early);
        forget_errands(triggers->questions);
        sd_event_source_disable_unref(triggers->on_request);
        sd_event_source_disable_unref(triggers->on_look);
        safe_close(triggers->pipe[0]);
        safe_close(triggers->pipe[1]);
        free(triggers);
        return NULL;
}

int triggers_new(Service *service, Triggers **ret)
{
        _cleanup_(triggers_freep) Triggers *triggers = calloc(1, sizeof(*triggers));
        int r;

        if (!triggers)
                return -ENOMEM;
        triggers->service = service;
        triggers->pipe[0] = triggers->pipe[1] = -1;
        trigger_set_up();
        r = trigger_open_pipe(triggers->pipe);
        if (r >= 0)
                r = sd_event_add_io(service->event, &triggers->on_request, triggers->pipe[0], EPOLLIN, on_request,
                                    triggers);
        if (r >= 0)
                r = sd_event_add_time_relative(service->event, &triggers->on_look, CLOCK_MONOTONIC, 0, 0, on_look,
                                               triggers);
        if (r >= 0)
                r = sd_event_source_set_enabled(triggers->on_look, SD_EVENT_OFF);
        if (r < 0)
                return r;
        service->trigger_pipe = triggers->pipe[1];
        *ret = TAKE_PTR(triggers);
        return 0;
}
