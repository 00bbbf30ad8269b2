/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The same file twice, and many requests at once. The same file is the same image
 * for the same user; nobody gets two views of a file that somebody writes to.
 */
#include "lib/ground.h"

#include <fcntl.h>
#include <sys/stat.h>

#define CLIENTS 50u

/* Room for all of them. */
#define MANY "[Limits]\nMaxRequestsPerUser=200\nMaxImagesPerUser=200\n"

static const char *const labels[] = { "FIRST", "SECOND", NULL };

static const char *image_of(const TestCall *call)
{
        const char *image;
        test_assert_succeeded(call);
        g_variant_get_child(call->reply, 0, "&o", &image);
        return image;
}

static void test_equal(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL, again = NULL;
        g_autofree char *first = test_attach_path(g->ann, file, NULL, &mount_points);
        g_autofree char *second = test_attach_path(g->ann, file, NULL, &again);

        (void)userdata;
        g_assert_cmpstr(first, ==, second);
        g_assert_cmpstr(mount_points[0], ==, again[0]);
        g_assert_cmpuint(test_count_loops(), ==, 1);
        g_assert_cmpuint(test_signals_count(g->signals, "InterfacesAdded", first, IMAGE), ==, 1);
        test_detach(g->ann, first);
        unlink(file);
}

/* It is the file that counts, not what it is called. */
static void test_other_path(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *link_path = test_path("link.img");
        g_autofree char *first = test_attach_path(g->ann, file, NULL, NULL);

        (void)userdata;
        g_assert_cmpint(link(file, link_path), ==, 0);
        unlink(file);
        g_autofree char *second = test_attach_path(g->ann, link_path, NULL, NULL);
        g_assert_cmpstr(first, ==, second);

        /* And another file is another one, even in the place of the first. */
        g_autofree char *new_file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *third = test_attach_path(g->ann, new_file, NULL, NULL);
        g_assert_cmpstr(first, !=, third);
        test_detach(g->ann, first);
        test_detach(g->ann, third);
        unlink(link_path);
        unlink(new_file);
}

static void test_equal_but_for_mounting(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) none = NULL, mount_points = NULL;
        g_autofree char *first = test_attach_path(g->ann, file, "{'mount': <false>}", &none);
        g_autofree char *second = test_attach_path(g->ann, file, NULL, &mount_points);

        (void)userdata;
        g_assert_cmpstr(first, ==, second);
        g_assert_cmpuint(g_strv_length(none), ==, 0);
        g_assert_cmpuint(g_strv_length(mount_points), ==, 1);
        test_assert_hello(TEST_ANN, mount_points[0]);
        test_detach(g->ann, first);
        unlink(file);
}

/* ---- What was asked for, and nothing else ---- */

/* The names of the mount points that Attach of @file with @options answers. */
static char *ask(GDBusConnection *bus, const char *file, const char *options)
{
        g_auto(GStrv) mount_points = NULL;
        GString *names = g_string_new(NULL);

        g_free(test_attach_path(bus, file, options, &mount_points));
        for (char **m = mount_points; *m; m++) {
                g_autofree char *name = g_path_get_basename(*m);

                g_string_append_printf(names, "%s%s", names->len > 0 ? " " : "", name);
                test_assert_hello(TEST_ANN, *m);
        }
        return g_string_free(names, FALSE);
}

static void assert_answer(TestGround *g, const char *file, const char *options, const char *expected)
{
        g_autofree char *answer = ask(g->ann, file, options);

        g_assert_cmpstr(answer, ==, expected);
}

static void test_asked(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);

        (void)userdata;
        assert_answer(g, file, "{'volumes': <[uint32 2, 1]>}", "SECOND FIRST");
        assert_answer(g, file, "{'volumes': <[uint32 1]>}", "FIRST");
        assert_answer(g, file, "{'volumes': <[uint32 2]>}", "SECOND");
        assert_answer(g, file, "{'volumes': <[uint32 1, 2]>}", "FIRST SECOND");
        assert_answer(g, file, NULL, "FIRST SECOND");
        assert_answer(g, file, "{'mount': <false>}", "");
        g_autoptr(TestCall) detach = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(detach);
        unlink(file);
}

/* One is mounted: the other comes to it, and nobody gets the first for the second. */
static void test_asked_for_more(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);

        (void)userdata;
        assert_answer(g, file, "{'volumes': <[uint32 1]>}", "FIRST");
        assert_answer(g, file, "{'volumes': <[uint32 2]>}", "SECOND");
        g_autoptr(TestCall) detach = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(detach);

        assert_answer(g, file, "{'volumes': <[uint32 2]>}", "SECOND");
        assert_answer(g, file, NULL, "FIRST SECOND");
        g_autoptr(TestCall) again = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(again);
        unlink(file);
}

