/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Callers that mean harm: messages of all kinds, in any number. What counts is
 * what others notice (how long their calls take), and that nothing of it stays:
 * no memory, no descriptor, no child.
 */
#include "lib/fuse-file.h"
#include "lib/ground.h"
#include "lib/latency.h"
#include "lib/polkit.h"
#include "lib/seed.h"

#include <fcntl.h>
#include <gio/gunixfdlist.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A daemon that had some work already: what it keeps from its first is no leak. */
typedef struct Fixture {
        TestSnapshot *before;
        TestPolkit *polkit;
        TestDaemon *daemon;
        GDBusConnection *root;
        GDBusConnection *ann;
        GDBusConnection *bob;
        char *file;
        int fd; /* of ann's */
        TestSnapshot *of_daemon;
        guint64 memory;
} Fixture;

/* As the unit has it; most systems start programs with 1024. */
static void raise_limit(void)
{
        struct rlimit limit;

        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
        limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)16384);
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
}

static void set_up(Fixture *f, gconstpointer configuration)
{
        raise_limit();
        f->file = test_image_ext4("callers.img", "CALLERS", TEST_ANN);
        f->polkit = test_polkit_start();
        test_polkit_set(f->polkit, NULL, "allow");
        test_polkit_set(f->polkit, "org.loopmount1.manage-other-users", "deny");
        f->daemon = test_daemon_start(configuration);
        f->before = test_snapshot_take(0);
        f->root = test_connect_as(TEST_ROOT);
        f->ann = test_connect_as(TEST_ANN);
        f->bob = test_connect_as(TEST_BOB);
        f->fd = test_open_as(TEST_ANN, f->file, O_RDONLY);
        test_latency(f->bob, "before");
        f->of_daemon = test_snapshot_take_idle(f->daemon->pid);
        f->memory = test_memory(f->daemon->pid, true, NULL);
}

/* The most that the daemon may keep of what it had to remember for a while (KiB); sanitizers keep what is freed. */
#define MEMORY_KEPT_MAX (UINT64_C(16) * 1024)
#define MEMORY_PEAK_MAX (UINT64_C(64) * 1024)

/* How many requests a flood has: many times what a user may have under way. Sanitizers make each of them slower. */
#ifdef __SANITIZE_ADDRESS__
#define FLOOD_SIZE 4000U
#else
#define FLOOD_SIZE 10000U
#endif

static bool is_sanitized(void)
{
#ifdef __SANITIZE_ADDRESS__
        return true;
#else
        return false;
#endif
}

static void assert_nothing_kept(Fixture *f, const char *what)
{
        guint64 peak, after;

        test_snapshot_wait(f->of_daemon, f->daemon->pid);
        after = test_memory(f->daemon->pid, false, &peak);
        test_memory_print(what, f->memory, peak, after);
        if (is_sanitized())
                return;
        g_assert_cmpuint(peak, <, f->memory + MEMORY_PEAK_MAX);
        g_assert_cmpuint(after, <, f->memory + MEMORY_KEPT_MAX);
}

static void tear_down(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        test_disconnect(f->root);
        test_disconnect(f->ann);
        test_disconnect(f->bob);
        test_daemon_stop(f->daemon);
        test_polkit_stop(f->polkit);
        test_snapshot_assert(f->before, 0);
        test_snapshot_free(f->before);
        test_snapshot_free(f->of_daemon);
        close(f->fd);
        unlink(f->file);
        g_free(f->file);
}

/* ---- while it goes on ---- */

/* What does harm, once; in a thread of its own, which must neither wait for the main loop nor print. */
typedef void (*Harm)(gpointer userdata, unsigned round);

typedef struct Assault {
        Harm harm;
        gpointer userdata;
        unsigned at_least;
        gint measured;
} Assault;

static gpointer run_assault(gpointer userdata)
{
        Assault *assault = userdata;

        for (unsigned i = 0; i < assault->at_least || !g_atomic_int_get(&assault->measured); i++)
                assault->harm(assault->userdata, i);
        return NULL;
}

/* Does it @at_least so many times, and for as long as it takes to measure what bob notices of it. */
static void measure_during(Fixture *f, const char *what, unsigned at_least, Harm harm, gpointer userdata)
{
        Assault assault = { .harm = harm, .userdata = userdata, .at_least = at_least };
        g_autofree char *during = g_strdup_printf("during %s", what);
        GThread *thread = g_thread_new("assault", run_assault, &assault);

        test_latency(f->bob, during);
        g_atomic_int_set(&assault.measured, true);
        g_thread_join(thread);
}

/* A call that waits by itself. @fd: passed along; none if 0. */
static TestCall *call_in_thread(GDBusConnection *bus, const char *path, const char *interface, const char *method,
                                GVariant *body, int fd)
{
        TestCall *call = g_new0(TestCall, 1);
        g_autoptr(GUnixFDList) list = NULL;

        if (fd > 0) {
                list = g_unix_fd_list_new();
                g_assert_cmpint(g_unix_fd_list_append(list, fd, NULL), >=, 0);
        }
        call->reply = g_dbus_connection_call_with_unix_fd_list_sync(
                bus, BUS_NAME, path, interface, method, body, NULL, G_DBUS_CALL_FLAGS_NO_AUTO_START,
                TEST_DEADLINE_SEC * 1000, list, NULL, NULL, &call->error);
        call->done = true;
        return call;
}

static TestCall *attach_in_thread(GDBusConnection *bus, int fd)
{
        return call_in_thread(bus, ROOT_PATH, MANAGER, "Attach", g_variant_new("(h@a{sv})", 0, test_options(NULL)), fd);
}

static TestCall *simple_call_in_thread(GDBusConnection *bus, const char *path, const char *interface,
                                       const char *method)
{
        return call_in_thread(bus, path, interface, method, g_variant_new("(@a{sv})", test_options(NULL)), 0);
}

