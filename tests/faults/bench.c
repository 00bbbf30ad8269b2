/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/rules.h"
#include "lib/wait.h"

#define LOOK_INTERVAL_MSEC 1
#define CONFIGURATION "/run/loopmount.conf.d/50-test.conf"

void bench_complain(Bench *bench, const char *format, ...)
{
        va_list arguments;

        if (bench->problem)
                return;
        va_start(arguments, format);
        bench->problem = g_strdup_vprintf(format, arguments);
        va_end(arguments);
}

/* ---- waiting ---- */

static gboolean on_interval(gpointer userdata)
{
        (void)userdata;
        return G_SOURCE_CONTINUE;
}

bool bench_wait(Bench *bench, bool (*condition)(Bench *bench, gpointer userdata), gpointer userdata, const char *what)
{
        gint64 deadline = g_get_monotonic_time() + TEST_DEADLINE_SEC * G_USEC_PER_SEC;
        guint timer = g_timeout_add(LOOK_INTERVAL_MSEC, on_interval, NULL);
        bool is = condition(bench, userdata);

        while (!is && g_get_monotonic_time() < deadline) {
                g_main_context_iteration(NULL, TRUE);
                is = condition(bench, userdata);
        }
        g_source_remove(timer);
        if (!is)
                bench_complain(bench, "waited %d s in vain for %s", TEST_DEADLINE_SEC, what);
        return is;
}

/* ---- the daemon's process ---- */

static void on_end(GPid pid, int status, gpointer userdata)
{
        Bench *bench = userdata;

        if (pid != bench->daemon)
                return;
        bench->ended = true;
        bench->status = status;
}

static void on_name(GDBusConnection *bus, const char *name, const char *owner, gpointer userdata)
{
        (void)bus, (void)name, (void)owner;
        ((Bench *)userdata)->has_name = true;
}

static void on_no_name(GDBusConnection *bus, const char *name, gpointer userdata)
{
        (void)bus, (void)name;
        ((Bench *)userdata)->has_name = false;
}

/* It sees what others mount, and they not what it mounts, as with the unit's sandbox. */
static bool leave_namespace(void)
{
        return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0;
}

/* Between fork and exec: only what a signal handler may do. */
static _Noreturn void run_daemon(bool outside, int go, int log, const char *program, char **environment)
{
        const char *argv[] = { program, outside ? "--outside" : NULL, NULL };
        sigset_t none;
        char byte;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        dup2(log, STDERR_FILENO);
        if ((!outside || leave_namespace()) && read(go, &byte, 1) == 1)
                execve(program, (char **)argv, environment);
        _exit(127);
}

/* With MALLOC_TOP_PAD_=0 the heap grows by pages, so that many more calls of malloc(3) can be made fail. */
static void spawn(Bench *bench, const TracerOrder *order)
{
        g_auto(GStrv) environment = g_environ_setenv(g_get_environ(), "MALLOC_TOP_PAD_", "0", TRUE);
        g_autofree char *log_path = test_path("daemon.log");
        int log = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644), go[2];

        if (pipe2(go, O_CLOEXEC) < 0)
                g_error("no pipe: %s", g_strerror(errno));
        bench->ended = false;
        bench->daemon = fork();
        if (bench->daemon < 0)
                g_error("no daemon: %s", g_strerror(errno));
        if (bench->daemon == 0)
                run_daemon(bench->outside, go[0], log, g_getenv("LOOPMOUNTD"), environment);
        close(log);
        g_child_watch_add(bench->daemon, on_end, bench);
        if (order)
                tracer_arm(bench->daemon, order, true);
        g_assert_cmpint(write(go[1], "", 1), ==, 1);
        close(go[0]);
        close(go[1]);
}

static bool is_up_or_ended(Bench *bench, gpointer userdata)
{
        (void)userdata;
        return bench->has_name || bench->ended;
}

static bool is_ended(Bench *bench, gpointer userdata)
{
        (void)userdata;
        return bench->ended && !test_has_owner(bench->root, BUS_NAME);
}

void bench_wait_ended(Bench *bench)
{
        (void)bench_wait(bench, is_ended, NULL, "the daemon's end");
        /* What the bus has told of the name meanwhile. */
        test_dispatch();
}

void bench_kill(Bench *bench)
{
        if (bench->daemon > 0 && !bench->ended)
                kill(bench->daemon, SIGKILL);
        if (bench->daemon > 0)
                bench_wait_ended(bench);
        bench->daemon = 0;
}

bool bench_start(Bench *bench, const TracerOrder *order)
{
        spawn(bench, order);
        if (!bench_wait(bench, is_up_or_ended, NULL, "the daemon to take its bus name"))
                return false;
        return !bench->ended;
}

