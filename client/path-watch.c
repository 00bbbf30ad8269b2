/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every folder of the path that is there is watched, since each of them may be
 * renamed; a folder that nobody may read cannot be. That a file system was mounted
 * on one of them inotify does not tell, the kernel's table of mounts does.
 */
#include "path-watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#define EVENTS                                                                                                         \
        (IN_CREATE | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF |           \
         IN_MOVE_SELF | IN_ONLYDIR)

struct PathWatch {
        sd_event *event;
        const char *path;
        PathWatchHandler handler;
        void *userdata;
        sd_event_source *on_folders;
        sd_event_source *on_mounts;
        int folders;
        int mounts;
};

static int watch_folders(PathWatch *watch);

static int on_folders(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        PathWatch *watch = userdata;
        int r = watch_folders(watch);

        (void)source, (void)fd, (void)events;
        watch->handler(watch->userdata);
        return r;
}

static int on_mounts(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        return on_folders(source, fd, events, userdata);
}

/* Anew each time: what was waiting in the old one does not matter any more. From above: what comes meanwhile is told.
 */
static int watch_folders(PathWatch *watch)
{
        _cleanup_free_ char *path = strdup(watch->path);

        if (!path)
                return -ENOMEM;
        watch->on_folders = sd_event_source_disable_unref(watch->on_folders);
        watch->folders = safe_close(watch->folders);
        watch->folders = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (watch->folders < 0)
                return -errno;
        (void)inotify_add_watch(watch->folders, "/", EVENTS);
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = 0;
                (void)inotify_add_watch(watch->folders, path, EVENTS);
                *slash = '/';
        }
        return sd_event_add_io(watch->event, &watch->on_folders, watch->folders, EPOLLIN, on_folders, watch);
}

PathWatch *path_watch_free(PathWatch *watch)
{
        if (!watch)
                return NULL;
        sd_event_source_disable_unref(watch->on_folders);
        sd_event_source_disable_unref(watch->on_mounts);
        safe_close(watch->folders);
        safe_close(watch->mounts);
        free(watch);
        return NULL;
}

int path_watch_new(sd_event *event, const char *path, PathWatchHandler handler, void *userdata, PathWatch **ret)
{
        _cleanup_(path_watch_freep) PathWatch *watch = calloc(1, sizeof(*watch));
        int r;

        if (!watch)
                return -ENOMEM;
        *watch = (PathWatch){
                .event = event,
                .path = path,
                .handler = handler,
                .userdata = userdata,
                .folders = -1,
                .mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC),
        };
        if (watch->mounts < 0)
                return -errno;
        r = sd_event_add_io(event, &watch->on_mounts, watch->mounts, EPOLLPRI, on_mounts, watch);
        if (r >= 0)
                r = watch_folders(watch);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(watch);
        return 0;
}