/* ---- random messages ---- */

#define DEPTH_MAX 4

static const char basic_types[] = "ybnqiuxtdsogh";

/* Appends a random type that D-Bus has. */
static void append_type(GRand *rand, GString *type, unsigned depth)
{
        guint32 kind = g_rand_int_range(rand, 0, depth >= DEPTH_MAX ? 14 : 18);

        if (kind < 13)
                g_string_append_c(type, basic_types[kind]);
        else if (kind == 13)
                g_string_append_c(type, 'v');
        else if (kind == 14) {
                g_string_append(type, "a{");
                g_string_append_c(type, basic_types[g_rand_int_range(rand, 0, 12)]);
                append_type(rand, type, depth + 1);
                g_string_append_c(type, '}');
        } else if (kind == 15)
                g_string_append(type, "a{sv}");
        else if (kind == 16) {
                g_string_append_c(type, 'a');
                append_type(rand, type, depth + 1);
        } else {
                g_string_append_c(type, '(');
                append_type(rand, type, depth + 1);
                append_type(rand, type, depth + 1);
                g_string_append_c(type, ')');
        }
}

static char *random_type(GRand *rand)
{
        GString *type = g_string_new(NULL);

        append_type(rand, type, 0);
        return g_string_free(type, FALSE);
}

/* Words that mean something to somebody, and such that should not. */
static const char *random_text(GRand *rand)
{
        static const char *const texts[] = {
                "",
                "read-only",
                "offset",
                "size",
                "mount",
                "volumes",
                "filesystem-type",
                "mount-options",
                "name",
                "force",
                "direct-io",
                "settle",
                "auto-detach",
                "ext4",
                "auto",
                "yes",
                "..",
                "/",
                "%s%n",
                "\n",
                "org.loopmount1.Image",
                "org.loopmount1.Manager",
                "State",
                "Id",
                "suid,dev",
                "\xc3\xa4",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        };
        return texts[g_rand_int_range(rand, 0, G_N_ELEMENTS(texts))];
}

static guint64 random_number(GRand *rand)
{
        static const guint64 numbers[] = { 0, 1, 2, 511, 512, 4096, G_MAXINT32, G_MAXUINT32, G_MAXINT64, G_MAXUINT64 };

        return numbers[g_rand_int_range(rand, 0, G_N_ELEMENTS(numbers))];
}

static GVariant *random_value(GRand *rand, const GVariantType *type, unsigned depth);

static GVariant *random_container(GRand *rand, const GVariantType *type, unsigned depth)
{
        GVariantBuilder builder;

        g_variant_builder_init(&builder, type);
        if (g_variant_type_is_array(type)) {
                gint32 n = g_rand_int_range(rand, 0, 4);
                for (gint32 i = 0; i < n; i++)
                        g_variant_builder_add_value(&builder,
                                                    random_value(rand, g_variant_type_element(type), depth + 1));
        } else
                for (const GVariantType *item = g_variant_type_first(type); item; item = g_variant_type_next(item))
                        g_variant_builder_add_value(&builder, random_value(rand, item, depth + 1));
        return g_variant_builder_end(&builder);
}

static GVariant *random_value(GRand *rand, const GVariantType *type, unsigned depth)
{
        guint64 number = random_number(rand);

        switch (g_variant_type_peek_string(type)[0]) {
        case 'y':
                return g_variant_new_byte((guchar)number);
        case 'b':
                return g_variant_new_boolean((gboolean)(number & 1));
        case 'n':
                return g_variant_new_int16((gint16)number);
        case 'q':
                return g_variant_new_uint16((guint16)number);
        case 'i':
                return g_variant_new_int32((gint32)number);
        case 'u':
                return g_variant_new_uint32((guint32)number);
        case 'x':
                return g_variant_new_int64((gint64)number);
        case 't':
                return g_variant_new_uint64(number);
        case 'd':
                return g_variant_new_double((double)number);
        case 'h':
                return g_variant_new_handle((gint32)number);
        case 's':
                return g_variant_new_string(random_text(rand));
        case 'o':
                return g_variant_new_object_path(number & 1 ? ROOT_PATH : "/");
        case 'g':
                return g_variant_new_signature(number & 1 ? "a{sv}" : "");
        case 'v': {
                g_autofree char *inner = depth >= DEPTH_MAX ? g_strdup("u") : random_type(rand);
                return g_variant_new_variant(random_value(rand, G_VARIANT_TYPE(inner), depth + 1));
        }
        default:
                return random_container(rand, type, depth);
        }
}

/* A body of the signature that is wanted, or of any. */
static GVariant *random_body(GRand *rand, const GDBusMethodInfo *method)
{
        bool right = method && g_rand_int_range(rand, 0, 4) > 0;
        GVariantBuilder builder;

        g_variant_builder_init(&builder, G_VARIANT_TYPE_TUPLE);
        if (right)
                for (GDBusArgInfo **argument = method->in_args; argument && *argument; argument++)
                        g_variant_builder_add_value(&builder,
                                                    random_value(rand, G_VARIANT_TYPE((*argument)->signature), 0));
        for (gint32 n = right ? 0 : g_rand_int_range(rand, 0, 4); n > 0; n--) {
                g_autofree char *type = random_type(rand);
                g_variant_builder_add_value(&builder, random_value(rand, G_VARIANT_TYPE(type), 0));
        }
        return g_variant_builder_end(&builder);
}

/* ---- what there is to call ---- */

static void collect_nodes(GDBusConnection *bus, const char *path, GPtrArray *paths, GPtrArray *nodes)
{
        g_autoptr(GVariant) reply = test_call_ok(bus, path, DBUS_INTROSPECTABLE, "Introspect", NULL);
        g_autoptr(GError) error = NULL;
        const char *xml;

        g_variant_get(reply, "(&s)", &xml);
        GDBusNodeInfo *node = g_dbus_node_info_new_for_xml(xml, &error);
        g_assert_no_error(error);
        g_ptr_array_add(paths, g_strdup(path));
        g_ptr_array_add(nodes, node);
        for (GDBusNodeInfo **child = node->nodes; child && *child; child++) {
                g_autofree char *below = g_strdup_printf("%s/%s", path, (*child)->path);
                collect_nodes(bus, below, paths, nodes);
        }
}

