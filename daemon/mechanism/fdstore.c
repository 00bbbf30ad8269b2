/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors are named by image id; a name of another form is nobody's, and is closed. */
#include <inttypes.h>
#include <systemd/sd-daemon.h>

#include "mechanism/fdstore.h"

static char **names;
static int n_names = -1;

void fdstore_put(uint64_t id, int fd)
{
        char state[64];

        snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=image-%" PRIu64, id);
        (void)sd_pid_notify_with_fds(0, 0, state, &fd, 1);
}

void fdstore_drop(uint64_t id)
{
        char state[64];

        snprintf(state, sizeof(state), "FDSTOREREMOVE=1\nFDNAME=image-%" PRIu64, id);
        (void)sd_notify(0, state);
}

static void load(void)
{
        if (n_names < 0)
                n_names = MAX(sd_listen_fds_with_names(1, &names), 0);
}

int fdstore_take(uint64_t id)
{
        char name[32];

        load();
        snprintf(name, sizeof(name), "image-%" PRIu64, id);
        for (int i = 0; i < n_names; i++)
                if (names[i] && streq(names[i], name)) {
                        free(names[i]);
                        names[i] = NULL;
                        return SD_LISTEN_FDS_START + i;
                }
        return -1;
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
