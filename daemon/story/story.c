/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The engine: it walks a story through its steps, undoes it when one fails,
 * answers and frees it. It is the only place that decides when to go on.
 *
 * Closed by default: a story whose first step is not story_authorise does not
 * start.
 *
 * Stories about the same file wait for each other. The lock is on the file's
 * identity, not on an image, so that an attach waits for the detach of the image
 * that is going, and the second of two equal attaches for the image to come.
 */
#include <stdarg.h>

#include "story/story.h"

static void advance(Story *story);

const char *stage_to_string(Stage stage)
{
        static const char *const names[STAGE_MAX_] = {
                [STAGE_REQUEST] = "request", [STAGE_LIMITS] = "limits",   [STAGE_AUTHORISE] = "authorise",
                [STAGE_USER] = "user",       [STAGE_PROBE] = "probe",     [STAGE_LOCK] = "lock",
                [STAGE_PLAN] = "plan",       [STAGE_BIND] = "bind",       [STAGE_PARTITIONS] = "partitions",
                [STAGE_MOUNT] = "mount",     [STAGE_SETTLE] = "settle",   [STAGE_COMMIT] = "commit",
                [STAGE_UNMOUNT] = "unmount", [STAGE_RELEASE] = "release", [STAGE_CAPACITY] = "capacity",
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

static void wake_waiting(Service *service, dev_t device, ino_t inode)
{
        Story *oldest = NULL;

        for (Story *story = service->stories; story; story = story->next)
                if (story->lock == LOCK_WAITING && story->file_device == device && story->file_inode == inode)
                        oldest = story;
        if (!oldest)
                return;
        oldest->lock = LOCK_NONE;
        advance(oldest);
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
        free(story->sender);
        story->type->destroy(story);
        if (held)
                wake_waiting(service, device, inode);
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

int story_start(Story *story, const StoryType *type, Service *service, const Caller *caller, StoryDone done,
                void *userdata)
{
        if (type->steps[0].run != story_authorise)
                return -EACCES;
        if (caller->sender && caller->uid != 0 &&
            count_of(service, caller->uid) >= service->config->max_requests_per_user)
                return -EDQUOT;
        if (caller->sender) {
                story->sender = strdup(caller->sender);
                if (!story->sender)
                        return -ENOMEM;
        }
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
        /* Nothing is undone while a child may still be doing it: its end resumes the story. */
        if (story->job) {
                job_abort(story->job);
                return true;
        }
        story->check = polkit_cancel(story->check);
        if (story->lock == LOCK_WAITING)
                story->lock = LOCK_NONE;
        fail(story, -ECANCELED);
        return true;
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

static const char *action_of(const Story *story)
{
        return story->caller.uid == story->owner ? story->type->action : ACTION_MANAGE_OTHERS;
}

static void on_authorised(int result, void *userdata)
{
        Story *story = userdata;

        story->check = NULL;
        if (result == -EACCES || result == -EKEYREJECTED)
                story_fail(story, result, "polkit does not permit %s", action_of(story));
        story_resume(story, result);
}

int story_authorise(Story *story)
{
        PolkitQuestion question = {
                .action = action_of(story),
                .sender = story->caller.sender,
                .uid = story->caller.uid,
                .interactive = story->caller.interactive,
                .detail_name = "image",
                .detail_value = strempty(story->subject),
        };
        int r;

        if (!question.action || !question.sender)
                return 0;
        r = polkit_check(story->service->bus, &question, on_authorised, story, &story->check);
        if (r < 0)
                return r;
        return r > 0 ? 0 : 1;
}

int story_lock(Story *story)
{
        for (Story *other = story->service->stories; other; other = other->next)
                if (other->lock == LOCK_HELD && other->file_device == story->file_device &&
                    other->file_inode == story->file_inode) {
                        story->lock = LOCK_WAITING;
                        return 1;
                }
        story->lock = LOCK_HELD;
        return 0;
}

bool story_is_about(const Service *service, const Image *image)
{
        for (const Story *story = service->stories; story; story = story->next)
                if (story->lock == LOCK_HELD && story->file_device == image->file_device &&
                    story->file_inode == image->file_inode)
                        return true;
        return false;
}
