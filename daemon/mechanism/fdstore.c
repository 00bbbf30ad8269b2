/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors are named by image id, and volume; a name of another form is nobody's, and is closed. */
#include <inttypes.h>
#include <systemd/sd-daemon.h>

#include "mechanism/fdstore.h"

static char **names;
static int n_names = -1;

#define NAME_SIZE 48

static const char *image_name(uint64_t id, char name[static NAME_SIZE])
{
        snprintf(name, NAME_SIZE, "image-%" PRIu64, id);
        return name;
}

static const char *volume_name(uint64_t id, unsigned number, char name[static NAME_SIZE])
{
        snprintf(name, NAME_SIZE, "image-%" PRIu64 "-volume-%u", id, number);
        return name;
}

static void put(const char *name, int fd)
{
        char state[64 + NAME_SIZE];

        snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=%s", name);
        (void)sd_pid_notify_with_fds(0, 0, state, &fd, 1);
}

static void drop(const char *name)
{
        char state[64 + NAME_SIZE];

        snprintf(state, sizeof(state), "FDSTOREREMOVE=1\nFDNAME=%s", name);
        (void)sd_notify(0, state);
}

static void load(void)
{
        if (n_names < 0)
                n_names = MAX(sd_listen_fds_with_names(1, &names), 0);
}

static int take(const char *name)
{
        load();
        for (int i = 0; i < n_names; i++)
                if (names[i] && streq(names[i], name)) {
                        free(names[i]);
                        names[i] = NULL;
                        return SD_LISTEN_FDS_START + i;
                }
        return -1;
}

int fdstore_check(uid_t uid, size_t n_of_user, size_t n_of_all)
{
        return n_of_all > FDSTORE_MAX || (uid != 0 && n_of_user > FDSTORE_PER_USER_MAX) ? -EDQUOT : 0;
}

void fdstore_put(uint64_t id, int fd)
{
        char name[NAME_SIZE];

        put(image_name(id, name), fd);
}

void fdstore_drop(uint64_t id)
{
        char name[NAME_SIZE];

        drop(image_name(id, name));
}

int fdstore_take(uint64_t id)
{
        char name[NAME_SIZE];

        return take(image_name(id, name));
}

void fdstore_put_volume(uint64_t id, unsigned number, int fd)
{
        char name[NAME_SIZE];

        put(volume_name(id, number, name), fd);
}

void fdstore_drop_volume(uint64_t id, unsigned number)
{
        char name[NAME_SIZE];

        drop(volume_name(id, number, name));
}

int fdstore_take_volume(uint64_t id, unsigned number)
{
        char name[NAME_SIZE];

        return take(volume_name(id, number, name));
}

void fdstore_close_rest(void)
{
        load();
        for (int i = 0; i < n_names; i++) {
                if (names[i])
                        safe_close(SD_LISTEN_FDS_START + i);
                free(names[i]);
        }
        free(names);
        names = NULL;
        n_names = 0;
}
