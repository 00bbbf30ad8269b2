/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The engine, with a story that does nothing but say how far it has come: what
 * is run in which order, what is undone and answered, who waits for whom, and
 * who is asked for permission. polkit is played at the other end of a socket.
 */
#include <glib.h>
#include <signal.h>

#include "bus-pair.h"
#include "own-process.h"
#include "story/story.h"

#define LONG_USEC (60 * USEC_PER_SEC)

/* The steps of the test's stories; what each gives is set for each story. */
enum { AUTHORISE, PROBE, LOCK, BIND, COMMIT, N_STEPS };

typedef struct TestStory {
        Story story;
        const char *name;
        int returns[N_STEPS];
        int undo_returns;
        const char *words;
        struct TestStory *successor; /* started when this one is answered */
} TestStory;

static GString *log_text; /* what has happened: "a:probe a:done ..." */
static sd_event *event;
static Service service;
static Config config;
static BusPair buses;

static void log_event(const Story *story, const char *what)
{
        g_string_append_printf(log_text, "%s%s:%s", log_text->len > 0 ? " " : "",
                               container_of(story, TestStory, story)->name, what);
}

static void assert_log(const char *wanted)
{
        g_assert_cmpstr(log_text->str, ==, wanted);
        g_string_truncate(log_text, 0);
}

static TestStory *test_of(Story *story)
{
        return container_of(story, TestStory, story);
}

static int act(Story *story)
{
        TestStory *test = test_of(story);
        int r = test->returns[story->step - story->type->steps];

        log_event(story, stage_to_string(story->step->stage));
        return r < 0 && test->words ? story_fail(story, r, "%s of %s", test->words, test->name) : r;
}

static int undo(Story *story)
{
        log_event(story, "undo");
        return test_of(story)->undo_returns;
}

static void destroy(Story *story)
{
        log_event(story, "freed");
        free(test_of(story));
}

static const StoryStep steps[] = {
        [AUTHORISE] = { STAGE_AUTHORISE, story_authorise },
        [PROBE] = { STAGE_PROBE, act },
        [LOCK] = { STAGE_LOCK, story_lock },
        [BIND] = { STAGE_BIND, act },
        [COMMIT] = { STAGE_COMMIT, act },
        {},
};

static const StoryType plain = { .name = "plain", .steps = steps, .undo = undo, .destroy = destroy };
static const StoryType without_undo = { .name = "without undo", .steps = steps, .destroy = destroy };
static const StoryType lasting = {
        .name = "lasting",
        .action = ACTION_MOUNT,
        .steps = steps,
        .undo = undo,
        .destroy = destroy,
        .outlives_caller = true,
};
static const StoryType asking = {
        .name = "asking",
        .action = ACTION_ATTACH,
        .steps = steps,
        .undo = undo,
        .destroy = destroy,
};

/* About a file of its own, and nothing in it waits or fails. */
static TestStory *new_story(const char *name)
{
        static ino_t last_inode;
        TestStory *test = calloc(1, sizeof(*test));

        test->name = name;
        test->story.owner = 1000;
        test->story.file_device = 1;
        test->story.file_inode = ++last_inode;
        return test;
}

static void on_done(Story *story, const Failure *failure, void *userdata)
{
        g_autofree char *text = NULL;
        TestStory *test = test_of(story);

        g_assert_true(userdata == &service);
        if (failure)
                text = g_strdup_printf("failed(%s,%d%s%s)", stage_to_string(failure->stage), failure->error,
                                       failure->detail ? "," : "", strempty(failure->detail));
        log_event(story, failure ? text : "done");
        if (test->successor) {
                const Caller caller = { 0 };

                g_assert_cmpint(story_start(&test->successor->story, &plain, &service, &caller, on_done, &service), ==,
                                0);
        }
}

static void on_story_ended(void *userdata)
{
        g_assert_true(userdata == &config);
        if (!service.stories)
                g_string_append(log_text, " idle");
}

static int start_as(TestStory *test, const StoryType *type, uid_t uid, const char *sender)
{
        /* Only good for as long as the call. */
        g_autofree char *copy = g_strdup(sender);
        const Caller caller = { .uid = uid, .sender = copy };

        return story_start(&test->story, type, &service, &caller, on_done, &service);
}

static void start(TestStory *test, const StoryType *type)
{
        g_assert_cmpint(start_as(test, type, 1000, NULL), ==, 0);
}

