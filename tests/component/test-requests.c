/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests that make no sense are refused in words that help, before anything is
 * done, and whatever else the caller may do. Nothing is ignored.
 */
#include "lib/bus.h"
#include "lib/daemon.h"
#include "lib/image.h"
#include "lib/polkit.h"
#include "lib/snapshot.h"
#include "lib/wait.h"

#include <fcntl.h>
#include <gio/gunixfdlist.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Ann, who may do everything; and a file system of hers. */
typedef struct Fixture {
        TestSnapshot *before;
        TestPolkit *polkit;
        TestDaemon *daemon;
        GDBusConnection *ann;
        char *file;
        int fd;
} Fixture;

/* @configuration: loopmount.conf as text, or NULL. */
static void fixture_set_up(Fixture *f, gconstpointer configuration)
{
        f->file = test_image_ext4("requests", "REQUESTS", TEST_ANN);
        f->polkit = test_polkit_start();
        test_polkit_set(f->polkit, NULL, "allow");
        f->daemon = test_daemon_start(configuration);
        f->ann = test_connect_as(TEST_ANN);
        f->fd = test_open_as(TEST_ANN, f->file, O_RDONLY);
        f->before = test_snapshot_take(0);
}

static void fixture_tear_down(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        test_snapshot_assert(f->before, 0);
        test_snapshot_free(f->before);
        test_disconnect(f->ann);
        test_daemon_stop(f->daemon);
        test_polkit_stop(f->polkit);
        close(f->fd);
        unlink(f->file);
        g_free(f->file);
}

/* ---- options ---- */

static void assert_invalid(GDBusConnection *bus, int fd, const char *options, const char *key)
{
        g_autofree char *pattern = g_strdup_printf("*%s*", key);

        g_test_message("%s", options);
        g_autoptr(TestCall) call = test_attach(bus, fd, options);
        test_assert_failed(call, "InvalidArgs", pattern);
}

static const struct {
        const char *key;
        const char *type;
} attach_options[] = {
        { "read-only", "b" },      { "offset", "t" },        { "size", "t" },     { "sector-size", "u" },
        { "partition-scan", "b" }, { "mount", "b" },         { "volumes", "au" }, { "filesystem-type", "s" },
        { "mount-options", "s" },  { "name", "s" },          { "settle", "b" },   { "direct-io", "s" },
        { "auto-detach", "b" },    { "session-bound", "b" },
};

/* A value of every type that an option could be confused with. */
static const struct {
        const char *type;
        const char *text;
} values[] = {
        { "b", "true" },          { "t", "uint64 512" },      { "x", "int64 512" }, { "u", "uint32 512" },
        { "i", "512" },           { "y", "byte 0x01" },       { "s", "'512'" },     { "au", "[uint32 1]" },
        { "as", "['512']" },      { "o", "objectpath '/1'" }, { "v", "<true>" },    { "d", "512.0" },
        { "a{sv}", "@a{sv} {}" }, { "(i)", "(1,)" },          { "ay", "b'512'" },   { "h", "handle 0" },
};

static void test_wrong_types(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(attach_options); i++)
                for (size_t j = 0; j < ELEMENTSOF(values); j++) {
                        if (streq(attach_options[i].type, values[j].type))
                                continue;
                        g_autofree char *options =
                                g_strdup_printf("{'%s': <%s>}", attach_options[i].key, values[j].text);
                        assert_invalid(f->ann, f->fd, options, attach_options[i].key);
                }
}

static void test_unknown_keys(Fixture *f, gconstpointer userdata)
{
        static const char *const keys[] = { "",        "readonly", "READ-ONLY", "read_only", "read-only ",  "fstype",
                                            "options", "uid",      "loop",      "%s%n",      "\xe2\x80\xae" };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                g_autofree char *options = g_strdup_printf("{'%s': <true>}", keys[i]);
                assert_invalid(f->ann, f->fd, options, keys[i]);
                /* One wrong key among right ones spoils it all. */
                g_autofree char *more = g_strdup_printf("{'read-only': <true>, '%s': <true>}", keys[i]);
                assert_invalid(f->ann, f->fd, more, keys[i]);
        }
}

