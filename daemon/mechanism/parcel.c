/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The message stays in the socket's queue; looking at it (MSG_PEEK) makes a descriptor each time. */
#include <sys/socket.h>

#include "mechanism/parcel.h"

typedef union Control {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
} Control;

int parcel_wrap(int fd, int *ret_parcel)
{
        Control control = {
                .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) }
        };
        char byte = 0;
        struct iovec part = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control),
        };
        int ends[2], r = 0;

        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        if (sendmsg(ends[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                r = -errno;
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
        Control control = { 0 };
        char byte;
        struct iovec part = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control),
        };

        if (recvmsg(parcel, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
                return -errno;
        if (control.header.cmsg_level != SOL_SOCKET || control.header.cmsg_type != SCM_RIGHTS ||
            control.header.cmsg_len != CMSG_LEN(sizeof(int)))
                return -EBADF;
        memcpy(ret_fd, CMSG_DATA(&control.header), sizeof(int));
        return 0;
}
