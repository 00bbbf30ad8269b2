/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Workers do what may block. A job is over for its owner when the
 * answer arrives, the child dies or the deadline passes; the Job itself lives
 * on, ownerless, until the child is reaped: a child in uninterruptible sleep
 * ignores SIGKILL, and nobody may wait for it.
 *
 * A worker goes through this again and again: it is sent an order, answers, closes
 * what it has, and says that it is ready; only then it is given another one. One
 * that has failed, or does not come back from closing, is not used again. Fork and
 * exit are most of what a short job costs. Where each is good for one job only, the
 * next is made behind the order that some child gets next, when whoever gave that has
 * to wait; or soon, if there is no order.
 *
 * A worker keeps none of the daemon's descriptors. Were it to keep them, one that is
 * stuck would hold every other image's loop device open. The
 * daemon in turn keeps users' files out of its own table (see parcel.h), since a
 * child that closes an inherited one may be stuck in that.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/closer.h"
#include "base/fds.h"
#include "mechanism/job.h"

/* How long a child that is to be made in advance may wait for an order behind which it is made. */
#define DUE_USEC (10 * USEC_PER_MSEC)
#define DUE_ACCURACY_USEC USEC_PER_MSEC

/* Far more than any answer: the largest is a probe's, 1 KiB for each of its volumes. */
#define ANSWER_SIZE_MAX ((size_t)192 * 1024)

struct Job {
        sd_event *event;
        pid_t pid;
        uid_t uid;
        int channel;
        int error;    /* of a job that was killed: what it will end with */
        JobDone done; /* NULL once the owner has its result */
        void *userdata;
        JobWork work;
        bool idle;        /* it waits for its next job */
        const char *name; /* of a worker that is replaced when it ends; else NULL */
        bool killed;
        sd_event_source *on_channel;
        sd_event_source *on_exit;
        sd_event_source *on_deadline;
        Job *next; /* of those that are killed, or idle */
};

static int start_child(sd_event *event, const JobSpec *spec, Job **ret);

static Job *killed, *idle;
static struct {
        const char *name;
        JobWork work; /* NULL: none is due */
        sd_event_source *on_time;
} due;
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

        for (const Job *job = killed; job; job = job->next)
                n += job->uid == uid;
        return n;
}

static void forget(Job **list, Job *job)
{
        for (Job **link = list; *link; link = &(*link)->next)
                if (*link == job) {
                        *link = job->next;
                        return;
                }
}

static void job_free(Job *job)
{
        if (job->killed)
                forget(&killed, job);
        if (job->idle)
                forget(&idle, job);
        sd_event_source_disable_unref(job->on_channel);
        sd_event_source_disable_unref(job->on_deadline);
        sd_event_source_disable_unref(job->on_exit);
        /* There may be descriptors in it that nobody has taken. */
        if (job->killed && job->channel >= 0)
                closer_close(job->event, job->channel);
        else
                safe_close(job->channel);
        sd_event_unref(job->event);
        free(job);
}

static void set_deadline(Job *job, uint64_t timeout_usec)
{
        (void)sd_event_source_set_time_relative(job->on_deadline, timeout_usec);
        (void)sd_event_source_set_enabled(job->on_deadline, SD_EVENT_ONESHOT);
}

/* A worker ends when its channel does; or is killed. Of one that was not idle there may be descriptors in it. */
static void dismiss(Job *job)
{
        job->on_channel = sd_event_source_disable_unref(job->on_channel);
        if (job->idle) {
                forget(&idle, job);
                job->channel = safe_close(job->channel);
        }
        job->idle = false;
        if (job->channel >= 0)
                closer_close(job->event, TAKE_FD(job->channel));
        set_deadline(job, JOB_KILL_GRACE_USEC);
}

static void job_kill(Job *job)
{
        if (job->killed)
                return;
        (void)sd_event_source_send_child_signal(job->on_exit, SIGKILL, NULL, 0);
        /* From now on only its death counts. */
        job->on_channel = sd_event_source_disable_unref(job->on_channel);
        set_deadline(job, JOB_KILL_GRACE_USEC);
        job->killed = true;
        job->next = killed;
        killed = job;
}

/*
 * Hands the result to the owner, once; from then on the job only waits to be reaped, or for a worker's word that it is
 * ready for the next. The deadline stays: a child that has answered, or closed its end, and does neither is killed too.
 */
