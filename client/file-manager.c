/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which file manager? The one that runs, for that is where the user has clicked: it
 * owns org.freedesktop.FileManager1 then, and shows the folder in a window of its
 * own. Not all of them know that interface, and the bus would start any that
 * does, whether it is the user's choice or not; so it is not made to start one
 * before xdg-open, which goes by the user's settings, has failed.
 */
#include "file-manager.h"

#include <signal.h>
#include <spawn.h>

extern char **environ;

char *file_manager_uri(const char *path)
{
        static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
        char *uri = malloc(strlen("file://") + strlen(path) * strlen("%XX") + 1), *end;

        if (!uri)
                return NULL;
        end = stpcpy(uri, "file://");
        for (; *path; path++)
                if (strchr(plain, *path))
                        *end++ = *path;
                else
                        end += sprintf(end, "%%%02X", (unsigned char)*path);
        *end = 0;
        return uri;
}

/* Tells the desktop which click a window belongs to, so that it may come to the front. */
static const char *startup_id(void)
{
        const char *token = getenv("XDG_ACTIVATION_TOKEN");

        return token ? token : strempty(getenv("DESKTOP_STARTUP_ID"));
}

static int show_folders(sd_bus *session, const char *path, bool start)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        _cleanup_free_ char *uri = file_manager_uri(path);
        int r;

        if (!uri)
                return -ENOMEM;
        if (!session)
                return -ENOTCONN;
        r = sd_bus_message_new_method_call(session, &call, "org.freedesktop.FileManager1",
                                           "/org/freedesktop/FileManager1", "org.freedesktop.FileManager1",
                                           "ShowFolders");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(call, start);
        if (r >= 0)
                r = sd_bus_message_append(call, "ass", 1, uri, startup_id());
        if (r >= 0)
                r = sd_bus_call(session, call, 0, NULL, NULL);
        return r;
}

/* With the signals as they are by default: our own may be blocked, to be waited for. */
static int spawn_xdg_open(const char *path, pid_t *ret_child)
{
        char *command[] = { (char *)"xdg-open", (char *)path, NULL };
        posix_spawnattr_t attributes;
        sigset_t none;
        int r;

        sigemptyset(&none);
        r = posix_spawnattr_init(&attributes);
        if (r != 0)
                return -r;
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        r = posix_spawnp(ret_child, command[0], NULL, &attributes, command, environ);
        posix_spawnattr_destroy(&attributes);
        return -r;
}

int file_manager_show(sd_bus *session, const char *path, pid_t *ret_child)
{
        pid_t child = 0;

        if (show_folders(session, path, false) < 0 && spawn_xdg_open(path, &child) < 0) {
                int r = file_manager_show_any(session, path);
                if (r < 0)
                        return r;
        }
        *ret_child = child;
        return 0;
}

int file_manager_show_any(sd_bus *session, const char *path)
{
        return show_folders(session, path, true);
}