/* ---- Walking ---- */

static void test_order(void)
{
        start(new_story("a"), &plain);
        assert_log("a:probe a:bind a:commit a:done a:freed idle");
}

static void test_waiting(void)
{
        TestStory *a = new_story("a");

        a->returns[PROBE] = a->returns[BIND] = a->returns[COMMIT] = 1;
        start(a, &plain);
        assert_log("a:probe");
        g_assert_true(service.stories == &a->story);
        story_resume(&a->story, 0);
        assert_log("a:bind");
        story_resume(&a->story, 0);
        assert_log("a:commit");
        story_resume(&a->story, 0);
        assert_log("a:done a:freed idle");
}

static void test_failure(void)
{
        TestStory *a = new_story("a"), *b = new_story("b"), *c = new_story("c");

        a->returns[BIND] = -EIO;
        start(a, &plain);
        assert_log("a:probe a:bind a:undo a:failed(bind,-5) a:freed idle");
        b->returns[PROBE] = 1;
        start(b, &plain);
        story_resume(&b->story, -ENODATA);
        assert_log("b:probe b:undo b:failed(probe,-61) b:freed idle");
        c->returns[COMMIT] = -EIO;
        start(c, &without_undo);
        assert_log("c:probe c:bind c:commit c:failed(commit,-5) c:freed idle");
}

static void test_failure_words(void)
{
        TestStory *a = new_story("a"), *b = new_story("b");

        a->returns[BIND] = -EIO;
        a->words = "words";
        start(a, &plain);
        assert_log("a:probe a:bind a:undo a:failed(bind,-5,words of a) a:freed idle");

        /* Those that were found first are the most exact ones, whatever comes of it. */
        b->returns[PROBE] = 1;
        start(b, &plain);
        g_assert_cmpint(story_fail(&b->story, -EPERM, "first"), ==, -EPERM);
        g_assert_cmpint(story_fail(&b->story, -EROFS, "second"), ==, -EROFS);
        story_resume(&b->story, -EIO);
        assert_log("b:probe b:undo b:failed(probe,-1,first) b:freed idle");
}

static void test_undo_waits(void)
{
        TestStory *a = new_story("a"), *b = new_story("b");

        a->returns[BIND] = -EIO;
        a->undo_returns = 1;
        start(a, &plain);
        assert_log("a:probe a:bind a:undo");
        g_assert_false(story_cancel(&a->story));
        assert_log("");
        story_undone(&a->story);
        assert_log("a:failed(bind,-5) a:freed idle");

        b->returns[BIND] = -EIO;
        b->undo_returns = -ENOMEM;
        start(b, &plain);
        assert_log("b:probe b:bind b:undo b:failed(bind,-5) b:freed idle");
}

static void test_failure_api(void)
{
        Failure failure = { 0 };

        failure_set(&failure, STAGE_BIND, -EIO, "%d %s", 7, "words");
        failure_set(&failure, STAGE_MOUNT, -EPERM, "others");
        g_assert_cmpint(failure.stage, ==, STAGE_BIND);
        g_assert_cmpint(failure.error, ==, -EIO);
        g_assert_cmpstr(failure.detail, ==, "7 words");
        failure_done(&failure);
        g_assert_cmpint(failure.error, ==, 0);
        g_assert_null(failure.detail);
        failure_set(&failure, STAGE_MOUNT, -EPERM, NULL);
        g_assert_cmpint(failure.error, ==, -EPERM);
        g_assert_null(failure.detail);
        failure_done(&failure);
}

static void test_stages(void)
{
        for (Stage stage = 0; stage < STAGE_MAX_; stage++) {
                g_assert_nonnull(stage_to_string(stage));
                for (Stage other = 0; other < stage; other++)
                        g_assert_cmpstr(stage_to_string(stage), !=, stage_to_string(other));
        }
}

/* ---- Cancelling ---- */

static void test_cancel(void)
{
        TestStory *a = new_story("a");

        a->returns[BIND] = 1;
        start(a, &plain);
        assert_log("a:probe a:bind");
        g_assert_true(story_cancel(&a->story));
        assert_log("a:undo a:failed(bind,-125) a:freed idle");
}

