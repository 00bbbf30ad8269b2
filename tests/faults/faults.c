/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every system call of a story fails once with each error that it may give, and
 * the daemon, or its child, is killed once before each. Whatever happens, the
 * caller hears a result or an error that names the stage, nothing is left, and the
 * next request is served.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "bench.h"
#include "lib/wait.h"
#include "points.h"

#define RECORDS "/run/loopmount/images"
#define TRIES_MAX 4
/* After so many of a story the others would not say more, and a wait in vain takes a minute. */
#define BAD_MAX 10
#define STRAY_MARKER "/run/loopmount/devices/loop1048575"

typedef enum Outcome { OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_ENDED, OUTCOME_MISSED, OUTCOME_MAX_ } Outcome;

typedef struct Story {
        const char *name;
        void (*prepare)(Bench *bench);
        /* The request; NULL: it is about the daemon's start. */
        TestCall *(*start)(Bench *bench);
        /* Whether what was promised is there. */
        void (*check)(Bench *bench, const TestCall *call);
        bool nothing_or_all; /* if it fails, all has to be as before; else it may have gone half way, and can be
                                detached */
        bool outside;        /* with the daemon as it is installed, which mounts in another's mount namespace */
        /* Once the daemon has died and another one has come: how many mounts the image has, as it was before, or as
         * it was to be; 0: it is gone, since there is no mount that it lives by. */
        unsigned kept_before, kept_after;
} Story;

static char *attached; /* the image that prepare() has attached */

/* ---- requests ---- */

static TestCall *wait_for(Bench *bench, TestCall *call)
{
        bench_wait_call(bench, call);
        return call;
}

static TestCall *request(GDBusConnection *bus, const char *object, const char *interface, const char *method)
{
        return test_call_start(bus, object, interface, method, g_variant_new_parsed("(@a{sv} {},)"),
                               (TestCallOptions){ 0 });
}

/* An attach or the like that nobody disturbs. */
static void require(Bench *bench, TestCall *unfinished, const char *what)
{
        g_autoptr(TestCall) call = wait_for(bench, unfinished);

        if (call->error)
                bench_complain(bench, "%s failed, undisturbed: %s", what, call->error->message);
        else if (g_variant_is_of_type(call->reply, G_VARIANT_TYPE("(oas)"))) {
                g_free(attached);
                g_variant_get_child(call->reply, 0, "o", &attached);
        }
}

static void attach(Bench *bench, int fd, const char *options)
{
        require(bench, test_attach_start(bench->ann, fd, options), "attach");
}

static void check_mounts(Bench *bench, unsigned n_mounts, unsigned n_mount_points)
{
        g_autoptr(TestSnapshot) now = test_snapshot_take(0);
        unsigned n = test_snapshot_count(now, "mount /run/media/ann/");

        if (bench_count_images(bench) != 1)
                bench_complain(bench, "there is not one image, attached and ann's");
        if (n != n_mounts)
                bench_complain(bench, "there are %u mounts, not %u", n, n_mounts);
        /* A mount without a line in utab is one all the same; see utab_add_volume() in mounting-work.c. */
        if (test_snapshot_count(now, "utab ") > n)
                bench_complain(bench, "utab has more lines than there are mounts");
        if (test_snapshot_count(now, "mount point /run/media/ann/") != n_mount_points + 1)
                bench_complain(bench, "there are more mount points than mounts");
}

static void check_mounted(Bench *bench, unsigned n_volumes)
{
        check_mounts(bench, n_volumes, n_volumes);
}

/* ---- attach ---- */

static void prepare_nothing(Bench *bench)
{
        (void)bench;
}

static TestCall *start_attach_raw(Bench *bench)
{
        return test_attach_start(bench->ann, bench->raw_fd, NULL);
}

static void check_attach_raw(Bench *bench, const TestCall *call)
{
        (void)call;
        check_mounted(bench, 1);
}

static TestCall *start_attach_one(Bench *bench)
{
        return test_attach_start(bench->ann, bench->parts_fd, "{'volumes': <[uint32 2]>}");
}

static TestCall *start_attach_parts(Bench *bench)
{
        return test_attach_start(bench->ann, bench->parts_fd, "{'read-only': <false>}");
}

/* What cannot be mounted of several volumes that nobody has named is said with the volume. */
static void check_attach_parts(Bench *bench, const TestCall *call)
{
        g_autoptr(GVariant) mount_points = g_variant_get_child_value(call->reply, 1);

        check_mounted(bench, (unsigned)g_variant_n_children(mount_points));
}

