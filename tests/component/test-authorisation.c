/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may do what. The methods are taken from the live introspection, so that a
 * new one is covered before anybody thinks of it: it has to be refused to a
 * stranger, or to be named here as one that gives nothing away.
 */
#include "lib/bus.h"
#include "lib/daemon.h"
#include "lib/image.h"
#include "lib/polkit.h"
#include "lib/snapshot.h"
#include "lib/wait.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>

#define ANYTHING ""

/*
 * Methods that a stranger may call, and what they give him then (as GVariant
 * text): they only ever see or touch the images of their caller, who has none; or
 * tell what everybody may read in properties.
 */
static const struct {
        const char *interface;
        const char *method;
        const char *reply;
} harmless[] = {
        { MANAGER, "FindByFile", "(@ao [],)" },
        { MANAGER, "DetachAll", "()" },
        { MANAGER, "ListImages", ANYTHING },
        { MANAGER, "Release", "()" },
};

/* An image of root's, mounted; bob and nobody, to whom it is nothing. */
typedef struct Fixture {
        TestSnapshot *before;
        TestPolkit *polkit;
        TestDaemon *daemon;
        GDBusConnection *root;
        GDBusConnection *ann;
        GDBusConnection *bob;
        GDBusConnection *nobody;
        char *file;
        char *bobs_file;
        char *anns_file;
        char *image;
        char *volume;
        int log; /* 0: none of its own */
} Fixture;

static void set_up(Fixture *f, bool with_polkit)
{
        f->file = test_image_ext4("of-root", "OF-ROOT", TEST_ROOT);
        f->anns_file = test_image_ext4("of-ann", "OF-ANN", TEST_ANN);
        f->bobs_file = test_image_ext4("of-bob", "OF-BOB", TEST_BOB);
        f->polkit = with_polkit ? test_polkit_start() : NULL;
        f->daemon = test_daemon_start(NULL);
        f->before = test_snapshot_take(0);
        f->root = test_connect_as(TEST_ROOT);
        f->ann = test_connect_as(TEST_ANN);
        f->bob = test_connect_as(TEST_BOB);
        f->nobody = test_connect_as(TEST_NOBODY);
        f->image = test_attach_path(f->root, f->file, NULL, NULL);
        f->volume = test_volume_path(f->image, 0);
}

static void fixture_set_up(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        set_up(f, true);
}

/* What the daemon logs goes into the file that errors are written to, which has no name. */
static void fixture_set_up_with_log(Fixture *f, gconstpointer userdata)
{
        _cleanup_close_ int own = dup(STDERR_FILENO);

        (void)userdata;
        /* With that it would write to the journal. */
        g_unsetenv("JOURNAL_STREAM");
        f->log = memfd_create("log", MFD_CLOEXEC);
        g_assert_cmpint(dup2(f->log, STDERR_FILENO), ==, STDERR_FILENO);
        set_up(f, true);
        g_assert_cmpint(dup2(own, STDERR_FILENO), ==, STDERR_FILENO);
}

static void fixture_set_up_without_polkit(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        set_up(f, false);
}

/* No control groups, so that there is no device guard. */
static void fixture_set_up_without_guard(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        g_assert_cmpint(umount2("/sys/fs/cgroup", MNT_DETACH), ==, 0);
        set_up(f, true);
}

static void fixture_tear_down(Fixture *f, gconstpointer userdata)
{
        g_autoptr(TestCall) detached = test_simple_call(f->root, f->image, IMAGE, "Detach");

        (void)userdata;
        test_assert_succeeded(detached);
        test_snapshot_assert(f->before, 0);
        test_snapshot_free(f->before);
        test_disconnect(f->root);
        test_disconnect(f->ann);
        test_disconnect(f->bob);
        test_disconnect(f->nobody);
        test_daemon_stop(f->daemon);
        if (f->polkit)
                test_polkit_stop(f->polkit);
        if (f->log > 0)
                close(f->log);
        unlink(f->file);
        unlink(f->anns_file);
        unlink(f->bobs_file);
        g_free(f->file);
        g_free(f->anns_file);
        g_free(f->bobs_file);
        g_free(f->image);
        g_free(f->volume);
}