static void test_abandon(void)
{
        TestStory *a = new_story("a"), *b = new_story("b");

        a->returns[BIND] = 1;
        start(a, &plain);
        story_abandon(&a->story);
        assert_log("a:probe a:bind a:undo a:freed idle");

        /* It is being undone already: that goes on, and nobody hears of it. */
        b->returns[BIND] = -EIO;
        b->undo_returns = 1;
        start(b, &plain);
        story_abandon(&b->story);
        assert_log("b:probe b:bind b:undo");
        story_undone(&b->story);
        assert_log("b:freed idle");
}

/* What takes something away is finished, once it was permitted. */
static void test_outlives_caller(void)
{
        TestStory *a = new_story("a"), *b = new_story("b"), *c = new_story("c");

        a->returns[BIND] = b->returns[BIND] = 1;
        start(a, &lasting);
        g_assert_false(story_cancel(&a->story));
        story_abandon(&a->story);
        assert_log("a:probe a:bind");
        story_resume(&a->story, 0);
        assert_log("a:commit a:freed idle");

        start(b, &lasting);
        g_assert_false(story_cancel(&b->story));
        story_resume(&b->story, 0);
        assert_log("b:probe b:bind b:commit b:done b:freed idle");

        bus_pair_open(&buses);
        service.ask_bus = buses.client;
        g_assert_cmpint(start_as(c, &lasting, 1000, ":1.7"), ==, 0);
        g_assert_nonnull(c->story.check);
        g_assert_true(story_cancel(&c->story));
        assert_log("c:undo c:failed(authorise,-125) c:freed idle");
        service.ask_bus = NULL;
        bus_pair_close(&buses);
}

static int run_for_ever(int channel, const JobOrder *order)
{
        (void)channel, (void)order;
        while (pause() < 0)
                ;
        return 0;
}

static void on_job(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        (void)answer;
        log_event(story, error == -ECANCELED ? "child gone" : "answer");
        story->job = NULL;
        story_resume(story, error);
}

static void turn_until_quiet(void)
{
        while (own_children() > 0)
                g_assert_cmpint(sd_event_run(event, 10 * USEC_PER_MSEC), >=, 0);
}

static TestStory *start_with_job(const char *name)
{
        JobSpec spec = { .name = "test", .work = run_for_ever, .timeout_usec = LONG_USEC };
        TestStory *test = new_story(name);

        test->returns[PROBE] = 1;
        start(test, &plain);
        g_assert_cmpint(story_run_job(&test->story, &spec, on_job), ==, 1);
        g_assert_nonnull(test->story.job);
        return test;
}

/* What a child may still be doing is not undone yet. */
static void test_cancel_job(void)
{
        TestStory *a = start_with_job("a"), *b;

        g_assert_true(story_cancel(&a->story));
        g_assert_false(story_cancel(&a->story));
        g_assert_cmpuint(job_n_stuck(1000), ==, 1); /* it counts as the caller's */
        assert_log("a:probe");
        turn_until_quiet();
        assert_log("a:child gone a:undo a:failed(probe,-125) a:freed idle");

        b = start_with_job("b");
        story_abandon(&b->story);
        assert_log("b:probe");
        turn_until_quiet();
        assert_log("b:child gone b:undo b:freed idle");
}

/* ---- Locks ---- */

/* About the file with that inode, and waiting when it has the lock. */
static TestStory *new_holder(const char *name, dev_t device, ino_t inode)
{
        TestStory *test = new_story(name);

        test->story.file_device = device;
        test->story.file_inode = inode;
        test->returns[BIND] = 1;
        return test;
}

static void test_lock(void)
{
        TestStory *a = new_holder("a", 1, 1), *b = new_holder("b", 1, 1), *c = new_holder("c", 1, 1);

        start(a, &plain);
        start(b, &plain);
        start(c, &plain);
        assert_log("a:probe a:bind b:probe c:probe");
        g_assert_cmpint(a->story.lock, ==, LOCK_HELD);
        g_assert_cmpint(b->story.lock, ==, LOCK_WAITING);
        story_resume(&a->story, 0);
        assert_log("a:commit a:done a:freed b:bind");
        story_resume(&b->story, -EIO);
        assert_log("b:undo b:failed(bind,-5) b:freed c:bind");
        story_resume(&c->story, 0);
        assert_log("c:commit c:done c:freed idle");
}