/* ---- detach, mount, unmount ---- */

static void prepare_raw(Bench *bench)
{
        attach(bench, bench->raw_fd, NULL);
}

static void prepare_parts(Bench *bench)
{
        attach(bench, bench->parts_fd, "{'read-only': <false>}");
}

static void prepare_unmounted(Bench *bench)
{
        attach(bench, bench->parts_fd, "{'mount': <false>}");
}

static TestCall *start_detach(Bench *bench)
{
        return request(bench->ann, attached, IMAGE, "Detach");
}

static void check_detached(Bench *bench, const TestCall *call)
{
        (void)call;
        bench_wait_idle(bench);
        bench_compare(bench, bench->idle, bench->daemon);
}

static TestCall *start_mount(Bench *bench)
{
        g_autofree char *volume = test_volume_path(attached, 2);

        return request(bench->ann, volume, VOLUME, "Mount");
}

static void check_one_mounted(Bench *bench, const TestCall *call)
{
        (void)call;
        check_mounted(bench, 1);
}

static TestCall *start_unmount(Bench *bench)
{
        g_autofree char *volume = test_volume_path(attached, 2);

        return request(bench->ann, volume, VOLUME, "Unmount");
}

static void check_two_mounted(Bench *bench, const TestCall *call)
{
        (void)call;
        check_mounted(bench, 2);
}

/* ---- on access ---- */

/* Waiting is mounting, too: what is mounted is a trigger. */
static TestCall *start_attach_on_access(Bench *bench)
{
        return test_attach_start(bench->ann, bench->parts_fd, "{'on-access': <true>, 'volumes': <[uint32 1, 2]>}");
}

static void prepare_on_access(Bench *bench)
{
        attach(bench, bench->parts_fd, "{'on-access': <true>, 'volumes': <[uint32 1, 2]>}");
}

/* Beside the two triggers. */
static void check_entered(Bench *bench, const TestCall *call)
{
        (void)call;
        check_mounts(bench, 3, 2);
}

/* ---- the daemon's start ---- */

static void write_record(Bench *bench, const char *name, const char *text)
{
        g_autofree char *path = g_build_filename(RECORDS, name, NULL);

        if (!g_file_set_contents(path, text, -1, NULL))
                bench_complain(bench, "cannot write %s", path);
}

/* As of an image whose device has gone. */
static void add_lost_image(Bench *bench)
{
        g_autofree char *path = g_build_filename(RECORDS, strrchr(attached, '/') + 1, NULL);
        g_autofree char *text = NULL;
        g_autoptr(GRegex) ids = g_regex_new("^(ID|DISKSEQ)=.*$", G_REGEX_MULTILINE, 0, NULL);
        g_autoptr(GRegex) ids_of_mounts = g_regex_new("^MOUNT_ID=.*$", G_REGEX_MULTILINE, 0, NULL);
        g_autoptr(GRegex) mount = g_regex_new("RAW", 0, 0, NULL);

        if (!g_file_get_contents(path, &text, NULL, NULL)) {
                bench_complain(bench, "there is no %s", path);
                return;
        }
        g_autofree char *other = g_regex_replace(ids, text, -1, 0, "\\1=1", 0, NULL);
        g_autofree char *third = g_regex_replace_literal(ids_of_mounts, other, -1, 0, "MOUNT_ID=1", 0, NULL);
        g_autofree char *lost = g_regex_replace_literal(mount, third, -1, 0, "LOST", 0, NULL);
        write_record(bench, "1", lost);
        (void)mkdir("/run/media/ann/LOST", 0700);
        g_assert_true(g_file_set_contents(STRAY_MARKER, "", 0, NULL));
}

/* One image is mounted, of one the detaching was cut off, one is lost. */
static void prepare_remains(Bench *bench)
{
        TracerOrder order = point_from_string("d.1/umount2/2/KILL");
        g_autofree char *raw = NULL;

        prepare_raw(bench);
        raw = g_strdup(attached);
        prepare_parts(bench);
        bench_wait_idle(bench);
        tracer_arm(bench->daemon, &order, false);
        test_call_free(wait_for(bench, start_detach(bench)));
        bench_wait_ended(bench);
        if (!tracer_disarm(NULL, NULL))
                bench_complain(bench, "the detaching was not cut off");
        g_free(attached);
        attached = g_steal_pointer(&raw);
        if (!bench->problem)
                add_lost_image(bench);
}