static void test_key_given_twice(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        assert_invalid(f->ann, f->fd, "{'read-only': <true>, 'read-only': <false>}", "read-only");
        assert_invalid(f->ann, f->fd, "{'name': <'a'>, 'name': <'a'>}", "name");
        assert_invalid(f->ann, f->fd, "{'mount-options': <'noexec'>, 'mount-options': <'noatime'>}", "mount-options");
}

static void test_impossible_values(Fixture *f, gconstpointer userdata)
{
        static const struct {
                const char *options;
                const char *key;
        } cases[] = {
                { "{'sector-size': <uint32 1>}", "sector-size" },
                { "{'sector-size': <uint32 513>}", "sector-size" },
                { "{'sector-size': <uint32 8192>}", "sector-size" },
                { "{'sector-size': <uint32 4294967295>}", "sector-size" },
                { "{'direct-io': <'maybe'>}", "direct-io" },
                { "{'direct-io': <''>}", "direct-io" },
                { "{'offset': <uint64 1>}", "offset" },
                { "{'offset': <uint64 511>}", "offset" },
                { "{'sector-size': <uint32 4096>, 'offset': <uint64 512>}", "offset" },
                { "{'offset': <uint64 18446744073709551615>}", "offset" },
                { "{'offset': <uint64 18446744073709551104>, 'size': <uint64 1024>}", "offset" },
                { "{'offset': <uint64 9223372036854775808>}", "offset" },
                { "{'volumes': <[uint32 0, 0]>}", "volumes" },
                { "{'mount': <false>, 'volumes': <[uint32 1]>}", "mount" },
                { "{'mount': <false>, 'filesystem-type': <'ext4'>}", "mount" },
                { "{'mount': <false>, 'mount-options': <'noexec'>}", "mount" },
                { "{'mount': <false>, 'name': <'x'>}", "mount" },
                { "{'name': <''>}", "name" },
                { "{'name': <'/'>}", "name" },
                { "{'name': <'..'>}", "name" },
        };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                assert_invalid(f->ann, f->fd, cases[i].options, cases[i].key);
}

/* Only what is on the list is ever given to the kernel, in exactly that spelling. */
static void test_unknown_filesystems(Fixture *f, gconstpointer userdata)
{
        static const char *const types[] = { "tmpfs", "auto", "", "ext4 ", "EXT4", "ext4,squashfs", "fuse.ext4", "/" };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                g_autofree char *options = g_strdup_printf("{'filesystem-type': <'%s'>}", types[i]);
                g_autofree char *pattern = g_strdup_printf("*\"%s\"*", types[i]);
                g_autoptr(TestCall) call = test_attach(f->ann, f->fd, options);
                test_assert_failed(call, "UnsupportedFilesystem", pattern);
        }
}

/* Past the end of the file: the request is well-formed, the image is not there. */
static void test_outside_of_the_file(Fixture *f, gconstpointer userdata)
{
        static const char *const cases[] = {
                "{'offset': <uint64 2097152>}",       "{'offset': <uint64 2097664>}",
                "{'offset': <uint64 1099511627776>}", "{'size': <uint64 2097664>}",
                "{'size': <uint64 1099511627776>}",   "{'offset': <uint64 1048576>, 'size': <uint64 1048577>}",
        };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                g_test_message("%s", cases[i]);
                g_autoptr(TestCall) call = test_attach(f->ann, f->fd, cases[i]);
                g_assert_null(call->reply);
                g_autofree char *name = g_dbus_error_get_remote_error(call->error);
                g_assert_true(streq(name, ERROR_PREFIX "InvalidImage") || streq(name, ERROR_PREFIX "InvalidArgs"));
        }
}

static void test_options_not_permitted(Fixture *f, gconstpointer userdata)
{
        static const char *const forbidden[] = {
                "suid",
                "dev",
                "noexec,suid",
                "errors=panic",
                "journal_dev=1",
                "journal_path=/dev/vda",
                "uid=0",
                "nonsense",
                "source=/dev/vda",
                "loop=/dev/loop0",
                "uhelper=x",
                "x-mount.mkdir",
                "context=system_u:object_r:tmp_t:s0",
        };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(forbidden); i++) {
                g_autofree char *options = g_strdup_printf("{'mount-options': <'%s'>}", forbidden[i]);
                g_auto(GStrv) words = g_strsplit(forbidden[i], ",", -1);
                g_autofree char *pattern = g_strdup_printf("*%s*", words[g_strv_length(words) - 1]);

                g_test_message("%s", options);
                g_autoptr(TestCall) call = test_attach(f->ann, f->fd, options);
                test_assert_failed(call, "OptionNotPermitted", pattern);
        }
}

