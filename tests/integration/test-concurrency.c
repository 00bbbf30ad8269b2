/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Many clients at once, on the same images, and some die in the middle. Each is a
 * sequence of random operations, fixed by the seed; which of them meet is up to
 * the scheduler. A model has what the replies say: an image that an Attach gave is
 * there until a reply says that it is gone, and a path never comes back. In the
 * end the model, the bus and the kernel have to agree.
 *
 * LOOPMOUNT_TEST_SEED in the environment sets the seed, LOOPMOUNT_TEST_OPERATIONS
 * how much each client does.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/ground.h"
#include "lib/latency.h"
#include "lib/rules.h"
#include "lib/seed.h"

#define N_CLIENTS 8
#define N_FILES 20
#define N_BURNERS 3
#define N_OPERATIONS 200
/* No operation may take longer: the daemon's own deadline for a step is 30 s, and nothing here hangs. */
#define OPERATION_MAX_USEC (INT64_C(20) * G_USEC_PER_SEC)

typedef enum Kind {
        ATTACH,
        DETACH,
        MOUNT,
        UNMOUNT,
        LIST,
        FIND,
        N_KINDS,
} Kind;

static const char *const kind_names[N_KINDS] = { "Attach", "Detach", "Mount", "Unmount", "list", "FindByFile" };

/* An image that a reply has told of. */
typedef struct Known {
        char *path;
        uid_t owner;
        unsigned file;
        bool auto_detach;
        bool maybe_gone; /* somebody who took it away did not stay for the answer */
        bool gone;
} Known;

typedef struct World World;

typedef struct Client {
        World *world;
        unsigned number;
        uid_t uid;
        GRand *rand;
        GDBusConnection *bus;
        unsigned n_left;

        TestCall *call;
        Kind kind;
        unsigned file;
        bool auto_detach;
        Known *target;
        gint64 began;
        guint leave; /* the timer of its death */
        bool has_left;
} Client;

struct World {
        TestGround *ground;
        Client clients[N_CLIENTS];
        char *files[N_FILES];
        uid_t owners[N_FILES];
        bool read_only[N_FILES];      /* a file system that cannot be written to */
        bool maybe_attached[N_FILES]; /* by somebody who did not stay for the answer */
        GPtrArray *known;
        gint64 *times; /* of those who stayed */
        size_t n_times;
        unsigned n_done[N_KINDS], n_failed[N_KINDS], n_left;
};

static const uid_t users[] = { TEST_ANN, TEST_BOB, TEST_CAROL };

/* ---- the model ---- */

static Known *find_known(World *world, const char *path)
{
        for (guint i = 0; i < world->known->len; i++) {
                Known *known = g_ptr_array_index(world->known, i);
                if (streq(known->path, path))
                        return known;
        }
        return NULL;
}

static void learn(Client *client, const char *path)
{
        Known *known;

        if (find_known(client->world, path))
                return;
        known = g_new0(Known, 1);
        known->path = g_strdup(path);
        known->owner = client->uid;
        known->file = client->file;
        known->auto_detach = client->auto_detach;
        g_ptr_array_add(client->world->known, known);
}

static void known_free(gpointer data)
{
        Known *known = data;

        g_free(known->path);
        g_free(known);
}

/* One that is not known to be gone: the client's own, but now and then somebody else's. */
static Known *choose_known(Client *client)
{
        g_autoptr(GPtrArray) choice = g_ptr_array_new();
        bool any = g_rand_int_range(client->rand, 0, 10) == 0;

        for (guint i = 0; i < client->world->known->len; i++) {
                Known *known = g_ptr_array_index(client->world->known, i);
                if (!known->gone && (any || known->owner == client->uid))
                        g_ptr_array_add(choice, known);
        }
        return choice->len > 0
                       ? g_ptr_array_index(choice, (guint)g_rand_int_range(client->rand, 0, (gint32)choice->len))
                       : NULL;
}

/* ---- what a reply says ---- */

static bool failed_with(const TestCall *call, const char *const *names)
{
        g_autofree char *remote = g_dbus_error_get_remote_error(call->error);

        return remote && g_strv_contains(names, remote);
}

