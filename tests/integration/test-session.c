/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happens to images when their owners log out. There is no logind here: the
 * test writes the files of its own, below /run/systemd, as logind does.
 */
#include "lib/ground.h"

#include <fcntl.h>
#include <glib/gstdio.h>

#define RUN_USERS "/run/systemd/users"
#define RUN_SESSIONS "/run/systemd/sessions"

/* ---- logind's files ---- */

/* At once or not at all, as logind does it. */
static void put_file(const char *folder, const char *name, const char *text)
{
        g_autofree char *path = g_strdup_printf("%s/%s", folder, name);
        g_autofree char *temporary = g_strdup_printf("/run/systemd/%s", name);

        g_mkdir_with_parents(folder, 0755);
        g_assert_true(g_file_set_contents(temporary, text, -1, NULL));
        g_assert_cmpint(g_rename(temporary, path), ==, 0);
}

static void drop_file(const char *folder, const char *name)
{
        g_autofree char *path = g_strdup_printf("%s/%s", folder, name);

        (void)g_unlink(path);
}

static void put_session(const char *name, const char *class, const char *state)
{
        g_autofree char *text = g_strdup_printf("UID=%u\nACTIVE=%d\nSTATE=%s\nREMOTE=0\nTYPE=tty\nCLASS=%s\n", TEST_ANN,
                                                g_str_equal(state, "active"), state, class);

        put_file(RUN_SESSIONS, name, text);
}

/* "" : none. */
static void put_user(uid_t uid, const char *sessions)
{
        g_autofree char *name = g_strdup_printf("%u", uid);
        g_autofree char *text = g_strdup_printf("NAME=somebody\nSTATE=online\nSESSIONS=%s\n", sessions);

        put_file(RUN_USERS, name, text);
}

static void forget_all(void)
{
        static const char *const sessions[] = { "1", "2", "c3" };

        for (size_t i = 0; i < G_N_ELEMENTS(sessions); i++)
                drop_file(RUN_SESSIONS, sessions[i]);
        drop_file(RUN_USERS, "61001");
        drop_file(RUN_USERS, "61002");
}

static void log_in(void)
{
        put_session("1", "user", "active");
        put_user(TEST_ANN, "1");
}

static void log_out(void)
{
        drop_file(RUN_SESSIONS, "1");
        drop_file(RUN_USERS, "61001");
}

/* ---- */

static void set_up(TestGround *g, gconstpointer configuration)
{
        g_mkdir_with_parents(RUN_USERS, 0755);
        g_mkdir_with_parents(RUN_SESSIONS, 0755);
        forget_all();
        test_ground_set_up(g, configuration);
}

static void tear_down(TestGround *g, gconstpointer configuration)
{
        forget_all();
        test_ground_tear_down(g, configuration);
}

static bool has_no_busy_children(gpointer userdata)
{
        const TestDaemon *daemon = userdata;

        return !test_has_busy_children(daemon->pid);
}

/* Waits until the daemon must have seen what was written, and has done what it does about it. */
static void assert_stays(TestGround *g, const char *image)
{
        g_usleep(G_USEC_PER_SEC / 3);
        test_wait_quiet(has_no_busy_children, g->daemon, "the daemon to be done");
        g_autofree char *state = test_property_string(g->root, image, IMAGE, "State");
        g_assert_cmpstr(state, ==, "attached");
}

/* The device goes first, what the daemon has of it a moment later. */
static void wait_gone(TestGround *g)
{
        test_snapshot_wait(g->before, 0);
}

static unsigned count_watches(const TestGround *g)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/fd", g->daemon->pid);
        g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
        unsigned n = 0;

        for (const char *name; (name = g_dir_read_name(folder));) {
                g_autofree char *link = g_strdup_printf("%s/%s", path, name);
                g_autofree char *target = g_file_read_link(link, NULL);

                n += g_strcmp0(target, "anon_inode:inotify") == 0;
        }
        return n;
}

typedef struct Watches {
        const TestGround *ground;
        unsigned wanted;
} Watches;

static bool has_watches(gpointer userdata)
{
        const Watches *watches = userdata;

        return count_watches(watches->ground) == watches->wanted;
}

static void test_last_logout(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = test_image_ext4("other.img", "OTHER", TEST_ANN);
        Watches before = { g, count_watches(g) };

        (void)userdata;
        log_in();
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);
        g_autofree char *unmounted = test_attach_path(g->ann, other, "{'mount': <false>}", NULL);
        g_assert_true(test_property_bool(g->ann, image, IMAGE, "SessionBound"));
        g_assert_true(test_property_bool(g->ann, unmounted, IMAGE, "SessionBound"));
        g_assert_cmpuint(count_watches(g), ==, before.wanted + 1);
        log_out();
        wait_gone(g);
        test_wait_quiet(has_watches, &before, "the daemon to look at sessions no more");
        unlink(file);
        unlink(other);
}

/* In the background, with the screen locked, with one session less, and with something left behind of that. */
static void test_other_changes(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);

        (void)userdata;
        log_in();
        put_session("2", "user", "online");
        put_user(TEST_ANN, "1 2");
        put_user(TEST_BOB, "c3");
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        put_session("1", "user", "online");
        put_user(TEST_ANN, "1 2");
        drop_file(RUN_USERS, "61002");
        assert_stays(g, image);
        put_session("1", "user", "closing");
        put_user(TEST_ANN, "1 2");
        assert_stays(g, image);
        put_session("2", "user", "closing");
        put_user(TEST_ANN, "1 2");
        wait_gone(g);
        unlink(file);
}