static bool is_wait(int number)
{
#ifdef SYS_epoll_wait
        if (number == SYS_epoll_wait)
                return true;
#endif
        return number == SYS_epoll_pwait || number == SYS_epoll_pwait2;
}

/* It sleeps, and in epoll_wait(2), as it does once it has handled all that it knows of. */
static bool waits_for_events(pid_t daemon)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/syscall", daemon), *text = NULL;
        g_autofree char *stat_path = g_strdup_printf("/proc/%d/stat", daemon), *stat = NULL;

        if (!g_file_get_contents(stat_path, &stat, NULL, NULL) || !strstr(stat, ") S ") ||
            !g_file_get_contents(path, &text, NULL, NULL))
                return false;
        return is_wait(atoi(text));
}

static bool is_idle(Bench *bench, gpointer userdata)
{
        (void)userdata;
        return bench->ended || (!test_has_busy_children(bench->daemon) && waits_for_events(bench->daemon));
}

void bench_wait_idle(Bench *bench)
{
        (void)bench_wait(bench, is_idle, NULL, "the daemon and its children to have done all");
}

/* ---- calls ---- */

static bool is_done(Bench *bench, gpointer call)
{
        (void)bench;
        return ((TestCall *)call)->done;
}

void bench_wait_call(Bench *bench, TestCall *call)
{
        if (bench_wait(bench, is_done, call, "the reply"))
                return;
        /* Nobody answers any more. */
        bench_kill(bench);
        test_call_wait(call);
}

static TestCall *finish(Bench *bench, TestCall *call)
{
        bench_wait_call(bench, call);
        return call;
}

bool bench_greet(Bench *bench)
{
        g_autoptr(TestCall) call =
                finish(bench, test_call_start(bench->root, ROOT_PATH, DBUS_PROPERTIES, "Get",
                                              g_variant_new("(ss)", MANAGER, "Version"), (TestCallOptions){ 0 }));

        return !call->error;
}

void bench_restart(Bench *bench)
{
        if (!bench_start(bench, NULL) || !bench_greet(bench))
                bench_complain(bench, "the daemon did not start again: status 0x%x", (unsigned)bench->status);
}

/* a{oa{sa{sv}}}, NULL (and a problem) if there is no answer. */
static GVariant *list_objects(Bench *bench)
{
        g_autoptr(TestCall) call = finish(bench, test_call_start(bench->root, ROOT_PATH, DBUS_OBJECT_MANAGER,
                                                                 "GetManagedObjects", NULL, (TestCallOptions){ 0 }));

        if (call->error) {
                bench_complain(bench, "no list of objects: %s", call->error->message);
                return NULL;
        }
        return g_variant_get_child_value(call->reply, 0);
}

int bench_count_images(Bench *bench)
{
        g_autoptr(GVariant) objects = list_objects(bench);
        const char *path;
        GVariant *interfaces;
        GVariantIter iter;
        int n = 0;

        if (!objects)
                return -1;
        g_variant_iter_init(&iter, objects);
        while (g_variant_iter_loop(&iter, "{&o@a{sa{sv}}}", &path, &interfaces)) {
                g_autoptr(GVariant) properties = g_variant_lookup_value(interfaces, IMAGE, NULL);
                const char *state = "";
                guint32 owner = TEST_ROOT;

                if (!properties)
                        continue;
                g_variant_lookup(properties, "State", "&s", &state);
                g_variant_lookup(properties, "OwnerUID", "u", &owner);
                n = n < 0 || !streq(state, "attached") || owner != TEST_ANN ? -1 : n + 1;
        }
        return n;
}

static void detach(Bench *bench, const char *image)
{
        g_autoptr(TestCall) call =
                finish(bench, test_call_start(bench->ann, image, IMAGE, "Detach", g_variant_new_parsed("(@a{sv} {},)"),
                                              (TestCallOptions){ 0 }));

        /* The daemon may just have taken it away by itself. */
        if (call->error && !g_error_matches(call->error, G_DBUS_ERROR, G_DBUS_ERROR_UNKNOWN_OBJECT))
                bench_complain(bench, "%s cannot be detached by its owner: %s", image, call->error->message);
}

void bench_detach_all(Bench *bench)
{
        g_autoptr(GVariant) objects = bench->problem ? NULL : list_objects(bench);
        const char *path;
        GVariant *interfaces;
        GVariantIter iter;

        if (!objects)
                return;
        g_variant_iter_init(&iter, objects);
        while (g_variant_iter_loop(&iter, "{&o@a{sa{sv}}}", &path, &interfaces)) {
                g_autoptr(GVariant) image = g_variant_lookup_value(interfaces, IMAGE, NULL);
                if (image)
                        detach(bench, path);
        }
}