/* ---- every method ---- */

/* A value for an argument of the type; "h" is the index of the one fd that goes along. */
static GVariant *plausible(const char *signature)
{
        if (streq(signature, "h"))
                return g_variant_new_handle(0);
        if (streq(signature, "a{sv}"))
                return test_options("{}");
        if (streq(signature, "s"))
                return g_variant_new_string("x");
        g_error("say here what to give for an argument of type %s", signature);
}

static GVariant *arguments_of(const GDBusMethodInfo *method)
{
        GVariantBuilder builder;

        g_variant_builder_init(&builder, G_VARIANT_TYPE_TUPLE);
        for (GDBusArgInfo **argument = method->in_args; argument && *argument; argument++)
                g_variant_builder_add_value(&builder, plausible((*argument)->signature));
        return g_variant_builder_end(&builder);
}

static const char *harmless_reply(const char *interface, const char *method)
{
        for (size_t i = 0; i < ELEMENTSOF(harmless); i++)
                if (streq(harmless[i].interface, interface) && streq(harmless[i].method, method))
                        return harmless[i].reply;
        return NULL;
}

/* The error of everything that is refused: a person who closes the dialogue is told something else. */
static const char *refusal = "NotAuthorized";

/* The bus lets a file through to those only that take one. */
static bool takes_file(const GDBusMethodInfo *method)
{
        return method->in_args[0] && g_str_equal(method->in_args[0]->signature, "h");
}

static void assert_refused(GDBusConnection *bus, const char *path, const char *interface, const GDBusMethodInfo *method,
                           int fd, bool interactive)
{
        g_autoptr(TestCall) call =
                test_call(bus, path, interface, method->name, arguments_of(method),
                          (TestCallOptions){ .fd = takes_file(method) ? fd : 0, .interactive = interactive });
        const char *wanted = harmless_reply(interface, method->name);

        g_test_message("%s.%s: %s", interface, method->name, call->error ? call->error->message : "no error");
        if (!wanted) {
                test_assert_failed(call, refusal, "*");
                return;
        }
        test_assert_succeeded(call);
        g_autofree char *reply = g_variant_print(call->reply, TRUE);
        if (!streq(wanted, ANYTHING))
                g_assert_cmpstr(reply, ==, wanted);
}

/* Gives how many methods there were. */
static unsigned refuse_all_of(GDBusConnection *bus, const char *path, int fd, bool interactive)
{
        g_autoptr(GVariant) reply = test_call_ok(bus, path, DBUS_INTROSPECTABLE, "Introspect", NULL);
        g_autoptr(GError) error = NULL;
        const char *xml;
        unsigned n = 0;

        g_variant_get(reply, "(&s)", &xml);
        GDBusNodeInfo *node = g_dbus_node_info_new_for_xml(xml, &error);
        g_assert_no_error(error);
        for (GDBusInterfaceInfo **i = node->interfaces; i && *i; i++) {
                /* The standard interfaces only read. */
                if (g_str_has_prefix((*i)->name, "org.freedesktop.DBus."))
                        continue;
                for (GDBusMethodInfo **m = (*i)->methods; m && *m; m++, n++)
                        assert_refused(bus, path, (*i)->name, *m, fd, interactive);
        }
        g_dbus_node_info_unref(node);
        return n;
}

/* As @bus's user, against everything there is; none of it may have an effect. */
static void refuse_everything(Fixture *f, GDBusConnection *bus, bool interactive)
{
        g_autoptr(TestSnapshot) before = test_snapshot_take(0);
        g_autofree char *file = test_image_ext4("of-stranger", "STRANGER", test_bus_uid(bus));
        _cleanup_close_ int fd = test_open_as(test_bus_uid(bus), file, O_RDONLY);

        g_assert_cmpuint(refuse_all_of(bus, ROOT_PATH, fd, interactive), >=, 3);
        g_assert_cmpuint(refuse_all_of(bus, f->image, fd, interactive), >=, 3);
        g_assert_cmpuint(refuse_all_of(bus, f->volume, fd, interactive), >=, 2);
        unlink(file);
        test_snapshot_assert(before, 0);
}