/* Sessions that no person is in do not hold it. */
static void test_other_classes(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);

        (void)userdata;
        log_in();
        put_session("2", "background", "active");
        put_session("c3", "manager", "active");
        put_user(TEST_ANN, "1 2 c3");
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        g_assert_true(test_property_bool(g->ann, image, IMAGE, "SessionBound"));
        drop_file(RUN_SESSIONS, "1");
        put_user(TEST_ANN, "2 c3");
        wait_gone(g);
        unlink(file);
}

static void test_keep(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        unsigned before = count_watches(g);

        (void)userdata;
        log_in();
        g_autofree char *image = test_attach_path(g->ann, file, "{'session-bound': <false>}", NULL);
        g_assert_false(test_property_bool(g->ann, image, IMAGE, "SessionBound"));
        g_assert_cmpuint(count_watches(g), ==, before);
        log_out();
        assert_stays(g, image);
        test_detach(g->ann, image);
        unlink(file);
}

/* Who has no session cannot be bound to it; and does not get one by logging in. */
static void test_without_session(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'session-bound': <true>}", NULL);

        (void)userdata;
        g_assert_false(test_property_bool(g->ann, image, IMAGE, "SessionBound"));
        log_in();
        log_out();
        assert_stays(g, image);
        test_detach(g->ann, image);
        unlink(file);
}

static void test_conflict(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);

        (void)userdata;
        log_in();
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        g_autoptr(TestCall) kept = test_attach(g->ann, fd, "{'session-bound': <false>}");
        test_assert_failed(kept, "AlreadyAttached", "*other options*");
        test_detach(g->ann, image);
        unlink(file);
}

/* The owner leaves while no daemon is there to see it. */
static void test_while_the_daemon_is_away(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = NULL;

        (void)userdata;
        log_in();
        image = test_attach_path(g->ann, file, NULL, NULL);
        g->daemon = test_daemon_kill(g->daemon);
        test_ground_restart_daemon(g);
        assert_stays(g, image);
        g->daemon = test_daemon_kill(g->daemon);
        log_out();
        test_ground_restart_daemon(g);
        wait_gone(g);
        unlink(file);
}

/* The session ends while the attach is under way: it is not left behind. */
static void test_race(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);

        (void)userdata;
        for (unsigned i = 0; i < 20; i++) {
                _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);
                g_autoptr(TestCall) call = NULL;
                g_autofree char *image = NULL;

                log_in();
                call = test_attach_start(g->ann, fd, NULL);
                /* From before the daemon has read the message to behind its reply. */
                for (gint64 until = g_get_monotonic_time() + i * 2000; g_get_monotonic_time() < until;)
                        test_dispatch();
                log_out();
                test_call_wait(call);
                test_assert_succeeded(call);
                g_variant_get(call->reply, "(o@as)", &image, NULL);
                /* Before the daemon looked who is there he had gone: then it is bound to nothing. */
                g_autoptr(GVariant) bound = test_property(g->ann, image, IMAGE, "SessionBound");
                if (bound && !g_variant_get_boolean(bound))
                        test_detach(g->ann, image);
                wait_gone(g);
        }
        unlink(file);
}

/* The file of one image is in another: the inner one goes first, and nothing is found busy. */
static void test_nested(TestGround *g, gconstpointer userdata)
{
        g_autofree char *outer = test_image_ext4("outer.img", "OUTER", TEST_ANN);
        g_autofree char *inner = test_image_squashfs("inner.img", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;

        (void)userdata;
        log_in();
        g_autofree char *one = test_attach_path(g->ann, outer, "{'read-only': <false>}", &mount_points);
        g_autofree char *file = g_build_filename(mount_points[0], "inner.img", NULL);
        g_autofree char *text = NULL;
        gsize size;
        g_assert_true(g_file_get_contents(inner, &text, &size, NULL));
        g_assert_true(g_file_set_contents_full(file, text, (gssize)size, G_FILE_SET_CONTENTS_NONE, 0644, NULL));
        g_autofree char *two = test_attach_path(g->ann, file, NULL, NULL);
        g_assert_cmpstr(one, !=, two);
        gint64 begin = g_get_monotonic_time();
        log_out();
        wait_gone(g);
        /* Not by trying again. */
        g_assert_cmpint(g_get_monotonic_time() - begin, <, 10 * G_USEC_PER_SEC);
        unlink(outer);
        unlink(inner);
}

static void test_busy(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *other = test_image_ext4("other.img", "OTHER", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;

        (void)userdata;
        log_in();
        g_autofree char *free_one = test_attach_path(g->ann, other, NULL, NULL);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, &mount_points);
        int fd = test_open_as(TEST_ANN, mount_points[0], O_RDONLY | O_DIRECTORY);
        log_out();
        test_signals_wait_removed(g->signals, free_one, IMAGE);
        assert_stays(g, image);
        /* He is back: now it is his again, and stays though nobody uses it. */
        log_in();
        safe_close(fd);
        assert_stays(g, image);
        fd = test_open_as(TEST_ANN, mount_points[0], O_RDONLY | O_DIRECTORY);
        log_out();
        assert_stays(g, image);
        /* Nothing tells the daemon of this: it tries again by itself. */
        safe_close(fd);
        wait_gone(g);
        unlink(file);
        unlink(other);
}

#define ADD(path, function) g_test_add(path, TestGround, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        ADD("/session/last-logout", test_last_logout);
        ADD("/session/other-changes", test_other_changes);
        ADD("/session/other-classes", test_other_classes);
        ADD("/session/keep", test_keep);
        ADD("/session/without", test_without_session);
        ADD("/session/conflict", test_conflict);
        ADD("/session/while-the-daemon-is-away", test_while_the_daemon_is_away);
        ADD("/session/race", test_race);
        ADD("/session/nested", test_nested);
        ADD("/session/busy", test_busy);
        return g_test_run();
}