static void job_finish(Job *job, int error, JobAnswer *answer)
{
        JobDone done = job->done;

        if (error < 0 && !job->killed)
                dismiss(job);
        else if (!job->killed)
                set_deadline(job, JOB_IDLE_USEC);
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

/* > 0: there was a message; 0: none yet; -ECHILD: and there will be none. @flags: MSG_DONTWAIT, or 0. */
static int receive(int channel, int flags, char **ret_data, JobMessage *ret)
{
        _cleanup_free_ char *data = NULL;
        size_t n_fds = JOB_FDS_MAX;
        ssize_t n = recv(channel, NULL, 0, MSG_PEEK | MSG_TRUNC | flags);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0 || (size_t)n > ANSWER_SIZE_MAX)
                return -ECHILD;
        data = malloc((size_t)n);
        if (!data)
                return -ENOMEM;
        n = fd_message_receive(channel, MSG_DONTWAIT, data, (size_t)n, ret->fds, &n_fds);
        if (n < 0)
                return (int)n;
        ret->n_fds = n_fds;
        ret->data = *ret_data = TAKE_PTR(data);
        ret->size = (size_t)n;
        return 1;
}

/* 0: the owner has to wait on. */
static int job_collect(Job *job)
{
        _cleanup_free_ char *data = NULL;
        JobAnswer answer = { 0 };
        int r = receive(job->channel, MSG_DONTWAIT, &data, &answer);

        if (r == 0)
                return 0;
        /* The answer begins with what the work returned. */
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
                        closer_close(job->event, answer.fds[i]);
        return 1;
}

/* ---- Workers that have nothing to do ---- */

static unsigned count_idle(JobWork work)
{
        unsigned n = 0;

        for (const Job *job = idle; job; job = job->next)
                n += job->work == work;
        return n;
}

static void become_idle(Job *job)
{
        job->idle = true;
        job->next = idle;
        idle = job;
        set_deadline(job, JOB_IDLE_USEC);
}

/* Behind its answer a worker has nothing to say but that it is ready. One that is replaced may be compromised, and does
 * not stay, whatever it says. */
static void on_worker(Job *job)
{
        char byte;
        ssize_t n = recv(job->channel, &byte, sizeof(byte), MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n != 1 || job->idle || job->name || count_idle(job->work) >= JOB_IDLE_MAX) {
                dismiss(job);
                return;
        }
        become_idle(job);
}

/* ---- What happens to a child ---- */

static int on_channel(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        Job *job = userdata;

        (void)source, (void)fd, (void)events;
        if (job->done)
                (void)job_collect(job);
        else
                on_worker(job);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        Job *job = userdata;

        (void)source, (void)usec;
        if (job->idle)
                dismiss(job);
        else if (job->killed)
                job_finish(job, job->error, NULL);
        else {
                job->error = -ETIMEDOUT;
                job_kill(job);
        }
        return 0;
}

/* If it cannot be made now, it is made when there is a job for it. */
static void make_due(sd_event *event)
{
        const JobSpec spec = { .name = due.name, .work = due.work, .timeout_usec = JOB_IDLE_USEC };
        Job *job = NULL;

        if (!due.work)
                return;
        due.work = NULL;
        due.on_time = sd_event_source_disable_unref(due.on_time);
        if (count_idle(spec.work) == 0 && start_child(event, &spec, &job) >= 0)
                become_idle(job);
}

static int on_due(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)usec, (void)userdata;
        make_due(sd_event_source_get_event(source));
        return 0;
}

/* By one that has nothing of it. */
static void replace(const Job *ended)
{
        make_due(ended->event);
        due.name = ended->name;
        due.work = ended->work;
        (void)sd_event_add_time_relative(ended->event, &due.on_time, CLOCK_MONOTONIC, DUE_USEC, DUE_ACCURACY_USEC,
                                         on_due, NULL);
}

static int on_exit_child(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        Job *job = userdata;
        bool was_killed = job->killed;

        (void)source, (void)info;
        if (was_killed) {
                forget(&killed, job);
                job_finish(job, job->error, NULL);
        } else if (job->done && job_collect(job) == 0)
                job_finish(job, -ECHILD, NULL);
        if (!was_killed && job->name)
                replace(job);
        job_free(job);
        if (was_killed && on_reaped)
                on_reaped(on_reaped_userdata);
        return 0;
}

/* ---- In the child ---- */

static int send_answer(int channel, int error, const void *data, size_t size, const int *fds, size_t n_fds)
{
        struct iovec parts[] = { { &error, sizeof(error) }, { (void *)data, size } };

        return fd_message_send(channel, 0, parts, data ? 2 : 1, fds, n_fds);
}

