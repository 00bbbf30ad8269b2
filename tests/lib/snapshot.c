/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Only files of procfs and sysfs and directories of a tmpfs are read: nothing
 * here can wait for a device or an image.
 *
 * Other runs on the machine attach and detach loop devices at the same time.
 * Ours have the name of this run's folder in the path of the backing file, as
 * sysfs shows it; it is there until the last close, when LOOP_GET_STATUS64 has
 * long stopped to answer.
 */
#include "lib/snapshot.h"

#include <glob.h>
#include <sys/stat.h>

#include "base/closer.h"
#include "bus/gate.h"
#include "lib/wait.h"
#include "mechanism/job.h"

struct TestSnapshot {
        GPtrArray *lines;
};

static void add(TestSnapshot *snapshot, char *line)
{
        g_ptr_array_add(snapshot->lines, line);
}

const char *test_run_token(void)
{
        static char *token;
        if (!token) {
                const char *folder = g_getenv("LOOPMOUNT_TEST_DIR");
                if (!folder)
                        g_error("not in the namespaces of tests/harness/namespaces");
                g_autofree char *parent = g_path_get_dirname(folder);
                token = g_path_get_basename(parent);
        }
        return token;
}

/* ---- loop devices ---- */

/* What a loop device of ours has in its sysfs folder for each partition; NULL-terminated names. */
static void add_partitions(TestSnapshot *snapshot, const char *disk_folder)
{
        g_autofree char *pattern = g_strconcat(disk_folder, "/loop*p*", NULL);
        glob_t found = { 0 };

        glob(pattern, 0, NULL, &found);
        for (size_t i = 0; i < found.gl_pathc; i++)
                add(snapshot, g_strconcat("partition ", strrchr(found.gl_pathv[i], '/') + 1, NULL));
        globfree(&found);
}

static void add_loops(TestSnapshot *snapshot)
{
        glob_t found = { 0 };

        glob("/sys/block/loop*", 0, NULL, &found);
        for (size_t i = 0; i < found.gl_pathc; i++) {
                g_autofree char *path = g_strconcat(found.gl_pathv[i], "/loop/backing_file", NULL);
                g_autofree char *backing = NULL;

                /* Not attached, or no more. */
                if (!g_file_get_contents(path, &backing, NULL, NULL) || !strstr(backing, test_run_token()))
                        continue;
                add(snapshot, g_strdup_printf("loop %s %s", strrchr(found.gl_pathv[i], '/') + 1, g_strchomp(backing)));
                add_partitions(snapshot, found.gl_pathv[i]);
        }
        globfree(&found);
}

/* ---- mounts ---- */

static void add_mounts(TestSnapshot *snapshot)
{
        g_autofree char *text = NULL;
        if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
                g_error("no mountinfo");
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

        for (char **line = lines; *line; line++) {
                const char *rest = strstr(*line, " - ");
                g_auto(GStrv) field = g_strsplit(*line, " ", 6);
                if (!rest || g_strv_length(field) < 6)
                        continue;
                g_auto(GStrv) tail = g_strsplit(rest + 3, " ", 3);
                if (g_str_has_prefix(field[4], "/run/media/") || g_str_has_prefix(tail[1], "/dev/loop"))
                        add(snapshot, g_strdup_printf("mount %s %s %s", field[4], tail[0], tail[1]));
        }
}

static void add_utab(TestSnapshot *snapshot)
{
        g_autofree char *text = NULL;
        if (!g_file_get_contents("/run/mount/utab", &text, NULL, NULL))
                return;
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++)
                if (**line)
                        add(snapshot, g_strconcat("utab ", *line, NULL));
}

/* ---- files ---- */

/* Not into what is mounted there: that may be an image, which belongs to nobody's business here. */
static void add_files(TestSnapshot *snapshot, const char *what, const char *folder, dev_t device)
{
        g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
                g_autofree char *path = g_build_filename(folder, name, NULL);
                struct stat st;

                if (lstat(path, &st) < 0)
                        continue;
                add(snapshot, g_strdup_printf("%s %s%s", what, path, S_ISDIR(st.st_mode) ? "/" : ""));
                if (S_ISDIR(st.st_mode) && st.st_dev == device)
                        add_files(snapshot, what, path, device);
        }
}

static void add_folder(TestSnapshot *snapshot, const char *what, const char *folder)
{
        struct stat st;
        if (stat(folder, &st) == 0)
                add_files(snapshot, what, folder, st.st_dev);
}

/* ---- the daemon's process ---- */

