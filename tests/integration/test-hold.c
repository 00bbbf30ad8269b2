/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Volumes that are mounted for one caller, as "with" has them: they go with the
 * last caller that holds them, and nothing else goes.
 */
#include "lib/ground.h"

#include <fcntl.h>
#include <unistd.h>

#define HOLD_BOTH "{'hold': <true>}"
#define HOLD_FIRST "{'hold': <true>, 'volumes': <[uint32 1]>}"
#define HOLD_SECOND "{'hold': <true>, 'volumes': <[uint32 2]>}"
#define FIRST "/run/media/ann/FIRST"
#define SECOND "/run/media/ann/SECOND"

#define N_CANCELS 25U

typedef struct Fixture {
        TestGround ground;
        char *file;
        GDBusConnection *one, *other; /* ann's, too */
} Fixture;

static void set_up(Fixture *f, gconstpointer configuration)
{
        static const char *const labels[] = { "FIRST", "SECOND", NULL };

        test_ground_set_up(&f->ground, configuration);
        f->file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);
        f->one = test_connect_as(TEST_ANN);
        f->other = test_connect_as(TEST_ANN);
}

static void leave(GDBusConnection **bus)
{
        if (*bus)
                test_disconnect(*bus);
        *bus = NULL;
}

static void tear_down(Fixture *f, gconstpointer configuration)
{
        leave(&f->one);
        leave(&f->other);
        unlink(f->file);
        g_free(f->file);
        test_ground_tear_down(&f->ground, configuration);
}

static void attach(GDBusConnection *bus, const Fixture *f, const char *options)
{
        g_free(test_attach_path(bus, f->file, options, NULL));
}

static void release(GDBusConnection *bus)
{
        g_autoptr(TestCall) call = test_simple_call(bus, ROOT_PATH, MANAGER, "Release");

        test_assert_succeeded(call);
}

static void assert_mounted(bool first, bool second)
{
        g_assert_cmpint(access(FIRST, F_OK) == 0, ==, first);
        g_assert_cmpint(access(SECOND, F_OK) == 0, ==, second);
        if (first)
                test_assert_hello(TEST_ANN, FIRST);
        if (second)
                test_assert_hello(TEST_ANN, SECOND);
        g_assert_cmpuint(test_count_loops(), ==, first || second);
}

static bool is_nothing_attached(gpointer userdata)
{
        (void)userdata;
        return test_count_loops() == 0;
}

static void test_release(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        attach(f->one, f, HOLD_BOTH);
        assert_mounted(true, true);
        release(f->other);
        assert_mounted(true, true);
        release(f->one);
        assert_mounted(false, false);
        release(f->one);
}

/* Each of two calls at once is answered when all is gone. */
static void test_release_twice(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        attach(f->one, f, HOLD_BOTH);
        g_autoptr(TestCall) first = test_simple_call_start(f->one, ROOT_PATH, MANAGER, "Release");
        release(f->one);
        assert_mounted(false, false);
        test_call_wait(first);
        test_assert_succeeded(first);
}

