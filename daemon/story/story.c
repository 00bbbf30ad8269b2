/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The engine: it walks a story through its steps, undoes it when one fails,
 * answers and frees it. It is the only place that decides when to go on.
 *
 * Closed by default: a story that does anything but a probe before its step
 * story_authorise does not start.
 *
 * Stories about the same file wait for each other. The lock is on the file's
 * identity, not on an image, so that an attach waits for the detach of the image
 * that is going, and the second of two equal attaches for the image to come.
 */
#include <stdarg.h>

#include "story/story.h"

/*
 * How many questions polkit may be asked at a time: the bus lets a connection wait
 * for 128 answers (max_replies_per_connection), and somebody may have to type a
 * password for each. What is above waits.
 */
#define CHECKS_MAX 112U
#define CHECKS_PER_USER_MAX 16U
/* How many of a user's children may be stuck in the kernel; each may keep a CPU busy there. */
#define STUCK_PER_USER_MAX 3U

static void advance(Story *story);
static void ask_next(Service *service);

const char *stage_to_string(Stage stage)
{
        static const char *const names[STAGE_MAX_] = {
                [STAGE_REQUEST] = "request",   [STAGE_LIMITS] = "limits",   [STAGE_AUTHORISE] = "authorise",
                [STAGE_USER] = "user",         [STAGE_PROBE] = "probe",     [STAGE_LOCK] = "lock",
                [STAGE_PLAN] = "plan",         [STAGE_BIND] = "bind",       [STAGE_PARTITIONS] = "partitions",
                [STAGE_MOUNT] = "mount",       [STAGE_SETTLE] = "settle",   [STAGE_COMMIT] = "commit",
                [STAGE_UNMOUNT] = "unmount",   [STAGE_RELEASE] = "release", [STAGE_WRITE_BACK] = "write-back",
                [STAGE_CAPACITY] = "capacity",
        };

        return names[stage];
}

static void failure_vset(Failure *failure, Stage stage, int error, const char *format, va_list arguments)
        _printf_(4, 0);
static void failure_vset(Failure *failure, Stage stage, int error, const char *format, va_list arguments)
{
        char *detail = NULL;

        /* The first words are the most exact ones. */
        if (failure->error < 0)
                return;
        failure->stage = stage;
        failure->error = error;
        if (format && vasprintf(&detail, format, arguments) >= 0)
                failure->detail = detail;
}

void failure_set(Failure *failure, Stage stage, int error, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        failure_vset(failure, stage, error, format, arguments);
        va_end(arguments);
}

void failure_done(Failure *failure)
{
        free(failure->detail);
        *failure = (Failure){ 0 };
}

int story_fail(Story *story, int error, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        failure_vset(&story->failure, story->step->stage, error, format, arguments);
        va_end(arguments);
        return error;
}

/* ---- Beginning and end ---- */

static void unlink_story(Story *story)
{
        for (Story **link = &story->service->stories; *link; link = &(*link)->next)
                if (*link == story) {
                        *link = story->next;
                        return;
                }
}

static bool is_about(const Story *story, dev_t device, ino_t inode)
{
        return story->file_device == device && story->file_inode == inode;
}

/* The oldest, but an urgent one first. */
static void wake_waiting(Service *service, dev_t device, ino_t inode)
{
        Story *next = NULL;

        for (Story *story = service->stories; story; story = story->next)
                if (story->lock == LOCK_WAITING && is_about(story, device, inode) &&
                    (!next || story->urgent || !next->urgent))
                        next = story;
        if (!next)
                return;
        next->lock = LOCK_NONE;
        advance(next);
}

static void free_texts(Story *story)
{
        free(story->sender);
        free(story->own_subject);
        free(story->purpose.types);
}

static void finish(Story *story)
{
        Service *service = story->service;
        bool held = story->lock == LOCK_HELD;
        dev_t device = story->file_device;
        ino_t inode = story->file_inode;

        unlink_story(story);
        if (story->done)
                story->done(story, story->failure.error < 0 ? &story->failure : NULL, story->userdata);
        failure_done(&story->failure);
        free_texts(story);
        story->type->destroy(story);
        if (held)
                wake_waiting(service, device, inode);
        ask_next(service);
        service->on_story_ended(service->userdata);
}