/* One that is about to close something has still the name, but does not sleep. */
static bool is_idle_closer(const char *pid)
{
        g_autofree char *path = g_strdup_printf("/proc/%s/stat", pid), *text = NULL;

        return g_file_get_contents(path, &text, NULL, NULL) && strstr(text, "(" CLOSER_IDLE_NAME ") S");
}

static char **children_of(const char *pid)
{
        g_autofree char *path = g_strdup_printf("/proc/%s/task/%s/children", pid, pid), *text = NULL;

        return g_file_get_contents(path, &text, NULL, NULL) ? g_strsplit(g_strchomp(text), " ", -1) : NULL;
}

/* What the gate's children have not closed yet. */
static void add_catchers(TestSnapshot *snapshot, const char *gate)
{
        g_auto(GStrv) pids = children_of(gate);

        for (char **pid = pids; pid && *pid; pid++) {
                g_autofree char *comm_path = g_strdup_printf("/proc/%s/comm", *pid);
                g_autofree char *comm = NULL;

                if (**pid && g_file_get_contents(comm_path, &comm, NULL, NULL) &&
                    streq(g_strchomp(comm), GATE_CATCHER_NAME))
                        add(snapshot, g_strdup("child " GATE_CATCHER_NAME));
        }
}

/*
 * Gives how many there are that only wait for the next job: they go by themselves. A closer that waits, and the gate,
 * are always there; only a second closer is worth a line.
 */
static unsigned add_children(TestSnapshot *snapshot, pid_t daemon)
{
        g_autofree char *daemon_text = g_strdup_printf("%d", daemon);
        g_auto(GStrv) pids = children_of(daemon_text);
        unsigned n_idle = 0, n_closers = 0;

        for (char **pid = pids; pid && *pid; pid++) {
                g_autofree char *comm_path = g_strdup_printf("/proc/%s/comm", *pid);
                g_autofree char *comm = NULL;
                if (!**pid || !g_file_get_contents(comm_path, &comm, NULL, NULL))
                        continue;
                if (streq(g_strchomp(comm), JOB_IDLE_NAME))
                        n_idle++;
                else if (streq(comm, GATE_NAME))
                        add_catchers(snapshot, *pid);
                else if (!is_idle_closer(*pid) || n_closers++ > 0)
                        add(snapshot, g_strdup_printf("child %s", comm));
        }
        return n_idle;
}

/* The daemon has two for each idle child. */
static bool is_of_idle(const char *target, unsigned *n_sockets, unsigned *n_pidfds)
{
        unsigned *n = streq(target, "socket:") ? n_sockets : streq(target, "anon_inode:[pidfd]") ? n_pidfds : NULL;

        if (!n || *n == 0)
                return false;
        (*n)--;
        return true;
}

static void add_descriptors(TestSnapshot *snapshot, pid_t daemon, unsigned n_idle)
{
        g_autofree char *folder = g_strdup_printf("/proc/%d/fd", daemon);
        g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
        unsigned n_sockets = n_idle, n_pidfds = n_idle;
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
                g_autofree char *path = g_build_filename(folder, name, NULL);
                g_autofree char *target = g_file_read_link(path, NULL);
                if (!target)
                        continue;
                /* The numbers of sockets and pipes are not the point. */
                char *bracket = strchr(target, '[');
                if (bracket && g_ascii_isdigit(bracket[1]))
                        *bracket = 0;
                if (!is_of_idle(target, &n_sockets, &n_pidfds))
                        add(snapshot, g_strdup_printf("descriptor %s", target));
        }
}

static void count_children(pid_t daemon, unsigned *ret_idle, unsigned *ret_busy)
{
        TestSnapshot snapshot = { .lines = g_ptr_array_new_with_free_func(g_free) };

        *ret_idle = add_children(&snapshot, daemon);
        *ret_busy = snapshot.lines->len;
        g_ptr_array_unref(snapshot.lines);
}

bool test_has_children(pid_t daemon)
{
        unsigned n_idle, n_busy;

        count_children(daemon, &n_idle, &n_busy);
        return n_idle + n_busy > 0;
}

bool test_has_busy_children(pid_t daemon)
{
        unsigned n_idle, n_busy;

        count_children(daemon, &n_idle, &n_busy);
        return n_busy > 0;
}

/* ---- the whole ---- */