static void assert_refused(TestGround *g, const char *file, const char *options, const char *error, const char *pattern)
{
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);
        g_autoptr(TestCall) call = test_attach(g->ann, fd, options);

        test_assert_failed(call, error, pattern);
}

/* An option that cannot be had of what is there is an error; one that is so already is none. */
static void test_options_of_existing(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_partitioned("parts.img", "gpt", labels, TEST_ANN);

        (void)userdata;
        assert_answer(g, file, "{'volumes': <[uint32 1]>, 'name': <'mine'>}", "mine");
        assert_answer(g, file, "{'volumes': <[uint32 1]>, 'name': <'mine'>}", "mine");
        assert_refused(g, file, "{'volumes': <[uint32 1]>, 'name': <'other'>}", "AlreadyMounted",
                       "*volume 1 is mounted at /run/media/ann/mine; unmount it*");
        assert_refused(g, file, "{'volumes': <[uint32 1]>, 'mount-options': <'noatime'>}", "AlreadyMounted",
                       "*volume 1 is mounted at /run/media/ann/mine; unmount it*");
        assert_refused(g, file, "{'filesystem-type': <'ext4'>}", "AlreadyMounted", "*volume 1 is mounted*");
        /* Nothing of a request that is refused is done. */
        assert_refused(g, file, "{'volumes': <[uint32 2, 1]>, 'name': <'other'>}", "AlreadyMounted", "*volume 1*");
        assert_refused(g, file, "{'auto-detach': <false>}", "AlreadyAttached", "*auto-detach*detach it*");
        g_assert_cmpint(access("/run/media/ann/other", F_OK), <, 0);
        assert_answer(g, file, "{'volumes': <[uint32 2]>, 'mount-options': <'noatime'>, 'name': <'second'>}", "second");
        assert_answer(g, file, NULL, "mine second");
        g_autoptr(TestCall) detach = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(detach);
        unlink(file);
}

static void assert_attached_already(GDBusConnection *bus, const char *file, const char *options, int flags,
                                    const char *pattern)
{
        _cleanup_close_ int fd = test_open_as(TEST_ROOT, file, flags);
        g_autoptr(TestCall) call = test_attach(bus, fd, options);
        test_assert_failed(call, "AlreadyAttached", pattern);
}

static void test_conflicts(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);

        (void)userdata;
        g_autofree char *reading = test_attach_path(g->ann, file, NULL, NULL);
        assert_attached_already(g->ann, file, "{'read-only': <false>}", O_RDWR, "*/run/media/ann/LABEL*");
        assert_attached_already(g->bob, file, "{'read-only': <false>}", O_RDWR, "*");
        test_detach(g->ann, reading);

        g_autofree char *writing = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);
        assert_attached_already(g->ann, file, NULL, O_RDONLY, "*/run/media/ann/LABEL*");
        assert_attached_already(g->bob, file, NULL, O_RDONLY, "*");
        assert_attached_already(g->bob, file, "{'offset': <uint64 1048576>, 'mount': <false>}", O_RDONLY, "*");
        test_detach(g->ann, writing);
        unlink(file);
}

/* What another user has mounted where is not for everybody to know. */
static void test_conflict_tells_no_secrets(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "SECRET", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);
        _cleanup_close_ int fd = test_open_as(TEST_ROOT, file, O_RDONLY);
        g_autoptr(TestCall) call = test_attach(g->bob, fd, NULL);

        (void)userdata;
        test_assert_failed(call, "AlreadyAttached", "*");
        g_assert_null(strstr(call->error->message, "SECRET"));
        test_detach(g->ann, image);
        unlink(file);
}

static void test_two_readers(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_assert_cmpint(chmod(file, 0644), ==, 0);
        g_auto(GStrv) anns = NULL, bobs = NULL;
        g_autofree char *first = test_attach_path(g->ann, file, NULL, &anns);
        g_autofree char *second = test_attach_path(g->bob, file, NULL, &bobs);

        (void)userdata;
        g_assert_cmpstr(first, !=, second);
        g_assert_cmpstr(bobs[0], ==, "/run/media/bob/LABEL");
        test_assert_hello(TEST_BOB, bobs[0]);
        test_detach(g->ann, first);
        test_assert_hello(TEST_BOB, bobs[0]);
        test_detach(g->bob, second);
        unlink(file);
}

/* ---- Who owns the file ---- */