/* What is no answer is no permission, but nobody is told that polkit has said no. */
static const char *refusal_of(const char *verdict)
{
        if (streq(verdict, "dismiss"))
                return "Cancelled";
        return streq(verdict, "deny") || streq(verdict, "challenge") ? "NotAuthorized" : "Failed";
}

static void test_denied(Fixture *f, gconstpointer verdict)
{
        refusal = refusal_of(verdict);
        test_polkit_set(f->polkit, NULL, verdict);
        refuse_everything(f, f->bob, false);
        refuse_everything(f, f->nobody, false);
        g_assert_cmpuint(f->polkit->n_asked, >, 0);
        refuse_everything(f, f->bob, !streq(verdict, "challenge"));
        refuse_everything(f, f->nobody, !streq(verdict, "challenge"));
        refusal = "NotAuthorized";
}

static void test_denied_without_polkit(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        refuse_everything(f, f->bob, false);
        refuse_everything(f, f->bob, true);
        refuse_everything(f, f->nobody, true);
}

static TestCall *attach_start(GDBusConnection *bus, const char *path, bool interactive)
{
        _cleanup_close_ int fd = test_open_as(test_bus_uid(bus), path, O_RDONLY);
        return test_call_start(bus, ROOT_PATH, MANAGER, "Attach", g_variant_new_parsed("(@h 0, @a{sv} {})"),
                               (TestCallOptions){ .fd = fd, .interactive = interactive });
}

