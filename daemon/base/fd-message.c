/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fd-message.h"

#include <sys/socket.h>

typedef union Control {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * FD_MESSAGE_FDS_MAX)];
} Control;

int fd_message_send(int socket, int flags, struct iovec *parts, size_t n_parts, const int *fds, size_t n_fds)
{
        Control control = { 0 };
        struct msghdr message = { .msg_iov = parts, .msg_iovlen = n_parts };

        if (n_fds > FD_MESSAGE_FDS_MAX)
                return -EINVAL;
        if (n_fds > 0) {
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n_fds);
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        }
        return sendmsg(socket, &message, flags | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Of one message all descriptors come in one part (unix(7)). */
static size_t fds_of(struct msghdr *message, int *ret_fds)
{
        size_t n_fds;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                memcpy(ret_fds, CMSG_DATA(c), n_fds * sizeof(int));
                return n_fds;
        }
        return 0;
}

ssize_t fd_message_receive(int socket, int flags, void *data, size_t size, int *ret_fds, size_t *n_fds)
{
        size_t n_wanted = MIN(*n_fds, FD_MESSAGE_FDS_MAX);
        Control control = { 0 };
        struct iovec part = { .iov_base = data, .iov_len = size };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = CMSG_LEN(sizeof(int) * n_wanted),
        };
        ssize_t n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);

        if (n < 0)
                return -errno;
        *n_fds = fds_of(&message, ret_fds);
        return n;
}
