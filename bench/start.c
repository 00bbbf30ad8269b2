/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Starts a service, and tells how long that took. Who wants to measure what a service does starts it so, too.
 *
 *   start NAME IMAGES PROGRAM [ARGUMENT...]
 *
 * Prints "PID<tab>NAMED<tab>READY": the nanoseconds until it owned its bus name; and until it showed at least so
 * many images to who asks for them ("-": it is not asked, and READY is NAMED).
 */
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>

#include "base/macro.h"
#include "bus.h"
#include "way.h"

#define START_MAX_NSEC UINT64_C(60000000000)

extern char **environ;

/* What it says goes to a file of the service's name, of which the last one is kept. */
static int spawn(const char *name, char **argv, pid_t *ret)
{
        posix_spawn_file_actions_t actions;
        char log[256];
        int r;

        snprintf(log, sizeof(log), "/run/%s.log", name);
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
        r = -posix_spawnp(ret, argv[0], &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        return way_failed(r, argv[0]);
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *name, *old, *new;
        int r = sd_bus_message_read(m, "sss", &name, &old, &new);

        (void)error;
        if (r >= 0 && !isempty(new))
                *(bool *)userdata = true;
        return r < 0 ? r : 0;
}

static int wait_for_name(const bool *named, uint64_t began)
{
        sd_bus *bus = bench_bus(0);
        int r = 0;

        while (r >= 0 && !*named) {
                if (way_now_nsec() - began > START_MAX_NSEC)
                        return way_failed(-ETIMEDOUT, "waiting for the name");
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, USEC_PER_SEC);
        }
        return way_failed(r, "waiting for the name");
}

static int count_images(const char *name)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int n = 0, r = bench_managed_objects(name, &reply);

        while (r >= 0 && (r = bench_next_object(reply, &path)) > 0)
                n += bench_is_image(path);
        return r < 0 ? r : n;
}

static int wait_for_images(const char *name, int images, uint64_t began)
{
        int n;

        while ((n = count_images(name)) >= 0 && n < images)
                if (way_now_nsec() - began > START_MAX_NSEC)
                        return way_failed(-ETIMEDOUT, "waiting for its images");
        return n;
}

static int start(char *argv[])
{
        const char *name = argv[1], *images = argv[2];
        uint64_t began, at_name, at_ready;
        char match[256];
        bool named = false;
        pid_t pid;
        int r;

        snprintf(match, sizeof(match),
                 "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s'", name);
        r = way_failed(sd_bus_add_match(bench_bus(0), NULL, match, on_owner, &named), "match");
        began = way_now_nsec();
        if (r >= 0)
                r = spawn(name, argv + 3, &pid);
        if (r >= 0)
                r = wait_for_name(&named, began);
        at_name = at_ready = way_now_nsec();
        if (r >= 0 && !streq(images, "-")) {
                r = wait_for_images(name, atoi(images), began);
                at_ready = way_now_nsec();
        }
        if (r >= 0)
                printf("%d\t%" PRIu64 "\t%" PRIu64 "\n", (int)pid, at_name - began, at_ready - began);
        return r;
}

int main(int argc, char *argv[])
{
        if (argc < 4) {
                fprintf(stderr, "start NAME IMAGES PROGRAM [ARGUMENT...]\n");
                return 2;
        }
        return start(argv) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
