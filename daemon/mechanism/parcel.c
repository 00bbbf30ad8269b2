/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The message stays in the socket's queue; looking at it (MSG_PEEK) makes a descriptor each time it is asked for. */
#include <fcntl.h>
#include <sys/socket.h>

#include "base/fd-message.h"
#include "mechanism/parcel.h"

void parcel_label(int fd, ParcelLabel *ret)
{
        char link[64];
        ssize_t n;

        *ret = (ParcelLabel){ .flags = fcntl(fd, F_GETFL), .seals = fcntl(fd, F_GET_SEALS) };
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, ret->path, sizeof(ret->path) - 1);
        ret->path[MAX(n, 0)] = 0;
}

int parcel_wrap(int fd, const ParcelLabel *label, int *ret_parcel)
{
        struct iovec part = { .iov_base = (void *)label, .iov_len = sizeof(*label) };
        int ends[2], r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        r = fd_message_send(ends[0], MSG_DONTWAIT, &part, 1, &fd, fd >= 0);
        safe_close(ends[0]);
        if (r < 0) {
                safe_close(ends[1]);
                return r;
        }
        *ret_parcel = ends[1];
        return 0;
}

int parcel_read_label(int parcel, ParcelLabel *ret)
{
        ssize_t n = recv(parcel, ret, sizeof(*ret), MSG_PEEK | MSG_DONTWAIT);

        if (n < 0)
                return -errno;
        return n == sizeof(*ret) && memchr(ret->path, 0, sizeof(ret->path)) ? 0 : -EBADMSG;
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
