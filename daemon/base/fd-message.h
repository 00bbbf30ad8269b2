/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages through a socket (unix(7)) that carry descriptors (SCM_RIGHTS). */
#pragma once

#include <sys/uio.h>

#include "base/macro.h"

#define FD_MESSAGE_FDS_MAX 8U

/* @flags: of send(2); a broken socket makes no signal. The descriptors stay the caller's. */
int fd_message_send(int socket, int flags, struct iovec *parts, size_t n_parts, const int *fds, size_t n_fds);

/*
 * One message: how many bytes of it @data has now, and 0 at the end of a stream. Into @ret_fds go *n_fds descriptors
 * at most, close-on-exec; the kernel closes what is more. *n_fds: how many there were. @flags: of recv(2).
 */
ssize_t fd_message_receive(int socket, int flags, void *data, size_t size, int *ret_fds, size_t *n_fds);