/* polkit dies over each question in turn: nothing is permitted, and nobody waits. */
static void test_polkit_dies(Fixture *f, gconstpointer userdata)
{
        _cleanup_close_ int fd = test_open_as(TEST_BOB, f->bobs_file, O_RDONLY);

        (void)userdata;
        test_polkit_set(f->polkit, NULL, "gone");
        g_autoptr(TestCall) attach =
                test_call(f->bob, ROOT_PATH, MANAGER, "Attach", g_variant_new_parsed("(@h 0, @a{sv} {})"),
                          (TestCallOptions){ .fd = fd, .interactive = true });
        test_assert_failed(attach, "Failed", "*polkit*did not answer*");
        g_autoptr(TestCall) without = attach_start(f->bob, f->bobs_file, true);
        test_call_wait(without);
        test_assert_failed(without, "NotAuthorized", "*polkit is not running*");

        test_polkit_stop(f->polkit);
        f->polkit = test_polkit_start();
        test_polkit_set(f->polkit, NULL, "gone");
        g_autoptr(TestCall) detach = test_simple_call(f->bob, f->image, IMAGE, "Detach");
        test_assert_failed(detach, "Failed", "*polkit*did not answer*");

        /* With polkit back, all goes on. */
        test_polkit_stop(f->polkit);
        f->polkit = test_polkit_start();
        test_polkit_set(f->polkit, NULL, "allow");
        g_autofree char *image = test_attach_path(f->bob, f->bobs_file, NULL, NULL);
        g_autoptr(TestCall) detached = test_simple_call(f->bob, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
}

/* The caller learns that polkit did not answer; why is for the administrator. */
static void test_polkit_fails(Fixture *f, gconstpointer userdata)
{
        char text[1024] = "";
        const char *said;

        (void)userdata;
        test_polkit_set(f->polkit, NULL, "error");
        for (unsigned i = 0; i < 2; i++) {
                g_autoptr(TestCall) detach = test_simple_call(f->bob, f->image, IMAGE, "Detach");
                test_assert_failed(detach, "Failed", "*polkit*did not answer*");
        }
        g_assert_cmpint(pread(f->log, text, sizeof(text) - 1, 0), >, 0);
        said = strstr(text, "polkit gives no answer: org.freedesktop.");
        if (!said || strstr(said + 1, "polkit"))
                g_error("logged is: %s", text);
}

static void test_root_needs_no_polkit(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        g_autofree char *image = test_attach_path(f->root, f->bobs_file, NULL, NULL);
        g_autofree char *volume = test_volume_path(image, 0);
        g_autoptr(TestCall) rescanned = test_simple_call(f->root, image, IMAGE, "Rescan");
        test_assert_succeeded(rescanned);
        g_autoptr(TestCall) resized = test_simple_call(f->root, image, IMAGE, "SetCapacity");
        test_assert_succeeded(resized);
        g_autoptr(TestCall) unmounted = test_simple_call(f->root, volume, VOLUME, "Unmount");
        test_assert_succeeded(unmounted);
}

/* ---- what polkit is asked ---- */

static char *make_image(const char *type)
{
        if (streq(type, "ext2")) {
                char *path = test_image_empty("of-type", 1 << 20, TEST_ANN);

                test_run("mke2fs", "-q", "-t", "ext2", path, NULL);
                return path;
        }
        if (streq(type, "ext4"))
                return test_image_ext4("of-type", NULL, TEST_ANN);
        if (streq(type, "squashfs"))
                return test_image_squashfs("of-type", TEST_ANN);
        if (streq(type, "xfs"))
                return test_image_xfs("of-type", NULL, TEST_ANN);
        return test_image_btrfs("of-type", NULL, TEST_ANN);
}

static void detach_reply(GDBusConnection *bus, TestCall *attached)
{
        const char *image;

        test_assert_succeeded(attached);
        g_variant_get_child(attached->reply, 0, "&o", &image);
        g_autoptr(TestCall) detached = test_simple_call(bus, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
}

static void test_question(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        test_polkit_set(f->polkit, NULL, "deny");
        g_autoptr(TestCall) attach = attach_start(f->ann, f->anns_file, false);
        test_call_wait(attach);
        test_assert_failed(attach, "NotAuthorized", "*");

        g_autoptr(GPtrArray) checks = test_polkit_checks(f->polkit);
        g_assert_cmpuint(checks->len, ==, 1);
        const TestPolkitCheck *check = g_ptr_array_index(checks, 0);
        g_assert_cmpstr(check->subject_kind, ==, "system-bus-name");
        g_assert_cmpstr(check->subject_name, ==, g_dbus_connection_get_unique_name(f->ann));
        g_assert_true(g_str_has_prefix(check->action, "org.loopmount1."));
        g_assert_cmpuint(check->flags, ==, 0);
        g_assert_cmpstr(check->cancellation_id, ==, "");
}

/* The action is one that our policy file has: a misspelt one is denied to all for ever. */
static void assert_action_exists(const char *action)
{
        g_autofree char *quoted = g_strdup_printf("<action id=\"%s\">", action);
        g_autofree char *text = NULL;

        g_assert_true(g_file_get_contents("/usr/share/polkit-1/actions/org.loopmount1.policy", &text, NULL, NULL));
        g_assert_nonnull(strstr(text, quoted));
}

static void test_actions_exist(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        refuse_everything(f, f->bob, false);
        g_autoptr(GPtrArray) checks = test_polkit_checks(f->polkit);
        g_assert_cmpuint(checks->len, >, 0);
        for (guint i = 0; i < checks->len; i++)
                assert_action_exists(((TestPolkitCheck *)g_ptr_array_index(checks, i))->action);
}

/* Attaching one's own and touching another's must be told apart: the policy gives different answers. */
static void test_actions_differ(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        g_autoptr(TestCall) attach = attach_start(f->bob, f->bobs_file, false);
        test_call_wait(attach);
        g_autoptr(TestCall) detach = test_simple_call(f->bob, f->image, IMAGE, "Detach");
        g_autoptr(TestCall) unmount = test_simple_call(f->bob, f->volume, VOLUME, "Unmount");
        g_autoptr(GPtrArray) checks = test_polkit_checks(f->polkit);

        test_assert_failed(detach, "NotAuthorized", "*");
        test_assert_failed(unmount, "NotAuthorized", "*");
        g_assert_cmpuint(checks->len, ==, 3);
        const TestPolkitCheck *own = g_ptr_array_index(checks, 0);
        for (guint i = 1; i < checks->len; i++) {
                const TestPolkitCheck *other = g_ptr_array_index(checks, i);
                g_assert_cmpstr(other->action, !=, own->action);
        }
}

static void test_challenge(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        test_polkit_set(f->polkit, NULL, "challenge");
        g_autoptr(TestCall) silent = attach_start(f->ann, f->anns_file, false);
        test_call_wait(silent);
        test_assert_failed(silent, "NotAuthorized", "*");

        g_autoptr(TestCall) asked = attach_start(f->ann, f->anns_file, true);
        test_call_wait(asked);
        g_autoptr(GPtrArray) checks = test_polkit_checks(f->polkit);
        g_assert_cmpuint(((TestPolkitCheck *)g_ptr_array_index(checks, 0))->flags, ==, 0);
        g_assert_cmpuint(((TestPolkitCheck *)g_ptr_array_index(checks, 1))->flags, ==, 1);
        detach_reply(f->ann, asked);
}

static void test_owner_needs_no_prompt(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        test_polkit_set(f->polkit, NULL, "allow");
        g_autofree char *image = test_attach_path(f->ann, f->anns_file, NULL, NULL);
        test_polkit_reset(f->polkit);

        g_autoptr(TestCall) detached = test_simple_call(f->ann, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
        g_assert_cmpuint(f->polkit->n_asked, ==, 0);
}

static void test_owner_unmounts(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        test_polkit_set(f->polkit, NULL, "allow");
        g_autofree char *image = test_attach_path(f->ann, f->anns_file, NULL, NULL);
        g_autofree char *volume = test_volume_path(image, 0);
        test_polkit_reset(f->polkit);

        g_autoptr(TestCall) unmounted = test_simple_call(f->ann, volume, VOLUME, "Unmount");
        test_assert_succeeded(unmounted);
        g_assert_cmpuint(f->polkit->n_asked, ==, 0);
}

/* Allowed to detach others', bob really does; and ann's file is still nothing that he may see. */
static void test_others_with_leave(Fixture *f, gconstpointer userdata)
{
        g_autoptr(TestSnapshot) before = test_snapshot_take(0);

        (void)userdata;
        test_polkit_set(f->polkit, NULL, "allow");
        g_autofree char *image = test_attach_path(f->ann, f->anns_file, NULL, NULL);
        _cleanup_close_ int fd = test_open_as(TEST_ROOT, f->anns_file, O_RDONLY);
        g_autoptr(TestCall) found = test_call(f->bob, ROOT_PATH, MANAGER, "FindByFile", g_variant_new("(h)", 0),
                                              (TestCallOptions){ .fd = fd });
        test_assert_succeeded(found);
        g_autofree char *none = g_variant_print(found->reply, TRUE);
        g_assert_cmpstr(none, ==, "(@ao [],)");

        g_autoptr(TestCall) all = test_simple_call(f->bob, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(all);
        g_autoptr(GVariant) still = test_property(f->bob, image, IMAGE, "State");
        g_assert_nonnull(still);

        g_autoptr(TestCall) detached = test_simple_call(f->bob, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
        test_snapshot_assert(before, 0);
}

/* ---- what polkit is told ---- */

static TestCall *attach_with(GDBusConnection *bus, const char *path, const char *options)
{
        _cleanup_close_ int fd =
                test_open_as(test_bus_uid(bus), path, strstr(options, "'read-only'") ? O_RDWR : O_RDONLY);
        TestCall *call =
                test_call_start(bus, ROOT_PATH, MANAGER, "Attach", g_variant_new("(h@a{sv})", 0, test_options(options)),
                                (TestCallOptions){ .fd = fd });
        test_call_wait(call);
        return call;
}

static const char *detail_of(const TestPolkitCheck *check, const char *name)
{
        const char *value;

        return g_variant_lookup(check->details, name, "&s", &value) ? value : "(none)";
}

static void assert_asked_once(Fixture *f, const char *action, const char *types, const char *flags)
{
        g_autoptr(GPtrArray) checks = test_polkit_checks(f->polkit);
        g_assert_cmpuint(checks->len, ==, 1);
        const TestPolkitCheck *check = g_ptr_array_index(checks, 0);
        g_autofree char *seen = g_strdup_printf("%s,%s,%s", detail_of(check, "writable"), detail_of(check, "on-access"),
                                                detail_of(check, "keep"));

        g_assert_cmpstr(check->action, ==, action);
        g_assert_cmpstr(detail_of(check, "types"), ==, types);
        g_assert_cmpstr(seen, ==, flags);
        test_polkit_reset(f->polkit);
}

/* One question for each request, whatever is in the image; it tells polkit's rules what the request is about. */
static void test_details(Fixture *f, gconstpointer userdata)
{
        static const struct {
                const char *type, *options, *action, *types, *flags;
        } cases[] = {
                { "ext4", "{}", "attach", "ext4", "false,false,false" },
                { "ext4", "{'read-only': <false>}", "attach", "ext4", "true,false,false" },
                { "ext4", "{'session-bound': <false>}", "attach", "ext4", "false,false,true" },
                { "ext4", "{'auto-detach': <false>}", "attach", "ext4", "false,false,true" },
                { "ext4", "{'on-access': <true>}", "attach", "ext4", "false,true,false" },
                { "ext4", "{'filesystem-type': <'btrfs'>}", "mount-unhardened", "btrfs", "false,false,false" },
                { "ext4", "{'filesystem-type': <'no such'>}", "attach", "", "false,false,false" },
                { "btrfs", "{}", "mount-unhardened", "btrfs", "false,false,false" },
                { "btrfs", "{'read-only': <false>}", "mount-unhardened", "btrfs", "true,false,false" },
                { "btrfs", "{'mount': <false>}", "attach", "", "false,false,false" },
                { "btrfs", "{'volumes': <[uint32 0]>}", "mount-unhardened", "btrfs", "false,false,false" },
                { "btrfs", "{'filesystem-type': <'ext4'>}", "attach", "ext4", "false,false,false" },
                { "xfs", "{}", "mount-unhardened", "xfs", "false,false,false" },
                { "squashfs", "{}", "attach", "squashfs", "false,false,false" },
        };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                g_autofree char *action = g_strconcat("org.loopmount1.", cases[i].action, NULL);
                g_autofree char *file = make_image(cases[i].type);
                g_autoptr(TestCall) call = attach_with(f->ann, file, cases[i].options);

                g_test_message("%s %s", cases[i].type, cases[i].options);
                test_assert_failed(call, "NotAuthorized", "*");
                assert_asked_once(f, action, cases[i].types, cases[i].flags);
                unlink(file);
        }
}

/* What the kernel cannot keep away from other devices needs the same permission as an unhardened driver. */
static void test_without_guard(Fixture *f, gconstpointer userdata)
{
        static const struct {
                const char *type, *options, *action;
        } cases[] = {
                { "ext4", "{}", "attach" },
                { "ext4", "{'read-only': <false>}", "mount-unhardened" },
                { "ext4", "{'read-only': <false>, 'mount': <false>}", "attach" },
                { "ext2", "{}", "mount-unhardened" },
                { "squashfs", "{'read-only': <false>}", "attach" },
        };

        (void)userdata;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                g_autofree char *action = g_strconcat("org.loopmount1.", cases[i].action, NULL);
                g_autofree char *file = make_image(cases[i].type);
                g_autoptr(TestCall) call = attach_with(f->ann, file, cases[i].options);
                g_autoptr(GPtrArray) checks = test_polkit_checks(f->polkit);

                g_test_message("%s %s", cases[i].type, cases[i].options);
                test_assert_failed(call, "NotAuthorized", "*");
                g_assert_cmpuint(checks->len, ==, 1);
                g_assert_cmpstr(((TestPolkitCheck *)checks->pdata[0])->action, ==, action);
                test_polkit_reset(f->polkit);
                unlink(file);
        }
        g_assert_cmpint(mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL), ==, 0);
}

/* Who may attach may not therefore use any driver: neither by attaching, nor by mounting what is attached. */
static void test_unhardened(Fixture *f, gconstpointer userdata)
{
        g_autofree char *file = make_image("btrfs");

        (void)userdata;
        test_polkit_set(f->polkit, "org.loopmount1.attach", "allow");
        test_polkit_set(f->polkit, "org.loopmount1.mount", "allow");
        g_autoptr(TestCall) attach = attach_with(f->ann, file, "{}");
        test_assert_failed(attach, "NotAuthorized", "*mount-unhardened*");

        g_autofree char *image = test_attach_path(f->ann, file, "{'mount': <false>}", NULL);
        g_autofree char *volume = test_volume_path(image, 0);
        g_autoptr(TestCall) mount = test_simple_call(f->ann, volume, VOLUME, "Mount");
        test_assert_failed(mount, "NotAuthorized", "*mount-unhardened*");

        test_polkit_set(f->polkit, "org.loopmount1.mount-unhardened", "allow");
        g_autoptr(TestCall) permitted = test_simple_call(f->ann, volume, VOLUME, "Mount");
        test_assert_succeeded(permitted);
        /* What is mounted already needs no driver. */
        test_polkit_set(f->polkit, "org.loopmount1.mount-unhardened", "deny");
        g_autoptr(TestCall) again = attach_with(f->ann, file, "{}");
        test_assert_succeeded(again);
        g_autoptr(TestCall) detached = test_simple_call(f->ann, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
        unlink(file);
}

/* ---- while polkit thinks ---- */

static void test_nothing_before_the_answer(Fixture *f, gconstpointer userdata)
{
        g_autoptr(TestSnapshot) before = test_snapshot_take(0);

        (void)userdata;
        test_polkit_set(f->polkit, NULL, "silent");
        g_autoptr(TestCall) attach = attach_start(f->ann, f->anns_file, true);
        test_polkit_wait_asked(f->polkit, 1);
        test_snapshot_assert(before, 0);
        g_assert_false(attach->done);

        test_polkit_release(f->polkit, "allow");
        test_call_wait(attach);
        detach_reply(f->ann, attach);
        test_snapshot_assert(before, 0);
}

static void test_others_go_on(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        test_polkit_set(f->polkit, NULL, "silent");
        g_autoptr(TestCall) waiting = attach_start(f->ann, f->anns_file, true);
        test_polkit_wait_asked(f->polkit, 1);

        test_polkit_set(f->polkit, NULL, "allow");
        g_autofree char *image = test_attach_path(f->bob, f->bobs_file, NULL, NULL);
        g_autoptr(TestCall) detached = test_simple_call(f->bob, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
        g_assert_false(waiting->done);

        test_polkit_release(f->polkit, "deny");
        test_call_wait(waiting);
        test_assert_failed(waiting, "NotAuthorized", "*");
}

/* polkit sees for itself that there is nobody any more to ask about; a late answer is nobody's. */
static void test_client_goes(Fixture *f, gconstpointer userdata)
{
        g_autoptr(TestSnapshot) before = test_snapshot_take_idle(f->daemon->pid);
        GDBusConnection *visitor = test_connect_as(TEST_ANN);

        (void)userdata;
        test_polkit_set(f->polkit, NULL, "silent");
        TestCall *attach = attach_start(visitor, f->anns_file, true);
        TestCall *detach = test_call_start(visitor, f->image, IMAGE, "Detach", g_variant_new_parsed("(@a{sv} {},)"),
                                           (TestCallOptions){ .interactive = true });
        test_polkit_wait_asked(f->polkit, 2);
        test_disconnect(visitor);

        test_snapshot_wait(before, f->daemon->pid);
        test_polkit_release(f->polkit, "allow");
        /* A worker that is made for a later probe may not be idle yet. */
        test_snapshot_wait(before, f->daemon->pid);
        test_call_wait(attach);
        test_call_wait(detach);
        test_call_free(attach);
        test_call_free(detach);
}

/* What was asked for is what is done: the image is the file that was passed, whatever its name says by then. */
static void test_frozen(Fixture *f, gconstpointer userdata)
{
        g_autofree char *aside = g_strconcat(f->anns_file, ".aside", NULL);

        (void)userdata;
        test_polkit_set(f->polkit, NULL, "silent");
        g_autoptr(TestCall) attach = attach_start(f->ann, f->anns_file, true);
        test_polkit_wait_asked(f->polkit, 1);
        g_assert_cmpint(rename(f->anns_file, aside), ==, 0);
        g_assert_cmpint(rename(f->bobs_file, f->anns_file), ==, 0);
        test_polkit_release(f->polkit, "allow");
        test_call_wait(attach);
        test_assert_succeeded(attach);

        const char *image;
        g_variant_get_child(attach->reply, 0, "&o", &image);
        g_autofree char *volume = test_volume_path(image, 0);
        g_autofree char *label = test_property_string(f->ann, volume, VOLUME, "Label");
        g_assert_cmpstr(label, ==, "OF-ANN");
        detach_reply(f->ann, attach);
        unlink(aside);
}

/* The image goes while somebody is asked whether he may take it away. */
static void test_object_goes(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        test_polkit_set(f->polkit, NULL, "allow");
        g_autofree char *image = test_attach_path(f->ann, f->anns_file, NULL, NULL);
        g_autofree char *volume = test_volume_path(image, 0);
        test_polkit_reset(f->polkit);
        test_polkit_set(f->polkit, NULL, "silent");

        g_autoptr(TestCall) theirs =
                test_call_start(f->bob, image, IMAGE, "Detach", g_variant_new_parsed("(@a{sv} {},)"),
                                (TestCallOptions){ .interactive = true });
        g_autoptr(TestCall) unmount =
                test_call_start(f->bob, volume, VOLUME, "Unmount", g_variant_new_parsed("(@a{sv} {},)"),
                                (TestCallOptions){ .interactive = true });
        test_polkit_wait_asked(f->polkit, 2);
        g_autoptr(TestCall) own = test_simple_call(f->ann, image, IMAGE, "Detach");
        test_assert_succeeded(own);
        test_polkit_release(f->polkit, "allow");
        test_call_wait(theirs);
        test_call_wait(unmount);
        /* Gone is what both wanted it to be; that it was not taken away twice is what the tear-down looks at. */
        g_assert_true(theirs->done && unmount->done);
}

int main(int argc, char **argv)
{
        static const char *const noes[] = { "deny", "challenge", "dismiss", "error", "malformed", "empty" };

        g_test_init(&argc, &argv, NULL);
        for (size_t i = 0; i < ELEMENTSOF(noes); i++) {
                g_autofree char *path = g_strconcat("/authorisation/every-method/", noes[i], NULL);
                g_test_add(path, Fixture, noes[i], fixture_set_up, test_denied, fixture_tear_down);
        }
#define ADD(path, function) g_test_add(path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)
        g_test_add("/authorisation/every-method/no-polkit", Fixture, NULL, fixture_set_up_without_polkit,
                   test_denied_without_polkit, fixture_tear_down);
        g_test_add("/authorisation/root/no-polkit", Fixture, NULL, fixture_set_up_without_polkit,
                   test_root_needs_no_polkit, fixture_tear_down);
        ADD("/authorisation/polkit-dies", test_polkit_dies);
        g_test_add("/authorisation/polkit-fails", Fixture, NULL, fixture_set_up_with_log, test_polkit_fails,
                   fixture_tear_down);
        ADD("/authorisation/question", test_question);
        ADD("/authorisation/actions/exist", test_actions_exist);
        ADD("/authorisation/actions/differ", test_actions_differ);
        ADD("/authorisation/challenge", test_challenge);
        ADD("/authorisation/owner/detaches", test_owner_needs_no_prompt);
        ADD("/authorisation/owner/unmounts", test_owner_unmounts);
        ADD("/authorisation/others-with-leave", test_others_with_leave);
        ADD("/authorisation/details", test_details);
        ADD("/authorisation/unhardened", test_unhardened);
        g_test_add("/authorisation/without-guard", Fixture, NULL, fixture_set_up_without_guard, test_without_guard,
                   fixture_tear_down);
        ADD("/authorisation/pending/nothing-before", test_nothing_before_the_answer);
        ADD("/authorisation/pending/others-go-on", test_others_go_on);
        ADD("/authorisation/pending/client-goes", test_client_goes);
        ADD("/authorisation/pending/frozen", test_frozen);
        ADD("/authorisation/pending/object-goes", test_object_goes);
        return g_test_run();
}
