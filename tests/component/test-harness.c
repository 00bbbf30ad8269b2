/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tests' own ground: what the namespaces, the library and the scripted polkit
 * promise. A test that relies on them can only be as true as they are.
 */
#include "lib/bus.h"
#include "lib/fuse-file.h"
#include "lib/image.h"
#include "lib/polkit.h"
#include "lib/snapshot.h"
#include "lib/wait.h"

#include <fcntl.h>

/* ---- users ---- */

static guint32 uid_on_the_bus(GDBusConnection *bus)
{
        g_autoptr(GError) error = NULL;
        guint32 uid;

        g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
                bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixUser",
                g_variant_new("(s)", g_dbus_connection_get_unique_name(bus)), NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL,
                &error);
        g_assert_no_error(error);
        g_variant_get(reply, "(u)", &uid);
        return uid;
}

static void test_users_on_the_bus(void)
{
        static const uid_t uids[] = { TEST_ROOT, TEST_ANN, TEST_BOB };

        for (size_t i = 0; i < ELEMENTSOF(uids); i++) {
                GDBusConnection *bus = test_connect_as(uids[i]);
                g_assert_cmpuint(uid_on_the_bus(bus), ==, uids[i]);
                test_disconnect(bus);
        }
}

static void test_users_and_files(void)
{
        g_autofree char *path = test_image_bytes("ann's", "secret", 6, TEST_ANN);
        g_autofree char *text = test_read_as(TEST_ANN, path);

        g_assert_cmpstr(text, ==, "secret");
        g_assert_cmpint(test_open_errno_as(TEST_BOB, path, O_RDONLY), ==, EACCES);
        g_assert_cmpint(test_open_errno_as(TEST_ROOT, path, O_RDONLY), ==, 0);
        g_assert_cmpuint(geteuid(), ==, 0);

        const char *argv[] = { "id", "-un", NULL };
        g_autofree char *name = NULL;
        g_assert_cmpint(test_run_as(TEST_BOB, argv, &name, NULL), ==, 0);
        g_assert_cmpstr(name, ==, "bob\n");
}

/* ---- snapshots ---- */

static char *attach_with_losetup(const char *path)
{
        const char *argv[] = { "losetup", "--find", "--show", "--read-only", path, NULL };
        char *device = NULL;
        g_assert_cmpint(test_run_as(TEST_ROOT, argv, &device, NULL), ==, 0);
        return g_strchomp(device);
}

static void test_snapshot_sees_what_is_left(void)
{
        g_autofree char *path = test_image_ext4("left", "LEFT", TEST_ANN);
        g_autoptr(TestSnapshot) before = test_snapshot_take(0);
        g_autofree char *device = attach_with_losetup(path);

        test_run("mkdir", "-p", "/run/media/ann/LEFT", "/run/loopmount/x", NULL);
        test_run("mount", "-o", "ro", device, "/run/media/ann/LEFT", NULL);

        g_autoptr(TestSnapshot) after = test_snapshot_take(0);
        g_autofree char *difference = test_snapshot_difference(before, after);
        g_autofree char *wanted = g_strdup_printf("+ loop %s %s\n"
                                                  "+ mount /run/media/ann/LEFT ext4 %s\n"
                                                  "+ mount point /run/media/ann/\n"
                                                  "+ mount point /run/media/ann/LEFT/\n"
                                                  "+ record /run/loopmount/x/\n",
                                                  device + strlen("/dev/"), path, device);
        g_assert_cmpstr(difference, ==, wanted);
        g_assert_cmpuint(test_snapshot_count(after, "loop "), ==, test_snapshot_count(before, "loop ") + 1);

        test_run("umount", "/run/media/ann/LEFT", NULL);
        test_run("losetup", "--detach", device, NULL);
        test_run("rm", "-r", "/run/media/ann", "/run/loopmount", NULL);
        test_snapshot_wait(before, 0);
}

/* The script and the library must see the same. */
static void test_snapshot_script(void)
{
        g_autofree char *path = test_image_empty("left-too", 1 << 20, TEST_ANN);
        g_autofree char *script = g_build_filename(g_getenv("LOOPMOUNT_SOURCE"), "tests/harness/snapshot", NULL);
        const char *argv[] = { script, NULL };
        g_autofree char *before = NULL, *between = NULL, *after = NULL;

        g_assert_cmpint(test_run_as(TEST_ROOT, argv, &before, NULL), ==, 0);
        g_autofree char *device = attach_with_losetup(path);
        g_assert_cmpint(test_run_as(TEST_ROOT, argv, &between, NULL), ==, 0);
        g_assert_nonnull(strstr(between, path));
        g_assert_null(strstr(before, path));
        test_run("losetup", "--detach", device, NULL);
        g_assert_cmpint(test_run_as(TEST_ROOT, argv, &after, NULL), ==, 0);
        g_assert_cmpstr(before, ==, after);
}