static void note_success(Client *client)
{
        const char *path;

        switch (client->kind) {
        case ATTACH:
                g_variant_get_child(client->call->reply, 0, "&o", &path);
                learn(client, path);
                break;
        case DETACH:
                client->target->gone = true;
                break;
        case UNMOUNT:
                client->target->gone |= client->target->auto_detach;
                break;
        default:
                break;
        }
}

/* What the others may have been faster with is no fault; all else is. */
static void note_failure(Client *client)
{
        static const char *const expected[N_KINDS][6] = {
                [ATTACH] = { ERROR_PREFIX "AlreadyAttached", NULL },
                [DETACH] = { ERROR_PREFIX "NotAuthorized", "org.freedesktop.DBus.Error.UnknownObject",
                             "org.freedesktop.DBus.Error.UnknownMethod", NULL },
                [MOUNT] = { ERROR_PREFIX "NotAuthorized", ERROR_PREFIX "AlreadyMounted", ERROR_PREFIX "InvalidArgs",
                            "org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.DBus.Error.UnknownMethod",
                            NULL },
                [UNMOUNT] = { ERROR_PREFIX "NotAuthorized", ERROR_PREFIX "NotMounted",
                              "org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.DBus.Error.UnknownMethod",
                              NULL },
                [LIST] = { NULL },
                [FIND] = { NULL },
        };
        static const char *const gone[] = { "org.freedesktop.DBus.Error.UnknownObject",
                                            "org.freedesktop.DBus.Error.UnknownMethod", NULL };

        if (!failed_with(client->call, expected[client->kind]))
                g_error("client %u, %s of %s: %s", client->number, kind_names[client->kind],
                        client->target ? client->target->path : client->world->files[client->file],
                        client->call->error->message);
        client->world->n_failed[client->kind]++;
        if (client->target && failed_with(client->call, gone))
                client->target->gone = true;
}

/* It did not stay: what it began is undone, or finished; either is right. */
static void note_departure(Client *client)
{
        if (client->kind == ATTACH)
                client->world->maybe_attached[client->file] = true;
        if (client->kind == DETACH || client->kind == UNMOUNT)
                client->target->maybe_gone = true;
}

static void finish_operation(Client *client)
{
        gint64 taken = g_get_monotonic_time() - client->began;

        if (client->has_left) {
                note_departure(client);
                g_object_unref(client->bus);
                client->bus = test_connect_as(client->uid);
                client->has_left = false;
        } else {
                client->world->times[client->world->n_times++] = taken;
                if (client->call->error)
                        note_failure(client);
                else
                        note_success(client);
        }
        if (client->leave > 0)
                g_source_remove(client->leave);
        client->leave = 0;
        client->world->n_done[client->kind]++;
        client->call = test_call_free(client->call);
}

/* ---- what a client does ---- */

static TestCall *start_attach(Client *client)
{
        World *world = client->world;
        bool writable, mount = g_rand_int_range(client->rand, 0, 4) > 0;
        char *options;

        client->file = (unsigned)g_rand_int_range(client->rand, 0, N_FILES);
        writable = g_rand_int_range(client->rand, 0, 3) == 0 && world->owners[client->file] == client->uid &&
                   !world->read_only[client->file];
        client->auto_detach = mount;
        options = g_strdup_printf("{'read-only': <%s>, 'mount': <%s>, 'auto-detach': <%s>}",
                                  writable ? "false" : "true", mount ? "true" : "false", mount ? "true" : "false");
        int fd = test_open_as(client->uid, world->files[client->file], writable ? O_RDWR : O_RDONLY);
        TestCall *call = test_attach_start(client->bus, fd, options);
        close(fd);
        g_free(options);
        return call;
}

static TestCall *start_find(Client *client)
{
        client->file = (unsigned)g_rand_int_range(client->rand, 0, N_FILES);
        int fd = test_open_as(client->uid, client->world->files[client->file], O_RDONLY);
        TestCall *call = test_call_start(client->bus, ROOT_PATH, MANAGER, "FindByFile", g_variant_new("(h)", 0),
                                         (TestCallOptions){ .fd = fd });
        close(fd);
        return call;
}