/* What was mounted is there, with its owner, who may detach it. */
static void check_taken_over(Bench *bench, const TestCall *call)
{
        g_autoptr(TestCall) owner =
                wait_for(bench, test_call_start(bench->ann, attached, DBUS_PROPERTIES, "Get",
                                                g_variant_new("(ss)", IMAGE, "OwnerUID"), (TestCallOptions){ 0 }));
        g_autoptr(GVariant) value = NULL;

        (void)call;
        if (owner->error) {
                bench_complain(bench, "the image was not taken over: %s", owner->error->message);
                return;
        }
        g_variant_get(owner->reply, "(v)", &value);
        if (g_variant_get_uint32(value) != TEST_ANN)
                bench_complain(bench, "the image has another owner");
        g_autoptr(TestSnapshot) now = test_snapshot_take(0);
        if (test_snapshot_count(now, "mount /run/media/ann/RAW ") != 1)
                bench_complain(bench, "the mount is lost");
        require(bench, start_detach(bench), "the detaching of what was taken over");
}

static const Story stories[] = {
        { "attach-raw", prepare_nothing, start_attach_raw, check_attach_raw, .nothing_or_all = true, .kept_after = 1 },
        { "attach-one", prepare_nothing, start_attach_one, check_one_mounted, .nothing_or_all = true, .kept_after = 1 },
        { "attach-several", prepare_nothing, start_attach_parts, check_attach_parts, .nothing_or_all = true,
          .outside = true, .kept_after = 3 },
        { "detach", prepare_raw, start_detach, check_detached, .kept_before = 1 },
        { "detach-several", prepare_parts, start_detach, check_detached, .outside = true, .kept_before = 3 },
        { "mount", prepare_unmounted, start_mount, check_one_mounted, .nothing_or_all = true, .kept_after = 1 },
        { "attach-on-access", prepare_nothing, start_attach_on_access, check_two_mounted, .nothing_or_all = true },
        { "detach-on-access", prepare_on_access, start_detach, check_detached, .kept_after = 0 },
        { "mount-on-access", prepare_on_access, start_mount, check_entered, .nothing_or_all = true, .kept_after = 2 },
        { "unmount", prepare_parts, start_unmount, check_two_mounted, .kept_before = 3, .kept_after = 2 },
        { "start", prepare_remains, NULL, check_taken_over, .outside = true },
};

/* ---- one point ---- */

static bool names_stage(const char *message)
{
        static GRegex *pattern;

        if (!pattern)
                pattern = g_regex_new("\\([a-z-]+: (E[A-Z0-9]+|unknown)\\)$", 0, 0, NULL);
        return g_regex_match(pattern, message, 0, NULL);
}

/* What the bus says when the daemon has ended. */
static bool is_of_bus(const GError *error)
{
        return g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_REPLY) ||
               g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_SERVICE_UNKNOWN) ||
               g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NAME_HAS_NO_OWNER);
}

static void check_error(Bench *bench, const GError *error)
{
        g_autofree char *name = g_dbus_error_get_remote_error(error);

        if (is_of_bus(error)) {
                bench_wait_ended(bench);
                return;
        }
        if (!name || !g_str_has_prefix(name, ERROR_PREFIX) || !names_stage(error->message))
                bench_complain(bench, "the error does not name the stage: %s", error->message);
}

/* Before main() the dynamic linker ends so, if it has no memory for its first things. */
static bool was_in_linker(void)
{
        const TracerCall *calls;
        size_t n;

        (void)tracer_disarm(&calls, &n);
        for (size_t i = 0; i < n; i++)
                if (calls[i].point.number == SYS_set_tid_address)
                        return false;
        return true;
}

static void check_end(Bench *bench, const Story *story, const TracerOrder *order)
{
        if (WIFSIGNALED(bench->status) && order->action != TRACER_KILL_DAEMON && (story->start || !was_in_linker()))
                bench_complain(bench, "the daemon was ended by signal %d", WTERMSIG(bench->status));
}

static bool is_kept(Bench *bench, unsigned n_mounts)
{
        g_autoptr(TestSnapshot) now = test_snapshot_take(0);
        g_autofree char *difference = test_snapshot_difference(bench->clean, now);
        unsigned n = test_snapshot_count(now, "mount /run/media/ann/");

        if (n_mounts == 0)
                return bench_count_images(bench) == 0 && !difference;
        return bench_count_images(bench) == 1 && n == n_mounts && test_snapshot_count(now, "loop ") == 1 &&
               test_snapshot_count(now, "mount point /run/media/ann/") <= n + 1 &&
               test_snapshot_count(now, "utab ") <= n;
}

