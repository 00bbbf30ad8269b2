/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process of an automount's unit, with the real daemon, polkitd and files; the
 * files of logind are the test's. The unit around it is tried end to end.
 */
#include "lib/ground.h"
#include "lib/rules.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define RUN_USERS "/run/systemd/users"
#define RUN_SESSIONS "/run/systemd/sessions"

/* Polkit's answer depends on a file, so that it can change without new rules. */
#define RULES                                                                                                          \
        "polkit.addRule(function(action, subject) {"                                                                   \
        "    try { polkit.spawn(['/usr/bin/test', '-e', '/run/permitted']); } catch (e) { return polkit.Result.NO; }"  \
        "    return polkit.Result.YES;"                                                                                \
        "});"

#define ATTACHED "Attached"
#define FORBIDDEN "Waiting until attaching is permitted"
#define MISSING "The file is not there"

typedef struct Process {
        GPid pid;
        bool gone;
        int status;
        int channel; /* where it tells the service manager what it does */
        char said[256];
        const char *wanted;
} Process;

static void on_gone(GPid pid, int status, gpointer userdata)
{
        Process *process = userdata;

        (void)pid;
        process->gone = true;
        process->status = status;
}

/* As a service manager does; in the abstract namespace, where everybody may write. */
static char **listen_to(Process *process)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        socklen_t size = sizeof(address);

        *process = (Process){ .channel = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
        /* The kernel chooses the name. */
        g_assert_cmpint(bind(process->channel, (struct sockaddr *)&address, sizeof(sa_family_t)), ==, 0);
        g_assert_cmpint(getsockname(process->channel, (struct sockaddr *)&address, &size), ==, 0);
        size -= offsetof(struct sockaddr_un, sun_path) + 1;
        g_autofree char *name = g_strdup_printf("@%.*s", (int)size, address.sun_path + 1);
        return g_environ_setenv(g_get_environ(), "NOTIFY_SOCKET", name, TRUE);
}

static void start(Process *process, const char *file, const char *option)
{
        g_autofree char *program = g_build_filename(g_getenv("LOOPMOUNT_BUILD"), "client", "loopmount", NULL);
        const char *const argv[] = { "setpriv",
                                     "--reuid=61001",
                                     "--regid=61001",
                                     "--clear-groups",
                                     program,
                                     "automount",
                                     "run",
                                     option,
                                     "--",
                                     file,
                                     NULL };
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) environment = listen_to(process);

        g_spawn_async(NULL, (char **)argv, environment, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                      &process->pid, &error);
        g_assert_no_error(error);
        g_child_watch_add(process->pid, on_gone, process);
}

static bool says(gpointer userdata)
{
        Process *process = userdata;
        char text[512];

        for (ssize_t n; (n = recv(process->channel, text, sizeof(text) - 1, 0)) > 0;) {
                text[n] = 0;
                const char *status = strstr(text, "STATUS=");
                if (status)
                        g_strlcpy(process->said, status + strlen("STATUS="), sizeof(process->said));
        }
        return g_str_has_prefix(process->said, process->wanted);
}

static void wait_until_it_says(Process *process, const char *wanted)
{
        process->wanted = wanted;
        test_wait_quiet(says, process, wanted);
}

/* Its last words are in "said". */
static int end(Process *process)
{
        test_wait_flag(&process->gone, "the process to end");
        process->wanted = "";
        (void)says(process);
        safe_close(process->channel);
        return process->status;
}

static int stop(Process *process)
{
        g_assert_false(process->gone);
        kill(process->pid, SIGTERM);
        return end(process);
}

static bool is_attached(gpointer bus)
{
        g_auto(GStrv) images = test_objects(bus, IMAGE);

        return images[0];
}

static bool is_detached(gpointer bus)
{
        return !is_attached(bus) && test_count_loops() == 0;
}

/* What has happened it has heard of, and it has done nothing. */
static void assert_detached_for_a_while(const TestGround *g, const Process *process)
{
        for (unsigned i = 0; i < 50; i++) {
                test_dispatch();
                g_usleep(10 * 1000);
        }
        g_assert_true(is_detached(g->ann));
        g_assert_false(process->gone);
}

static void permit(bool yes)
{
        if (yes)
                g_assert_true(g_file_set_contents("/run/permitted", "", -1, NULL));
        else
                (void)g_unlink("/run/permitted");
}

/* As logind does when something about the user's sessions has changed. */
static void put_sessions(bool any)
{
        g_assert_true(g_file_set_contents("/run/systemd/new", "UID=61001\nSTATE=active\nCLASS=user\n", -1, NULL));
        g_assert_cmpint(g_rename("/run/systemd/new", RUN_SESSIONS "/1"), ==, 0);
        g_assert_true(g_file_set_contents("/run/systemd/new", any ? "SESSIONS=1\n" : "SESSIONS=\n", -1, NULL));
        g_assert_cmpint(g_rename("/run/systemd/new", RUN_USERS "/61001"), ==, 0);
}