static TestCall *start_volume(Client *client, const char *method)
{
        g_autofree char *volume = test_volume_path(client->target->path, 0);

        return test_simple_call_start(client->bus, volume, VOLUME, method);
}

static TestCall *start_call(Client *client)
{
        switch (client->kind) {
        case ATTACH:
                return start_attach(client);
        case DETACH:
                return test_simple_call_start(client->bus, client->target->path, IMAGE, "Detach");
        case MOUNT:
                return start_volume(client, "Mount");
        case UNMOUNT:
                return start_volume(client, "Unmount");
        case FIND:
                return start_find(client);
        default:
                return test_call_start(client->bus, ROOT_PATH, DBUS_OBJECT_MANAGER, "GetManagedObjects", NULL,
                                       (TestCallOptions){ 0 });
        }
}

static gboolean on_time_to_die(gpointer userdata)
{
        Client *client = userdata;

        client->leave = 0;
        client->has_left = !client->call->done;
        if (client->has_left) {
                client->world->n_left++;
                g_dbus_connection_close_sync(client->bus, NULL, NULL);
        }
        return G_SOURCE_REMOVE;
}

static void start_operation(Client *client)
{
        static const Kind kinds[] = { ATTACH, ATTACH, ATTACH, DETACH, DETACH, MOUNT, UNMOUNT, LIST, FIND };

        client->kind = kinds[g_rand_int_range(client->rand, 0, G_N_ELEMENTS(kinds))];
        client->target = choose_known(client);
        if (!client->target && (client->kind == DETACH || client->kind == MOUNT || client->kind == UNMOUNT))
                client->kind = ATTACH;
        if (client->kind == ATTACH || client->kind == LIST || client->kind == FIND)
                client->target = NULL;
        client->n_left--;
        client->began = g_get_monotonic_time();
        client->call = start_call(client);
        if (g_rand_int_range(client->rand, 0, 12) == 0)
                client->leave = g_timeout_add((guint)g_rand_int_range(client->rand, 0, 20), on_time_to_die, client);
}

/* ---- all of them ---- */

static gboolean on_tick(gpointer userdata)
{
        (void)userdata;
        return G_SOURCE_CONTINUE;
}

/* True: all have done what they had to do. */
static bool drive(World *world)
{
        bool all = true;

        for (unsigned i = 0; i < N_CLIENTS; i++) {
                Client *client = &world->clients[i];

                if (client->call && client->call->done)
                        finish_operation(client);
                if (!client->call && client->n_left > 0)
                        start_operation(client);
                if (client->call && g_get_monotonic_time() - client->began > OPERATION_MAX_USEC)
                        g_error("client %u: %s takes too long", i, kind_names[client->kind]);
                all &= !client->call;
        }
        return all;
}

static int compare_times(gconstpointer a, gconstpointer b)
{
        gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;

        return (x > y) - (x < y);
}

static void print_world(World *world)
{
        size_t n = world->n_times;
        gint64 median, worst;

        for (unsigned i = 0; i < N_KINDS; i++)
                g_test_message("%s: %u, %u of them refused", kind_names[i], world->n_done[i], world->n_failed[i]);
        qsort(world->times, n, sizeof(*world->times), compare_times);
        median = world->times[n / 2];
        worst = world->times[n - 1];
        g_test_message("%u clients went in the middle; the others' calls took %.1f/%.1f ms (median/worst)",
                       world->n_left, (double)median / 1000, (double)worst / 1000);
}

/* Programs that want all of the machine. */
static void start_burners(pid_t *burners)
{
        for (unsigned i = 0; i < N_BURNERS; i++) {
                burners[i] = fork();
                g_assert_cmpint(burners[i], >=, 0);
                if (burners[i] == 0) {
                        prctl(PR_SET_PDEATHSIG, SIGKILL);
                        for (;;)
                                ;
                }
        }
}

static void stop_burners(const pid_t *burners)
{
        for (unsigned i = 0; i < N_BURNERS; i++) {
                kill(burners[i], SIGKILL);
                waitpid(burners[i], NULL, 0);
        }
}