static unsigned length(gpointer array)
{
        unsigned n = 0;

        for (gpointer *item = array; item && *item; item++)
                n++;
        return n;
}

typedef struct Fuzz {
        GRand *rand;
        GDBusConnection *bus;
        GPtrArray *paths, *nodes;
        int fd;
        unsigned n_replies, n_errors;
} Fuzz;

static void send_one(Fuzz *fuzz, const char *path, const char *interface, const char *method, GVariant *body)
{
        int fd = g_rand_boolean(fuzz->rand) ? fuzz->fd : 0;
        g_autoptr(TestCall) call = call_in_thread(fuzz->bus, path, interface, method, body, fd);

        fuzz->n_replies += call->reply != NULL;
        fuzz->n_errors += call->error != NULL;
        /* Some file descriptors the bus does not pass on; but nobody is ever left without an answer. */
        if (call->error && !g_dbus_error_is_remote_error(call->error))
                g_error("%s.%s: %s", interface, method, call->error->message);
}

/* Any method or property of any object, some of them where they are not. */
static void fuzz_once(gpointer userdata, unsigned round)
{
        Fuzz *fuzz = userdata;
        guint at = (guint)g_rand_int_range(fuzz->rand, 0, (gint32)fuzz->nodes->len);
        const GDBusNodeInfo *node = g_ptr_array_index(fuzz->nodes, at);
        const char *path = g_ptr_array_index(fuzz->paths, at);
        gint32 elsewhere = g_rand_int_range(fuzz->rand, 0, 20);
        unsigned n_interfaces = length(node->interfaces);

        (void)round;
        if (elsewhere == 0)
                path = g_ptr_array_index(fuzz->paths, (guint)g_rand_int_range(fuzz->rand, 0, (gint32)fuzz->paths->len));
        if (n_interfaces == 0)
                return;
        const GDBusInterfaceInfo *interface = node->interfaces[g_rand_int_range(fuzz->rand, 0, (gint32)n_interfaces)];
        unsigned n_methods = length(interface->methods), n_properties = length(interface->properties);
        gint32 which = g_rand_int_range(fuzz->rand, 0, (gint32)(n_methods + n_properties + 1));

        if ((unsigned)which < n_methods) {
                const GDBusMethodInfo *method = interface->methods[which];
                send_one(fuzz, path, interface->name, method->name, random_body(fuzz->rand, method));
        } else if ((unsigned)which < n_methods + n_properties) {
                g_autofree char *type = random_type(fuzz->rand);
                GVariant *value = random_value(fuzz->rand, G_VARIANT_TYPE(type), 0);
                send_one(fuzz, path, DBUS_PROPERTIES, "Set",
                         g_variant_new("(ssv)", interface->name,
                                       interface->properties[(unsigned)which - n_methods]->name, value));
        } else
                send_one(fuzz, path, interface->name, "NoSuchMethod", random_body(fuzz->rand, NULL));
}