static int compare(gconstpointer a, gconstpointer b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

TestSnapshot *test_snapshot_take(pid_t daemon)
{
        TestSnapshot *snapshot = g_new0(TestSnapshot, 1);

        snapshot->lines = g_ptr_array_new_with_free_func(g_free);
        add_loops(snapshot);
        add_mounts(snapshot);
        add_utab(snapshot);
        add_folder(snapshot, "mount point", "/run/media");
        add_folder(snapshot, "record", "/run/loopmount");
        if (daemon > 0) {
                unsigned n_idle = add_children(snapshot, daemon);
                add_descriptors(snapshot, daemon, n_idle);
        }
        g_ptr_array_sort(snapshot->lines, compare);
        return snapshot;
}

typedef struct Idle {
        pid_t daemon;
        TestSnapshot *last;
} Idle;

/* The descriptor of a child goes a moment after the child: idle is what stays the same. */
static bool is_idle(gpointer userdata)
{
        Idle *idle = userdata;
        g_autoptr(TestSnapshot) last = idle->last;

        idle->last = test_snapshot_take(idle->daemon);
        if (!last || test_snapshot_count(idle->last, "child ") > 0)
                return false;
        g_autofree char *difference = test_snapshot_difference(last, idle->last);
        return !difference;
}

TestSnapshot *test_snapshot_take_idle(pid_t daemon)
{
        Idle idle = { .daemon = daemon };

        test_wait_quiet(is_idle, &idle, "the daemon's children to end");
        return idle.last;
}

TestSnapshot *test_snapshot_free(TestSnapshot *snapshot)
{
        if (snapshot) {
                g_ptr_array_unref(snapshot->lines);
                g_free(snapshot);
        }
        return NULL;
}

char *test_snapshot_difference(const TestSnapshot *before, const TestSnapshot *after)
{
        g_autoptr(GString) text = g_string_new(NULL);
        guint i = 0, j = 0;

        while (i < before->lines->len || j < after->lines->len) {
                const char *a = i < before->lines->len ? g_ptr_array_index(before->lines, i) : NULL;
                const char *b = j < after->lines->len ? g_ptr_array_index(after->lines, j) : NULL;
                int order = !a ? 1 : !b ? -1 : strcmp(a, b);

                if (order < 0)
                        g_string_append_printf(text, "- %s\n", a);
                else if (order > 0)
                        g_string_append_printf(text, "+ %s\n", b);
                i += order <= 0;
                j += order >= 0;
        }
        return text->len > 0 ? g_strdup(text->str) : NULL;
}

static bool is_about_markers_only(const char *difference)
{
        g_auto(GStrv) lines = g_strsplit(difference, "\n", 0);

        for (char **line = lines; *line; line++)
                if (**line && !g_str_has_prefix(*line, "+ record /run/loopmount/devices/"))
                        return false;
        return true;
}

void test_snapshot_assert(const TestSnapshot *before, pid_t daemon)
{
        g_autoptr(TestSnapshot) after = test_snapshot_take(daemon);
        g_autofree char *difference = test_snapshot_difference(before, after);

        /* A device that somebody has open goes a moment after its story, and then its marker. */
        if (difference && is_about_markers_only(difference)) {
                test_snapshot_wait(before, daemon);
                return;
        }
        if (difference) {
                g_test_message("%s", difference);
                g_error("something has come (+) or gone (-), see above");
        }
}

typedef struct Comparison {
        const TestSnapshot *before;
        pid_t daemon;
} Comparison;

static bool is_equal(gpointer userdata)
{
        const Comparison *comparison = userdata;
        g_autoptr(TestSnapshot) now = test_snapshot_take(comparison->daemon);
        g_autofree char *difference = test_snapshot_difference(comparison->before, now);
        return !difference;
}

static gboolean on_deadline(gpointer userdata)
{
        /* Says what is wrong, where the deadline of test_wait() could only say that something is. */
        const Comparison *comparison = userdata;
        test_snapshot_assert(comparison->before, comparison->daemon);
        return G_SOURCE_CONTINUE;
}

void test_snapshot_wait(const TestSnapshot *before, pid_t daemon)
{
        Comparison comparison = { before, daemon };
        guint timer = g_timeout_add_seconds(TEST_DEADLINE_SEC / 2, on_deadline, &comparison);

        test_wait_quiet(is_equal, &comparison, "everything to be as before");
        g_source_remove(timer);
}

unsigned test_snapshot_count(const TestSnapshot *snapshot, const char *prefix)
{
        unsigned n = 0;
        for (guint i = 0; i < snapshot->lines->len; i++)
                if (g_str_has_prefix(g_ptr_array_index(snapshot->lines, i), prefix))
                        n++;
        return n;
}