static void test_memfd_is_ours(void)
{
        g_autofree char *path = test_image_ext4("memory", NULL, TEST_ANN);
        _cleanup_close_ int fd = test_image_memfd(path, true);
        g_autofree char *in_proc = g_strdup_printf("/proc/%d/fd/%d", getpid(), fd);
        g_autoptr(TestSnapshot) before = test_snapshot_take(0);
        g_autofree char *device = attach_with_losetup(in_proc);
        g_autoptr(TestSnapshot) after = test_snapshot_take(0);

        g_assert_cmpuint(test_snapshot_count(after, "loop "), ==, test_snapshot_count(before, "loop ") + 1);
        test_run("losetup", "--detach", device, NULL);
        test_snapshot_wait(before, 0);
}

/* ---- a file that keeps silent ---- */

static void on_end(GPid pid, int status, gpointer userdata)
{
        (void)pid;
        g_assert_cmpint(status, ==, 0);
        *(bool *)userdata = true;
}

static void test_fuse_file(void)
{
        g_autofree char *backing = test_image_ext4("shown", "SHOWN", TEST_ANN);
        TestFuseFile *fuse = test_fuse_file_start("fuse", backing, TEST_ANN, false);
        g_autofree char *path = g_strdup(test_fuse_file_path(fuse));
        const char *argv[] = { "cmp", path, backing, NULL };

        g_assert_cmpint(test_run_as(TEST_ANN, argv, NULL, NULL), ==, 0);
        g_assert_cmpint(test_open_errno_as(TEST_BOB, path, O_RDONLY), ==, EACCES);
        g_assert_cmpint(test_open_errno_as(TEST_ROOT, path, O_RDONLY), ==, EACCES);
        test_fuse_file_stop(fuse);

        fuse = test_fuse_file_start("fuse", backing, TEST_ANN, true);
        test_fuse_file_silence(fuse, 0);
        g_autoptr(GError) error = NULL;
        bool ended = false;
        GPid pid;
        g_spawn_async("/", (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid,
                      &error);
        g_assert_no_error(error);
        g_child_watch_add(pid, on_end, &ended);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "a reader to be stuck");
        g_assert_false(ended);
        test_fuse_file_resume(fuse);
        test_wait_flag(&ended, "the reader to get on");
        test_fuse_file_stop(fuse);
        unlink(backing);
}

/* ---- the scripted polkit ---- */

typedef struct Answer {
        bool done;
        GVariant *reply;
        char *error;
} Answer;

static void on_answer(GObject *source, GAsyncResult *result, gpointer userdata)
{
        g_autoptr(GError) error = NULL;
        Answer *answer = userdata;

        answer->reply = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
        if (error)
                answer->error = g_dbus_error_get_remote_error(error);
        answer->done = true;
}

static void answer_clear(Answer *answer)
{
        g_clear_pointer(&answer->reply, g_variant_unref);
        g_clear_pointer(&answer->error, g_free);
        answer->done = false;
}

static void ask(GDBusConnection *bus, const char *action, unsigned flags, const char *id, Answer *answer)
{
        GVariant *parameters = g_variant_new_parsed("(('system-bus-name', {'name': <':1.0'>}), %s, {'key': 'value'}, "
                                                    "%u, %s)",
                                                    action, flags, id);
        g_dbus_connection_call(bus, "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
                               "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization", parameters, NULL,
                               G_DBUS_CALL_FLAGS_NONE, -1, NULL, on_answer, answer);
}

static void assert_verdict(GDBusConnection *bus, const char *action, unsigned flags, const char *text)
{
        Answer answer = { 0 };

        ask(bus, action, flags, "", &answer);
        test_wait_flag(&answer.done, "an answer of the scripted polkit");
        g_autofree char *got = answer.error ? g_strdup(answer.error) : g_variant_print(answer.reply, FALSE);
        g_assert_cmpstr(got, ==, text);
        answer_clear(&answer);
}