static void set_up(TestGround *g, gconstpointer configuration)
{
        g_mkdir_with_parents(RUN_USERS, 0755);
        g_mkdir_with_parents(RUN_SESSIONS, 0755);
        test_rules_set(RULES);
        permit(true);
        put_sessions(true);
        test_ground_set_up(g, configuration);
        test_rules_set(RULES);
}

static void tear_down(TestGround *g, gconstpointer configuration)
{
        permit(false);
        (void)g_unlink(RUN_SESSIONS "/1");
        (void)g_unlink(RUN_USERS "/61001");
        test_ground_tear_down(g, configuration);
}

static void test_start_and_stop(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("a $HOME 100% file.img", "LABEL", TEST_ANN);
        Process process;

        (void)userdata;
        start(&process, file, "--writable");
        test_wait_quiet(is_attached, g->ann, "the image to be attached");
        g_auto(GStrv) images = test_objects(g->ann, IMAGE);
        g_assert_false(test_property_bool(g->ann, images[0], IMAGE, "ReadOnly"));
        g_assert_true(test_property_bool(g->ann, images[0], IMAGE, "SessionBound"));
        g_assert_cmpint(stop(&process), ==, 0);
        g_assert_true(is_detached(g->ann));
        unlink(file);
}

static void test_busy_at_stop(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        Process process;

        (void)userdata;
        start(&process, file, "--writable");
        test_wait_quiet(is_attached, g->ann, "the image to be attached");
        g_auto(GStrv) images = test_objects(g->ann, IMAGE);
        g_autofree char *mount_point = test_mount_point_of(g->ann, images[0], 0);
        int fd = test_open_as(TEST_ANN, mount_point, O_RDONLY | O_DIRECTORY);
        g_assert_cmpint(WEXITSTATUS(stop(&process)), ==, 4);
        g_assert_nonnull(strstr(process.said, "it is in use by "));
        g_assert_true(is_attached(g->ann));
        safe_close(fd);

        /* The next one takes it over, though the file is open for writing: by the loop device. */
        start(&process, file, "--writable");
        wait_until_it_says(&process, ATTACHED);
        g_assert_cmpint(stop(&process), ==, 0);
        g_assert_true(is_detached(g->ann));
        unlink(file);
}

/* Not before polkit says yes, and then at once; switching away changes nothing. */
static void test_permission(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        Process process;

        (void)userdata;
        permit(false);
        start(&process, file, "--keep");
        wait_until_it_says(&process, FORBIDDEN);
        put_sessions(true);
        assert_detached_for_a_while(g, &process);
        permit(true);
        put_sessions(true);
        test_wait_quiet(is_attached, g->ann, "the image to be attached");
        permit(false);
        put_sessions(true);
        g_usleep(G_USEC_PER_SEC / 2);
        g_assert_true(is_attached(g->ann));
        g_assert_cmpint(stop(&process), ==, 0);
        unlink(file);
}

/* It is no image before all of it is there. */
static void copy_slowly(const char *from, const char *to)
{
        g_autofree char *text = NULL;
        gsize size;
        int fd = test_open_as(TEST_ANN, to, O_WRONLY | O_CREAT);

        g_assert_true(g_file_get_contents(from, &text, &size, NULL));
        g_assert_cmpint(write(fd, text, size / 2), ==, size / 2);
        g_usleep(G_USEC_PER_SEC / 4);
        g_assert_cmpint(write(fd, text + size / 2, size - size / 2), ==, size - size / 2);
        safe_close(fd);
}

/* The folder of the file is not there, either; it comes with a mount, or is moved to its place. */
static void test_later(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *folder = test_folder("disk");
        g_autofree char *inner = g_build_filename(folder, "sub", NULL);
        g_autofree char *wanted = g_build_filename(inner, "file.img", NULL);
        g_autofree char *aside = test_path("aside");
        Process process;

        (void)userdata;
        start(&process, wanted, "--keep");
        wait_until_it_says(&process, MISSING);
        g_assert_cmpint(mount("aside", folder, "tmpfs", 0, NULL), ==, 0);
        assert_detached_for_a_while(g, &process);
        g_assert_cmpint(mkdir(inner, 0755), ==, 0);
        assert_detached_for_a_while(g, &process);
        g_assert_cmpint(chmod(inner, 0777), ==, 0);
        copy_slowly(file, wanted);
        test_wait_quiet(is_attached, g->ann, "the image to be attached");
        g_assert_cmpint(stop(&process), ==, 0);

        g_assert_cmpint(umount(folder), ==, 0);
        start(&process, wanted, "--keep");
        wait_until_it_says(&process, MISSING);
        g_assert_cmpint(mkdir(aside, 0755), ==, 0);
        g_autofree char *moved = g_build_filename(aside, "file.img", NULL);
        g_assert_cmpint(rename(file, moved), ==, 0);
        g_assert_cmpint(rename(aside, inner), ==, 0);
        test_wait_quiet(is_attached, g->ann, "the image to be attached");
        g_assert_cmpint(stop(&process), ==, 0);
        unlink(wanted);
        rmdir(inner);
        rmdir(folder);
}

