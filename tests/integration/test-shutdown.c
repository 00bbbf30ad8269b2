/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the shutdown stands on: the units that the service manager is asked for,
 * here by one that listens and never answers; and loopmountd --detach-all. The
 * order of all that is tested with a real one (tests/e2e/shutdown).
 */
#include "lib/fuse-file.h"
#include "lib/ground.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SERVICE_MANAGER "org.freedesktop.systemd1"
#define BOOTED "/run/systemd/system"

typedef struct Fixture {
        TestGround ground;
        GDBusConnection *manager;
        char *calls; /* "StartUnit NAME\n" ... */
        GMutex lock; /* a filter runs in GDBus's thread */
        guint filter;
} Fixture;

static GDBusMessage *on_message(GDBusConnection *bus, GDBusMessage *message, gboolean incoming, gpointer userdata)
{
        Fixture *f = userdata;
        const char *member = g_dbus_message_get_member(message);
        GVariant *body = g_dbus_message_get_body(message);
        const char *name = "";

        (void)bus;
        if (!incoming || g_dbus_message_get_message_type(message) != G_DBUS_MESSAGE_TYPE_METHOD_CALL)
                return message;
        if (g_variant_is_of_type(body, G_VARIANT_TYPE("(ss)")))
                g_variant_get(body, "(&s&s)", &name, NULL);
        g_mutex_lock(&f->lock);
        char *calls = g_strdup_printf("%s%s %s\n", f->calls, member, name);
        g_free(f->calls);
        f->calls = calls;
        g_mutex_unlock(&f->lock);
        g_object_unref(message);
        return NULL;
}

static void set_up(Fixture *f, gconstpointer userdata)
{
        g_autoptr(GError) error = NULL;

        f->manager = test_connect_as(TEST_ROOT);
        f->calls = g_strdup("");
        f->filter = g_dbus_connection_add_filter(f->manager, on_message, f, NULL);
        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
                f->manager, "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName",
                g_variant_new("(su)", SERVICE_MANAGER, 0), NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
        g_assert_no_error(error);
        g_assert_nonnull(reply);
        g_assert_cmpint(g_mkdir_with_parents(BOOTED, 0755), ==, 0);
        test_ground_set_up(&f->ground, userdata);
}

static void tear_down(Fixture *f, gconstpointer userdata)
{
        test_ground_tear_down(&f->ground, userdata);
        g_dbus_connection_remove_filter(f->manager, f->filter);
        test_disconnect(f->manager);
        g_assert_cmpint(rmdir(BOOTED), ==, 0);
        g_free(f->calls);
}

static bool has_call(Fixture *f, const char *pattern)
{
        g_mutex_lock(&f->lock);
        bool has = g_pattern_match_simple(pattern, f->calls);
        g_mutex_unlock(&f->lock);
        return has;
}

static bool was_started(gpointer userdata)
{
        return has_call(userdata, "*StartUnit loopmount-backing@*.target\n*");
}

static bool was_stopped(gpointer userdata)
{
        return has_call(userdata, "*StopUnit loopmount-backing@*.target\n*");
}

/* ---- The service manager ---- */

static void test_units_come_and_go(Fixture *f, gconstpointer userdata)
{
        g_autofree char *first_file = test_image_ext4("first.img", "FIRST", TEST_ANN);
        g_autofree char *second_file = test_image_ext4("second.img", "SECOND", TEST_BOB);
        g_autofree char *first = test_attach_path(f->ground.ann, first_file, NULL, NULL);

        (void)userdata;
        /* It is told, has not answered, and nobody has waited for that. */
        test_wait_quiet(was_started, f, "the unit to be started");
        g_autofree char *second = test_attach_path(f->ground.bob, second_file, NULL, NULL);
        test_detach(f->ground.ann, first);
        g_assert_false(was_stopped(f));
        test_detach(f->ground.bob, second);
        test_wait_quiet(was_stopped, f, "the unit to be stopped");
        g_assert_false(has_call(f, "*StartUnit*StartUnit*"));
        g_assert_false(has_call(f, "*StopUnit*StopUnit*"));
        unlink(first_file);
        unlink(second_file);
}