/* ---- methods whose options are none ---- */

static void assert_no_options(GDBusConnection *bus, const char *path, const char *interface, const char *method)
{
        g_autoptr(TestCall) call = test_call(bus, path, interface, method, g_variant_new_parsed("({'lazy': <true>},)"),
                                             (TestCallOptions){ 0 });
        g_test_message("%s", method);
        test_assert_failed(call, "InvalidArgs", "*lazy*");
}

static void test_other_methods(Fixture *f, gconstpointer userdata)
{
        g_autofree char *image = test_attach_path(f->ann, f->file, "{'mount': <false>}", NULL);
        g_autofree char *volume = test_volume_path(image, 0);

        (void)userdata;
        assert_no_options(f->ann, ROOT_PATH, MANAGER, "DetachAll");
        assert_no_options(f->ann, image, IMAGE, "Detach");
        assert_no_options(f->ann, image, IMAGE, "Rescan");
        assert_no_options(f->ann, image, IMAGE, "SetCapacity");
        assert_no_options(f->ann, volume, VOLUME, "Mount");
        assert_no_options(f->ann, volume, VOLUME, "Unmount");

        g_autoptr(TestCall) wrong = test_call(f->ann, image, IMAGE, "Detach", g_variant_new_parsed("({'force': <1>},)"),
                                              (TestCallOptions){ 0 });
        test_assert_failed(wrong, "InvalidArgs", "*force*");

        static const char *const bad[] = { "{'read-only': <true>}", "{'name': <1>}", "{'filesystem-type': <2>}",
                                           "{'mount-options': <true>}", "{'name': <'a'>, 'name': <'b'>}" };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                g_autoptr(TestCall) call =
                        test_call(f->ann, volume, VOLUME, "Mount", g_variant_new("(@a{sv})", test_options(bad[i])),
                                  (TestCallOptions){ 0 });
                test_assert_failed(call, "InvalidArgs", "*");
        }
        g_autoptr(TestCall) detached = test_simple_call(f->ann, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
}

/* ---- descriptors ---- */

/* Attach of @fd has to fail with that error and words that match. */
static void assert_bad_fd(Fixture *f, int fd, const char *options, const char *error, const char *pattern)
{
        g_assert_cmpint(fd, >=, 0);
        g_autoptr(TestCall) call = test_attach(f->ann, fd, options);
        test_assert_failed(call, error, pattern);
        close(fd);
}

static void test_open_modes(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        assert_bad_fd(f, open(f->file, O_PATH | O_CLOEXEC), NULL, "InvalidArgs", "*O_PATH*");
        assert_bad_fd(f, open(f->file, O_WRONLY | O_CLOEXEC), NULL, "InvalidArgs", "*read*");
        assert_bad_fd(f, open(f->file, O_RDWR | O_APPEND | O_CLOEXEC), NULL, "InvalidArgs", "*O_APPEND*");
        assert_bad_fd(f, open(f->file, O_RDONLY | O_APPEND | O_CLOEXEC), NULL, "InvalidArgs", "*O_APPEND*");
        /* Root could open it for writing: all the less may it. */
        assert_bad_fd(f, open(f->file, O_RDONLY | O_CLOEXEC), "{'read-only': <false>}", "InvalidArgs", "*read-only*");
}

static int pipe_end(void)
{
        int fds[2];
        g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
        close(fds[1]);
        return fds[0];
}

static void test_not_regular(Fixture *f, gconstpointer userdata)
{
        g_autofree char *fifo = test_path("fifo");

        (void)userdata;
        g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
        assert_bad_fd(f, open("/tmp", O_RDONLY | O_CLOEXEC), NULL, "InvalidImage", "*regular file*");
        assert_bad_fd(f, open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), NULL, "InvalidImage", "*regular files*");
        assert_bad_fd(f, pipe_end(), NULL, "InvalidImage", "*regular file*");
        assert_bad_fd(f, open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC), NULL, "InvalidImage", "*regular file*");
        assert_bad_fd(f, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), NULL, "InvalidImage", "*regular file*");
        assert_bad_fd(f, open("/dev/null", O_RDONLY | O_CLOEXEC), NULL, "InvalidImage", "*regular file*");
        unlink(fifo);
}