static int run_detach(uid_t uid, const char *file, const char *option)
{
        g_autofree char *program = g_build_filename(g_getenv("LOOPMOUNT_BUILD"), "client", "loopmount", NULL);
        g_autofree char *copy = test_path("loopmount"); /* where users may look, wherever it was built */
        const char *const argv[] = { copy, "detach", file, option, NULL };
        int status;

        test_run("cp", program, copy, NULL);
        status = test_run_as(uid, argv, NULL, NULL);
        unlink(copy);
        return status;
}

/* A file that everybody may read, attached by bob to stay. */
static char *attach_as_bob(TestGround *g, const char *file, char ***ret_mount_points)
{
        g_assert_cmpint(chmod(file, 0644), ==, 0);
        return test_attach_path(g->bob, file, "{'auto-detach': <false>}", ret_mount_points);
}

static bool finds(GDBusConnection *bus, const char *file)
{
        _cleanup_close_ int fd = test_open_as(TEST_ROOT, file, O_PATH);
        g_autoptr(TestCall) call = test_call(bus, ROOT_PATH, MANAGER, "FindByFile", g_variant_new("(h)", 0),
                                             (TestCallOptions){ .fd = fd });
        g_autoptr(GVariant) images = NULL;

        test_assert_succeeded(call);
        images = g_variant_get_child_value(call->reply, 0);
        return g_variant_n_children(images) > 0;
}

/* A stranger keeps nobody out of a file of their own; also when the daemon has been restarted meanwhile. */
static void test_owner_of_file(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;

        (void)userdata;
        g_free(attach_as_bob(g, file, &mount_points));
        g_assert_true(finds(g->ann, file));
        test_daemon_kill(g->daemon);
        test_ground_restart_daemon(g);
        assert_attached_already(g->ann, file, "{'read-only': <false>}", O_RDWR, "*by the user bob, *id:*");
        g_assert_cmpint(run_detach(TEST_ANN, file, NULL), ==, 0);
        g_assert_cmpuint(test_count_loops(), ==, 0);
        g_autofree char *anns = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);

        /* It does not work the other way round. */
        g_autoptr(TestCall) stranger = test_simple_call(g->bob, anns, IMAGE, "Detach");
        test_assert_failed(stranger, "NotAuthorized", "*");
        g_assert_false(finds(g->bob, file));
        test_detach(g->ann, anns);
        unlink(file);
}

/* Nor by keeping it busy. */
static void test_owner_of_file_busy(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *bobs = attach_as_bob(g, file, &mount_points);
        g_autofree char *hello = g_build_filename(mount_points[0], "hello", NULL);
        int holder = test_open_as(TEST_BOB, hello, O_RDONLY);

        (void)userdata;
        g_autoptr(TestCall) busy = test_simple_call(g->ann, bobs, IMAGE, "Detach");
        test_assert_failed(busy, "Busy", "*");
        g_assert_cmpint(run_detach(TEST_ANN, file, "--force"), ==, 0);
        g_autofree char *anns = test_attach_path(g->ann, file, "{'read-only': <false>}", NULL);
        test_detach(g->ann, anns);
        close(holder);
        test_snapshot_wait(g->before, 0);
        unlink(file);
}

/* Detaching one's own leaves alone what others have of the same file; and it is the owner at the attach that counts. */
static void test_owner_of_file_has_it_too(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);

        (void)userdata;
        g_free(test_attach_path(g->ann, file, NULL, NULL));
        g_autofree char *bobs = attach_as_bob(g, file, NULL);
        g_assert_cmpint(run_detach(TEST_ANN, file, NULL), ==, 0);
        g_assert_cmpuint(test_count_loops(), ==, 1);
        g_assert_cmpint(chown(file, TEST_CAROL, TEST_CAROL), ==, 0);
        GDBusConnection *carol = test_connect_as(TEST_CAROL);
        g_autoptr(TestCall) later = test_simple_call(carol, bobs, IMAGE, "Detach");
        test_assert_failed(later, "NotAuthorized", "*");
        test_detach(g->ann, bobs);
        test_disconnect(carol);
        unlink(file);
}

/* ---- Ranges ---- */

#define PART (UINT64_C(2) << 20)

/* Two file systems in one file, one after the other. */
static char *two_in_one(void)
{
        g_autofree char *first = test_image_ext4("file.img", "FIRST", TEST_ANN);
        g_autofree char *second = test_image_ext4("second.img", "SECOND", TEST_ANN);
        g_autofree char *contents = NULL;
        _cleanup_close_ int fd = test_open_as(TEST_ANN, first, O_WRONLY);
        gsize n;

        g_assert_true(g_file_get_contents(second, &contents, &n, NULL));
        g_assert_cmpuint(n, ==, PART);
        g_assert_cmpint(pwrite(fd, contents, n, PART), ==, (ssize_t)n);
        unlink(second);
        return g_steal_pointer(&first);
}