static void world_set_up(World *world, TestGround *g, guint32 seed)
{
        g_autoptr(GRand) rand = test_rand_new(seed);
        const char *operations = g_getenv("LOOPMOUNT_TEST_OPERATIONS");
        unsigned n_operations = operations ? (unsigned)g_ascii_strtoull(operations, NULL, 10) : N_OPERATIONS;

        world->ground = g;
        world->known = g_ptr_array_new_with_free_func(known_free);
        world->times = g_new(gint64, (gsize)N_CLIENTS * n_operations);
        for (unsigned i = 0; i < N_FILES; i++) {
                g_autofree char *name = g_strdup_printf("file%u.img", i);

                world->owners[i] = users[i % G_N_ELEMENTS(users)];
                world->read_only[i] = i % 4 == 3;
                world->files[i] = world->read_only[i] ? test_image_squashfs(name, world->owners[i])
                                                      : test_image_ext4(name, "SAME", world->owners[i]);
                g_assert_cmpint(chmod(world->files[i], 0644), ==, 0);
        }
        for (unsigned i = 0; i < N_CLIENTS; i++)
                world->clients[i] = (Client){
                        .world = world,
                        .number = i,
                        .uid = users[i % G_N_ELEMENTS(users)],
                        .rand = g_rand_new_with_seed(g_rand_int(rand)),
                        .bus = test_connect_as(users[i % G_N_ELEMENTS(users)]),
                        .n_left = n_operations,
                };
}

static void world_tear_down(World *world)
{
        for (unsigned i = 0; i < N_CLIENTS; i++) {
                test_disconnect(world->clients[i].bus);
                g_rand_free(world->clients[i].rand);
        }
        for (unsigned i = 0; i < N_FILES; i++) {
                unlink(world->files[i]);
                g_free(world->files[i]);
        }
        g_ptr_array_unref(world->known);
        g_free(world->times);
}

/* ---- the end: three truths ---- */

/* What the bus shows is what the kernel has, and what is on record; no more and no less. */
static char *compare_with_kernel(TestGround *g)
{
        g_autoptr(TestSnapshot) snapshot = test_snapshot_take(0);
        g_auto(GStrv) images = test_objects(g->root, IMAGE);
        g_auto(GStrv) volumes = test_objects(g->root, VOLUME);
        unsigned n_images = g_strv_length(images), n_mounts = 0;

        for (char **image = images; *image; image++) {
                g_autofree char *node = test_device_of(g->root, *image);
                g_autofree char *line = g_strdup_printf("loop %s ", node ? strrchr(node, '/') + 1 : "?");
                g_autofree char *marker = g_strdup_printf("/run/loopmount/devices/%s-%s", node ? node + 5 : "?",
                                                          strrchr(*image, '/') + 1);
                g_autofree char *record = g_strdup_printf("/run/loopmount/images/%s", strrchr(*image, '/') + 1);

                if (test_snapshot_count(snapshot, line) != 1 || access(record, F_OK) < 0 || access(marker, F_OK) < 0)
                        return g_strdup_printf("%s has no device, marker or record", *image);
        }
        for (char **volume = volumes; *volume; volume++) {
                g_auto(GStrv) mount_points = test_property_strings(g->root, *volume, VOLUME, "MountPoints");

                if (!mount_points || !mount_points[0])
                        continue;
                /* A blank in mountinfo is \\040. */
                g_auto(GStrv) words = g_strsplit(mount_points[0], " ", -1);
                g_autofree char *name = g_strjoinv("\\040", words);
                g_autofree char *line = g_strdup_printf("mount %s ", name);
                n_mounts++;
                if (test_snapshot_count(snapshot, line) != 1)
                        return g_strdup_printf("%s is not mounted at %s", *volume, mount_points[0]);
        }
        /* The folders themselves are a line each. */
        if (test_snapshot_count(snapshot, "loop ") != n_images ||
            test_snapshot_count(snapshot, "mount /") != n_mounts ||
            test_snapshot_count(snapshot, "record /run/loopmount/images/") != n_images + 1 ||
            test_snapshot_count(snapshot, "record /run/loopmount/devices/") != n_images + 1)
                return g_strdup_printf("%u images and %u mounts on the bus, %u and %u in the kernel, %u records",
                                       n_images, n_mounts, test_snapshot_count(snapshot, "loop "),
                                       test_snapshot_count(snapshot, "mount /"),
                                       test_snapshot_count(snapshot, "record /run/loopmount/images/") - 1);
        return NULL;
}