/* A device with a file system on it is no file either. */
static void test_device(Fixture *f, gconstpointer userdata)
{
        const char *argv[] = { "losetup", "--find", "--show", "--read-only", f->file, NULL };
        g_autofree char *device = NULL;

        (void)userdata;
        g_assert_cmpint(test_run_as(TEST_ROOT, argv, &device, NULL), ==, 0);
        g_strchomp(device);
        assert_bad_fd(f, open(device, O_RDONLY | O_CLOEXEC), NULL, "InvalidImage", "*regular file*");
        test_run("losetup", "--detach", device, NULL);
        test_snapshot_wait(f->before, 0);
}

static void assert_bad_image(Fixture *f, int fd, const char *pattern)
{
        g_assert_cmpint(fd, >=, 0);
        g_autoptr(TestCall) call = test_attach(f->ann, fd, NULL);
        test_assert_failed(call, "InvalidImage", pattern);
        close(fd);
}

static void test_no_image(Fixture *f, gconstpointer userdata)
{
        g_autofree char *empty = test_image_empty("empty", 0, TEST_ANN);
        g_autofree char *tiny = test_image_bytes("tiny", "tiny", 4, TEST_ANN);
        g_autofree char *zeros = test_image_empty("zeros", 1 << 20, TEST_ANN);

        (void)userdata;
        assert_bad_image(f, open(empty, O_RDONLY | O_CLOEXEC), "*empty*");
        assert_bad_image(f, open(tiny, O_RDONLY | O_CLOEXEC), "*smaller*sector*");
        assert_bad_image(f, open(zeros, O_RDONLY | O_CLOEXEC), "*recognised*");
        /* Regular files by their looks, but there is nothing in them that a loop device could show. */
        assert_bad_image(f, open("/proc/self/status", O_RDONLY | O_CLOEXEC), "*");
        assert_bad_image(f, open("/sys/kernel/uevent_seqnum", O_RDONLY | O_CLOEXEC), "*");
        unlink(empty);
        unlink(tiny);
        unlink(zeros);
}

/* ---- messages that no well-behaved client sends ---- */

/* Sends Attach with a body and descriptors that need not fit; gives the error's name. */
static char *raw_attach(Fixture *f, GVariant *body, const int *fds, int n_fds)
{
        g_autoptr(GDBusMessage) message = g_dbus_message_new_method_call(BUS_NAME, ROOT_PATH, MANAGER, "Attach");
        g_autoptr(GError) error = NULL;

        g_dbus_message_set_body(message, body);
        if (n_fds > 0) {
                g_autoptr(GUnixFDList) list = g_unix_fd_list_new();
                for (int i = 0; i < n_fds; i++)
                        g_unix_fd_list_append(list, fds[i], NULL);
                g_dbus_message_set_unix_fd_list(message, list);
        }
        g_autoptr(GDBusMessage) reply = g_dbus_connection_send_message_with_reply_sync(
                f->ann, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, TEST_DEADLINE_SEC * 1000, NULL, NULL, &error);
        g_assert_no_error(error);
        g_assert_cmpint(g_dbus_message_get_message_type(reply), ==, G_DBUS_MESSAGE_TYPE_ERROR);
        return g_strdup(g_dbus_message_get_error_name(reply));
}

/* An index that names no descriptor must never be taken for one of the daemon's own. */
static void test_descriptor_index(Fixture *f, gconstpointer userdata)
{
        static const gint32 indices[] = { 1, 2, 3, 4, 255, -1, -2, G_MAXINT32, G_MININT32 };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(indices); i++) {
                g_autofree char *name =
                        raw_attach(f, g_variant_new("(h@a{sv})", indices[i], test_options("{}")), &f->fd, 1);
                g_test_message("%d: %s", indices[i], name);
        }
        g_autofree char *none = raw_attach(f, g_variant_new("(h@a{sv})", 0, test_options("{}")), NULL, 0);
        g_assert_nonnull(none);
}