typedef struct Fate {
        const Story *story;
        bool may_be_before, may_be_after;
} Fate;

static bool is_decided(Bench *bench, gpointer userdata)
{
        const Fate *fate = userdata;

        return (fate->may_be_before && is_kept(bench, fate->story->kept_before)) ||
               (fate->may_be_after && is_kept(bench, fate->story->kept_after));
}

/* The next daemon has all of an image, which is still ann's, or nothing of it; what the caller was told stays true. */
static void check_all_or_nothing(Bench *bench, const Story *story, const TestCall *call)
{
        bool failed = call->error && !is_of_bus(call->error) && story->nothing_or_all;
        Fate fate = { story, call->error != NULL, !failed };

        (void)bench_wait(bench, is_decided, &fate, "all of the image, or nothing, after the daemon's end");
}

/* There is another daemon now. */
static void judge_end(Bench *bench, const Story *story, const TracerOrder *order, const TestCall *call)
{
        check_end(bench, story, order);
        bench_wait_ended(bench);
        if (!bench->problem)
                bench_restart(bench);
        if (bench->problem)
                return;
        if (call)
                check_all_or_nothing(bench, story, call);
        else
                story->check(bench, NULL);
}

/* The request went its way, or it failed; or the daemon has ended. */
static Outcome judge(Bench *bench, const Story *story, const TracerOrder *order, const TestCall *call,
                     const TestSnapshot *before)
{
        if (call && call->error)
                check_error(bench, call->error);
        if (bench->ended) {
                judge_end(bench, story, order, call);
                return OUTCOME_ENDED;
        }
        if (call && call->error) {
                if (story->nothing_or_all && !bench->problem)
                        bench_compare(bench, before, bench->daemon);
                return OUTCOME_FAILED;
        }
        if (!bench->problem)
                story->check(bench, call);
        return OUTCOME_DONE;
}

/* All goes, the next request is served, and nothing is left. */
static void finish(Bench *bench, pid_t same)
{
        if (!bench->problem)
                bench_detach_all(bench);
        if (!bench->problem)
                attach(bench, bench->raw_fd, NULL);
        if (!bench->problem)
                require(bench, start_detach(bench), "detach");
        if (bench->problem)
                return;
        bench_wait_idle(bench);
        same = same == bench->daemon && !bench->ended ? same : 0;
        bench_compare(bench, same ? bench->idle : bench->clean, same);
}

static bool prepare(Bench *bench, const Story *story)
{
        if (bench->daemon == 0 || bench->ended) {
                bench->outside = story->outside;
                bench_restart(bench);
                bench_wait_idle(bench);
                bench->idle = test_snapshot_free(bench->idle);
                bench->idle = test_snapshot_take(bench->daemon);
        }
        story->prepare(bench);
        bench_wait_idle(bench);
        return !bench->problem;
}

/* A udevd of somebody else's, who knows of no marker, may have the partitions read again in the middle of it. */
static void make_ready(Bench *bench, const Story *story)
{
        for (unsigned i = 1; !prepare(bench, story); i++) {
                printf("# %s cannot be prepared: %s\n", story->name, bench->problem);
                if (i == TRIES_MAX)
                        g_error("%s cannot be prepared", story->name);
                bench_recover(bench);
        }
}

static TestCall *run_request(Bench *bench, const Story *story, const TracerOrder *order)
{
        TestCall *call;

        tracer_arm(bench->daemon, order, false);
        call = story->start(bench);
        bench_wait_call(bench, call);
        bench_wait_idle(bench);
        return call;
}

static void run_start(Bench *bench, const TracerOrder *order)
{
        if (!bench_start(bench, order) || bench->ended)
                return;
        if (!bench_greet(bench))
                bench_wait_ended(bench);
        bench_wait_idle(bench);
}

/*
 * Not of a daemon that began in the middle of it. Nor behind the death of a child that closes a descriptor of the
 * daemon's: nobody can tell whether it still has closed it, and the number may be another file's.
 */
static bool compares_descriptors(const Story *story, const TracerOrder *order)
{
        return story->start && !(order->action == TRACER_KILL_CHILD && strstr(order->point.role, ".c"));
}