static void test_ranges(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = two_in_one();

        (void)userdata;
        g_autofree char *first =
                test_attach_path(g->ann, file, "{'read-only': <false>, 'size': <uint64 2097152>}", NULL);
        g_autofree char *second =
                test_attach_path(g->ann, file, "{'read-only': <false>, 'offset': <uint64 2097152>}", NULL);
        g_assert_cmpstr(first, !=, second);
        test_assert_hello(TEST_ANN, "/run/media/ann/FIRST");
        test_assert_hello(TEST_ANN, "/run/media/ann/SECOND");
        assert_attached_already(g->ann, file,
                                "{'offset': <uint64 1048576>, 'size': <uint64 1048576>, 'mount': <false>}", O_RDONLY,
                                "*(bytes 0 to 2097151)*");
        test_detach(g->ann, first);
        assert_attached_already(g->ann, file, NULL, O_RDONLY, "*(bytes 2097152 to its end)*");
        test_detach(g->ann, second);
        unlink(file);
}

/* What reaches to the end of the file does so when the file has grown; what has a size does not. */
static void test_ranges_grow(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = two_in_one();
        g_autofree char *first = test_attach_path(
                g->ann, file, "{'read-only': <false>, 'size': <uint64 2097152>, 'mount': <false>}", NULL);

        (void)userdata;
        test_image_resize(file, 3 * PART);
        g_autofree char *second = test_attach_path(
                g->ann, file, "{'read-only': <false>, 'offset': <uint64 2097152>, 'mount': <false>}", NULL);
        g_assert_cmpuint(test_property_number(g->ann, second, IMAGE, "Size"), ==, 2 * PART);
        test_image_resize(file, 4 * PART);
        assert_attached_already(g->ann, file, "{'read-only': <false>, 'offset': <uint64 6291456>, 'mount': <false>}",
                                O_RDWR, "*to its end*");
        test_detach(g->ann, first);
        test_detach(g->ann, second);
        unlink(file);
}

/* ---- at once ---- */

static void connect_all(GDBusConnection **buses)
{
        for (unsigned i = 0; i < CLIENTS; i++)
                buses[i] = test_connect_as(TEST_ANN);
}

static void disconnect_all(GDBusConnection **buses)
{
        for (unsigned i = 0; i < CLIENTS; i++)
                test_disconnect(buses[i]);
}

static void test_crowd_with_one_file(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);
        GDBusConnection *buses[CLIENTS];
        TestCall *calls[CLIENTS];

        (void)userdata;
        connect_all(buses);
        for (unsigned i = 0; i < CLIENTS; i++)
                calls[i] = test_attach_start(buses[i], fd, NULL);
        for (unsigned i = 0; i < CLIENTS; i++)
                test_call_wait(calls[i]);
        g_autofree char *image = g_strdup(image_of(calls[0]));
        for (unsigned i = 0; i < CLIENTS; i++) {
                g_assert_cmpstr(image_of(calls[i]), ==, image);
                g_assert_true(g_variant_equal(calls[i]->reply, calls[0]->reply));
        }
        g_assert_cmpuint(test_count_loops(), ==, 1);
        g_assert_cmpuint(test_signals_count(g->signals, "InterfacesAdded", image, IMAGE), ==, 1);
        for (unsigned i = 0; i < CLIENTS; i++)
                test_call_free(calls[i]);
        disconnect_all(buses);
        test_detach(g->ann, image);
        unlink(file);
}