static void test_signatures(Fixture *f, gconstpointer userdata)
{
        static const char *const bodies[] = { "()",          "(@h 0,)",      "('x', @a{sv} {})",    "(@h 0, @a{ss} {})",
                                              "(@h 0, 'x')", "(@a{sv} {},)", "(@h 0, @a{sv} {}, 1)" };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
                g_autofree char *name = raw_attach(f, g_variant_new_parsed(bodies[i]), &f->fd, 1);
                /* libsystemd's own word for it, or the daemon's. */
                g_assert_true(g_str_has_suffix(name, ".Error.InvalidArgs"));
        }
}

/*
 * More descriptors than the method takes, and refused requests: nothing of that
 * stays open in the daemon. The bus may refuse to pass them on in the first place.
 */
static void test_surplus_descriptors(Fixture *f, gconstpointer userdata)
{
        int fds[8];

        (void)userdata;
        /* Once before the snapshot, for what the daemon opens at its first work and keeps. */
        g_autofree char *first = raw_attach(f, g_variant_new_parsed("(@h 0, {'x': <1>})"), &f->fd, 1);
        g_assert_cmpstr(first, ==, ERROR_PREFIX "InvalidArgs");
        g_autoptr(TestSnapshot) before = test_snapshot_take_idle(f->daemon->pid);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                fds[i] = f->fd;
        for (unsigned i = 0; i < 10; i++) {
                g_autofree char *one = raw_attach(f, g_variant_new_parsed("(@h 0, {'x': <1>})"), fds, 1);
                g_autofree char *many = raw_attach(f, g_variant_new_parsed("(@h 7, {'x': <1>})"), fds, ELEMENTSOF(fds));
                g_assert_cmpstr(one, ==, ERROR_PREFIX "InvalidArgs");
                g_assert_nonnull(many);
        }
        test_snapshot_wait(before, f->daemon->pid);
}