/* Gives what came of it; bench->problem: what should not have. */
static Outcome run_point(Bench *bench, const Story *story, const TracerOrder *order)
{
        g_autoptr(TestSnapshot) before = NULL;
        g_autoptr(TestCall) call = NULL;
        Outcome outcome;
        pid_t same;

        make_ready(bench, story);
        if (story->nothing_or_all)
                before = test_snapshot_take(bench->daemon);
        if (story->start)
                call = run_request(bench, story, order);
        else
                run_start(bench, order);
        same = compares_descriptors(story, order) ? bench->daemon : -1;
        bool hit = tracer_disarm(NULL, NULL);
        if (hit && order->action == TRACER_KILL_DAEMON)
                bench_wait_ended(bench);
        outcome = judge(bench, story, order, call, before);
        finish(bench, same);
        if (bench->problem)
                return outcome;
        /* Each point finds a daemon that is as young. */
        bench_kill(bench);
        return hit || order->action == TRACER_RECORD ? outcome : OUTCOME_MISSED;
}

/* ---- all points of a story ---- */

typedef struct Choice {
        const char *program;
        const char *story;
        const char *point;
        unsigned long every, offset;
        bool kill, list;
} Choice;

/* What the daemon does if nobody disturbs it, and all that can go wrong with that. */
static TracerOrder *record(Bench *bench, const Story *story, bool kill, size_t *ret_n)
{
        const TracerCall *calls;
        size_t n_calls;

        (void)run_point(bench, story, &(TracerOrder){ .action = TRACER_RECORD });
        if (bench->problem)
                g_error("%s fails, undisturbed: %s", story->name, bench->problem);
        (void)tracer_disarm(&calls, &n_calls);
        return points_of(calls, n_calls, kill, ret_n);
}

/* What it does both times: the rest is chance (how often it waits, and who wakes it), and would seldom be met. */
static TracerOrder *find_points(Bench *bench, const Story *story, bool kill, size_t *ret_n)
{
        g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        size_t n_first, n_orders;
        g_autofree TracerOrder *first = record(bench, story, kill, &n_first);
        TracerOrder *orders = record(bench, story, kill, &n_orders);

        for (size_t i = 0; i < n_first; i++)
                g_hash_table_add(names, point_to_string(&first[i]));
        *ret_n = 0;
        for (size_t i = 0; i < n_orders; i++) {
                g_autofree char *name = point_to_string(&orders[i]);
                if (g_hash_table_contains(names, name))
                        orders[(*ret_n)++] = orders[i];
        }
        return orders;
}

static void show_lines(const char *before, const char *text)
{
        g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

        for (char **line = lines; *line; line++)
                if (**line)
                        printf("#   %s%s\n", before, *line);
}

static void show_problem(Bench *bench, const Story *story, const TracerOrder *order)
{
        g_autofree char *point = point_to_string(order), *log = NULL, *log_path = test_path("daemon.log");
        g_autoptr(TestSnapshot) now = test_snapshot_take(0);
        g_autofree char *difference = test_snapshot_difference(bench->clean, now);

        printf("# FAILED: %s; again: ./dev faults %s %s\n", point, story->name, point);
        show_lines("", bench->problem);
        show_lines("there is: ", difference);
        (void)g_file_get_contents(log_path, &log, NULL, NULL);
        show_lines("loopmountd: ", log);
        fflush(stdout);
}

/* Which calls are made depends a little on who is faster: what was not met this time may be the next. */
static Outcome try_point(Bench *bench, const Story *story, const TracerOrder *order)
{
        Outcome outcome = OUTCOME_MISSED;

        for (unsigned i = 0; i < TRIES_MAX && outcome == OUTCOME_MISSED && !bench->problem; i++)
                outcome = run_point(bench, story, order);
        return outcome;
}

static unsigned run_points(Bench *bench, const Story *story, const TracerOrder *orders, size_t n_orders,
                           const Choice *choice, unsigned *counts)
{
        unsigned n_bad = 0;

        for (size_t i = choice->offset; i < n_orders; i += choice->every) {
                Outcome outcome = try_point(bench, story, &orders[i]);

                counts[outcome]++;
                if (outcome == OUTCOME_MISSED) {
                        g_autofree char *point = point_to_string(&orders[i]);
                        printf("# not met: %s\n", point);
                }
                if (!bench->problem)
                        continue;
                show_problem(bench, story, &orders[i]);
                bench_recover(bench);
                if (++n_bad == BAD_MAX)
                        break;
        }
        return n_bad;
}

