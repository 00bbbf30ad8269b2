/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Puts the service together, takes over what is attached, takes the name on the
 * bus, and leaves when nothing is attached and nobody asks.
 *
 * Leaving must not lose a call that is already on its way: the name is released
 * first, and only when the bus has confirmed that, with no story begun meanwhile,
 * does the process end. The next call starts a new one.
 *
 * At SIGTERM requests that can be rolled back are; those that take something away
 * are finished. Images stay attached: the next start takes them over.
 *
 * The same program detaches all images when the machine is shut down (the service
 * manager runs it behind the service and the users' sessions): it takes them over
 * as ever, and lets them go. The bus may be gone by then.
 */
#include <signal.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "adopt.h"
#include "backing.h"
#include "base/closer.h"
#include "base/log.h"
#include "base/paths.h"
#include "bus/gate.h"
#include "bus/objects.h"
#include "bus/request.h"
#include "manager.h"
#include "mechanism/device-guard.h"
#include "mechanism/fdstore.h"
#include "mechanism/loop.h"
#include "mechanism/probe.h"
#include "sessions.h"
#include "story/detach.h"
#include "story/user.h"
#include "triggers.h"
#include "watch.h"

/* How long stories may take to end after SIGTERM; what is cut off then is cleaned up at the next start. */
#define STOP_TIMEOUT_USEC (10 * USEC_PER_SEC)
/* A bus that does not answer does not keep the images attached. */
#define SHUTDOWN_BUS_TIMEOUT_USEC (5 * USEC_PER_SEC)
/* When markers are looked at again that could not be removed. */
#define SWEEP_AGAIN_USEC USEC_PER_SEC
#define NAME_FLAGS SD_BUS_NAME_ALLOW_REPLACEMENT

typedef struct Manager {
        Service service;
        Watch *watch;
        Triggers *triggers;
        Backing *backing;
        Sessions *sessions;
        sd_event_source *on_idle_time;
        sd_event_source *on_stop_time;
        sd_event_source *on_sweep_time;
        bool ready;
} Manager;

/* ---- What has happened ---- */

static void log_image(RegistryEvent event, const Image *image)
{
        char node[32];
        LogSubject subject = {
                .image_id = image->id,
                .device = node,
                .backing_file = image->backing_file,
                .owner = image->owner,
        };

        image_node(image, node);
        log_about(LOG_INFO, &subject,
                  event == REGISTRY_IMAGE_ADDED ? "%s is attached as %s for %s" : "%s is detached from %s for %s",
                  image->backing_file, node, image->owner_name);
}

/* A device that nothing is mounted from, or will not be when it was not used for some time, lives by its descriptors
 * alone. */
static void keep_device(Image *image)
{
        bool needed = image->state == IMAGE_ATTACHED && image->fd >= 0 &&
                      (image_count_mounted(image) == 0 || image->on_access);

        if (needed && !image->stored)
                fdstore_put(image->id, image->fd);
        else if (!needed && image->stored)
                fdstore_drop(image->id);
        image->stored = needed;
}

static void on_registry_event(RegistryEvent event, Image *image, Volume *volume, void *userdata)
{
        Manager *manager = userdata;

        if (event != REGISTRY_IMAGE_REMOVED)
                watch_changed(manager->watch, image);
        /* What is taken over has not changed for anybody. */
        if (!manager->ready)
                return;
        if (event == REGISTRY_IMAGE_ADDED || event == REGISTRY_IMAGE_REMOVED)
                log_image(event, image);
        if (event != REGISTRY_IMAGE_REMOVED)
                keep_device(image);
        if (event == REGISTRY_IMAGE_ADDED || event == REGISTRY_IMAGE_REMOVED) {
                backing_changed(manager->backing);
                sessions_changed(manager->sessions, event, image);
        }
        bus_on_registry_event(event, image, volume, &manager->service);
}

/* ---- The name ---- */

/* Its number may be another process's by now; then the name stays taken until the bus hears of the end. */
static bool owner_is_dead(sd_bus *bus)
{
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        int r = sd_bus_get_name_creds(bus, BUS_NAME, SD_BUS_CREDS_PID, &creds);
        pid_t pid;

        /* Newer ones look themselves. */
        if (r == -ESRCH)
                return true;
        return r >= 0 && sd_bus_creds_get_pid(creds, &pid) >= 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

/* A dead daemon's descriptors live on in a child that hangs in closing one of them, and with these its connection. */
static int take_name(sd_bus *bus)
{
        int r = sd_bus_request_name(bus, BUS_NAME, NAME_FLAGS);

        if (r == -EEXIST && owner_is_dead(bus))
                r = sd_bus_request_name(bus, BUS_NAME, NAME_FLAGS | SD_BUS_NAME_REPLACE_EXISTING);
        return r;
}

/* ---- Leaving ---- */

static bool is_idle(const Manager *manager)
{
        const Service *service = &manager->service;

        return !service->stories && registry_count(service->registry) == 0 && !service->leaves_some;
}

static int on_name_released(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        Manager *manager = userdata;

        (void)reply, (void)error;
        if (is_idle(manager)) {
                (void)sd_notify(0, "STOPPING=1");
                return sd_event_exit(manager->service.event, 0);
        }
        return sd_bus_request_name_async(manager->service.bus, NULL, BUS_NAME, NAME_FLAGS, NULL, NULL);
}

static int on_idle_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Manager *manager = userdata;

        (void)source, (void)usec;
        if (!is_idle(manager))
                return 0;
        return sd_bus_release_name_async(manager->service.bus, NULL, BUS_NAME, on_name_released, manager);
}

static void arm_idle_timer(Manager *manager)
{
        uint64_t timeout = manager->service.config->idle_timeout_usec;

        if (!is_idle(manager) || timeout == 0)
                return;
        (void)sd_event_source_set_time_relative(manager->on_idle_time, timeout);
        (void)sd_event_source_set_enabled(manager->on_idle_time, SD_EVENT_ONESHOT);
}

/*
 * Each is judged by itself: one that is still in use (a child is binding a device) does not keep the others. A device
 * goes a moment after the story that has failed with it, which nobody tells of.
 */
static void sweep_markers(Manager *manager)
{
        Service *service = &manager->service;

        if (!service->markers_stale)
                return;
        service->markers_stale = loop_sweep_markers() != (int)registry_count(service->registry);
        if (!service->markers_stale)
                return;
        (void)sd_event_source_set_time_relative(manager->on_sweep_time, SWEEP_AGAIN_USEC);
        (void)sd_event_source_set_enabled(manager->on_sweep_time, SD_EVENT_ONESHOT);
}

static int on_sweep_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec;
        sweep_markers(userdata);
        return 0;
}

