/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Children that do the blocking work. A job is over for its owner when the
 * answer arrives, the child dies or the deadline passes; the Job itself lives
 * on, ownerless, until the child is reaped: a child in uninterruptible sleep
 * ignores SIGKILL, and nobody may wait for it.
 *
 * The child keeps only the descriptors that it was given. Were it to keep the
 * daemon's, one stuck child would hold every other image's loop device open. The
 * daemon in turn keeps users' files out of its own table (see parcel.h), since a
 * child that closes an inherited one may be stuck in that.
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "mechanism/job.h"

/* Far more than any answer: the largest is a probe's, 1 KiB for each of its volumes. */
#define ANSWER_SIZE_MAX ((size_t)192 * 1024)

/* How often, 20 microseconds apart, the parent looks whether its child has got to run; usually a few times. */
#define WITHDRAW_TRIES_MAX 50000U

struct Job {
        sd_event *event;
        pid_t pid;
        uid_t uid;
        int channel;
        int error;    /* of a job that was killed: what it will end with */
        JobDone done; /* NULL once the owner has its result */
        void *userdata;
        bool killed;
        sd_event_source *on_channel;
        sd_event_source *on_exit;
        sd_event_source *on_deadline;
        Job *next_killed;
};

static Job *killed;
static void (*on_reaped)(void *userdata);
static void *on_reaped_userdata;

void job_set_reaped_handler(void (*reaped)(void *userdata), void *userdata)
{
        on_reaped = reaped;
        on_reaped_userdata = userdata;
}

unsigned job_n_stuck(uid_t uid)
{
        unsigned n = 0;

        for (const Job *job = killed; job; job = job->next_killed)
                n += job->uid == uid;
        return n;
}

unsigned job_n_stuck_all(void)
{
        unsigned n = 0;

        for (const Job *job = killed; job; job = job->next_killed)
                n++;
        return n;
}

static void forget_killed(Job *job)
{
        for (Job **link = &killed; *link; link = &(*link)->next_killed)
                if (*link == job) {
                        *link = job->next_killed;
                        return;
                }
}

static void job_free(Job *job)
{
        if (job->killed)
                forget_killed(job);
        sd_event_source_disable_unref(job->on_channel);
        sd_event_source_disable_unref(job->on_deadline);
        sd_event_source_disable_unref(job->on_exit);
        /* There may be descriptors in it that nobody has taken. */
        if (job->killed)
                job_close(job->event, job->channel);
        else
                safe_close(job->channel);
        sd_event_unref(job->event);
        free(job);
}

static void job_kill(Job *job)
{
        if (job->killed)
                return;
        (void)sd_event_source_send_child_signal(job->on_exit, SIGKILL, NULL, 0);
        /* From now on only its death counts. */
        job->on_channel = sd_event_source_disable_unref(job->on_channel);
        (void)sd_event_source_set_time_relative(job->on_deadline, JOB_KILL_GRACE_USEC);
        (void)sd_event_source_set_enabled(job->on_deadline, SD_EVENT_ONESHOT);
        job->killed = true;
        job->next_killed = killed;
        killed = job;
}

/*
 * Hands the result to the owner, once; from then on the job only waits to be reaped. The deadline stays: a child that
 * has answered, or closed its end, and does not go is killed too.
 */
static void job_finish(Job *job, int error, JobAnswer *answer)
{
        JobDone done = job->done;

        job->on_channel = sd_event_source_disable_unref(job->on_channel);
        job->done = NULL;
        if (done)
                done(error, answer, job->userdata);
}

Job *job_cancel(Job *job)
{
        if (!job)
                return NULL;
        job->done = NULL;
        job_kill(job);
        job_finish(job, -ECANCELED, NULL);
        return NULL;
}

void job_abort(Job *job)
{
        if (!job->killed)
                job->error = -ECANCELED;
        job_kill(job);
}

static void answer_take_fds(JobAnswer *answer, struct msghdr *message)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                answer->n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                memcpy(answer->fds, CMSG_DATA(c), answer->n_fds * sizeof(int));
        }
}