static unsigned count_of(const Service *service, uid_t uid)
{
        /* A child that is stuck in the kernel costs its user a place until it is gone. */
        unsigned n = job_n_stuck(uid);

        for (const Story *story = service->stories; story; story = story->next)
                n += story->caller.uid == uid;
        return n;
}

bool story_hangs_too_often(uid_t uid)
{
        return uid != 0 && job_n_stuck(uid) >= STUCK_PER_USER_MAX;
}

bool story_would_exceed_limit(const Service *service, const Caller *caller)
{
        return caller->sender && caller->uid != 0 &&
               count_of(service, caller->uid) >= service->config->max_requests_per_user;
}

static bool asks_first(const StoryType *type)
{
        const StoryStep *step = type->steps;

        while (step->run && step->run != story_authorise && step->stage == STAGE_PROBE)
                step++;
        return step->run == story_authorise;
}

static int check_start(const StoryType *type, const Service *service, const Caller *caller)
{
        if (!asks_first(type))
                return -EACCES;
        if (service->stopping && caller->sender)
                return -ESHUTDOWN;
        if (caller->sender && !type->outlives_caller && story_hangs_too_often(caller->uid))
                return -EUSERS;
        return story_would_exceed_limit(service, caller) ? -EDQUOT : 0;
}

static int copy_texts(Story *story, const Caller *caller)
{
        if (!caller->sender)
                return 0;
        story->sender = strdup(caller->sender);
        story->own_subject = strdup(strempty(story->subject));
        return story->sender && story->own_subject ? 0 : -ENOMEM;
}

int story_start(Story *story, const StoryType *type, Service *service, const Caller *caller, StoryDone done,
                void *userdata)
{
        int r = check_start(type, service, caller);

        if (r >= 0)
                r = copy_texts(story, caller);
        if (r < 0) {
                free_texts(story);
                return r;
        }
        story->subject = story->own_subject;
        story->type = type;
        story->service = service;
        story->caller = *caller;
        story->caller.sender = story->sender;
        story->done = done;
        story->userdata = userdata;
        story->step = type->steps;
        story->next = service->stories;
        service->stories = story;
        advance(story);
        return 0;
}

/* ---- Walking ---- */

static void fail(Story *story, int error)
{
        if (story->failure.error >= 0)
                failure_set(&story->failure, story->step->stage, error, NULL);
        story->undoing = true;
        if (story->type->undo && story->type->undo(story) > 0)
                return;
        finish(story);
}

static void advance(Story *story)
{
        for (; story->step->run; story->step++) {
                int r = story->step->run(story);

                if (r < 0) {
                        fail(story, r);
                        return;
                }
                if (r > 0)
                        return;
        }
        finish(story);
}

void story_resume(Story *story, int error)
{
        if (error < 0) {
                fail(story, error);
                return;
        }
        story->step++;
        advance(story);
}

void story_undone(Story *story)
{
        finish(story);
}

bool story_cancel(Story *story)
{
        if (story->undoing || story->cancelled)
                return false;
        if (story->type->outlives_caller && story->step->stage != STAGE_AUTHORISE)
                return false;
        story->cancelled = true;
        story->waits_to_ask = false;
        /* Nothing is undone while a child may still be doing it: its end resumes the story. */
        if (story->job) {
                job_abort(story->job);
                return true;
        }
        story->check = polkit_abandon(story->check);
        if (story->lock == LOCK_WAITING)
                story->lock = LOCK_NONE;
        fail(story, -ECANCELED);
        return true;
}

static bool cancel_one(const Service *service, const char *sender)
{
        for (Story *story = service->stories; story; story = story->next)
                if ((!sender || (story->sender && streq(story->sender, sender))) && story_cancel(story))
                        return true;
        return false;
}

/* Each may end others, and be freed. */
void story_cancel_all(Service *service, const char *sender)
{
        while (cancel_one(service, sender))
                ;
}

void story_abandon(Story *story)
{
        story->done = NULL;
        (void)story_cancel(story);
}