/* As nobody, to whom root's image is nothing: whatever he sends, it stays as it is. */
static void test_fuzz(Fixture *f, gconstpointer userdata)
{
        g_autoptr(GRand) rand = test_rand_new(1);
        g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func((GDestroyNotify)g_dbus_node_info_unref);
        g_autofree char *of_root = test_image_ext4("of-root.img", "OF-ROOT", TEST_ROOT);
        g_autofree char *of_nobody = test_image_ext4("of-nobody.img", "OF-NOBODY", TEST_NOBODY);
        g_autofree char *image = test_attach_path(f->root, of_root, NULL, NULL);
        g_autoptr(GVariant) before =
                test_call_ok(f->root, image, DBUS_PROPERTIES, "GetAll", g_variant_new("(s)", IMAGE));
        GDBusConnection *nobody = test_connect_as(TEST_NOBODY);
        Fuzz fuzz = { .rand = rand,
                      .bus = nobody,
                      .paths = paths,
                      .nodes = nodes,
                      .fd = test_open_as(TEST_NOBODY, of_nobody, O_RDONLY) };

        (void)userdata;
        collect_nodes(f->root, ROOT_PATH, paths, nodes);
        g_assert_cmpuint(nodes->len, >=, 4);
        measure_during(f, "random messages", 10000, fuzz_once, &fuzz);
        g_test_message("random messages: %u replies, %u errors", fuzz.n_replies, fuzz.n_errors);
        g_assert_cmpuint(fuzz.n_replies, >, 10);
        g_assert_cmpuint(fuzz.n_errors, >, 1000);
        close(fuzz.fd);

        g_autoptr(GVariant) after =
                test_call_ok(f->root, image, DBUS_PROPERTIES, "GetAll", g_variant_new("(s)", IMAGE));
        g_assert_true(g_variant_equal(before, after));
        g_autoptr(TestCall) own = test_simple_call(nobody, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(own);
        test_disconnect(nobody);
        g_autoptr(TestCall) detached = test_simple_call(f->root, image, IMAGE, "Detach");
        test_assert_succeeded(detached);
        test_latency(f->bob, "behind random messages");
        assert_nothing_kept(f, "random messages");
        unlink(of_root);
        unlink(of_nobody);
}

/* ---- descriptors ---- */

static const unsigned many[] = { 2, 16, 17, 100, 253, 1000 };

typedef struct ManyDescriptors {
        int fd;
        char *answers[G_N_ELEMENTS(many)];
} ManyDescriptors;

static void send_many(gpointer userdata, unsigned round)
{
        ManyDescriptors *data = userdata;
        unsigned which = round % G_N_ELEMENTS(many);
        GDBusConnection *visitor = test_connect_as(TEST_ANN);
        g_autoptr(GUnixFDList) list = g_unix_fd_list_new();
        g_autoptr(GDBusMessage) message = g_dbus_message_new_method_call(BUS_NAME, ROOT_PATH, MANAGER, "Attach");
        g_autoptr(GError) error = NULL;

        for (unsigned n = 0; n < many[which]; n++)
                g_assert_cmpint(g_unix_fd_list_append(list, data->fd, NULL), >=, 0);
        g_dbus_message_set_body(message, g_variant_new("(h@a{sv})", 0, test_options("{'x': <1>}")));
        g_dbus_message_set_unix_fd_list(message, list);
        g_dbus_connection_set_exit_on_close(visitor, FALSE);
        g_autoptr(GDBusMessage) reply = g_dbus_connection_send_message_with_reply_sync(
                visitor, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, TEST_DEADLINE_SEC * 1000, NULL, NULL, &error);
        const char *answer = error ? error->message : g_dbus_message_get_error_name(reply);
        g_assert_nonnull(answer);
        if (!data->answers[which])
                data->answers[which] = g_strdup(answer);
        g_dbus_connection_close_sync(visitor, NULL, NULL);
        g_object_unref(visitor);
}

/* More than the bus passes on: it drops whoever sends them, and nobody else notices. */
static void test_many_descriptors(Fixture *f, gconstpointer userdata)
{
        ManyDescriptors data = { .fd = f->fd };

        (void)userdata;
        measure_during(f, "many descriptors", G_N_ELEMENTS(many), send_many, &data);
        for (size_t i = 0; i < G_N_ELEMENTS(many); i++) {
                g_test_message("%u descriptors: %s", many[i], data.answers[i]);
                g_free(data.answers[i]);
        }
        test_latency(f->bob, "behind many descriptors");
        assert_nothing_kept(f, "many descriptors");
}

static int open_socket(void)
{
        return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static int open_terminal(void)
{
        return posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
}

typedef struct Kind {
        const char *what;
        int fd;
        char *answer;
} Kind;

typedef struct Kinds {
        GDBusConnection *bus;
        Kind *kinds;
        unsigned n;
} Kinds;

/* To both methods that take one. */
static void send_kind(gpointer userdata, unsigned round)
{
        Kinds *data = userdata;
        Kind *kind = &data->kinds[round % data->n];
        g_autoptr(TestCall) attach = attach_in_thread(data->bus, kind->fd);
        g_autoptr(TestCall) find =
                call_in_thread(data->bus, ROOT_PATH, MANAGER, "FindByFile", g_variant_new("(h)", 0), kind->fd);

        g_assert_nonnull(attach->error);
        g_assert_true(g_dbus_error_is_remote_error(attach->error));
        g_assert_true(find->reply || g_dbus_error_is_remote_error(find->error));
        if (!kind->answer)
                kind->answer = g_strdup(attach->error->message);
}

/* All that a descriptor can be. */
static void test_kinds_of_descriptors(Fixture *f, gconstpointer userdata)
{
        g_autofree char *folder = test_folder("folder");
        Kind kinds[] = {
                { "O_PATH", open(f->file, O_PATH | O_CLOEXEC), NULL },
                { "O_WRONLY", open(f->file, O_WRONLY | O_CLOEXEC), NULL },
                { "O_APPEND", open(f->file, O_RDWR | O_APPEND | O_CLOEXEC), NULL },
                { "a folder", open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), NULL },
                { "the root folder as O_PATH", open("/", O_PATH | O_CLOEXEC), NULL },
                { "a socket", open_socket(), NULL },
                { "a terminal", open_terminal(), NULL },
                { "/dev/zero", open("/dev/zero", O_RDONLY | O_CLOEXEC), NULL },
                { "/dev/loop-control", open("/dev/loop-control", O_RDONLY | O_CLOEXEC), NULL },
                { "/proc/self/mem", open("/proc/self/mem", O_RDONLY | O_CLOEXEC), NULL },
                { "/proc/self/mountinfo", open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC), NULL },
                { "a namespace", open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), NULL },
                { "epoll", epoll_create1(EPOLL_CLOEXEC), NULL },
                { "O_TMPFILE", open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600), NULL },
        };

        (void)userdata;
        for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
                g_assert_cmpint(kinds[i].fd, >=, 0);
        measure_during(f, "kinds of descriptors", G_N_ELEMENTS(kinds), send_kind,
                       &(Kinds){ f->ann, kinds, G_N_ELEMENTS(kinds) });
        for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
                g_test_message("%s: %s", kinds[i].what, kinds[i].answer);
                g_free(kinds[i].answer);
                close(kinds[i].fd);
        }
        g_assert_cmpint(rmdir(folder), ==, 0);
        assert_nothing_kept(f, "kinds of descriptors");
}

/* ---- floods ---- */