static void test_lock_other_files(void)
{
        TestStory *a = new_holder("a", 1, 1), *b = new_holder("b", 1, 2), *c = new_holder("c", 2, 1);

        start(a, &plain);
        start(b, &plain);
        start(c, &plain);
        assert_log("a:probe a:bind b:probe b:bind c:probe c:bind");
        story_resume(&b->story, 0);
        story_resume(&a->story, 0);
        assert_log("b:commit b:done b:freed a:commit a:done a:freed");
        story_resume(&c->story, 0);
        assert_log("c:commit c:done c:freed idle");
}

/* The lock is held until all is undone. */
static void test_lock_while_undoing(void)
{
        TestStory *a = new_holder("a", 1, 1), *b = new_holder("b", 1, 1);

        a->undo_returns = 1;
        start(a, &plain);
        start(b, &plain);
        g_assert_true(story_cancel(&a->story));
        assert_log("a:probe a:bind b:probe a:undo");
        story_undone(&a->story);
        assert_log("a:failed(bind,-125) a:freed b:bind");
        story_resume(&b->story, 0);
        assert_log("b:commit b:done b:freed idle");
}

static void test_lock_cancel(void)
{
        TestStory *a = new_holder("a", 1, 1), *b = new_holder("b", 1, 1), *c = new_holder("c", 1, 1);

        start(a, &plain);
        start(b, &plain);
        start(c, &plain);
        g_assert_true(story_cancel(&b->story));
        /* It had nothing to hand on. */
        assert_log("a:probe a:bind b:probe c:probe b:undo b:failed(lock,-125) b:freed");
        story_resume(&a->story, 0);
        assert_log("a:commit a:done a:freed c:bind");
        story_resume(&c->story, 0);
        assert_log("c:commit c:done c:freed idle");
}

/* One who comes while the lock is between two hands: nobody is forgotten. */
static void test_lock_successor(void)
{
        TestStory *a = new_holder("a", 1, 1), *b = new_holder("b", 1, 1), *c = new_holder("c", 1, 1);

        a->successor = c;
        start(a, &plain);
        start(b, &plain);
        story_resume(&a->story, 0);
        assert_log("a:probe a:bind b:probe a:commit a:done c:probe c:bind a:freed");
        story_resume(&c->story, 0);
        assert_log("c:commit c:done c:freed b:bind");
        story_resume(&b->story, 0);
        assert_log("b:commit b:done b:freed idle");
}

/* Those who need not wait any more may end at once, one within the other. */
static void test_lock_chain(void)
{
        TestStory *a = new_holder("a", 1, 1);
        GString *wanted = g_string_new("a:commit a:done a:freed");
        char names[40][8];

        start(a, &plain);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                TestStory *next = new_holder(names[i], 1, 1);

                snprintf(names[i], sizeof(names[i]), "%zu", i);
                next->returns[BIND] = 0;
                start(next, &plain);
                g_string_append_printf(wanted, " %zu:bind %zu:commit %zu:done %zu:freed", i, i, i, i);
        }
        g_string_truncate(log_text, 0);
        story_resume(&a->story, 0);
        g_assert_true(g_str_has_prefix(log_text->str, wanted->str));
        g_assert_null(service.stories);
        g_string_truncate(log_text, 0);
        g_string_free(wanted, TRUE);
}

static void test_is_about(void)
{
        TestStory *a = new_holder("a", 1, 1), *b = new_holder("b", 1, 2);
        const Image one = { .file_device = 1, .file_inode = 1 }, two = { .file_device = 1, .file_inode = 2 },
                    other = { .file_device = 2, .file_inode = 1 };

        b->returns[PROBE] = 1;
        start(a, &plain);
        start(b, &plain);
        g_assert_true(story_is_about(&service, &one));
        g_assert_false(story_is_about(&service, &two)); /* not yet: it has no lock */
        g_assert_false(story_is_about(&service, &other));
        story_cancel(&a->story);
        g_assert_false(story_is_about(&service, &one));
        story_cancel(&b->story);
        g_string_truncate(log_text, 0);
}

/* ---- Who may ---- */

static TestStory *new_waiting(uid_t owner)
{
        TestStory *test = new_story("w");

        test->story.owner = owner;
        test->returns[PROBE] = 1;
        return test;
}