int story_run_job(Story *story, const JobSpec *spec, JobDone done)
{
        JobSpec job = *spec;
        int r;

        job.uid = story->caller.uid;
        r = job_start(story->service->event, &job, done, story, &story->job);
        return r < 0 ? r : 1;
}

/* ---- Shared steps ---- */

static bool is_callers_own(const Story *story)
{
        return story->caller.uid == story->owner || story->permitted;
}

static const char *action_of(const Story *story)
{
        if (!is_callers_own(story))
                return ACTION_MANAGE_OTHERS;
        return story->action ? story->action : story->type->action;
}

static void on_authorised(int result, void *userdata)
{
        Story *story = userdata;
        Service *service = story->service;

        story->check = NULL;
        if (result == -EACCES || result == -EKEYREJECTED)
                story_fail(story, result, "polkit does not permit %s", action_of(story));
        story_resume(story, result);
        ask_next(service);
}

static bool may_ask(const Story *story)
{
        unsigned n = 0, n_of_user = 0;

        for (const Story *other = story->service->stories; other; other = other->next)
                if (other->check) {
                        n++;
                        n_of_user += other->caller.uid == story->caller.uid;
                }
        return n < CHECKS_MAX && n_of_user < CHECKS_PER_USER_MAX;
}

static Story *find_next_to_ask(const Service *service)
{
        Story *oldest = NULL;
        const Story *in_vain = NULL;

        for (Story *story = service->stories; story; story = story->next) {
                /* They are a user's, mostly, and what goes for one of his goes for all. */
                if (!story->waits_to_ask || (in_vain && in_vain->caller.uid == story->caller.uid))
                        continue;
                if (may_ask(story))
                        oldest = story;
                else
                        in_vain = story;
        }
        return oldest;
}

static void ask_next(Service *service)
{
        Story *story;

        while ((story = find_next_to_ask(service))) {
                int r;

                story->waits_to_ask = false;
                r = story_authorise(story);
                if (r <= 0)
                        story_resume(story, r);
        }
}

static const char *yes_or_no(bool value)
{
        return value ? "true" : "false";
}

int story_authorise(Story *story)
{
        const Purpose *purpose = &story->purpose;
        const PolkitDetail details[] = {
                { "image", strempty(story->subject) },        { "types", purpose->types },
                { "writable", yes_or_no(purpose->writable) }, { "on-access", yes_or_no(purpose->on_access) },
                { "keep", yes_or_no(purpose->keep) },
        };
        PolkitQuestion question = {
                .action = action_of(story),
                .sender = story->caller.sender,
                .uid = story->caller.uid,
                .interactive = story->caller.interactive,
                .message = is_callers_own(story) ? story->message : story->type->others_message,
                .details = details,
                .n_details = purpose->types ? ELEMENTSOF(details) : 1,
        };
        int r;

        if (!question.action || !question.sender)
                return 0;
        if (question.uid != 0 && !may_ask(story)) {
                story->waits_to_ask = true;
                return 1;
        }
        r = polkit_check(story->service->ask_bus, &question, on_authorised, story, &story->check);
        if (r < 0)
                return r;
        return r > 0 ? 0 : 1;
}

int story_lock(Story *story)
{
        for (Story *other = story->service->stories; other; other = other->next)
                if (other->lock == LOCK_HELD && is_about(other, story->file_device, story->file_inode)) {
                        story->lock = LOCK_WAITING;
                        return 1;
                }
        story->lock = LOCK_HELD;
        return 0;
}

int story_lock_urgently(Story *story)
{
        story->urgent = true;
        for (Story *other = story->service->stories; other; other = other->next)
                if (other->lock == LOCK_HELD && is_about(other, story->file_device, story->file_inode) &&
                    other->owner == story->owner && other->type->outlives_caller && other->job)
                        job_abort(other->job);
        return story_lock(story);
}

bool story_is_about(const Service *service, const Image *image)
{
        for (const Story *story = service->stories; story; story = story->next)
                if (story->lock == LOCK_HELD && is_about(story, image->file_device, image->file_inode))
                        return true;
        return false;
}