/* > 0: there was an answer; 0: none yet; -ECHILD: and there will be none. */
static int receive_answer(int channel, char **ret_data, JobAnswer *answer)
{
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int) * JOB_FDS_MAX)];
        } control = { 0 };
        _cleanup_free_ char *data = NULL;
        ssize_t n = recv(channel, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0 || (size_t)n > ANSWER_SIZE_MAX)
                return -ECHILD;
        data = malloc((size_t)n);
        if (!data)
                return -ENOMEM;

        struct iovec part = { .iov_base = data, .iov_len = (size_t)n };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control),
        };
        n = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return -errno;
        answer_take_fds(answer, &message);
        answer->data = *ret_data = TAKE_PTR(data);
        answer->size = (size_t)n;
        return 1;
}

/* 0: the owner has to wait on. */
static int job_collect(Job *job)
{
        _cleanup_free_ char *data = NULL;
        JobAnswer answer = { 0 };
        int r = receive_answer(job->channel, &data, &answer);

        if (r == 0)
                return 0;
        /* The answer begins with what the function returned. */
        if (r > 0 && answer.size < sizeof(int))
                r = -ECHILD;
        if (r > 0) {
                memcpy(&r, answer.data, sizeof(int));
                answer.data = (const char *)answer.data + sizeof(int);
                answer.size -= sizeof(int);
                r = MIN(r, 0);
        }
        job_finish(job, r, r < 0 ? NULL : &answer);
        for (size_t i = 0; i < answer.n_fds; i++)
                if (answer.fds[i] >= 0)
                        job_close(job->event, answer.fds[i]);
        return 1;
}

static int on_channel(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        (void)source, (void)fd, (void)events;
        (void)job_collect(userdata);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        Job *job = userdata;

        (void)source, (void)usec;
        if (job->killed) {
                job_finish(job, job->error, NULL);
                return 0;
        }
        job->error = -ETIMEDOUT;
        job_kill(job);
        return 0;
}

static int on_exit_child(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        Job *job = userdata;
        bool was_killed = job->killed;

        (void)source, (void)info;
        if (was_killed) {
                forget_killed(job);
                job_finish(job, job->error, NULL);
        } else if (job->done && job_collect(job) == 0)
                job_finish(job, -ECHILD, NULL);
        job_free(job);
        if (was_killed && on_reaped)
                on_reaped(on_reaped_userdata);
        return 0;
}

static int compare_fds(const void *a, const void *b)
{
        int x = *(const int *)a, y = *(const int *)b;

        return (x > y) - (x < y);
}

static int close_all_but(const int *fds, size_t n_fds, int channel)
{
        int keep[JOB_FDS_MAX + 1];
        unsigned next = 3;

        memcpy(keep, fds, n_fds * sizeof(int));
        keep[n_fds] = channel;
        qsort(keep, n_fds + 1, sizeof(int), compare_fds);
        for (size_t i = 0; i <= n_fds; i++) {
                if (keep[i] < (int)next)
                        continue;
                if (keep[i] > (int)next && close_range(next, (unsigned)keep[i] - 1, 0) < 0)
                        return -errno;
                next = (unsigned)keep[i] + 1;
        }
        return close_range(next, ~0U, 0) < 0 ? -errno : 0;
}