static void test_limit(void)
{
        TestStory *own[2], *refused = new_waiting(1000), *others[5];

        config.max_requests_per_user = 2;
        for (size_t i = 0; i < 2; i++)
                g_assert_cmpint(start_as(own[i] = new_waiting(1000), &plain, 1000, ":1.1"), ==, 0);
        /* By user, not by connection. */
        g_assert_cmpint(start_as(refused, &plain, 1000, ":1.2"), ==, -EDQUOT);
        assert_log("w:probe w:probe");

        /* Neither another user, nor root, nor the daemon itself. */
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                others[i] = new_waiting(1001);
        g_assert_cmpint(start_as(others[0], &plain, 1001, ":1.3"), ==, 0);
        for (size_t i = 1; i < 4; i++)
                g_assert_cmpint(start_as(others[i], &plain, 0, ":1.4"), ==, 0);
        g_assert_cmpint(start_as(others[4], &plain, 1000, NULL), ==, 0);
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                story_cancel(&others[i]->story);

        story_cancel(&own[0]->story);
        g_assert_cmpint(start_as(refused, &plain, 1000, ":1.2"), ==, 0);
        story_cancel(&refused->story);
        story_cancel(&own[1]->story);
        g_assert_null(service.stories);
        g_string_truncate(log_text, 0);
        config.max_requests_per_user = 100;
}

/* A child that does not die costs its user a place. */
static void test_limit_stuck(void)
{
        JobSpec spec = { .name = "test", .work = run_for_ever, .timeout_usec = LONG_USEC, .uid = 1000 };
        TestStory *refused = new_waiting(1000), *other = new_waiting(1001);
        Job *job;

        config.max_requests_per_user = 1;
        g_assert_cmpint(job_start(event, &spec, on_job, NULL, &job), ==, 0);
        job_cancel(job);
        g_assert_cmpint(start_as(refused, &plain, 1000, ":1.2"), ==, -EDQUOT);
        g_assert_cmpint(start_as(other, &plain, 1001, ":1.3"), ==, 0);
        turn_until_quiet();
        g_assert_cmpint(start_as(refused, &plain, 1000, ":1.2"), ==, 0);
        story_cancel(&refused->story);
        story_cancel(&other->story);
        g_string_truncate(log_text, 0);
        config.max_requests_per_user = 100;
}

/* Who calls while the daemon ends is told so at once; what ends with it goes on. */
static void test_stopping(void)
{
        TestStory *late = new_story("late"), *own = new_story("own");

        service.stopping = true;
        g_assert_cmpint(start_as(late, &plain, 1000, ":1.2"), ==, -ESHUTDOWN);
        g_assert_cmpint(start_as(own, &plain, 1000, NULL), ==, 0);
        service.stopping = false;
        g_string_truncate(log_text, 0);
        free(late);
}

/* Closed by default. */
static void test_unauthorised_type(void)
{
        static const StoryStep bare[] = { { STAGE_AUTHORISE, act }, { STAGE_PROBE, story_authorise }, {} };
        static const StoryStep none[] = { {} };
        static const StoryStep late[] = {
                { STAGE_PROBE, act }, { STAGE_LOCK, act }, { STAGE_AUTHORISE, story_authorise }, {}
        };
        const StoryType types[] = {
                { .steps = bare, .destroy = destroy },
                { .steps = none, .destroy = destroy },
                { .steps = late, .destroy = destroy },
        };
        TestStory *a = new_story("a");

        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                g_assert_cmpint(start_as(a, &types[i], 0, NULL), ==, -EACCES);
        g_assert_null(service.stories);
        assert_log("");
        free(a);
}

/* ---- polkit ---- */

static sd_bus_message *question; /* the last call that polkit got */

static int on_call(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        (void)userdata, (void)error;
        sd_bus_message_unref(question);
        question = sd_bus_message_ref(message);
        return 1;
}

static void open_polkit(void)
{
        bus_pair_open(&buses);
        g_assert_cmpint(sd_bus_add_object(buses.server, NULL, "/org/freedesktop/PolicyKit1/Authority", on_call, NULL),
                        >=, 0);
        service.ask_bus = buses.client;
}

static void close_polkit(void)
{
        question = sd_bus_message_unref(question);
        service.ask_bus = NULL;
        bus_pair_close(&buses);
}

/* "ACTION as SENDER, flags N, image NAME" */
static char *describe_question(void)
{
        const char *kind, *key, *sender, *action, *detail, *value, *id;
        uint32_t flags;

        g_assert_cmpstr(sd_bus_message_get_member(question), ==, "CheckAuthorization");
        g_assert_cmpint(sd_bus_message_read(question, "(sa{sv})sa{ss}us", &kind, 1, &key, "s", &sender, &action, 1,
                                            &detail, &value, &flags, &id),
                        >, 0);
        g_assert_cmpstr(kind, ==, "system-bus-name");
        g_assert_cmpstr(key, ==, "name");
        return g_strdup_printf("%s as %s, flags %u, %s %s", action, sender, flags, detail, value);
}