/* After all of this the daemon still does its work. */
static void test_still_there(Fixture *f, gconstpointer userdata)
{
        g_auto(GStrv) mount_points = NULL;
        g_autofree char *image = test_attach_path(f->ann, f->file, "{'name': <'good'>}", &mount_points);
        g_autofree char *hello = g_build_filename(mount_points[0], "hello", NULL);
        g_autofree char *text = test_read_as(TEST_ANN, hello);

        (void)userdata;
        g_assert_cmpstr(mount_points[0], ==, "/run/media/ann/good");
        g_assert_cmpstr(text, ==, TEST_HELLO);
        g_autoptr(TestCall) detached = test_simple_call(f->ann, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
}

/* ---- limits ---- */

static void test_pending_requests(Fixture *f, gconstpointer userdata)
{
        guint64 max = test_property_number(f->ann, ROOT_PATH, MANAGER, "MaxRequestsPerUser");
        g_autoptr(GPtrArray) calls = g_ptr_array_new();
        GDBusConnection *bob = test_connect_as(TEST_BOB);
        g_autofree char *bobs = test_image_ext4("requests-of-bob", NULL, TEST_BOB);

        (void)userdata;
        g_assert_cmpuint(max, ==, 8);
        test_polkit_set(f->polkit, NULL, "silent");
        for (guint64 i = 0; i < max; i++)
                g_ptr_array_add(calls, test_attach_start(f->ann, f->fd, NULL));
        test_polkit_wait_asked(f->polkit, (unsigned)max);
        g_autoptr(TestCall) surplus = test_attach(f->ann, f->fd, NULL);
        test_assert_failed(surplus, "LimitExceeded", "*");

        /* Others notice nothing, nor does ann who only looks. */
        test_polkit_set(f->polkit, NULL, "allow");
        g_autofree char *image = test_attach_path(bob, bobs, NULL, NULL);
        g_autoptr(TestCall) detached = test_simple_call(bob, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
        g_assert_cmpuint(test_property_number(f->ann, ROOT_PATH, MANAGER, "MaxRequestsPerUser"), ==, max);

        test_polkit_release(f->polkit, "deny");
        for (guint i = 0; i < calls->len; i++) {
                TestCall *call = g_ptr_array_index(calls, i);
                test_call_wait(call);
                test_assert_failed(call, "NotAuthorized", "*");
                test_call_free(call);
        }
        test_disconnect(bob);
        unlink(bobs);
}

/* ---- what the bus is asked ---- */

/* Of all messages on the bus; counted in GDBus's thread. */
typedef struct Overheard {
        gint n_questions, n_matches, n_ends;
} Overheard;

/* Whoever overhears must not answer: nothing goes on from here. */
static GDBusMessage *overhear(GDBusConnection *bus, GDBusMessage *message, gboolean incoming, gpointer userdata)
{
        Overheard *overheard = userdata;
        const char *member = g_dbus_message_get_member(message);

        (void)bus;
        if (!incoming || g_dbus_message_get_message_type(message) != G_DBUS_MESSAGE_TYPE_METHOD_CALL)
                return message;
        if (g_strcmp0(member, "GetConnectionCredentials") == 0)
                g_atomic_int_inc(&overheard->n_questions);
        else if (g_strcmp0(member, "AddMatch") == 0 || g_strcmp0(member, "RemoveMatch") == 0)
                g_atomic_int_inc(&overheard->n_matches);
        else if (g_strcmp0(member, "Get") == 0)
                g_atomic_int_inc(&overheard->n_ends);
        g_object_unref(message);
        return NULL;
}

static bool has_ended(gpointer userdata)
{
        return g_atomic_int_get(&((Overheard *)userdata)->n_ends) > 0;
}

/* Who calls, and that he leaves: both once for many calls. */
static void test_questions(Fixture *f, gconstpointer userdata)
{
        GDBusConnection *monitor = test_connect_as(TEST_ROOT);
        g_autoptr(GError) error = NULL;
        Overheard overheard = { 0 };

        (void)userdata;
        /* Before it is one: an answer to what it overhears would end it. */
        (void)g_dbus_connection_add_filter(monitor, overhear, &overheard, NULL);
        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
                monitor, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Monitoring",
                "BecomeMonitor", g_variant_new_parsed("(@as [], uint32 0)"), NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL,
                &error);
        g_assert_no_error(error);
        g_assert_nonnull(reply);
        for (unsigned i = 0; i < 3; i++)
                g_variant_unref(
                        test_call_ok(f->ann, ROOT_PATH, MANAGER, "DetachAll", g_variant_new_parsed("(@a{sv} {},)")));
        g_variant_unref(
                test_call_ok(f->ann, ROOT_PATH, DBUS_PROPERTIES, "Get", g_variant_new("(ss)", MANAGER, "Version")));
        test_wait_quiet(has_ended, &overheard, "the last call to be overheard");
        g_assert_cmpint(g_atomic_int_get(&overheard.n_questions), ==, 1);
        g_assert_cmpint(g_atomic_int_get(&overheard.n_matches), ==, 1);
        g_dbus_connection_close_sync(monitor, NULL, NULL);
        g_object_unref(monitor);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add(path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)
        ADD("/requests/options/wrong-types", test_wrong_types);
        ADD("/requests/options/unknown-keys", test_unknown_keys);
        ADD("/requests/options/twice", test_key_given_twice);
        ADD("/requests/options/impossible", test_impossible_values);
        ADD("/requests/options/filesystems", test_unknown_filesystems);
        ADD("/requests/options/outside", test_outside_of_the_file);
        ADD("/requests/options/not-permitted", test_options_not_permitted);
        ADD("/requests/options/other-methods", test_other_methods);
        ADD("/requests/descriptors/modes", test_open_modes);
        ADD("/requests/descriptors/not-regular", test_not_regular);
        ADD("/requests/descriptors/device", test_device);
        ADD("/requests/descriptors/no-image", test_no_image);
        ADD("/requests/descriptors/index", test_descriptor_index);
        ADD("/requests/descriptors/surplus", test_surplus_descriptors);
        ADD("/requests/signatures", test_signatures);
        ADD("/requests/still-there", test_still_there);
        ADD("/requests/questions", test_questions);
        g_test_add("/requests/limits/pending", Fixture, "[Limits]\nMaxRequestsPerUser=8\n", fixture_set_up,
                   test_pending_requests, fixture_tear_down);
        return g_test_run();
}
