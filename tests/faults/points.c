/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The errors are those that the call may give for want of something (memory,
 * descriptors, space), for trouble below it, or since it was interrupted; not
 * those that would mean that the daemon is wrong. At the end of the table are the calls
 * that are not made fail, and why. One that is not in it at all ends the run: somebody
 * has to think about it.
 */
#include "points.h"

#include <fcntl.h>
#include <seccomp.h>

#define ERRORS_MAX 6

typedef struct Class {
        const char *calls; /* between blanks */
        int errors[ERRORS_MAX];
} Class;

static const Class classes[] = {
        { " open openat openat2 ", { ENOMEM, EMFILE, EIO, EINTR } },
        { " read readv pread64 ", { EIO, ENOMEM, EINTR, EAGAIN } },
        { " getdents64 lseek readlink readlinkat getxattr fgetxattr fsync fdatasync ftruncate ", { EIO, ENOMEM } },
        { " write writev pwrite64 ", { EIO, ENOMEM, ENOSPC, EINTR } },
        { " setxattr fsetxattr chmod fchmod fchmodat chown fchown fchownat utimensat ", { EIO, ENOMEM, ENOSPC } },
        { " close ", { EIO, EINTR } },
        { " mkdir mkdirat mknod mknodat symlink symlinkat link linkat rename renameat renameat2 ",
          { EIO, ENOMEM, ENOSPC, EBUSY } },
        { " unlink unlinkat rmdir ", { EIO, ENOMEM, EBUSY } },
        { " stat lstat fstat newfstatat statx access faccessat faccessat2 statfs fstatfs ", { EIO, ENOMEM } },
        { " pipe pipe2 dup dup2 dup3 eventfd2 signalfd4 timerfd_create epoll_create1 pidfd_open memfd_create "
          "inotify_init1 "
          "socket socketpair ",
          { EMFILE, ENOMEM, ENOBUFS } },
        { " connect bind getsockname getpeername getsockopt setsockopt shutdown ", { ENOMEM, ENOBUFS, EINTR } },
        { " sendto sendmsg ", { ENOMEM, ENOBUFS, EAGAIN, EINTR } },
        { " recvfrom recvmsg ", { ENOMEM, EAGAIN, EINTR } },
        { " clone clone3 fork vfork ", { EAGAIN, ENOMEM } },
        { " brk mmap mremap ", { ENOMEM } },
        { " mprotect madvise ", { ENOMEM } },
        { " ioctl ", { EIO, ENOMEM, EBUSY, EINTR, EAGAIN } },
        { " fsopen fspick fsmount open_tree ", { ENOMEM, EMFILE, EIO, EBUSY, ENOSPC } },
        { " fsconfig move_mount mount mount_setattr ", { ENOMEM, EIO, EBUSY, ENOSPC, EINTR } },
        { " umount2 ", { ENOMEM, EIO, EBUSY, EAGAIN } },
        { " chdir fchdir chroot ", { ENOMEM, EIO } },
        /* The one place that tells of data that have not reached the disk. */
        { " syncfs ", { EIO, ENOSPC, ENOMEM } },
        { " setresuid setresgid setuid setgid setgroups ", { ENOMEM, EAGAIN } },
        { " prctl seccomp setns unshare ", { ENOMEM } },
        { " close_range ", { ENOMEM, EMFILE } },
        { " prlimit64 setrlimit ", { EPERM } },
        { " epoll_wait epoll_pwait epoll_pwait2 ", { EINTR } },
        { " poll ppoll select pselect6 ", { EINTR, ENOMEM } },
        { " epoll_ctl ", { ENOMEM, ENOSPC } },
        { " fcntl ", { EMFILE, ENOMEM } },
        { " flock ", { ENOMEM, EINTR } },
        { " getrandom ", { EINTR, EAGAIN } },
        { " bpf ", { ENOMEM, EMFILE, EAGAIN } },
        { " quotactl_fd fallocate ", { EIO, ENOMEM } },
        { " listmount ", { ENOMEM } },

        /* They tell or set what is the process's own and there already. */
        { " getpid getppid gettid getuid geteuid getgid getegid rt_sigprocmask rt_sigaction timerfd_settime "
          "sched_yield ",
          { 0 } },
        /* They fail only if there is no such child or process: which would be ours, and not reaped. */
        { " waitid wait4 kill pidfd_send_signal setpgid ", { 0 } },
        /* Advice. */
        { " fadvise64 ", { 0 } },
        /* Giving memory back; free(3) tells nobody whether it could. */
        { " munmap ", { 0 } },
        /* The C library's own, before main() and around threads; it does not go on without them. */
        { " arch_prctl set_tid_address set_robust_list rseq futex ", { 0 } },
        /* Made by the kernel itself, when the tracer has stopped a call that waits. */
        { " restart_syscall ", { 0 } },
        /* There is no going on. */
        { " execve exit exit_group ", { 0 } },
};

