/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Triggers: direct mounts of the kernel's autofs. Whoever enters one waits in the
 * kernel until a request that came through a pipe is answered; if something is
 * mounted on the trigger then, that is what he is in. Nothing here blocks, unless
 * it says so.
 *
 * The process group of whoever makes or adopts a trigger, thus the daemon and its
 * children, walks over it without a request.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/* What mountinfo calls the source of one. */
#define TRIGGER_SOURCE "loopmount"

typedef struct TriggerSpec {
        int pipe_fd;        /* where requests are written to */
        uint64_t idle_usec; /* see trigger_expire(); 0: never. Rounded up to seconds */
} TriggerSpec;

typedef struct TriggerRequest {
        dev_t device;   /* which trigger */
        uint32_t token; /* for the answer */
        bool expire;    /* to unmount what is there; else to mount it */
} TriggerRequest;

/* Gives the daemon a process group of its own, so that it walks over triggers and who has started it does not. */
void trigger_set_up(void);

/* For requests: [0] is read without waiting, [1] is for those who make triggers. */
int trigger_open_pipe(int pipe_fds[static 2]);

/*
 * Makes one that is attached nowhere yet: *ret_mount_fd is for mount_attach(), *ret_fd for
 * all that is below. May block: the kernel may have to load its driver. -ENODEV: it has none.
 */
int trigger_create(const TriggerSpec *spec, int *ret_mount_fd, int *ret_fd);

/* By this requests say which trigger they are about. */
int trigger_get_device(int fd, dev_t *ret);

/*
 * One that an earlier daemon has made: those who wait get -ENOENT, for nobody else
 * knows of them; from now on its requests go to @pipe_fd. @id: as mount_attach() gave it;
 * -ESTALE: it is another one.
 */
int trigger_adopt(int fd, uint64_t id, int pipe_fd);

/* Whether what is on top at @path is a trigger; enters it not. Blocks if somebody waits for one that was not adopted.
 */
bool trigger_is_at(const char *path);

/* 0: there is none (any more). 1: *ret is one. */
int trigger_read(int pipe_fd, TriggerRequest *ret);

/* @error: 0, or what those get who wait. */
int trigger_answer(int fd, uint32_t token, int error);

/*
 * If what is mounted there was not used for the trigger's idle time, a request comes to unmount it, and
 * this blocks until that is answered; who enters meanwhile waits, too. -EAGAIN: it is in use, or was.
 */
int trigger_expire(int fd);

/* Those who wait get -ENOENT; from now on it is a folder that nobody but root may enter. Closes it. Gives -1. */
int trigger_close(int fd);