/* Starts a story as @caller, on what is @owner's, and gives what polkit is asked. */
static char *ask(const Caller *caller, uid_t owner, TestStory **ret)
{
        TestStory *a = new_story("a");

        a->story.owner = owner;
        a->story.subject = "disk.img";
        g_assert_cmpint(story_start(&a->story, &asking, &service, caller, on_done, &service), ==, 0);
        assert_log("");
        bus_pair_turn(&buses);
        g_assert_nonnull(question);
        *ret = a;
        return describe_question();
}

static void reply(const char *verdict)
{
        if (streq(verdict, "yes"))
                g_assert_cmpint(sd_bus_reply_method_return(question, "(bba{ss})", 1, 0, 0), >=, 0);
        else if (streq(verdict, "no"))
                g_assert_cmpint(sd_bus_reply_method_return(question, "(bba{ss})", 0, 0, 0), >=, 0);
        else if (streq(verdict, "challenge"))
                g_assert_cmpint(sd_bus_reply_method_return(question, "(bba{ss})", 0, 1, 0), >=, 0);
        else if (streq(verdict, "nonsense"))
                g_assert_cmpint(sd_bus_reply_method_return(question, "u", 1), >=, 0);
        else
                g_assert_cmpint(sd_bus_reply_method_errorf(question, verdict, "no"), >=, 0);
        bus_pair_turn(&buses);
}

static void assert_verdict(const char *verdict, const char *log)
{
        const Caller ann = { .uid = 1000, .sender = ":1.7" };
        TestStory *a;

        g_free(ask(&ann, 1000, &a));
        reply(verdict);
        assert_log(log);
}

static void test_question(void)
{
        const Caller ann = { .uid = 1000, .sender = ":1.7" },
                     patient = { .uid = 1000, .sender = ":1.8", .interactive = true };
        g_autofree char *own = NULL, *interactive = NULL, *others = NULL;
        TestStory *a;

        open_polkit();
        own = ask(&ann, 1000, &a);
        g_assert_cmpstr(own, ==, "org.loopmount1.attach as :1.7, flags 0, image disk.img");
        reply("yes");
        assert_log("a:probe a:bind a:commit a:done a:freed idle");

        interactive = ask(&patient, 1000, &a);
        g_assert_cmpstr(interactive, ==, "org.loopmount1.attach as :1.8, flags 1, image disk.img");
        reply("yes");
        assert_log("a:probe a:bind a:commit a:done a:freed idle");

        others = ask(&ann, 1001, &a);
        g_assert_cmpstr(others, ==, "org.loopmount1.manage-other-users as :1.7, flags 0, image disk.img");
        reply("no");
        assert_log("a:undo a:failed(authorise,-13,polkit does not permit org.loopmount1.manage-other-users) a:freed "
                   "idle");
        close_polkit();
}

static void test_verdicts(void)
{
        static const char no[] =
                "a:undo a:failed(authorise,-13,polkit does not permit org.loopmount1.attach) a:freed idle";
        static const char no_answer[] = "a:undo a:failed(authorise,-42) a:freed idle";
        static const char no_polkit[] = "a:undo a:failed(authorise,-3) a:freed idle";

        open_polkit();
        assert_verdict("no", no);
        assert_verdict("nonsense", no_answer);
        assert_verdict("org.freedesktop.DBus.Error.NoReply", no_answer);
        assert_verdict("org.freedesktop.PolicyKit1.Error.Failed", no_answer);
        assert_verdict("org.freedesktop.DBus.Error.ServiceUnknown", no_polkit);
        assert_verdict("org.freedesktop.DBus.Error.Spawn.ChildExited", no_polkit);
        assert_verdict("org.freedesktop.systemd1.UnitMasked", no_polkit);
        assert_verdict("challenge", "a:undo a:failed(authorise,-129,polkit does not permit org.loopmount1.attach) "
                                    "a:freed idle");
        assert_verdict("org.freedesktop.PolicyKit1.Error.Cancelled", "a:undo a:failed(authorise,-125) a:freed idle");
        close_polkit();
}