static char *name_of(int number)
{
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);

        /* Linux 6.8; Debian 12's libseccomp is older. */
        if (!name && number == 458)
                name = strdup("listmount");
        if (!name)
                g_error("the system call %d has no name", number);
        return name;
}

static const int *errors_of(const TracerCall *call)
{
        static const int none[ERRORS_MAX] = { 0 };
        _cleanup_free_ char *name = name_of(call->point.number);
        g_autofree char *wanted = g_strdup_printf(" %s ", name);

        for (size_t i = 0; i < ELEMENTSOF(classes); i++)
                if (strstr(classes[i].calls, wanted))
                        return tracer_may_fail(call->point.number, call->arguments) ? classes[i].errors : none;
        g_error("the daemon calls %s(2), which is in no class of points.c: which errors may it give?", name);
}

static bool makes_file(const TracerCall *call)
{
        _cleanup_free_ char *name = name_of(call->point.number);

        return (streq(name, "openat") && call->arguments[2] & O_CREAT) ||
               (streq(name, "open") && call->arguments[1] & O_CREAT);
}

static void add_errors(GArray *orders, const TracerCall *call)
{
        const int *errors = errors_of(call);
        TracerOrder order = { .action = TRACER_FAIL, .point = call->point };

        for (size_t i = 0; i < ERRORS_MAX && errors[i]; i++) {
                order.error = errors[i];
                g_array_append_val(orders, order);
        }
        order.error = ENOSPC;
        if (makes_file(call))
                g_array_append_val(orders, order);
}

static void add_kills(GArray *orders, const TracerCall *call)
{
        TracerOrder order = { .action = TRACER_KILL_DAEMON, .point = call->point };

        g_array_append_val(orders, order);
        order.action = TRACER_KILL_CHILD;
        if (!streq(call->point.role, "d"))
                g_array_append_val(orders, order);
}

TracerOrder *points_of(const TracerCall *calls, size_t n_calls, bool kill, size_t *ret_n)
{
        GArray *orders = g_array_new(FALSE, FALSE, sizeof(TracerOrder));

        for (size_t i = 0; i < n_calls; i++)
                if (kill)
                        add_kills(orders, &calls[i]);
                else
                        add_errors(orders, &calls[i]);
        *ret_n = orders->len;
        return (TracerOrder *)(void *)g_array_free(orders, FALSE);
}

char *point_to_string(const TracerOrder *order)
{
        _cleanup_free_ char *name = name_of(order->point.number);
        const char *what = order->action == TRACER_KILL_DAEMON  ? "KILL"
                           : order->action == TRACER_KILL_CHILD ? "KILL-CHILD"
                                                                : strerrorname_np(order->error);

        return g_strdup_printf("%s/%s/%u/%s", order->point.role, name, order->point.occurrence, what);
}

static bool read_action(const char *text, TracerOrder *order)
{
        order->action = streq(text, "KILL")         ? TRACER_KILL_DAEMON
                        : streq(text, "KILL-CHILD") ? TRACER_KILL_CHILD
                                                    : TRACER_FAIL;
        for (int error = 1; order->action == TRACER_FAIL && error < 200; error++)
                if (g_strcmp0(strerrorname_np(error), text) == 0)
                        order->error = error;
        return order->action != TRACER_FAIL || order->error != 0;
}

TracerOrder point_from_string(const char *text)
{
        g_auto(GStrv) part = g_strsplit(text, "/", -1);
        TracerOrder order = { 0 };

        if (g_strv_length(part) != 4 || strlen(part[0]) >= sizeof(order.point.role) || !read_action(part[3], &order))
                g_error("%s is no point: PROCESS/CALL/NUMBER/ERROR, as d.2/openat/3/EMFILE", text);
        strcpy(order.point.role, part[0]);
        order.point.number = seccomp_syscall_resolve_name(part[1]);
        order.point.occurrence = (unsigned)strtoul(part[2], NULL, 10);
        if (order.point.number < 0 || order.point.occurrence == 0)
                g_error("%s: there is no such system call", text);
        return order;
}