/* ---- what is left ---- */

typedef struct Comparison {
        const TestSnapshot *before;
        pid_t daemon;
        char *difference;
} Comparison;

static bool is_equal(Bench *bench, gpointer userdata)
{
        Comparison *comparison = userdata;
        g_autoptr(TestSnapshot) now = test_snapshot_take(comparison->daemon);

        (void)bench;
        g_free(comparison->difference);
        comparison->difference = test_snapshot_difference(comparison->before, now);
        return !comparison->difference;
}

/* What goes by itself does so in a moment; what is there after that has leaked. */
void bench_compare(Bench *bench, const TestSnapshot *before, pid_t daemon)
{
        Comparison comparison = { before, daemon, NULL };
        gint64 deadline = g_get_monotonic_time() + 3 * G_USEC_PER_SEC;

        while (!bench->problem && !is_equal(bench, &comparison))
                if (g_get_monotonic_time() > deadline)
                        bench_complain(bench, "left (+) or lost (-):\n%s", comparison.difference);
                else
                        (void)g_main_context_iteration(NULL, FALSE), g_usleep(1000);
        g_free(comparison.difference);
}

/* In this order: nothing is removed below a mount. */
static const struct {
        const char *what;
        const char *command[3];
} takers[] = {
        { "+ mount /", { "umount", "--lazy", NULL } },
        { "+ loop ", { "losetup", "--detach", NULL } },
        { "+ mount point ", { "rm", "-rf", "--one-file-system" } },
        { "+ record ", { "rm", "-rf", "--one-file-system" } },
};

static void take_away(size_t taker, const char *line)
{
        const char *const *command = takers[taker].command;
        g_auto(GStrv) word = g_strsplit(line, " ", 4);
        g_autofree char *node = g_strconcat("/dev/", word[2], NULL);
        const char *target = taker == 0 ? word[2] : taker == 1 ? node : strchr(line, '/');
        const char *argv[] = { command[0], command[1], command[2] ? command[2] : target, command[2] ? target : NULL,
                               NULL };

        (void)test_run_as(TEST_ROOT, argv, NULL, NULL);
}

static void take_all_away(const Bench *bench)
{
        g_autoptr(TestSnapshot) now = test_snapshot_take(0);
        g_autofree char *difference = test_snapshot_difference(bench->clean, now);
        g_auto(GStrv) lines = g_strsplit(difference ? difference : "", "\n", -1);

        for (size_t i = 0; i < ELEMENTSOF(takers); i++)
                for (char **line = lines; *line; line++)
                        if (g_str_has_prefix(*line, takers[i].what))
                                take_away(i, *line);
        (void)unlink("/run/mount/utab");
}

void bench_recover(Bench *bench)
{
        g_clear_pointer(&bench->problem, g_free);
        bench_kill(bench);
        take_all_away(bench);
        bench_compare(bench, bench->clean, 0);
        if (bench->problem)
                g_error("cannot clean up: %s", bench->problem);
}

/* ---- beginning and end ---- */

void bench_set_up(Bench *bench)
{
        static const char *const labels[] = { "FIRST", "SECOND", "THIRD", NULL };

        test_rules_set_usual();
        g_mkdir_with_parents("/run/loopmount.conf.d", 0755);
        g_assert_true(g_file_set_contents(CONFIGURATION, "[Limits]\nJobTimeoutSec=5\n", -1, NULL));
        bench->root = test_connect_as(TEST_ROOT);
        bench->ann = test_connect_as(TEST_ANN);
        bench->raw = test_image_ext4("raw.img", "RAW", TEST_ANN);
        bench->parts = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        bench->raw_fd = test_open_as(TEST_ANN, bench->raw, O_RDONLY);
        bench->parts_fd = test_open_as(TEST_ANN, bench->parts, O_RDWR);
        g_bus_watch_name_on_connection(bench->root, BUS_NAME, G_BUS_NAME_WATCHER_FLAGS_NONE, on_name, on_no_name, bench,
                                       NULL);
        /* The first daemon makes its folders, which stay. */
        bench_restart(bench);
        bench_kill(bench);
        bench->clean = test_snapshot_take(0);
        if (bench->problem)
                g_error("%s", bench->problem);
}

void bench_tear_down(Bench *bench)
{
        bench_kill(bench);
        test_snapshot_assert(bench->clean, 0);
        test_disconnect(bench->ann);
        test_disconnect(bench->root);
        close(bench->raw_fd);
        close(bench->parts_fd);
        unlink(bench->raw);
        unlink(bench->parts);
}