static void on_child_reaped(void *userdata)
{
        sweep_markers(userdata);
}

static void on_story_ended(void *userdata)
{
        Manager *manager = userdata;
        Service *service = &manager->service;

        sweep_markers(manager);
        if (service->stopping) {
                if (!service->stories)
                        (void)sd_event_exit(service->event, 0);
                return;
        }
        if (manager->watch)
                watch_story_ended(manager->watch);
        if (manager->triggers)
                triggers_story_ended(manager->triggers);
        arm_idle_timer(manager);
}

static int on_stop_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Manager *manager = userdata;

        (void)source, (void)usec;
        log_message(LOG_WARNING, "Stopping with requests under way; what they leave is cleaned up at the next start");
        return sd_event_exit(manager->service.event, 0);
}

static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        Manager *manager = userdata;

        (void)source, (void)info;
        if (manager->service.stopping)
                return 0;
        (void)sd_notify(0, "STOPPING=1");
        manager->service.stopping = true;
        story_cancel_all(&manager->service, NULL);
        if (!manager->service.stories)
                return sd_event_exit(manager->service.event, 0);
        return sd_event_add_time_relative(manager->service.event, &manager->on_stop_time, CLOCK_MONOTONIC,
                                          STOP_TIMEOUT_USEC, 0, on_stop_time, manager);
}

/* ---- Coming ---- */

static void on_config_complaint(const char *file, unsigned line, const char *message, void *userdata)
{
        (void)userdata;
        log_message(LOG_WARNING, "%s:%u: %s", strempty(file), line, message);
}

static int make_folders(void)
{
        static const char *const folders[] = { RUN_DIR, RUN_IMAGES_DIR, RUN_DEVICES_DIR };

        for (size_t i = 0; i < ELEMENTSOF(folders); i++)
                if (mkdir(folders[i], streq(folders[i], RUN_IMAGES_DIR) ? 0700 : 0755) < 0 && errno != EEXIST)
                        return -errno;
        return 0;
}

static int set_up_events(Manager *manager)
{
        sd_event *event;
        sigset_t signals;
        int r = sd_event_default(&manager->service.event);

        event = manager->service.event;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGCHLD);
        if (r >= 0 && sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                r = -errno;
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGTERM, on_terminate, manager);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGINT, on_terminate, manager);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &manager->on_idle_time, CLOCK_MONOTONIC, 0, 0, on_idle_time,
                                               manager);
        if (r >= 0)
                r = sd_event_source_set_enabled(manager->on_idle_time, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &manager->on_sweep_time, CLOCK_MONOTONIC, 0, 0, on_sweep_time,
                                               manager);
        if (r >= 0)
                r = sd_event_source_set_enabled(manager->on_sweep_time, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_set_watchdog(event, true);
        return r < 0 ? r : 0;
}

