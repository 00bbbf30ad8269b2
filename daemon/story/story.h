/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A story is one request from beginning to end: a table of named steps, run in
 * order, and what undoes them. Each kind of story is told in a file of its own.
 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/macro.h"
#include "mechanism/config.h"
#include "mechanism/job.h"
#include "mechanism/polkit.h"
#include "model/image.h"

#define ACTION_ATTACH "org.loopmount1.attach"
#define ACTION_MOUNT "org.loopmount1.mount"
#define ACTION_MOUNT_UNHARDENED "org.loopmount1.mount-unhardened"
#define ACTION_MANAGE_OTHERS "org.loopmount1.manage-other-users"

/* Where a story is; with the errno of what failed there it makes the error that the caller gets. */
typedef enum Stage {
        STAGE_REQUEST, /* the message itself */
        STAGE_LIMITS,
        STAGE_AUTHORISE,
        STAGE_USER,
        STAGE_PROBE,
        STAGE_LOCK,
        STAGE_PLAN,
        STAGE_BIND,
        STAGE_PARTITIONS,
        STAGE_MOUNT,
        STAGE_SETTLE,
        STAGE_COMMIT,
        STAGE_UNMOUNT,
        STAGE_RELEASE,
        STAGE_WRITE_BACK,
        STAGE_CAPACITY,
        STAGE_MAX_,
} Stage;

const char *stage_to_string(Stage stage);

typedef struct Failure {
        Stage stage;
        int error;    /* -errno */
        char *detail; /* what exactly, in words for the caller, or NULL: not a sentence, no full stop */
} Failure;

void failure_set(Failure *failure, Stage stage, int error, const char *format, ...) _printf_(4, 5);
void failure_done(Failure *failure);

typedef struct Story Story;
typedef struct UserCache UserCache;

/* What stories work with. */
typedef struct Service {
        sd_event *event;
        sd_bus *bus;     /* what others send arrives here, through the gate */
        sd_bus *ask_bus; /* for the daemon's own questions: no other sender can fill its queue at the bus */
        Config *config;
        Registry *registry;
        UserCache *users;
        int trigger_pipe;   /* for those that make triggers; -1: there are none */
        Story *stories;     /* all that are under way, the newest first */
        bool stopping;      /* no new ones begin */
        bool shutdown;      /* everything goes, whoever uses it */
        bool leaves_some;   /* there are devices whose records cannot be read: the descriptor store may hold them */
        bool markers_stale; /* a bind has failed, and may have left the marker of its device */
        void (*on_story_ended)(void *userdata);
        void *userdata;
} Service;

/* Who asks. A story of the daemon's own (auto-detach) has uid 0 and no sender. */
typedef struct Caller {
        uid_t uid;
        pid_t pid;          /* 0: not known */
        const char *sender; /* unique bus name; NULL: the daemon itself */
        bool interactive;   /* a password may be asked for */
} Caller;

/* What a story that mounts is about, for polkit's rules and for who is asked; see permission.h. */
typedef struct Purpose {
        char *types; /* of the file systems, separated by spaces; NULL: it is not about mounting */
        bool writable;
        bool on_access; /* mounted whenever somebody enters the mount point */
        bool keep;      /* stays when it is unmounted, or when its owner logs out */
} Purpose;

typedef struct StoryStep {
        Stage stage;
        /* < 0: failed; 0: done; > 0: waiting, story_resume() goes on. */
        int (*run)(Story *story);
} StoryStep;

typedef struct StoryType {
        const char *name;
        /* The polkit action for what is the caller's own; NULL: nobody is asked about that. */
        const char *action;
        /* What polkit asks where it is about what is others'; NULL: as its action says. */
        const char *others_message;
        /* Up to one with run == NULL. Before story_authorise only the probe may come, which changes nothing. */
        const StoryStep *steps;
        /* Undoes what the steps before the failure have done. > 0: not done yet, story_undone() says when. May be NULL.
         */
        int (*undo)(Story *story);
        void (*destroy)(Story *story); /* frees it */
        /* It goes on when its caller goes away: what it takes away must not stay half there. */
        bool outlives_caller;
} StoryType;

/* @failure: NULL if all went well. The story is freed behind it. */
typedef void (*StoryDone)(Story *story, const Failure *failure, void *userdata);

/* Every kind of story begins with this. */
struct Story {
        const StoryType *type;
        Service *service;
        Caller caller;
        char *sender;
        char *own_subject;
        StoryDone done;
        void *userdata;

        /* Whom it concerns: the caller himself, unless it is about an image of somebody else's. */
        uid_t owner;
        bool permitted;      /* the caller may do this as if they were that user */
        const char *subject; /* the image's name, for the prompt; story_start() copies it */
        const char *action;  /* what polkit is asked for where it is the caller's own; NULL: as the type says */
        const char *message; /* the words of that question; NULL: as the action says */
        Purpose purpose;

        const StoryStep *step;
        Failure failure;
        bool cancelled;
        bool undoing;
        Job *job;
        PolkitCheck *check;
        bool waits_to_ask; /* for its turn to have a check */

        /* The file that it is about: one story at a time for each. */
        dev_t file_device;
        ino_t file_inode;
        enum { LOCK_NONE, LOCK_WAITING, LOCK_HELD } lock;
        bool urgent;        /* the next to have the lock, whoever came before */
        uint64_t looked_at; /* the image whose lost mounts were taken away for this story; see looking.h */

        Story *next;
};

/* Takes over a story that its kind has made with calloc(); @caller is copied. -EDQUOT: the caller has too many. */
int story_start(Story *story, const StoryType *type, Service *service, const Caller *caller, StoryDone done,
                void *userdata);

/*
 * Whether too many children that ran for @uid are stuck in the kernel. Then only stories that take something away are
 * started for this user: story_start() fails with -EUSERS for all others.
 */
bool story_hangs_too_often(uid_t uid);

/* Whether story_start() will refuse this one. */
bool story_would_exceed_limit(const Service *service, const Caller *caller);

/* Goes on behind a step that was waiting: < 0: it failed. */
void story_resume(Story *story, int error);

/* Fails with words of its own. Gives @error. */
int story_fail(Story *story, int error, const char *format, ...) _printf_(3, 4);

/* Goes on behind an undo that was waiting. */
void story_undone(Story *story);

/* Rolls back and answers that it was cancelled, unless it is too late for that (false). It may be freed behind it. */
bool story_cancel(Story *story);

/* The same for all stories of @sender; NULL: for all there are. */
void story_cancel_all(Service *service, const char *sender);

/* The caller has gone: as story_cancel(), and nobody is answered any more. */
void story_abandon(Story *story);

/* Starts story->job, and waits. @done has to set story->job to NULL. */
int story_run_job(Story *story, const JobSpec *spec, JobDone done);

/* ---- Steps that several kinds share ---- */

/* Asks polkit for type->action, or for ACTION_MANAGE_OTHERS if story->owner is not the caller. */
int story_authorise(Story *story);

/* Waits until no other story is about story->file_device and file_inode. */
int story_lock(Story *story);

/* The same, but does not wait for what may hang: ends the jobs of stories about its owner's image that take away. */
int story_lock_urgently(Story *story);

/* Whether a story holds the lock on the image's file, so that its mounts are changing right now. */
bool story_is_about(const Service *service, const Image *image);