static bool is_asked_again(gpointer userdata)
{
        return has_call(userdata, "*StartUnit*ListUnitsByPatterns*StartUnit*");
}

/* It may have been the crash of the service manager, too: what is needed is asked for again. */
static void test_units_after_a_crash(Fixture *f, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(f->ground.ann, file, NULL, NULL);

        (void)userdata;
        test_wait_quiet(was_started, f, "the unit to be started");
        test_daemon_kill(f->ground.daemon);
        test_ground_restart_daemon(&f->ground);
        test_wait_quiet(is_asked_again, f, "the unit to be started again");
        test_detach(f->ground.ann, image);
        test_wait_quiet(was_stopped, f, "the unit to be stopped");
        unlink(file);
}

/* ---- Detaching all ---- */

typedef struct Run {
        bool ended;
        int status;
} Run;

static void on_end(GPid pid, int status, gpointer userdata)
{
        Run *run = userdata;

        g_spawn_close_pid(pid);
        run->ended = true;
        run->status = status;
}

static void start_detach_all(Run *run)
{
        const char *argv[] = { g_getenv("LOOPMOUNTD"), "--detach-all", NULL };
        g_autoptr(GError) error = NULL;
        GPid pid;

        g_spawn_async("/", (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, &error);
        g_assert_no_error(error);
        g_child_watch_add(pid, on_end, run);
}

static void end_detach_all(Run *run)
{
        test_wait_flag(&run->ended, "loopmountd --detach-all to end");
        g_assert_cmpint(run->status, ==, 0);
}

static bool is_no_mount_point(gpointer path)
{
        struct stat inside, outside;
        g_autofree char *parent = g_path_get_dirname(path);

        return stat(path, &inside) < 0 || stat(parent, &outside) < 0 || inside.st_dev == outside.st_dev;
}

static void test_nothing_while_the_daemon_runs(Fixture *f, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(f->ground.ann, file, NULL, &mount_points);
        Run run = { 0 };

        (void)userdata;
        start_detach_all(&run);
        end_detach_all(&run);
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(f->ground.ann, image);
        unlink(file);
}

static void test_all_goes(Fixture *f, gconstpointer userdata)
{
        static const char *const labels[] = { "ONE", "TWO", NULL };
        g_autofree char *parts = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_BOB);
        Run run = { 0 };

        (void)userdata;
        g_free(test_attach_path(f->ground.ann, parts, "{'read-only': <false>}", NULL));
        g_free(test_attach_path(f->ground.bob, file, NULL, NULL));
        test_daemon_kill(f->ground.daemon);
        start_detach_all(&run);
        end_detach_all(&run);
        test_snapshot_assert(f->ground.before, 0);
        test_ground_restart_daemon(&f->ground);
        unlink(parts);
        unlink(file);
}

/* Opens a file of the image, writes to it, and does not end before it is killed. */
static pid_t start_user(const char *mount_point)
{
        g_autofree char *path = g_build_filename(mount_point, "open", NULL);
        int ready[2];
        char byte;

        g_assert_cmpint(pipe(ready), ==, 0);
        pid_t pid = fork();
        if (pid == 0) {
                int fd = open(path, O_WRONLY | O_CREAT, 0644);
                if (fd < 0 || write(fd, "last words", 10) != 10 || write(ready[1], "", 1) != 1)
                        _exit(1);
                for (;;)
                        pause();
        }
        close(ready[1]);
        g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
        close(ready[0]);
        return pid;
}

/* What is not synced while somebody is inside may be lost when the machine goes off. */
static bool has_last_words(gpointer file)
{
        g_autofree char *command = g_strdup_printf("debugfs -R 'cat /open' %s", (const char *)file);
        g_autofree char *text = NULL, *complaints = NULL;

        g_assert_true(g_spawn_command_line_sync(command, &text, &complaints, NULL, NULL));
        return streq(text, "last words");
}