static void test_crowd_with_many_files(TestGround *g, gconstpointer userdata)
{
        g_autofree char *original = test_image_squashfs("original.img", TEST_ANN);
        GDBusConnection *buses[CLIENTS];
        TestCall *attach[CLIENTS], *detach[CLIENTS];
        g_autoptr(GHashTable) images = g_hash_table_new(g_str_hash, g_str_equal);
        g_autoptr(GHashTable) places = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        int fds[CLIENTS];

        (void)g, (void)userdata;
        connect_all(buses);
        for (unsigned i = 0; i < CLIENTS; i++)
                fds[i] = test_image_memfd(original, false);
        for (unsigned i = 0; i < CLIENTS; i++)
                attach[i] = test_attach_start(buses[i], fds[i], "{'name': <'crowd'>}");
        for (unsigned i = 0; i < CLIENTS; i++) {
                g_auto(GStrv) mount_points = NULL;
                test_call_wait(attach[i]);
                g_assert_true(g_hash_table_add(images, (gpointer)image_of(attach[i])));
                g_variant_get_child(attach[i]->reply, 1, "^as", &mount_points);
                g_assert_true(g_hash_table_add(places, g_strdup(mount_points[0])));
                test_assert_hello(TEST_ANN, mount_points[0]);
        }
        g_assert_cmpuint(test_count_loops(), ==, CLIENTS);
        for (unsigned i = 0; i < CLIENTS; i++)
                detach[i] = test_call_start(buses[i], image_of(attach[i]), IMAGE, "Detach",
                                            g_variant_new_parsed("(@a{sv} {},)"), (TestCallOptions){ 0 });
        for (unsigned i = 0; i < CLIENTS; i++) {
                test_call_wait(detach[i]);
                test_assert_succeeded(detach[i]);
                test_call_free(detach[i]);
                test_call_free(attach[i]);
                close(fds[i]);
        }
        g_assert_cmpuint(test_count_loops(), ==, 0);
        disconnect_all(buses);
        unlink(original);
}

/*
 * Attach and Detach of one file, all at once, in any order: every call ends in one
 * of the ways that make sense, and the last Detach leaves nothing.
 */
static void test_quarrel(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        _cleanup_close_ int fd = test_open_as(TEST_ANN, file, O_RDONLY);
        TestCall *calls[CLIENTS];

        (void)userdata;
        for (unsigned i = 0; i < CLIENTS; i++)
                calls[i] = i % 2 == 0 ? test_attach_start(g->ann, fd, NULL)
                                      : test_call_start(g->ann, ROOT_PATH, MANAGER, "DetachAll",
                                                        g_variant_new_parsed("(@a{sv} {},)"), (TestCallOptions){ 0 });
        for (unsigned i = 0; i < CLIENTS; i++)
                test_call_wait(calls[i]);
        for (unsigned i = 0; i < CLIENTS; i++) {
                test_assert_succeeded(calls[i]);
                test_call_free(calls[i]);
        }
        g_autoptr(TestCall) last = test_simple_call(g->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(last);
        g_assert_cmpuint(test_count_loops(), ==, 0);
        unlink(file);
}

/* Two Detach calls for one image: the second finds it gone, or the same success; never a hang. */
static void test_detach_twice(TestGround *g, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("file.img", "LABEL", TEST_ANN);
        g_autofree char *image = test_attach_path(g->ann, file, NULL, NULL);
        TestCall *calls[4];
        unsigned n_ok = 0;

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                calls[i] = test_call_start(g->ann, image, IMAGE, "Detach", g_variant_new_parsed("(@a{sv} {},)"),
                                           (TestCallOptions){ 0 });
        for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
                test_call_wait(calls[i]);
                n_ok += calls[i]->error == NULL;
                test_call_free(calls[i]);
        }
        g_assert_cmpuint(n_ok, >=, 1);
        g_assert_cmpuint(test_count_loops(), ==, 0);
        unlink(file);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        TEST_ADD("/same-file/equal", NULL, test_equal);
        TEST_ADD("/same-file/other-path", NULL, test_other_path);
        TEST_ADD("/same-file/mount-later", NULL, test_equal_but_for_mounting);
        TEST_ADD("/same-file/asked", NULL, test_asked);
        TEST_ADD("/same-file/asked-for-more", NULL, test_asked_for_more);
        TEST_ADD("/same-file/options", NULL, test_options_of_existing);
        TEST_ADD("/same-file/conflicts", NULL, test_conflicts);
        TEST_ADD("/same-file/secrets", NULL, test_conflict_tells_no_secrets);
        TEST_ADD("/same-file/two-readers", NULL, test_two_readers);
        TEST_ADD("/same-file/owner-of-file", NULL, test_owner_of_file);
        TEST_ADD("/same-file/owner-of-file/busy", NULL, test_owner_of_file_busy);
        TEST_ADD("/same-file/owner-of-file/both", NULL, test_owner_of_file_has_it_too);
        TEST_ADD("/same-file/ranges", NULL, test_ranges);
        TEST_ADD("/same-file/ranges/growing", NULL, test_ranges_grow);
        TEST_ADD("/same-file/crowd/one-file", MANY, test_crowd_with_one_file);
        TEST_ADD("/same-file/crowd/many-files", MANY, test_crowd_with_many_files);
        TEST_ADD("/same-file/crowd/quarrel", MANY, test_quarrel);
        TEST_ADD("/same-file/crowd/detach", MANY, test_detach_twice);
        return g_test_run();
}