static void test_polkit_gone(void)
{
        const Caller ann = { .uid = 1000, .sender = ":1.7" };
        g_autofree char *asked = NULL;
        TestStory *a;

        open_polkit();
        asked = ask(&ann, 1000, &a);
        question = sd_bus_message_unref(question);
        buses.server = sd_bus_close_unref(buses.server);
        while (sd_bus_process(buses.client, NULL) > 0)
                ;
        assert_log("a:undo a:failed(authorise,-42) a:freed idle");
        close_polkit();
}

/* polkit is not told: it sees that whom it was asked about has gone. A late answer is nobody's. */
static void test_cancel_question(void)
{
        const Caller ann = { .uid = 1000, .sender = ":1.7", .interactive = true };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *asked_first = NULL;
        g_autofree char *asked = NULL;
        TestStory *a;

        open_polkit();
        asked = ask(&ann, 1000, &a);
        asked_first = TAKE_PTR(question);
        g_assert_true(story_cancel(&a->story));
        assert_log("a:undo a:failed(authorise,-125) a:freed idle");
        bus_pair_turn(&buses);
        g_assert_null(question);
        g_assert_cmpint(sd_bus_reply_method_return(asked_first, "(bba{ss})", true, false, 0), >=, 0);
        bus_pair_turn(&buses);
        close_polkit();
}

/* Nobody is asked about these, and so they need no bus. */
static void test_no_question(void)
{
        TestStory *daemon_own = new_story("a"), *root = new_story("b"), *no_action = new_story("c");

        open_polkit();
        g_assert_cmpint(start_as(daemon_own, &asking, 0, NULL), ==, 0);
        assert_log("a:probe a:bind a:commit a:done a:freed idle");
        g_assert_cmpint(start_as(root, &asking, 0, ":1.1"), ==, 0);
        assert_log("b:probe b:bind b:commit b:done b:freed idle");
        g_assert_cmpint(start_as(no_action, &plain, 1000, ":1.1"), ==, 0);
        assert_log("c:probe c:bind c:commit c:done c:freed idle");
        bus_pair_turn(&buses);
        g_assert_null(question);
        close_polkit();
}

int main(int argc, char *argv[])
{
        sigset_t signals;

        g_test_init(&argc, &argv, NULL);
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        g_assert_cmpint(sd_event_new(&event), ==, 0);
        log_text = g_string_new(NULL);
        config.max_requests_per_user = 100;
        service = (Service){ .event = event, .config = &config, .on_story_ended = on_story_ended, .userdata = &config };
        g_test_add_func("/story/order", test_order);
        g_test_add_func("/story/waiting", test_waiting);
        g_test_add_func("/story/failure", test_failure);
        g_test_add_func("/story/failure-words", test_failure_words);
        g_test_add_func("/story/failure-api", test_failure_api);
        g_test_add_func("/story/stages", test_stages);
        g_test_add_func("/story/undo-waits", test_undo_waits);
        g_test_add_func("/story/cancel", test_cancel);
        g_test_add_func("/story/cancel-job", test_cancel_job);
        g_test_add_func("/story/abandon", test_abandon);
        g_test_add_func("/story/outlives-caller", test_outlives_caller);
        g_test_add_func("/story/lock", test_lock);
        g_test_add_func("/story/lock-other-files", test_lock_other_files);
        g_test_add_func("/story/lock-while-undoing", test_lock_while_undoing);
        g_test_add_func("/story/lock-cancel", test_lock_cancel);
        g_test_add_func("/story/lock-successor", test_lock_successor);
        g_test_add_func("/story/lock-chain", test_lock_chain);
        g_test_add_func("/story/is-about", test_is_about);
        g_test_add_func("/story/limit", test_limit);
        g_test_add_func("/story/limit-stuck", test_limit_stuck);
        g_test_add_func("/story/stopping", test_stopping);
        g_test_add_func("/story/unauthorised-type", test_unauthorised_type);
        g_test_add_func("/story/question", test_question);
        g_test_add_func("/story/verdicts", test_verdicts);
        g_test_add_func("/story/polkit-gone", test_polkit_gone);
        g_test_add_func("/story/cancel-question", test_cancel_question);
        g_test_add_func("/story/no-question", test_no_question);

        int r = g_test_run();
        g_string_free(log_text, TRUE);
        sd_event_unref(event);
        return r;
}