static int send_answer(int channel, int error, const void *data, size_t size, const int *fds, size_t n_fds)
{
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int) * JOB_FDS_MAX)];
        } control = { 0 };
        struct iovec parts[] = { { &error, sizeof(error) }, { (void *)data, size } };
        struct msghdr message = { .msg_iov = parts, .msg_iovlen = data ? 2 : 1 };

        if (n_fds > JOB_FDS_MAX)
                return -EINVAL;
        if (n_fds > 0) {
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n_fds);
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        }
        return sendmsg(channel, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int job_answer(int channel, const void *data, size_t size, const int *fds, size_t n_fds)
{
        return send_answer(channel, 0, data, size, fds, n_fds);
}

_Noreturn static void run_child(const JobSpec *spec, int channel, pid_t parent)
{
        sigset_t none;
        char go;
        int r;

        /* A dead daemon finishes nothing: its restart finds and undoes what was half done. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(EXIT_FAILURE);
        (void)prctl(PR_SET_NAME, spec->name);
        sigemptyset(&none);
        if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
                _exit(EXIT_FAILURE);
        r = close_all_but(spec->fds, spec->n_fds, channel);
        /* The parent watches before anything is done, and is the first to close what it gave: else its close would be
         * the last, and could block. */
        if (r == 0 && recv(channel, &go, 1, 0) != 1)
                _exit(EXIT_FAILURE);
        if (r == 0)
                r = spec->function(channel, spec->parameters);
        if (r < 0)
                (void)send_answer(channel, r, NULL, 0, NULL, 0);
        _exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int job_watch(Job *job, sd_event *event, uint64_t timeout_usec)
{
        int r = sd_event_add_child(event, &job->on_exit, job->pid, WEXITED, on_exit_child, job);

        if (r >= 0)
                r = sd_event_add_io(event, &job->on_channel, job->channel, EPOLLIN, on_channel, job);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &job->on_deadline, CLOCK_MONOTONIC, timeout_usec, 0, on_deadline,
                                               job);
        return r;
}

int job_start(sd_event *event, const JobSpec *spec, JobDone done, void *userdata, Job **ret)
{
        _cleanup_free_ Job *job = calloc(1, sizeof(*job));
        pid_t parent = getpid();
        int channel[2], r;

        if (!job)
                return -ENOMEM;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
                return -errno;
        job->pid = fork();
        if (job->pid < 0) {
                r = -errno;
                safe_close(channel[0]);
                safe_close(channel[1]);
                return r;
        }
        if (job->pid == 0)
                run_child(spec, channel[1], parent);
        safe_close(channel[1]);

        job->event = sd_event_ref(event);
        job->uid = spec->uid;
        job->channel = channel[0];
        job->done = done;
        job->userdata = userdata;
        r = job_watch(job, event, spec->timeout_usec);
        if (r < 0) {
                /* It is still waiting for its start, so this is quick. */
                sd_event_source_disable_unref(job->on_channel);
                sd_event_source_disable_unref(job->on_exit);
                safe_close(job->channel);
                sd_event_unref(job->event);
                (void)kill(job->pid, SIGKILL);
                (void)waitpid(job->pid, NULL, 0);
                return r;
        }
        for (size_t i = 0; i < spec->n_given; i++)
                safe_close(spec->fds[i]);
        (void)send(job->channel, "", 1, MSG_NOSIGNAL);
        *ret = TAKE_PTR(job);
        return 0;
}

/* ---- Closing ---- */

/*
 * A child that shares our descriptor table: what it closes is closed here too. Not
 * by clone3(): no filter can look at its flags, and so RestrictNamespaces= of
 * our unit has it fail with ENOSYS.
 */
static pid_t fork_sharing_fds(void)
{
        unsigned long flags = CLONE_FILES | SIGCHLD;

#ifdef __s390x__
        return (pid_t)syscall(SYS_clone, 0UL, flags, 0UL, 0UL, 0UL);
#else
        return (pid_t)syscall(SYS_clone, flags, 0UL, 0UL, 0UL, 0UL);
#endif
}

static int on_closer_exit(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        (void)info, (void)userdata;
        sd_event_source_unref(source);
        return 0;
}

/* The event loop reaps it; nobody waits for it. */
static void watch_closer(sd_event *event, pid_t pid)
{
        sd_event_source *source;

        if (sd_event_add_child(event, &source, pid, WEXITED, on_closer_exit, NULL) < 0)
                (void)waitpid(pid, NULL, WNOHANG);
}

void job_close(sd_event *event, int fd)
{
        pid_t pid = fork_sharing_fds();

        if (pid == 0) {
                (void)close(fd);
                _exit(EXIT_SUCCESS);
        }
        if (pid < 0)
                safe_close(fd);
        else
                watch_closer(event, pid);
}

/* The table entry is replaced at once, before the file is flushed. */
static bool leads_nowhere(int fd)
{
        int flags = fcntl(fd, F_GETFL);

        return flags >= 0 && flags & O_PATH;
}

int job_withdraw(sd_event *event, int fd)
{
        const struct timespec pause = { .tv_nsec = 20000 };
        _cleanup_close_ int nowhere = open("/dev/null", O_PATH | O_CLOEXEC);
        bool opened_as_path = leads_nowhere(fd);
        pid_t pid;

        if (nowhere < 0)
                return -errno;
        /* Such a descriptor is no open file: there is nothing to flush. */
        if (opened_as_path)
                return 0;
        pid = fork_sharing_fds();
        if (pid == 0) {
                (void)dup3(nowhere, fd, O_CLOEXEC);
                _exit(EXIT_SUCCESS);
        }
        if (pid < 0)
                return -errno;
        watch_closer(event, pid);
        for (unsigned i = 0; !leads_nowhere(fd); i++) {
                if (i >= WITHDRAW_TRIES_MAX)
                        return -ETIMEDOUT;
                (void)ppoll(NULL, 0, &pause, NULL);
        }
        return 0;
}