static void send_message(GDBusConnection *bus, const char *path, const char *interface, const char *method,
                         GVariant *body, int fd, bool wants_reply)
{
        g_autoptr(GDBusMessage) message = g_dbus_message_new_method_call(BUS_NAME, path, interface, method);

        if (body)
                g_dbus_message_set_body(message, body);
        if (fd > 0) {
                g_autoptr(GUnixFDList) list = g_unix_fd_list_new();
                g_unix_fd_list_append(list, fd, NULL);
                g_dbus_message_set_unix_fd_list(message, list);
        }
        if (!wants_reply)
                g_dbus_message_set_flags(message, G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
        g_dbus_connection_send_message(bus, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, NULL);
}

/* One of the requests of a flood: to look, to attach, to attach what is no image, to detach what is not there. */
static void send_flood(Fixture *f, GDBusConnection *bus, unsigned i, bool wants_reply)
{
        switch (i % 4) {
        case 0:
                send_message(bus, ROOT_PATH, DBUS_OBJECT_MANAGER, "GetManagedObjects", NULL, 0, wants_reply);
                break;
        case 1:
                send_message(bus, ROOT_PATH, MANAGER, "Attach", g_variant_new("(h@a{sv})", 0, test_options(NULL)),
                             f->fd, wants_reply);
                break;
        case 2:
                send_message(bus, ROOT_PATH, MANAGER, "Attach",
                             g_variant_new("(h@a{sv})", 0, test_options("{'offset': <uint64 1>}")), f->fd, wants_reply);
                break;
        default:
                send_message(bus, ROOT_PATH "/image/1", IMAGE, "Detach", g_variant_new("(@a{sv})", test_options(NULL)),
                             0, wants_reply);
        }
}

/* Requests of one connection, sent without a look at any answer. */
static void flood(Fixture *f, bool wants_reply, const char *what)
{
        GDBusConnection *visitor = test_connect_as(TEST_ANN);
        g_autofree char *during = g_strdup_printf("during %s", what);

        g_dbus_connection_set_exit_on_close(visitor, FALSE);
        for (unsigned i = 0; i < FLOOD_SIZE; i++)
                send_flood(f, visitor, i, wants_reply);
        test_latency(f->bob, during);
        g_dbus_connection_flush_sync(visitor, NULL, NULL);
        test_disconnect(visitor);
        g_autoptr(TestCall) all = test_simple_call(f->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(all);
        test_latency(f->bob, "behind it");
        assert_nothing_kept(f, what);
}

static void test_flood(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        flood(f, true, "many requests");
}

static void test_flood_without_replies(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        flood(f, false, "many requests that want no reply");
}

/* Of an object whose path has @size bytes. */
static void send_long_path(GDBusConnection *bus, size_t size, bool wants_reply)
{
        g_autofree char *path = g_strnfill(size, 'a');
        g_autoptr(TestCall) call = NULL;

        path[0] = '/';
        if (!wants_reply) {
                send_message(bus, path, DBUS_PROPERTIES, "GetAll", g_variant_new("(s)", MANAGER), 0, false);
                return;
        }
        call = call_in_thread(bus, path, DBUS_PROPERTIES, "GetAll", g_variant_new("(s)", MANAGER), 0);
        g_assert_error(call->error, G_DBUS_ERROR, G_DBUS_ERROR_UNKNOWN_OBJECT);
}

/* libsystemd takes paths of up to 64 KiB; a longer one is dropped, and what comes after it is served. */
static void test_long_paths(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        send_long_path(f->ann, 1000, true);
        send_long_path(f->ann, 17000, true);
        send_long_path(f->ann, 65000, true);
        send_long_path(f->ann, 70000, false);
        send_long_path(f->ann, (size_t)1 << 20, false);
        g_assert_cmpuint(test_property_number(f->ann, ROOT_PATH, MANAGER, "MaxRequestsPerUser"), >, 0);
        test_latency(f->bob, "after long paths");
        assert_nothing_kept(f, "long paths");
}

static TestCall *attach_interactively(GDBusConnection *bus, int fd)
{
        return test_call_start(bus, ROOT_PATH, MANAGER, "Attach", g_variant_new("(h@a{sv})", 0, test_options(NULL)),
                               (TestCallOptions){ .fd = fd, .interactive = true });
}

/* A thousand prompts for a password that nobody answers; the administrator permits that many. */
static void test_prompts(Fixture *f, gconstpointer userdata)
{
        GDBusConnection *visitors[10];
        g_autoptr(GPtrArray) calls = g_ptr_array_new();

        (void)userdata;
        test_polkit_set(f->polkit, "org.loopmount1.attach", "silent");
        for (size_t i = 0; i < G_N_ELEMENTS(visitors); i++) {
                visitors[i] = test_connect_as(TEST_ANN);
                for (unsigned n = 0; n < 100; n++) {
                        g_ptr_array_add(calls, attach_interactively(visitors[i], f->fd));
                        /* The bus keeps 64 descriptors for the daemon, and refuses what is above. And all have to be
                         * there before the one that is too much. */
                        if (n % 10 == 9)
                                test_property_number(visitors[i], ROOT_PATH, MANAGER, "MaxRequestsPerUser");
                }
        }
        /* Others may need polkit's answers, too, and the bus lets the daemon wait for 128 only. */
        test_polkit_wait_asked(f->polkit, 16);
        for (guint i = 0; i < calls->len; i++) {
                const TestCall *call = g_ptr_array_index(calls, i);

                if (call->done)
                        g_error("call %u has ended: %s", i, call->error ? call->error->message : "well");
        }
        g_autoptr(TestCall) surplus = test_attach(f->ann, f->fd, NULL);
        test_assert_failed(surplus, "LimitExceeded", "*");
        test_polkit_set(f->polkit, "org.loopmount1.attach", "allow");
        test_latency(f->bob, "during 1,000 prompts");
        for (size_t i = 0; i < G_N_ELEMENTS(visitors); i++)
                test_disconnect(visitors[i]);
        for (guint i = 0; i < calls->len; i++) {
                TestCall *call = g_ptr_array_index(calls, i);
                test_call_wait(call);
                test_call_free(call);
        }
        g_autoptr(TestCall) all = test_simple_call(f->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(all);
        test_latency(f->bob, "behind them");
        assert_nothing_kept(f, "1,000 prompts");
}

static void visit(gpointer userdata, unsigned round)
{
        GDBusConnection *visitor = test_connect_as(TEST_ANN);

        send_flood(userdata, visitor, round, true);
        g_dbus_connection_flush_sync(visitor, NULL, NULL);
        g_dbus_connection_close_sync(visitor, NULL, NULL);
        g_object_unref(visitor);
}

/* Connections that come, ask for something, and go at once. */
static void test_visitors(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        measure_during(f, "200 visitors", 200, visit, f);
        test_latency(f->bob, "behind 200 visitors");
        g_autoptr(TestCall) all = test_simple_call(f->ann, ROOT_PATH, MANAGER, "DetachAll");
        test_assert_succeeded(all);
        assert_nothing_kept(f, "200 visitors");
}

/* ---- others' images ---- */

typedef struct Trespass {
        GDBusConnection *bus;
        const char *image, *volume;
} Trespass;

static void trespass(gpointer userdata, unsigned round)
{
        static const char *const of_image[] = { "Detach", "Rescan", "SetCapacity" };
        static const char *const of_volume[] = { "Mount", "Unmount" };
        Trespass *data = userdata;
        g_autoptr(TestCall) call = NULL;

        if (round % 5 < 3)
                call = simple_call_in_thread(data->bus, data->image, IMAGE, of_image[round % 5]);
        else
                call = simple_call_in_thread(data->bus, data->volume, VOLUME, of_volume[round % 5 - 3]);
        test_assert_failed(call, "NotAuthorized", "*");
}

/* Someone else's are taken away, again and again: each time polkit is asked, and says no. */
static void test_others_images(Fixture *f, gconstpointer userdata)
{
        g_autofree char *image = test_attach_path(f->ann, f->file, NULL, NULL);
        g_autofree char *volume = test_volume_path(image, 0);
        GDBusConnection *nobody = test_connect_as(TEST_NOBODY);

        (void)userdata;
        measure_during(f, "1,000 trespasses", 1000, trespass, &(Trespass){ nobody, image, volume });
        test_disconnect(nobody);
        g_autofree char *mount_point = test_mount_point_of(f->ann, image, 0);
        g_assert_nonnull(mount_point);
        g_autoptr(TestCall) detach = test_simple_call(f->ann, image, IMAGE, "Detach");
        test_assert_succeeded(detach);
        assert_nothing_kept(f, "1,000 trespasses");
}

/* ---- the folder for mount points ---- */

/* Root moves it away: the mount is there, but not where it was, and that is no reason to lose it. */
static void test_moved_folder(Fixture *f, gconstpointer userdata)
{
        g_autofree char *image = test_attach_path(f->ann, f->file, NULL, NULL);
        g_autofree char *state = NULL;

        (void)userdata;
        g_assert_cmpint(rename("/run/media/ann", "/run/media/away"), ==, 0);
        g_autoptr(TestCall) detach = test_simple_call(f->ann, image, IMAGE, "Detach");
        test_assert_failed(detach, "Busy", "*");
        g_autoptr(TestCall) again = test_attach(f->ann, f->fd, NULL);
        test_assert_succeeded(again);
        state = test_property_string(f->ann, image, IMAGE, "State");
        g_assert_cmpstr(state, ==, "attached");
        test_latency(f->bob, "while a folder is moved away");
        g_assert_cmpint(rename("/run/media/away", "/run/media/ann"), ==, 0);
        g_autoptr(TestCall) back = test_simple_call(f->ann, image, IMAGE, "Detach");
        test_assert_succeeded(back);
        assert_nothing_kept(f, "a moved folder");
}

static pid_t start_racer(const char *target, const char *link)
{
        pid_t pid = fork();

        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;) {
                        (void)!symlink(target, link);
                        (void)unlink(link);
                }
        }
        return pid;
}

typedef struct Race {
        GDBusConnection *bus;
        int fd;
        const char *elsewhere;
        unsigned n_attached, n_refused;
} Race;

static void race(gpointer userdata, unsigned round)
{
        Race *data = userdata;
        g_autoptr(TestCall) call = attach_in_thread(data->bus, data->fd);
        const char *image;

        (void)round;
        /* It is not empty only if something was made in it. */
        g_assert_cmpint(rmdir(data->elsewhere), ==, 0);
        g_assert_cmpint(mkdir(data->elsewhere, 0777), ==, 0);
        data->n_refused += call->error != NULL;
        data->n_attached += call->reply != NULL;
        if (call->error) {
                test_assert_failed(call, "Failed", "*/run/media/ann*");
                return;
        }
        g_variant_get_child(call->reply, 0, "&o", &image);
        g_autoptr(TestCall) detach = simple_call_in_thread(data->bus, image, IMAGE, "Detach");
        test_assert_succeeded(detach);
}

/* A link in its place, again and again: it is never followed. */
static void test_raced_folder(Fixture *f, gconstpointer userdata)
{
        g_autofree char *elsewhere = test_folder("elsewhere");
        pid_t racer = start_racer(elsewhere, "/run/media/ann");
        Race data = { .bus = f->ann, .fd = f->fd, .elsewhere = elsewhere };

        (void)userdata;
        measure_during(f, "links in the place of a folder", 50, race, &data);
        while (data.n_refused == 0)
                race(&data, 0);
        kill(racer, SIGKILL);
        waitpid(racer, NULL, 0);
        (void)unlink("/run/media/ann");
        g_test_message("links in the place of the folder: %u attached, %u refused", data.n_attached, data.n_refused);
        g_assert_cmpint(rmdir(elsewhere), ==, 0);
        assert_nothing_kept(f, "links in the place of the folder");
}

/* ---- files in messages that are refused ---- */

static void send_signal_with(GDBusConnection *bus, int fd)
{
        g_autoptr(GDBusMessage) message = g_dbus_message_new_signal(ROOT_PATH, MANAGER, "Nothing");
        g_autoptr(GUnixFDList) list = g_unix_fd_list_new();

        g_dbus_message_set_destination(message, BUS_NAME);
        g_unix_fd_list_append(list, fd, NULL);
        g_dbus_message_set_unix_fd_list(message, list);
        g_dbus_connection_send_message(bus, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, NULL);
}

typedef struct Stranger {
        gint stop;
        gint n_sent;
        int fd; /* 0: none */
} Stranger;

/* From a fresh connection: calls whose arguments are wrong, and signals, with a file or without. */
static void send_strange(Stranger *stranger)
{
        GDBusConnection *visitor = test_connect_as(TEST_NOBODY);

        g_dbus_connection_set_exit_on_close(visitor, FALSE);
        for (unsigned i = 0; i < 5; i++) {
                send_message(visitor, ROOT_PATH, MANAGER, "Attach", g_variant_new("(s)", "x"), stranger->fd, true);
                if (stranger->fd > 0)
                        send_signal_with(visitor, stranger->fd);
        }
        /* All are through then: the bus itself refuses messages to the daemon while it has 64 descriptors for it. */
        g_autoptr(TestCall) last = call_in_thread(visitor, ROOT_PATH, MANAGER, "Attach", g_variant_new("(s)", "x"), 0);
        g_assert_nonnull(last->error);
        g_dbus_connection_close_sync(visitor, NULL, NULL);
        g_object_unref(visitor);
        g_atomic_int_inc(&stranger->n_sent);
}

static gpointer run_stranger(gpointer userdata)
{
        Stranger *stranger = userdata;

        while (!g_atomic_int_get(&stranger->stop))
                send_strange(stranger);
        return NULL;
}

/* As the client does: over a connection of its own, which the daemon does not know yet. */
typedef struct Visit {
        GDBusConnection *bus;
        TestCall *call;
} Visit;

static Visit visit_start(uid_t uid, int fd)
{
        Visit visit = { .bus = test_connect_as(uid) };

        visit.call = test_attach_start(visit.bus, fd, "{'mount': <false>}");
        return visit;
}

static void visit_end(Visit *visit)
{
        const char *image;

        test_call_wait(visit->call);
        test_assert_succeeded(visit->call);
        g_variant_get_child(visit->call->reply, 0, "&o", &image);
        test_detach(visit->bus, image);
        test_call_free(visit->call);
        g_dbus_connection_close_sync(visit->bus, NULL, NULL);
        g_object_unref(visit->bus);
}

/* None of ann's requests is refused while strangers send such, who may do nothing here. */
static void attach_among_strangers(Fixture *f, const char *what, const int files[static 4], int fd)
{
        Stranger stranger = { .fd = fd };
        GThread *threads[] = { g_thread_new("stranger", run_stranger, &stranger),
                               g_thread_new("stranger", run_stranger, &stranger) };

        for (unsigned i = 0; i < 50; i++) {
                Visit visits[4];

                /* What is queued while the bus is asked about the first is in danger when a stranger is refused. */
                for (size_t n = 0; n < G_N_ELEMENTS(visits); n++)
                        visits[n] = visit_start(n % 2 ? TEST_BOB : TEST_ANN, files[n]);
                for (size_t n = 0; n < G_N_ELEMENTS(visits); n++)
                        visit_end(&visits[n]);
        }
        g_atomic_int_set(&stranger.stop, true);
        for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
                g_thread_join(threads[i]);
        g_test_message("%s: %d connections", what, stranger.n_sent);
        g_assert_cmpint(stranger.n_sent, >, 10);
        assert_nothing_kept(f, what);
}

static void test_strangers(Fixture *f, gconstpointer userdata)
{
        char *paths[4];
        int files[4];

        (void)userdata;
        for (unsigned i = 0; i < 4; i++) {
                g_autofree char *name = g_strdup_printf("among-%u.img", i);
                uid_t uid = i % 2 ? TEST_BOB : TEST_ANN;

                paths[i] = test_image_ext4(name, NULL, uid);
                files[i] = test_open_as(uid, paths[i], O_RDONLY);
        }
        attach_among_strangers(f, "strangers without files", files, 0);
        attach_among_strangers(f, "strangers with files", files, f->fd);
        for (unsigned i = 0; i < 4; i++) {
                close(files[i]);
                unlink(paths[i]);
                g_free(paths[i]);
        }
}

/* As many files as the bus lets through, without waiting for an answer. */
static gpointer run_flood_of_files(gpointer userdata)
{
        Stranger *stranger = userdata;

        while (!g_atomic_int_get(&stranger->stop)) {
                GDBusConnection *visitor = test_connect_as(TEST_NOBODY);

                g_dbus_connection_set_exit_on_close(visitor, FALSE);
                for (unsigned i = 0; i < 500; i++)
                        send_message(visitor, ROOT_PATH, MANAGER, "Attach",
                                     g_variant_new("(h@a{sv})", 0, test_options("{'x': <1>}")), stranger->fd, false);
                g_dbus_connection_flush_sync(visitor, NULL, NULL);
                g_dbus_connection_close_sync(visitor, NULL, NULL);
                g_object_unref(visitor);
                g_atomic_int_inc(&stranger->n_sent);
        }
        return NULL;
}

static bool is_refused_by_bus(const TestCall *call)
{
        return g_error_matches(call->error, G_DBUS_ERROR, G_DBUS_ERROR_LIMITS_EXCEEDED);
}

/* Some of the flood is still queued. */
static void detach_all_after_flood(GDBusConnection *bus)
{
        for (;;) {
                g_autoptr(TestCall) all = test_simple_call(bus, ROOT_PATH, MANAGER, "DetachAll");

                if (is_refused_by_bus(all))
                        continue;
                test_assert_succeeded(all);
                return;
        }
}

/*
 * The bus refuses what is sent to the daemon's name while 64 descriptors wait there: then the sender is told. But
 * who gets through to the daemon gets polkit's word.
 */
static void test_answers_among_files(Fixture *f, gconstpointer userdata)
{
        Stranger stranger = { .fd = f->fd };
        GThread *threads[] = { g_thread_new("files", run_flood_of_files, &stranger),
                               g_thread_new("files", run_flood_of_files, &stranger),
                               g_thread_new("files", run_flood_of_files, &stranger) };
        unsigned n_refused = 0;

        (void)userdata;
        for (unsigned n_attached = 0; n_attached < 20;) {
                g_autoptr(TestCall) call = test_attach(f->ann, f->fd, "{'mount': <false>}");

                if (is_refused_by_bus(call)) {
                        n_refused++;
                        continue;
                }
                test_assert_succeeded(call);
                n_attached++;
        }
        g_atomic_int_set(&stranger.stop, true);
        for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
                g_thread_join(threads[i]);
        g_test_message("%d times 500 files; the bus refused %u calls", stranger.n_sent, n_refused);
        detach_all_after_flood(f->ann);
        assert_nothing_kept(f, "a flood of files");
}

/* ---- files that are never closed ---- */

/* A file of nobody's, whose server answers FLUSH to everybody but the daemon's own processes. */
typedef struct Trap {
        char *file;
        TestFuseFile *fuse;
        int fd;
} Trap;

static void trap_set(Fixture *f, Trap *trap)
{
        test_polkit_set(f->polkit, "org.loopmount1.attach", "deny");
        trap->file = test_image_ext4("trap.img", "TRAP", TEST_NOBODY);
        trap->fuse = test_fuse_file_start("trap", trap->file, TEST_NOBODY, true);
        trap->fd = test_open_as(TEST_NOBODY, test_fuse_file_path(trap->fuse), O_RDONLY);
        test_fuse_file_silence_flush(trap->fuse);
}

static void trap_clear(Trap *trap)
{
        close(trap->fd);
        test_fuse_file_stop(trap->fuse);
        unlink(trap->file);
        g_free(trap->file);
}

static TestCall *attach_trap(const Trap *trap)
{
        GDBusConnection *visitor = test_connect_as(TEST_NOBODY);
        TestCall *call = attach_in_thread(visitor, trap->fd);

        g_dbus_connection_close_sync(visitor, NULL, NULL);
        g_object_unref(visitor);
        return call;
}

static void send_traps(const Trap *trap)
{
        Stranger stranger = { .fd = trap->fd };

        for (unsigned i = 0; i < 50; i++) {
                g_autoptr(TestCall) call = attach_trap(trap);

                g_assert_nonnull(call->error);
                send_strange(&stranger);
                if (i > 10)
                        test_assert_failed(call, "LimitExceeded", "*hang*");
        }
}

static unsigned count_hanging(Fixture *f)
{
        g_autoptr(TestSnapshot) now = test_snapshot_take(f->daemon->pid);

        return test_snapshot_count(now, "child catcher") + test_snapshot_count(now, "child closer");
}

/*
 * Nobody may not attach; but what he sends has to be closed, and hangs in that. It is two or three processes, others
 * notice nothing of them, and they hold nothing that the next daemon needs. Without fusectl they cannot be ended.
 */
static void test_hanging_closes(Fixture *f, gconstpointer userdata)
{
        Trap trap = { 0 };

        (void)userdata;
        trap_set(f, &trap);
        send_traps(&trap);
        g_assert_cmpuint(count_hanging(f), <=, 3);
        g_assert_cmpuint(count_hanging(f), >, 0);
        test_polkit_set(f->polkit, "org.loopmount1.attach", "allow");
        test_latency(f->bob, "while closes hang");
        g_autofree char *image = test_attach_path(f->ann, f->file, NULL, NULL);
        test_detach(f->ann, image);

        f->daemon = test_daemon_kill(f->daemon);
        f->daemon = test_daemon_start_again();
        g_autofree char *again = test_attach_path(f->ann, f->file, NULL, NULL);
        test_detach(f->ann, again);
        test_fuse_file_resume(trap.fuse);
        trap_clear(&trap);
}

static bool has_none_hanging(gpointer userdata)
{
        return count_hanging(userdata) == 0;
}

/* Behind the deadline his FUSE connection is aborted, which ends them. */
static void test_hanging_closes_end(Fixture *f, gconstpointer userdata)
{
        Trap trap = { 0 };
        struct stat st;

        (void)userdata;
        g_assert_cmpint(mount("fusectl", "/sys/fs/fuse/connections", "fusectl", 0, NULL), ==, 0);
        trap_set(f, &trap);
        g_autoptr(TestCall) call = attach_trap(&trap);
        test_assert_failed(call, "NotAuthorized", "*");
        g_assert_cmpuint(count_hanging(f), ==, 1);
        test_wait_quiet(has_none_hanging, f, "the hanging close to end");
        g_assert_cmpint(fstat(trap.fd, &st), <, 0);
        g_assert_cmpint(umount2("/sys/fs/fuse/connections", MNT_DETACH), ==, 0);
        trap_clear(&trap);
        assert_nothing_kept(f, "a hanging close");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(path, configuration, function) g_test_add(path, Fixture, configuration, set_up, function, tear_down)
        ADD("/callers/random", NULL, test_fuzz);
        ADD("/callers/long-paths", NULL, test_long_paths);
        ADD("/callers/descriptors/many", NULL, test_many_descriptors);
        ADD("/callers/descriptors/kinds", NULL, test_kinds_of_descriptors);
        ADD("/callers/others-images", NULL, test_others_images);
        ADD("/callers/folder/moved", NULL, test_moved_folder);
        ADD("/callers/folder/raced", NULL, test_raced_folder);
        ADD("/callers/strangers", NULL, test_strangers);
        ADD("/callers/flood/files", NULL, test_answers_among_files);
        ADD("/callers/hanging-closes/many", NULL, test_hanging_closes);
        ADD("/callers/hanging-closes/end", "[Limits]\nJobTimeoutSec=1\n", test_hanging_closes_end);
        ADD("/callers/flood/requests", NULL, test_flood);
        ADD("/callers/flood/without-replies", NULL, test_flood_without_replies);
        ADD("/callers/flood/prompts", "[Limits]\nMaxRequestsPerUser=1000\n", test_prompts);
        ADD("/callers/flood/visitors", NULL, test_visitors);
        return g_test_run();
}