/* True: all went well, and what was to be tried was, but for one in twenty. */
static bool report(const Story *story, const Choice *choice, size_t n_points, const unsigned *counts, unsigned n_bad,
                   double seconds, unsigned number)
{
        unsigned n = 0;
        bool ok;

        for (size_t i = 0; i < OUTCOME_MAX_; i++)
                n += counts[i];
        ok = n_bad == 0 && n > 0 && counts[OUTCOME_MISSED] <= MAX(n / 20, 2U);
        printf("# %s, %s: %u of %zu points in %.0f s: %u succeeded all the same, %u failed cleanly, "
               "%u ended the daemon, %u not met; %u leaks or other faults\n",
               story->name, choice->kill ? "SIGKILL" : "errors", n, n_points, seconds, counts[OUTCOME_DONE],
               counts[OUTCOME_FAILED], counts[OUTCOME_ENDED], counts[OUTCOME_MISSED], n_bad);
        printf("%sok %u - %s/%s\n", ok ? "" : "not ", number, story->name, choice->kill ? "kill" : "errors");
        fflush(stdout);
        return ok;
}

static void list_points(const TracerOrder *orders, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                g_autofree char *point = point_to_string(&orders[i]);
                printf("%s\n", point);
        }
}

/* True: all went well. */
static bool run_story(Bench *bench, const Story *story, const Choice *choice, unsigned number)
{
        unsigned counts[OUTCOME_MAX_] = { 0 }, n_bad;
        gint64 began = g_get_monotonic_time();
        size_t n_orders;
        g_autofree TracerOrder *orders = find_points(bench, story, choice->kill, &n_orders);

        if (choice->list) {
                list_points(orders, n_orders);
                return true;
        }
        n_bad = run_points(bench, story, orders, n_orders, choice, counts);
        return report(story, choice, n_orders, counts, n_bad, (double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC,
                      number);
}

/* ---- the command line ---- */

static bool run_one_point(Bench *bench, const Choice *choice)
{
        static const char *const words[] = { "succeeded all the same", "failed cleanly", "ended the daemon",
                                             "not met" };
        TracerOrder order = point_from_string(choice->point);

        for (size_t i = 0; i < ELEMENTSOF(stories); i++) {
                if (g_strcmp0(stories[i].name, choice->story) != 0)
                        continue;
                Outcome outcome = run_point(bench, &stories[i], &order);
                printf("# %s %s: %s\n", choice->story, choice->point, words[outcome]);
                bool ok = !bench->problem;
                if (!ok) {
                        show_problem(bench, &stories[i], &order);
                        bench_recover(bench);
                }
                printf("%sok 1 - %s\n1..1\n", ok ? "" : "not ", choice->point);
                return ok;
        }
        g_error("there is no story %s", choice->story);
}

static bool run_stories(Bench *bench, Choice *choice)
{
        unsigned number = 0;
        bool ok = true;

        for (size_t i = 0; i < ELEMENTSOF(stories); i++) {
                if (choice->story && !streq(stories[i].name, choice->story))
                        continue;
                choice->kill = false;
                ok &= run_story(bench, &stories[i], choice, ++number);
                choice->kill = true;
                ok &= run_story(bench, &stories[i], choice, ++number);
        }
        if (number == 0)
                g_error("there is no story %s", choice->story);
        if (!choice->list)
                printf("1..%u\n", number);
        return ok;
}

static Choice read_options(int argc, char **argv)
{
        static const struct option options[] = {
                { "every", required_argument, NULL, 'e' },
                { "offset", required_argument, NULL, 'o' },
                { "list", no_argument, NULL, 'l' },
                {},
        };
        Choice choice = { .every = 1 };
        int option;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (option) {
                case 'e':
                        choice.every = MAX(strtoul(optarg, NULL, 10), 1UL);
                        break;
                case 'o':
                        choice.offset = strtoul(optarg, NULL, 10);
                        break;
                case 'l':
                        choice.list = true;
                        break;
                default:
                        exit(2);
                }
        choice.story = optind < argc ? argv[optind] : NULL;
        choice.point = optind + 1 < argc ? argv[optind + 1] : NULL;
        return choice;
}

int main(int argc, char **argv)
{
        Choice choice = read_options(argc, argv);
        Bench bench = { 0 };
        bool ok;

        setvbuf(stdout, NULL, _IOLBF, 0);
        tracer_start();
        bench_set_up(&bench);
        ok = choice.point ? run_one_point(&bench, &choice) : run_stories(&bench, &choice);
        bench_tear_down(&bench);
        return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