static void test_who_uses_it_is_not_waited_for(Fixture *f, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        Run run = { 0 };

        (void)userdata;
        g_free(test_attach_path(f->ground.ann, file, "{'read-only': <false>}", &mount_points));
        pid_t user = start_user(mount_points[0]);
        test_daemon_kill(f->ground.daemon);
        start_detach_all(&run);
        test_wait_quiet(is_no_mount_point, mount_points[0], "the mount to be taken away");
        test_wait_quiet(has_last_words, file, "its data to be in the file");
        test_dispatch();
        g_assert_false(run.ended);
        kill(user, SIGKILL);
        g_assert_cmpint(waitpid(user, NULL, 0), ==, user);
        end_detach_all(&run);
        test_snapshot_assert(f->ground.before, 0);
        test_ground_restart_daemon(&f->ground);
        unlink(file);
}

static pid_t start_reader(const char *mount_point)
{
        g_autofree char *path = g_build_filename(mount_point, "hello", NULL);
        pid_t pid = fork();

        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                char byte;
                int fd = open(path, O_RDONLY | O_CLOEXEC);
                _exit(fd >= 0 && read(fd, &byte, 1) == 1 ? 0 : 1);
        }
        return pid;
}

static bool is_not_mounted(gpointer path)
{
        return !g_file_test(path, G_FILE_TEST_EXISTS);
}

/* Its image is kept for as long as its file's server is silent: neither the shutdown nor other images wait for that. */
static void test_who_is_stuck_keeps_nothing_up(Fixture *f, gconstpointer userdata)
{
        g_autofree char *hung_file = test_image_ext4("hung.img", "HUNG", TEST_ANN);
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_BOB);
        TestFuseFile *fuse = test_fuse_file_start("fuse", hung_file, TEST_ANN, true);
        g_auto(GStrv) hung_points = NULL;
        g_auto(GStrv) points = NULL;
        Run run = { 0 };

        (void)userdata;
        g_free(test_attach_path(f->ground.ann, test_fuse_file_path(fuse), "{'direct-io': <'yes'>}", &hung_points));
        g_free(test_attach_path(f->ground.bob, file, "{'read-only': <false>}", &points));
        test_fuse_file_silence(fuse, 0);
        pid_t reader = start_reader(hung_points[0]);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "the reader to be stuck");
        test_daemon_kill(f->ground.daemon);
        start_detach_all(&run);
        test_wait_quiet(is_not_mounted, points[0], "the other image to be detached");
        end_detach_all(&run);
        g_assert_cmpint(waitpid(reader, NULL, WNOHANG), ==, 0);
        test_fuse_file_resume(fuse);
        g_assert_cmpint(waitpid(reader, NULL, 0), ==, reader);
        /* Its device is gone now; what there is of it below /run is a next daemon's business. */
        test_ground_restart_daemon(&f->ground);
        test_snapshot_wait(f->ground.before, 0);
        test_fuse_file_stop(fuse);
        unlink(file);
        unlink(hung_file);
}

static void add(const char *path, const char *configuration, void (*function)(Fixture *f, gconstpointer userdata))
{
        g_test_add(path, Fixture, configuration, set_up, function, tear_down);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        add("/shutdown/units/come-and-go", NULL, test_units_come_and_go);
        add("/shutdown/units/after-a-crash", NULL, test_units_after_a_crash);
        add("/shutdown/detach-all/while-the-daemon-runs", NULL, test_nothing_while_the_daemon_runs);
        add("/shutdown/detach-all/all", NULL, test_all_goes);
        add("/shutdown/detach-all/in-use", NULL, test_who_uses_it_is_not_waited_for);
        add("/shutdown/detach-all/stuck", "[Limits]\nJobTimeoutSec=1\n", test_who_is_stuck_keeps_nothing_up);
        return g_test_run();
}