int job_answer(int channel, const void *data, size_t size, const int *fds, size_t n_fds)
{
        return send_answer(channel, 0, data, size, fds, n_fds);
}

/* One job. > 0: ready for another one. */
static int work_once(const JobSpec *spec, int channel)
{
        _cleanup_free_ char *data = NULL;
        JobOrder order = { 0 };
        int r = receive(channel, 0, &data, &order);

        if (r <= 0)
                return r == -ECHILD ? 0 : -EIO;
        (void)prctl(PR_SET_NAME, spec->name);
        r = spec->work(channel, &order);
        if (r < 0) {
                (void)send_answer(channel, r, NULL, 0, NULL, 0);
                return r;
        }
        if (r > 0)
                return 0;
        /* What may block in this (a user's file) does so behind the answer. */
        r = fds_close_all_but(STDERR_FILENO + 1, &channel, 1);
        if (r < 0)
                return r;
        (void)prctl(PR_SET_NAME, JOB_IDLE_NAME);
        return send(channel, "", 1, MSG_NOSIGNAL) == 1 ? 1 : -errno;
}

static int run_worker(const JobSpec *spec, int channel)
{
        int r = fds_close_all_but(STDERR_FILENO + 1, &channel, 1);

        if (r < 0) {
                (void)send_answer(channel, r, NULL, 0, NULL, 0);
                return r;
        }
        while ((r = work_once(spec, channel)) > 0)
                ;
        return r;
}

_Noreturn static void run_child(const JobSpec *spec, int channel, pid_t parent)
{
        sigset_t none;
        int r;

        /* A dead daemon finishes nothing: its restart finds and undoes what was half done. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(EXIT_FAILURE);
        (void)prctl(PR_SET_NAME, JOB_IDLE_NAME);
        sigemptyset(&none);
        if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
                _exit(EXIT_FAILURE);
        r = run_worker(spec, channel);
        _exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* ---- Starting ---- */

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

/* It has not begun yet, so this is quick. */
static void take_back(Job *job)
{
        sd_event_source_disable_unref(job->on_deadline);
        sd_event_source_disable_unref(job->on_channel);
        sd_event_source_disable_unref(job->on_exit);
        safe_close(job->channel);
        sd_event_unref(job->event);
        (void)kill(job->pid, SIGKILL);
        (void)waitpid(job->pid, NULL, 0);
        free(job);
}

static int start_child(sd_event *event, const JobSpec *spec, Job **ret)
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
        job->work = spec->work;
        job->channel = channel[0];
        r = job_watch(job, event, spec->timeout_usec);
        if (r < 0) {
                take_back(TAKE_PTR(job));
                return r;
        }
        *ret = TAKE_PTR(job);
        return 0;
}

static int send_order(const Job *job, const JobSpec *spec)
{
        struct iovec part = { (void *)spec->order, spec->order_size };

        /* A message without a byte would be taken for the end. */
        if (spec->order_size == 0)
                part = (struct iovec){ (void *)"", 1 };
        return fd_message_send(job->channel, 0, &part, 1, spec->fds, spec->n_fds);
}

/* NULL: there is none, and a new one has to be made. */
static Job *employ_idle(const JobSpec *spec)
{
        for (Job *job = idle, *next; job; job = next) {
                next = job->next;
                if (job->work != spec->work)
                        continue;
                if (send_order(job, spec) < 0) {
                        dismiss(job);
                        continue;
                }
                forget(&idle, job);
                job->idle = false;
                set_deadline(job, spec->timeout_usec);
                return job;
        }
        return NULL;
}

static int employ_new(sd_event *event, const JobSpec *spec, Job **ret)
{
        Job *job = NULL;
        int r = start_child(event, spec, &job);

        if (r < 0)
                return r;
        r = send_order(job, spec);
        if (r < 0) {
                take_back(job);
                return r;
        }
        *ret = job;
        return 0;
}

int job_start(sd_event *event, const JobSpec *spec, JobDone done, void *userdata, Job **ret)
{
        Job *job;
        int r;

        if (spec->order_size > JOB_ORDER_SIZE_MAX)
                return -EMSGSIZE;
        job = employ_idle(spec);
        r = job ? 0 : employ_new(event, spec, &job);
        if (r < 0)
                return r;
        job->uid = spec->uid;
        job->name = spec->replace ? spec->name : NULL;
        job->done = done;
        job->userdata = userdata;
        for (size_t i = 0; i < spec->n_given; i++)
                safe_close(spec->fds[i]);
        *ret = job;
        make_due(event);
        return 0;
}
