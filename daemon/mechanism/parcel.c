/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The message stays in the socket's queue; looking at it (MSG_PEEK) makes a descriptor each time. */
#include <sys/socket.h>

#include "base/fd-message.h"
#include "mechanism/parcel.h"

int parcel_wrap(int fd, int *ret_parcel)
{
        char byte = 0;
        struct iovec part = { .iov_base = &byte, .iov_len = 1 };
        int ends[2], r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        r = fd_message_send(ends[0], MSG_DONTWAIT, &part, 1, &fd, 1);
        safe_close(ends[0]);
        if (r < 0) {
                safe_close(ends[1]);
                return r;
        }
        *ret_parcel = ends[1];
        return 0;
}

int parcel_unwrap(int parcel, int *ret_fd)
{
        char byte;
        size_t n_fds = 1;
        ssize_t n = fd_message_receive(parcel, MSG_PEEK | MSG_DONTWAIT, &byte, 1, ret_fd, &n_fds);

        if (n < 0)
                return (int)n;
        return n_fds == 1 ? 0 : -EBADF;
}