static void test_polkit_verdicts(void)
{
        TestPolkit *polkit = test_polkit_start();
        GDBusConnection *bus = test_connect_as(TEST_ROOT);

        assert_verdict(bus, "a", 0, "((false, false, {'polkit.result': 'no'}),)");
        test_polkit_set(polkit, "b", "allow");
        assert_verdict(bus, "b", 0, "((true, false, {'polkit.result': 'yes'}),)");
        assert_verdict(bus, "a", 0, "((false, false, {'polkit.result': 'no'}),)");
        test_polkit_set(polkit, NULL, "challenge");
        assert_verdict(bus, "a", 0, "((false, true, {'polkit.result': 'no'}),)");
        assert_verdict(bus, "a", 1, "((true, false, {'polkit.result': 'yes'}),)");
        test_polkit_set(polkit, NULL, "dismiss");
        assert_verdict(bus, "a", 1, "org.freedesktop.PolicyKit1.Error.Cancelled");
        test_polkit_set(polkit, NULL, "error");
        assert_verdict(bus, "a", 1, "org.freedesktop.PolicyKit1.Error.Failed");
        test_polkit_set(polkit, NULL, "malformed");
        assert_verdict(bus, "a", 1, "('yes', 1)");
        test_polkit_set(polkit, NULL, "empty");
        assert_verdict(bus, "a", 1, "()");
        test_polkit_set(polkit, NULL, "allow");
        test_polkit_set_delay(polkit, 20);
        assert_verdict(bus, "a", 1, "((true, false, {'polkit.result': 'yes'}),)");

        g_autoptr(GPtrArray) checks = test_polkit_checks(polkit);
        g_assert_cmpuint(checks->len, ==, 10);
        const TestPolkitCheck *second = g_ptr_array_index(checks, 1);
        g_assert_cmpstr(second->action, ==, "b");
        g_assert_cmpstr(second->subject_kind, ==, "system-bus-name");
        g_assert_cmpstr(second->subject_name, ==, ":1.0");
        g_assert_cmpuint(second->flags, ==, 0);
        g_assert_cmpuint(polkit->n_asked, ==, 10);

        test_disconnect(bus);
        test_polkit_stop(polkit);
}

static void test_polkit_silence(void)
{
        TestPolkit *polkit = test_polkit_start();
        GDBusConnection *bus = test_connect_as(TEST_ROOT);
        Answer first = { 0 }, second = { 0 };

        test_polkit_set(polkit, NULL, "silent");
        ask(bus, "a", 0, "first", &first);
        ask(bus, "a", 0, "second", &second);
        test_polkit_wait_asked(polkit, 2);
        g_assert_cmpuint(test_polkit_count_pending(polkit), ==, 2);
        g_assert_false(first.done);

        test_polkit_release(polkit, "allow");
        test_wait_flag(&first.done, "the first released answer");
        test_wait_flag(&second.done, "the second released answer");
        g_assert_nonnull(second.reply);
        g_assert_cmpuint(test_polkit_count_pending(polkit), ==, 0);

        answer_clear(&first);
        answer_clear(&second);
        test_disconnect(bus);
        test_polkit_stop(polkit);
}

static void test_polkit_gone(void)
{
        TestPolkit *polkit = test_polkit_start();
        GDBusConnection *bus = test_connect_as(TEST_ROOT);

        test_polkit_set(polkit, NULL, "gone");
        assert_verdict(bus, "a", 0, "org.freedesktop.DBus.Error.NoReply");
        test_polkit_stop(polkit);
        assert_verdict(bus, "a", 0, "org.freedesktop.DBus.Error.ServiceUnknown");
        test_disconnect(bus);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/harness/users/bus", test_users_on_the_bus);
        g_test_add_func("/harness/users/files", test_users_and_files);
        g_test_add_func("/harness/snapshot/left", test_snapshot_sees_what_is_left);
        g_test_add_func("/harness/snapshot/script", test_snapshot_script);
        g_test_add_func("/harness/snapshot/memfd", test_memfd_is_ours);
        g_test_add_func("/harness/fuse-file", test_fuse_file);
        g_test_add_func("/harness/polkit/verdicts", test_polkit_verdicts);
        g_test_add_func("/harness/polkit/silence", test_polkit_silence);
        g_test_add_func("/harness/polkit/gone", test_polkit_gone);
        return g_test_run();
}