static int set_up_bus(Manager *manager)
{
        Service *service = &manager->service;
        int r = gate_open_bus(service->config->job_timeout_usec, &service->bus);

        /* For want of memory it may have come to terms with the bus that there are none. */
        if (r >= 0)
                r = sd_bus_can_send(service->bus, SD_BUS_TYPE_UNIX_FD);
        if (r == 0)
                r = -EOPNOTSUPP;
        if (r >= 0)
                r = bus_register_objects(service);
        if (r >= 0)
                r = sd_bus_attach_event(service->bus, service->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(service->bus, true);
        if (r >= 0)
                r = gate_open_own_bus(&service->ask_bus);
        if (r >= 0)
                r = sd_bus_attach_event(service->ask_bus, service->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(service->ask_bus, true);
        return r;
}

/* What has to be there for both: settings, folders, events and an empty registry. */
static int set_up_service(Manager *manager)
{
        static const char *const folders[] = { "/etc", "/run", "/usr/local/lib", "/usr/lib", NULL };
        Service *service = &manager->service;
        int r = config_load(folders, on_config_complaint, NULL, &service->config);

        service->trigger_pipe = -1;
        service->on_story_ended = on_story_ended;
        service->markers_stale = true;
        service->userdata = manager;
        job_set_reaped_handler(on_child_reaped, manager);
        if (r >= 0)
                r = make_folders();
        if (r >= 0)
                r = probe_prepare_sandbox();
        if (r >= 0)
                r = set_up_events(manager);
        if (r >= 0)
                r = closer_set_up(service->event);
        if (r < 0)
                return r;
        service->registry = registry_new(on_registry_event, manager);
        service->users = user_cache_new();
        return service->registry && service->users ? 0 : -ENOMEM;
}

static int set_up(Manager *manager)
{
        Service *service = &manager->service;
        int r = set_up_service(manager);

        if (r >= 0)
                r = set_up_bus(manager);
        if (r >= 0)
                r = watch_new(service, &manager->watch);
        if (r >= 0)
                r = triggers_new(service, &manager->triggers);
        /* The name first: another daemon's unfinished work is not ours to clean up. Calls are not served before all is
         * taken over, since nothing is dispatched until then. */
        if (r >= 0)
                r = take_name(service->bus);
        if (r >= 0)
                r = adopt_images(service);
        if (!device_guard_available())
                log_message(LOG_NOTICE, "The kernel cannot keep ext2, ext3 and ext4 away from other devices here (no "
                                        "cgroup v2, or no BPF): mounting them needs the permission mount-unhardened");
        if (r >= 0)
                r = request_find_holders(service);
        if (r >= 0)
                r = backing_new(service, &manager->backing);
        if (r >= 0)
                r = sessions_new(service, &manager->sessions);
        return r;
}

static void tear_down(Manager *manager)
{
        Service *service = &manager->service;

        job_set_reaped_handler(NULL, NULL);
        watch_free(manager->watch);
        triggers_free(manager->triggers);
        backing_free(manager->backing);
        sessions_free(manager->sessions);
        sd_event_source_disable_unref(manager->on_idle_time);
        sd_event_source_disable_unref(manager->on_stop_time);
        sd_event_source_disable_unref(manager->on_sweep_time);
        if (service->bus)
                (void)sd_bus_flush(service->bus);
        sd_bus_close_unref(service->bus);
        service->bus = NULL;
        gate_close();
        sd_bus_flush_close_unref(service->ask_bus);
        registry_free(service->registry);
        user_cache_free(service->users);
        config_free(service->config);
        closer_tear_down();
        sd_event_unref(service->event);
}

int manager_run(void)
{
        Manager manager = { 0 };
        int r = set_up(&manager);

        if (r >= 0) {
                manager.ready = true;
                (void)sd_notify(0, "READY=1");
                on_story_ended(&manager);
                r = sd_event_loop(manager.service.event);
        }
        tear_down(&manager);
        return r;
}

/* ---- Shutdown ---- */

/* -EEXIST: another one runs, and its images are its own business. */
static int take_name_if_there_is_a_bus(Service *service)
{
        int r = gate_open_bus(service->config->job_timeout_usec, &service->bus);

        if (r >= 0)
                r = sd_bus_set_method_call_timeout(service->bus, SHUTDOWN_BUS_TIMEOUT_USEC);
        if (r >= 0)
                r = take_name(service->bus);
        if (r == -EEXIST)
                return r;
        if (r < 0) {
                service->bus = sd_bus_close_unref(service->bus);
                gate_close();
        }
        return 0;
}

static void on_detached(Story *story, const Failure *failure, void *userdata)
{
        _cleanup_free_ char *name = userdata;

        (void)story;
        if (failure)
                log_message(LOG_WARNING, "%s cannot be detached completely: %s%s%s", strempty(name),
                            strerror(-failure->error), failure->detail ? ": " : "", strempty(failure->detail));
}

static int detach_all(Manager *manager)
{
        static const Caller own_caller = { 0 };
        Service *service = &manager->service;
        int r = set_up_service(manager);

        if (r >= 0)
                r = take_name_if_there_is_a_bus(service);
        if (r < 0)
                return r == -EEXIST ? 0 : r;
        service->shutdown = true;
        r = adopt_images(service);
        if (r < 0)
                return r;
        for (size_t i = registry_count(service->registry); i > 0; i--) {
                const Image *image = registry_nth(service->registry, i - 1);
                char *name = image ? strdup(image->name) : NULL;
                Story *story;

                if (image && detach_start(service, &own_caller, image, false, on_detached, name, &story) < 0)
                        free(name);
        }
        service->stopping = true;
        return service->stories ? sd_event_loop(service->event) : 0;
}

int manager_detach_all(void)
{
        Manager manager = { 0 };
        int r = detach_all(&manager);

        tear_down(&manager);
        return r;
}