/* What was there before stays, and so does what somebody else asks for. */
static void test_for_good(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        attach(f->ground.ann, f, "{'volumes': <[uint32 1]>}");
        attach(f->one, f, HOLD_BOTH);
        assert_mounted(true, true);
        release(f->one);
        assert_mounted(true, false);

        attach(f->one, f, HOLD_SECOND);
        attach(f->ground.ann, f, "{'volumes': <[uint32 2]>}");
        release(f->one);
        assert_mounted(true, true);
        g_autoptr(TestCall) detach = test_simple_call(f->ground.ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(detach);
}

static void test_different_volumes(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        attach(f->one, f, HOLD_FIRST);
        attach(f->other, f, HOLD_SECOND);
        release(f->one);
        assert_mounted(false, true);
        release(f->other);
        assert_mounted(false, false);
}

/* Nobody is in it: it is not its use that keeps it mounted. */
static void test_same_volume(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        attach(f->one, f, HOLD_FIRST);
        attach(f->other, f, HOLD_FIRST);
        release(f->one);
        assert_mounted(true, false);
        leave(&f->other);
        test_wait_quiet(is_nothing_attached, NULL, "the image to go with its last holder");
}

static void test_in_use(Fixture *f, gconstpointer userdata)
{
        _cleanup_close_ int fd = -1;

        (void)userdata;
        attach(f->one, f, HOLD_FIRST);
        fd = open(FIRST "/hello", O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        g_autoptr(TestCall) call = test_simple_call(f->one, ROOT_PATH, MANAGER, "Release");
        test_assert_failed(call, "Busy", "*");
        assert_mounted(true, false);
        fd = safe_close(fd);
        release(f->one);
        assert_mounted(true, false);
        g_autoptr(TestCall) detach = test_simple_call(f->ground.ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(detach);
}

/* In whatever moment it comes. The first comes at once, the last one after the answer. */
static void test_cancels(Fixture *f, gconstpointer userdata)
{
        _cleanup_close_ int fd = test_open_as(TEST_ANN, f->file, O_RDONLY);
        gint64 began = g_get_monotonic_time(), took;
        unsigned n_cancelled = 0;

        (void)userdata;
        attach(f->one, f, HOLD_BOTH);
        took = g_get_monotonic_time() - began;
        release(f->one);
        for (unsigned i = 0; i < N_CANCELS; i++) {
                g_autoptr(TestCall) call = test_attach_start(f->one, fd, HOLD_BOTH);

                began = g_get_monotonic_time();
                while (g_get_monotonic_time() - began < took * i / 20 || (i == N_CANCELS - 1 && !call->done))
                        test_dispatch();
                release(f->one);
                test_call_wait(call);
                if (call->error) {
                        test_assert_failed(call, "Cancelled", "*");
                        n_cancelled++;
                }
                /* A child that was killed in the middle of binding it keeps the device until it is dead. */
                test_wait_quiet(is_nothing_attached, NULL, "the device to go");
                assert_mounted(false, false);
        }
        g_assert_cmpuint(n_cancelled, >, 0);
        g_assert_cmpuint(n_cancelled, <, N_CANCELS);
}

/* Whoever leaves while no daemon is there has let go, and the others have not. */
static void test_across_a_crash(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        attach(f->one, f, HOLD_FIRST);
        attach(f->other, f, HOLD_SECOND);
        test_daemon_kill(f->ground.daemon);
        leave(&f->one);
        test_ground_restart_daemon(&f->ground);
        g_autofree char *first = g_strdup(FIRST);
        test_wait_quiet(test_is_gone, first, "the volume to go whose holder has left");
        assert_mounted(false, true);
        release(f->other);
        assert_mounted(false, false);
}

static void test_refused(Fixture *f, gconstpointer userdata)
{
        _cleanup_close_ int fd = test_open_as(TEST_ANN, f->file, O_RDONLY);
        g_autoptr(TestCall) unmounted = test_attach(f->one, fd, "{'hold': <true>, 'mount': <false>}");
        g_autoptr(TestCall) waiting = test_attach(f->one, fd, "{'hold': <true>, 'on-access': <true>}");

        (void)userdata;
        test_assert_failed(unmounted, "InvalidArgs", "*hold*");
        test_assert_failed(waiting, "InvalidArgs", "*hold*");
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        ADD("/hold/release", test_release);
        ADD("/hold/release-twice", test_release_twice);
        ADD("/hold/for-good", test_for_good);
        ADD("/hold/different-volumes", test_different_volumes);
        ADD("/hold/same-volume", test_same_volume);
        ADD("/hold/in-use", test_in_use);
        ADD("/hold/cancels", test_cancels);
        ADD("/hold/crash", test_across_a_crash);
        ADD("/hold/refused", test_refused);
        return g_test_run();
}