/* One that is mounted where its folder was: the mount is what tells. */
static void test_mounted_later(TestGround *g, gconstpointer userdata)
{
        g_autofree char *folder = test_folder("disk");
        g_autofree char *other = test_folder("other");
        g_autofree char *wanted = g_build_filename(folder, "file.img", NULL);
        g_autofree char *file = test_image_ext4("other/file.img", "LABEL", TEST_ANN);
        Process process;

        (void)userdata;
        start(&process, wanted, "--keep");
        wait_until_it_says(&process, MISSING);
        g_assert_cmpint(mount(other, folder, NULL, MS_BIND, NULL), ==, 0);
        test_wait_quiet(is_attached, g->ann, "the image to be attached");
        g_assert_cmpint(stop(&process), ==, 0);
        g_assert_cmpint(umount(folder), ==, 0);
        unlink(file);
        rmdir(folder);
        rmdir(other);
}

/* What was detached by hand stays so, until the file has gone and come back, or the user has. */
static void test_by_hand(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *aside = test_path("aside.img");
        Process process;

        (void)userdata;
        start(&process, file, "--direct-io=no");
        test_wait_quiet(is_attached, g->ann, "the image to be attached");
        for (unsigned i = 0; i < 2; i++) {
                g_auto(GStrv) images = test_objects(g->ann, IMAGE);

                test_detach(g->ann, images[0]);
                put_sessions(true);
                assert_detached_for_a_while(g, &process);
                if (i == 0) {
                        g_assert_cmpint(rename(file, aside), ==, 0);
                        wait_until_it_says(&process, MISSING);
                        g_assert_cmpint(rename(aside, file), ==, 0);
                } else {
                        permit(false);
                        put_sessions(false);
                        wait_until_it_says(&process, FORBIDDEN);
                        permit(true);
                        put_sessions(true);
                }
                test_wait_quiet(is_attached, g->ann, "the image to be attached again");
        }
        g_assert_cmpint(stop(&process), ==, 0);
        unlink(file);
}

/* The service manager goes on: it is attached anew at the next login. The daemon is started anew meanwhile. */
static void test_logout_and_login(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        Process process;

        (void)userdata;
        start(&process, file, "--direct-io=no");
        wait_until_it_says(&process, ATTACHED);
        g->daemon = test_daemon_kill(g->daemon);
        test_ground_restart_daemon(g);
        permit(false);
        put_sessions(false);
        test_wait_quiet(is_detached, g->ann, "the image to be detached");
        wait_until_it_says(&process, FORBIDDEN);
        assert_detached_for_a_while(g, &process);
        permit(true);
        put_sessions(true);
        wait_until_it_says(&process, ATTACHED);
        /* And it goes while no daemon is there to tell. */
        g->daemon = test_daemon_kill(g->daemon);
        permit(false);
        put_sessions(false);
        test_ground_restart_daemon(g);
        test_wait_quiet(is_detached, g->ann, "the image to be detached");
        wait_until_it_says(&process, FORBIDDEN);
        permit(true);
        put_sessions(true);
        wait_until_it_says(&process, ATTACHED);
        g_assert_cmpint(stop(&process), ==, 0);
        unlink(file);
}

static void test_no_image(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_empty("file.img", 1024 * 1024, TEST_ANN);
        Process process;

        (void)g, (void)userdata;
        start(&process, file, "--type=ext4");
        g_assert_cmpint(WEXITSTATUS(end(&process)), ==, 6);
        g_assert_true(g_str_has_prefix(process.said, "It cannot be mounted: "));
        unlink(file);
}

#define ADD(path, function) g_test_add(path, TestGround, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        ADD("/automount/start-and-stop", test_start_and_stop);
        ADD("/automount/busy-at-stop", test_busy_at_stop);
        ADD("/automount/permission", test_permission);
        ADD("/automount/later", test_later);
        ADD("/automount/mounted-later", test_mounted_later);
        ADD("/automount/by-hand", test_by_hand);
        ADD("/automount/logout-and-login", test_logout_and_login);
        ADD("/automount/no-image", test_no_image);
        return g_test_run();
}
