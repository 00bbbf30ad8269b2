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

/* When it answers it has begun all that follows what was asked for before. */
static void settle(Bench *bench)
{
        if (!bench->ended && bench_greet(bench))
                bench_wait_idle(bench);
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
        g_auto(GStrv) images = bench_objects(bench, IMAGE);
        g_autoptr(TestSnapshot) now = test_snapshot_take(0);
        unsigned n = test_snapshot_count(now, "mount /run/media/ann/");

        if (!images || g_strv_length(images) != 1)
                bench_complain(bench, "there is no image, or more than one");
        if (n != n_mounts)
                bench_complain(bench, "there are %u mounts, not %u", n, n_mounts);
        /* A mount without a line in utab is one all the same; see utab_add() in mounting-work.c. */
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

/* Waiting is mounting, too: what is mounted is a trigger, which has no line in utab. */
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
        settle(bench);
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
        { "attach-raw", prepare_nothing, start_attach_raw, check_attach_raw, true },
        { "attach-one", prepare_nothing, start_attach_one, check_one_mounted, true },
        { "attach-several", prepare_nothing, start_attach_parts, check_attach_parts, true },
        { "detach", prepare_raw, start_detach, check_detached, false },
        { "detach-several", prepare_parts, start_detach, check_detached, false },
        { "mount", prepare_unmounted, start_mount, check_one_mounted, true },
        { "attach-on-access", prepare_nothing, start_attach_on_access, check_two_mounted, true },
        { "detach-on-access", prepare_on_access, start_detach, check_detached, false },
        { "mount-on-access", prepare_on_access, start_mount, check_entered, true },
        { "unmount", prepare_parts, start_unmount, check_two_mounted, false },
        { "start", prepare_remains, NULL, check_taken_over, false },
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

static void check_end(Bench *bench, const Story *story, const TracerOrder *order)
{
        /* Before main(): so the dynamic linker ends, if it has no memory for the first things. */
        bool in_linker = order->action == TRACER_FAIL && !story->start && order->point.occurrence <= 2 &&
                         (order->point.number == SYS_brk || order->point.number == SYS_mmap);

        if (WIFSIGNALED(bench->status) && order->action != TRACER_KILL_DAEMON && !in_linker)
                bench_complain(bench, "the daemon was ended by signal %d", WTERMSIG(bench->status));
}

/* The request went its way, or it failed; or there is another daemon now, and nobody knows. */
static Outcome judge(Bench *bench, const Story *story, const TracerOrder *order, const TestCall *call,
                     const TestSnapshot *before)
{
        if (call && call->error)
                check_error(bench, call->error);
        if (bench->ended) {
                check_end(bench, story, order);
                bench_wait_ended(bench);
                if (!bench->problem)
                        bench_restart(bench);
                if (!call && !bench->problem)
                        story->check(bench, NULL);
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

static void make_ready(Bench *bench, const Story *story)
{
        if (bench->daemon == 0 || bench->ended) {
                bench_restart(bench);
                bench_wait_idle(bench);
                bench->idle = test_snapshot_free(bench->idle);
                bench->idle = test_snapshot_take(bench->daemon);
        }
        story->prepare(bench);
        settle(bench);
        if (bench->problem)
                g_error("%s cannot be prepared: %s", story->name, bench->problem);
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
static TracerOrder *find_points(Bench *bench, const Story *story, bool kill, size_t *ret_n)
{
        const TracerCall *calls;
        size_t n_calls;

        (void)run_point(bench, story, &(TracerOrder){ .action = TRACER_RECORD });
        if (bench->problem)
                g_error("%s fails, undisturbed: %s", story->name, bench->problem);
        (void)tracer_disarm(&calls, &n_calls);
        return points_of(calls, n_calls, kill, ret_n);
}

static void show_problem(Bench *bench, const Story *story, const TracerOrder *order)
{
        g_autofree char *point = point_to_string(order), *log = NULL, *log_path = test_path("daemon.log");
        g_auto(GStrv) lines = g_strsplit(bench->problem, "\n", -1);

        printf("# FAILED: %s; again: ./dev faults %s %s\n", point, story->name, point);
        for (char **line = lines; *line; line++)
                if (**line)
                        printf("#   %s\n", *line);
        (void)g_file_get_contents(log_path, &log, NULL, NULL);
        g_auto(GStrv) log_lines = g_strsplit(log ? log : "", "\n", -1);
        for (char **line = log_lines; *line; line++)
                if (**line)
                        printf("#   loopmountd: %s\n", *line);
        fflush(stdout);
}

static unsigned run_points(Bench *bench, const Story *story, const TracerOrder *orders, size_t n_orders,
                           const Choice *choice, unsigned *counts)
{
        unsigned n_bad = 0;

        for (size_t i = choice->offset; i < n_orders; i += choice->every) {
                counts[run_point(bench, story, &orders[i])]++;
                if (!bench->problem)
                        continue;
                n_bad++;
                show_problem(bench, story, &orders[i]);
                bench_recover(bench);
        }
        return n_bad;
}

/* True: all went well, and something was tried. Which points are met depends a little on who is faster. */
static bool report(const Story *story, const Choice *choice, size_t n_points, const unsigned *counts, unsigned n_bad,
                   double seconds, unsigned number)
{
        unsigned n = 0;
        bool ok;

        for (size_t i = 0; i < OUTCOME_MAX_; i++)
                n += counts[i];
        ok = n_bad == 0 && n > 0 && counts[OUTCOME_MISSED] <= 2 + n / 4;
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