static char *compare_with_model(World *world)
{
        GDBusConnection *root = world->ground->root;
        g_auto(GStrv) images = test_objects(root, IMAGE);

        for (guint i = 0; i < world->known->len; i++) {
                const Known *known = g_ptr_array_index(world->known, i);
                bool there = g_strv_contains((const char *const *)images, known->path);

                if (known->gone ? there : !there && !known->maybe_gone)
                        return g_strdup_printf("%s should %s", known->path, known->gone ? "be gone" : "be there");
        }
        for (char **image = images; *image; image++) {
                g_autofree char *file = test_property_string(root, *image, IMAGE, "BackingFile");
                g_autofree char *state = test_property_string(root, *image, IMAGE, "State");

                if (!streq(state, "attached"))
                        return g_strdup_printf("%s is %s", *image, state);
                if (find_known(world, *image))
                        continue;
                for (unsigned i = 0; i < N_FILES; i++)
                        if (streq(world->files[i], file) && !world->maybe_attached[i])
                                return g_strdup_printf("%s: nobody has attached it", *image);
        }
        return NULL;
}

static bool all_agree(gpointer userdata)
{
        World *world = userdata;
        g_autofree char *kernel = compare_with_kernel(world->ground);
        g_autofree char *model = kernel ? NULL : compare_with_model(world);

        return !kernel && !model;
}

static void assert_all_agree(World *world)
{
        g_autofree char *kernel = NULL, *model = NULL;

        /* What was abandoned goes on for a while. */
        for (unsigned i = 0; i < 100 && !all_agree(world); i++)
                test_dispatch(), g_usleep(G_USEC_PER_SEC / 10);
        kernel = compare_with_kernel(world->ground);
        model = compare_with_model(world);
        if (kernel || model)
                g_error("%s%s%s", kernel ? kernel : "", kernel && model ? "; " : "", model ? model : "");
}

static void test_model(TestGround *g, gconstpointer userdata)
{
        World world = { 0 };
        pid_t burners[N_BURNERS];
        guint ticks = g_timeout_add(100, on_tick, NULL);
        guint64 memory, peak, after;

        test_latency(g->bob, "before");
        g_autoptr(TestSnapshot) before = test_snapshot_take_idle(g->daemon->pid);
        memory = test_memory(g->daemon->pid, true, NULL);
        world_set_up(&world, g, GPOINTER_TO_UINT(userdata));
        start_burners(burners);
        while (!drive(&world))
                g_main_context_iteration(NULL, TRUE);
        stop_burners(burners);
        print_world(&world);
        assert_all_agree(&world);

        for (size_t i = 0; i < G_N_ELEMENTS(users); i++) {
                g_autoptr(TestCall) all = test_simple_call(world.clients[i].bus, ROOT_PATH, MANAGER, "DetachAll");
                test_assert_succeeded(all);
        }
        world_tear_down(&world);
        test_snapshot_wait(before, g->daemon->pid);
        after = test_memory(g->daemon->pid, false, &peak);
        test_memory_print("random operations", memory, peak, after);
        g_source_remove(ticks);
}

/* The ground takes its userdata for a configuration: the seed is not for it. */
static void set_up(TestGround *ground, gconstpointer seed)
{
        (void)seed;
        test_ground_set_up(ground, NULL);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        for (guint seed = 1; seed <= 3; seed++) {
                g_autofree char *path = g_strdup_printf("/concurrency/%u", seed);
                g_test_add(path, TestGround, GUINT_TO_POINTER(seed), set_up, test_model, test_ground_tear_down);
        }
        return g_test_run();
}
