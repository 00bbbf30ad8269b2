/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs, with real children: every way in which one can end is seen by its owner
 * exactly once, nothing stays behind (descriptors, children, the count of stuck
 * ones), and a child has the descriptors that it was given and no others. The
 * children here also do what a taken-over one would.
 */
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/closer.h"
#include "mechanism/job.h"
#include "own-process.h"

#define LONG_USEC (60 * USEC_PER_SEC)
#define SHORT_USEC (100 * USEC_PER_MSEC)
#define ANSWER_BYTES_MAX ((size_t)192 * 1024 - sizeof(int))

/* What came of a job. */
typedef struct Outcome {
        unsigned n_calls;
        int error;
        char *data;
        size_t size;
        int fds[JOB_FDS_MAX];
        size_t n_fds;
        bool take_fds;
} Outcome;

static sd_event *event;
static size_t n_fds_at_start; /* behind the first job, for which the event loop opens some */

static void on_done(int error, JobAnswer *answer, void *userdata)
{
        Outcome *outcome = userdata;

        outcome->n_calls++;
        outcome->error = error;
        g_assert_true((error == 0) == (answer != NULL));
        if (!answer)
                return;
        outcome->data = g_memdup2(answer->data, answer->size);
        outcome->size = answer->size;
        outcome->n_fds = answer->n_fds;
        for (size_t i = 0; i < answer->n_fds; i++)
                outcome->fds[i] = outcome->take_fds ? TAKE_FD(answer->fds[i]) : answer->fds[i];
}

/* What a worker of its own is to do, which then ends: a fork of this program, it knows all that is here. */
typedef int (*Function)(int channel, const void *parameters);

typedef struct Call {
        Function function;
        const void *parameters;
} Call;

static int run_call(int channel, const JobOrder *order)
{
        Call call;
        int r;

        g_assert_cmpuint(order->size, ==, sizeof(call));
        memcpy(&call, order->data, sizeof(call));
        r = call.function(channel, call.parameters);
        return r < 0 ? r : 1;
}

static JobSpec spec_of_call(const Call *call)
{
        return (JobSpec){
                .name = "test", .work = run_call, .order = call, .order_size = sizeof(*call), .timeout_usec = LONG_USEC
        };
}

static Job *start(const JobSpec *spec, Outcome *outcome)
{
        Job *job = NULL;

        g_assert_cmpint(job_start(event, spec, on_done, outcome, &job), ==, 0);
        g_assert_nonnull(job);
        g_assert_cmpuint(outcome->n_calls, ==, 0);
        return job;
}

static void turn(void)
{
        g_assert_cmpint(sd_event_run(event, 10 * USEC_PER_SEC), >, 0);
}

/* Of all the users in these tests. */
static unsigned n_stuck_all(void)
{
        return job_n_stuck(0) + job_n_stuck(1) + job_n_stuck(1000);
}

/* Until all that was started is reaped. */
static void turn_until_quiet(void)
{
        while (own_children() > 0)
                g_assert_cmpint(sd_event_run(event, 10 * USEC_PER_MSEC), >=, 0);
        g_assert_cmpuint(n_stuck_all(), ==, 0);
}

static size_t count_quiet_descriptors(void)
{
        turn_until_quiet();
        return own_descriptors();
}

static void run(Function function, const void *parameters, uint64_t timeout_usec, Outcome *outcome)
{
        JobSpec spec = spec_of_call(&(Call){ function, parameters });

        spec.timeout_usec = timeout_usec;
        (void)start(&spec, outcome);
        while (outcome->n_calls == 0)
                turn();
        turn_until_quiet();
        g_assert_cmpuint(outcome->n_calls, ==, 1);
}

static void assert_ends(Function function, int error)
{
        Outcome outcome = { 0 };

        run(function, NULL, LONG_USEC, &outcome);
        g_assert_cmpint(outcome.error, ==, error);
        g_free(outcome.data);
}

/* ---- Answers ---- */

static int run_echo(int channel, const void *parameters)
{
        return job_answer(channel, parameters, strlen(parameters), NULL, 0);
}

static void test_answer(void)
{
        Outcome outcome = { 0 };

        run(run_echo, "what was seen", LONG_USEC, &outcome);
        g_assert_cmpint(outcome.error, ==, 0);
        g_assert_cmpmem(outcome.data, outcome.size, "what was seen", strlen("what was seen"));
        g_assert_cmpuint(outcome.n_fds, ==, 0);
        g_free(outcome.data);
        n_fds_at_start = count_quiet_descriptors();
}

static int run_answer_nothing(int channel, const void *parameters)
{
        (void)parameters;
        return job_answer(channel, NULL, 0, NULL, 0);
}

static void test_answer_empty(void)
{
        Outcome outcome = { .size = 7 };

        run(run_answer_nothing, NULL, LONG_USEC, &outcome);
        g_assert_cmpint(outcome.error, ==, 0);
        g_assert_cmpuint(outcome.size, ==, 0);
        g_free(outcome.data);
}

static int run_answer_size(int channel, const void *parameters)
{
        size_t size = *(const size_t *)parameters;
        char *data = malloc(size);

        memset(data, 'x', size);
        return job_answer(channel, data, size, NULL, 0);
}

static void test_answer_largest(void)
{
        size_t size = ANSWER_BYTES_MAX;
        Outcome outcome = { 0 }, refused = { 0 };

        run(run_answer_size, &size, LONG_USEC, &outcome);
        g_assert_cmpint(outcome.error, ==, 0);
        g_assert_cmpuint(outcome.size, ==, size);
        g_assert_true(outcome.data[0] == 'x' && outcome.data[size - 1] == 'x');
        g_free(outcome.data);

        size++;
        run(run_answer_size, &size, LONG_USEC, &refused);
        g_assert_cmpint(refused.error, ==, -ECHILD);
}

/* ---- Endings without an answer ---- */

static int run_fail(int channel, const void *parameters)
{
        (void)channel, (void)parameters;
        return -EMEDIUMTYPE;
}

static int run_silently(int channel, const void *parameters)
{
        (void)channel, (void)parameters;
        return 0;
}

static int run_silently_positive(int channel, const void *parameters)
{
        (void)channel, (void)parameters;
        return 3;
}

static int run_crash(int channel, const void *parameters)
{
        (void)channel, (void)parameters;
        return raise(SIGKILL);
}

static int run_answer_then_fail(int channel, const void *parameters)
{
        (void)parameters;
        (void)job_answer(channel, "x", 1, NULL, 0);
        return -EIO;
}

static int run_answer_then_crash(int channel, const void *parameters)
{
        (void)parameters;
        (void)job_answer(channel, "x", 1, NULL, 0);
        return raise(SIGKILL);
}

static void test_endings(void)
{
        assert_ends(run_fail, -EMEDIUMTYPE);
        assert_ends(run_silently, -ECHILD);
        assert_ends(run_silently_positive, -ECHILD);
        assert_ends(run_crash, -ECHILD);
        assert_ends(run_answer_then_fail, 0);
        assert_ends(run_answer_then_crash, 0);
}

/* Of a taken-over child: shorter than any answer, an "error" that is none, nothing at all. */
static int run_answer_short(int channel, const void *parameters)
{
        (void)parameters;
        return send(channel, "xy", 2, 0) == 2 ? 0 : -EIO;
}

static int run_answer_positive(int channel, const void *parameters)
{
        int error = 5;

        (void)parameters;
        return send(channel, &error, sizeof(error), 0) == sizeof(error) ? 0 : -EIO;
}

static int run_answer_no_bytes(int channel, const void *parameters)
{
        (void)parameters;
        return send(channel, "", 0, 0) == 0 ? 0 : -EIO;
}

static void test_hostile_answers(void)
{
        assert_ends(run_answer_short, -ECHILD);
        assert_ends(run_answer_positive, 0);
        assert_ends(run_answer_no_bytes, -ECHILD);
}

/* ---- Descriptors that come back ---- */

static int answer_with_pipes(int channel, size_t n_fds, size_t size)
{
        _cleanup_free_ char *data = calloc(1, size);
        int fds[64], pair[2];

        for (size_t i = 0; i < n_fds; i += 2) {
                if (pipe(pair) < 0)
                        return -errno;
                memcpy(fds + i, pair, sizeof(pair));
        }
        return job_answer(channel, data, size, fds, n_fds);
}

static int run_answer_pipe(int channel, const void *parameters)
{
        (void)parameters;
        return answer_with_pipes(channel, 2, 4);
}

static int run_answer_most_fds(int channel, const void *parameters)
{
        (void)parameters;
        return answer_with_pipes(channel, JOB_FDS_MAX, 4);
}

static int run_answer_too_many_fds(int channel, const void *parameters)
{
        (void)parameters;
        return answer_with_pipes(channel, JOB_FDS_MAX + 1, 4);
}

static void test_fds(void)
{
        Outcome outcome = { .take_fds = true }, most = { 0 };
        char byte;

        run(run_answer_pipe, NULL, LONG_USEC, &outcome);
        g_assert_cmpint(outcome.error, ==, 0);
        g_assert_cmpuint(outcome.n_fds, ==, 2);
        g_assert_cmpuint(outcome.size, ==, 4);
        for (size_t i = 0; i < 2; i++)
                g_assert_cmpint(fcntl(outcome.fds[i], F_GETFD), ==, FD_CLOEXEC);
        g_assert_cmpint(write(outcome.fds[1], "p", 1), ==, 1);
        g_assert_cmpint(read(outcome.fds[0], &byte, 1), ==, 1);
        close(outcome.fds[0]);
        close(outcome.fds[1]);
        g_free(outcome.data);

        run(run_answer_most_fds, NULL, LONG_USEC, &most);
        g_assert_cmpuint(most.n_fds, ==, JOB_FDS_MAX);
        g_free(most.data);
        assert_ends(run_answer_too_many_fds, -EINVAL);
}

/* A message that job_answer() would not send: @size bytes that begin with @error, and @n_fds descriptors. */
static int send_raw(int channel, int error, size_t size, size_t n_fds)
{
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int) * 64)];
        } control = { 0 };
        char *data = calloc(1, size + sizeof(error));
        struct iovec part = { data, size };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = CMSG_SPACE(sizeof(int) * n_fds),
        };
        int fds[64] = { 0 };

        memcpy(data, &error, sizeof(error));
        for (size_t i = 0; i < n_fds; i++)
                fds[i] = open("/", O_PATH | O_DIRECTORY);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n_fds);
        return sendmsg(channel, &message, 0) < 0 ? -errno : 0;
}

static int run_raw_short(int channel, const void *parameters)
{
        (void)parameters;
        return send_raw(channel, 0, 2, 4);
}

static int run_raw_error(int channel, const void *parameters)
{
        (void)parameters;
        return send_raw(channel, -EIO, sizeof(int), 4);
}

static int run_raw_oversized(int channel, const void *parameters)
{
        (void)parameters;
        return send_raw(channel, 0, ANSWER_BYTES_MAX + sizeof(int) + 1, 4);
}

static int run_raw_many_fds(int channel, const void *parameters)
{
        (void)parameters;
        return send_raw(channel, 0, 8, 64);
}

static int run_raw_twice(int channel, const void *parameters)
{
        (void)parameters;
        (void)send_raw(channel, 0, 8, 4);
        return send_raw(channel, 0, 8, 4);
}

static void test_no_leaks(void)
{
        size_t before = count_quiet_descriptors();

        assert_ends(run_answer_pipe, 0);
        assert_ends(run_raw_short, -ECHILD);
        assert_ends(run_raw_error, -EIO);
        assert_ends(run_raw_oversized, -ECHILD);
        assert_ends(run_raw_many_fds, 0);
        assert_ends(run_raw_twice, 0);
        own_assert_descriptors(event, before);
}

/* ---- Deadline and cancelling ---- */

static int run_stubbornly(int channel, const void *parameters)
{
        (void)channel, (void)parameters;
        signal(SIGTERM, SIG_IGN);
        signal(SIGINT, SIG_IGN);
        while (pause() < 0)
                ;
        return 0;
}

static void test_deadline(void)
{
        uint64_t begun = (uint64_t)g_get_monotonic_time();
        Outcome outcome = { 0 };

        run(run_stubbornly, NULL, SHORT_USEC, &outcome);
        g_assert_cmpint(outcome.error, ==, -ETIMEDOUT);
        g_assert_cmpuint((uint64_t)g_get_monotonic_time() - begun, >=, SHORT_USEC);
}

static int run_answer_and_stay(int channel, const void *parameters)
{
        int r = run_echo(channel, parameters);

        return r < 0 ? r : run_stubbornly(channel, parameters);
}

static int run_close_and_stay(int channel, const void *parameters)
{
        close(channel);
        return run_stubbornly(channel, parameters);
}

/* One that has nothing more to say must not stay for good either, with the descriptors that it has. */
static void test_deadline_after_answer(void)
{
        Outcome answered = { 0 }, closed = { 0 };

        run(run_answer_and_stay, "done", SHORT_USEC, &answered);
        g_assert_cmpint(answered.error, ==, 0);
        g_free(answered.data);
        run(run_close_and_stay, NULL, SHORT_USEC, &closed);
        g_assert_cmpint(closed.error, ==, -ECHILD);
}

static void test_cancel(void)
{
        JobSpec spec = spec_of_call(&(Call){ run_stubbornly, NULL });
        size_t before = count_quiet_descriptors();
        Outcome outcome = { 0 };
        Job *job;

        spec.uid = 1000;
        job = start(&spec, &outcome);
        g_assert_null(job_cancel(NULL));
        g_assert_cmpuint(job_n_stuck(1000), ==, 0);
        g_assert_null(job_cancel(job));
        g_assert_cmpuint(job_n_stuck(1000), ==, 1);
        g_assert_cmpuint(job_n_stuck(1001), ==, 0);
        g_assert_cmpuint(n_stuck_all(), ==, 1);
        turn_until_quiet();
        g_assert_cmpuint(outcome.n_calls, ==, 0);
        own_assert_descriptors(event, before);
}

/* Several, and they do not die in the order in which they were killed. */
static void test_cancel_many(void)
{
        JobSpec spec = spec_of_call(&(Call){ run_stubbornly, NULL });
        Outcome outcomes[5] = { 0 };
        Job *jobs[ELEMENTSOF(outcomes)];

        for (size_t i = 0; i < ELEMENTSOF(jobs); i++) {
                spec.uid = (uid_t)(i % 2);
                jobs[i] = start(&spec, &outcomes[i]);
        }
        for (size_t i = ELEMENTSOF(jobs); i > 0; i--)
                job_cancel(jobs[i - 1]);
        g_assert_cmpuint(job_n_stuck(0), ==, 3);
        g_assert_cmpuint(job_n_stuck(1), ==, 2);
        for (unsigned n = 5; n > 0;) {
                unsigned before = n;

                g_assert_cmpuint(n_stuck_all(), ==, n);
                turn();
                n = n_stuck_all();
                g_assert_cmpuint(n + 1, >=, before); /* one at a time */
        }
        turn_until_quiet();
}

/* The owner is called, but not before nothing is done any more. */
static void test_abort(void)
{
        JobSpec spec = spec_of_call(&(Call){ run_stubbornly, NULL });
        Outcome outcome = { 0 };
        Job *job = start(&spec, &outcome);
        siginfo_t info;

        job_abort(job);
        job_abort(job);
        g_assert_cmpuint(outcome.n_calls, ==, 0);
        g_assert_cmpint(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), ==, 0);
        g_assert_cmpuint(outcome.n_calls, ==, 0);
        turn_until_quiet();
        g_assert_cmpuint(outcome.n_calls, ==, 1);
        g_assert_cmpint(outcome.error, ==, -ECANCELED);
}

/* An answer that came too late changes nothing. */
static void test_abort_after_answer(void)
{
        JobSpec spec = spec_of_call(&(Call){ run_answer_pipe, NULL });
        size_t before = count_quiet_descriptors();
        Outcome outcome = { 0 };
        Job *job = start(&spec, &outcome);
        siginfo_t info;

        g_assert_cmpint(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), ==, 0);
        job_abort(job);
        turn_until_quiet();
        g_assert_cmpuint(outcome.n_calls, ==, 1);
        g_assert_cmpint(outcome.error, ==, -ECANCELED);
        own_assert_descriptors(event, before);
}

/* The answer, with its descriptors, is there already, and is not wanted any more. */
static void test_cancel_after_answer(void)
{
        JobSpec spec = spec_of_call(&(Call){ run_answer_pipe, NULL });
        size_t before = count_quiet_descriptors();
        Outcome outcome = { 0 };
        Job *job = start(&spec, &outcome);
        siginfo_t info;

        g_assert_cmpint(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), ==, 0);
        job_cancel(job);
        turn_until_quiet();
        g_assert_cmpuint(outcome.n_calls, ==, 0);
        own_assert_descriptors(event, before);
}

static void test_stuck_beside_others(void)
{
        JobSpec stubborn = spec_of_call(&(Call){ run_stubbornly, NULL });
        JobSpec quick = spec_of_call(&(Call){ run_echo, "x" });
        Outcome outcomes[12] = { 0 }, waiting = { 0 };
        Job *job = start(&stubborn, &waiting);

        for (size_t i = 0; i < ELEMENTSOF(outcomes); i++)
                (void)start(&quick, &outcomes[i]);
        for (size_t i = 0; i < ELEMENTSOF(outcomes); i++) {
                while (outcomes[i].n_calls == 0)
                        turn();
                g_assert_cmpint(outcomes[i].error, ==, 0);
                g_free(outcomes[i].data);
        }
        g_assert_cmpuint(waiting.n_calls, ==, 0);
        job_cancel(job);
        turn_until_quiet();
}

/* ---- What a child has ---- */

/* Answers with the numbers of its descriptors. */
static int run_list_fds(int channel, const void *parameters)
{
        DIR *directory = opendir("/proc/self/fd");
        struct dirent *entry;
        int fds[256];
        size_t n = 0;

        (void)parameters;
        if (!directory)
                return -errno;
        while ((entry = readdir(directory)) && n < ELEMENTSOF(fds))
                if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory))
                        fds[n++] = atoi(entry->d_name);
        /* The channel first. */
        for (size_t i = 0; i < n; i++)
                if (fds[i] == channel) {
                        fds[i] = fds[0];
                        fds[0] = channel;
                }
        return job_answer(channel, fds, n * sizeof(int), NULL, 0);
}

static void assert_child_has(const int *fds, size_t n_fds)
{
        JobSpec spec = spec_of_call(&(Call){ run_list_fds, NULL });
        Outcome outcome = { 0 };
        size_t wanted = 1 + n_fds; /* the channel, too */

        spec.n_fds = n_fds;
        for (size_t i = 0; i < n_fds; i++)
                spec.fds[i] = fds[i];
        (void)start(&spec, &outcome);
        turn_until_quiet();
        g_assert_cmpint(outcome.error, ==, 0);
        for (int fd = 0; fd <= 2; fd++)
                wanted += fcntl(fd, F_GETFD) >= 0;
        g_assert_cmpuint(outcome.size / sizeof(int), ==, wanted);
        g_free(outcome.data);
}

static void test_child_fds(void)
{
        int held[24];

        for (size_t i = 0; i < ELEMENTSOF(held); i++)
                held[i] = open("/", O_PATH | O_DIRECTORY); /* inherited, were they not closed */
        /* A hole, which the channel will be in. */
        close(held[12]);
        close(held[13]);
        assert_child_has(NULL, 0);
        assert_child_has((int[]){ held[5] }, 1);
        assert_child_has((int[]){ held[20], held[3], held[21], held[0] }, 4);
        assert_child_has((int[]){ held[2], held[23], held[1], held[22], held[11], held[14], held[4], held[10] },
                         JOB_FDS_MAX);
        assert_child_has((int[]){ held[7], held[7], 1 }, 3);
        for (size_t i = 0; i < ELEMENTSOF(held); i++)
                if (i != 12 && i != 13)
                        close(held[i]);
}

typedef struct Surroundings {
        char name[16];
        int death_signal;
        bool signals_blocked;
} Surroundings;

static int run_look_around(int channel, const void *parameters)
{
        Surroundings seen = { 0 };
        sigset_t mask;

        (void)parameters;
        prctl(PR_GET_NAME, seen.name);
        prctl(PR_GET_PDEATHSIG, &seen.death_signal);
        sigprocmask(SIG_BLOCK, NULL, &mask);
        seen.signals_blocked = sigismember(&mask, SIGCHLD) == 1;
        return job_answer(channel, &seen, sizeof(seen), NULL, 0);
}

static void test_child_surroundings(void)
{
        JobSpec spec = spec_of_call(&(Call){ run_look_around, NULL });
        Outcome outcome = { 0 };
        Surroundings seen;

        spec.name = "lookaround";
        (void)start(&spec, &outcome);
        turn_until_quiet();
        g_assert_cmpuint(outcome.size, ==, sizeof(seen));
        memcpy(&seen, outcome.data, sizeof(seen));
        g_assert_cmpstr(seen.name, ==, "lookaround");
        g_assert_cmpint(seen.death_signal, ==, SIGKILL);
        g_assert_false(seen.signals_blocked);
        g_free(outcome.data);
}

/* ---- Workers ---- */

typedef struct Order {
        enum { TELL, TELL_LATE, FAIL, SPEND, HANG, LEAVE_OPEN } what;
} Order;

/* Tells who did it, and how many descriptors he had. */
typedef struct Told {
        pid_t pid;
        size_t n_fds;
} Told;

static int run_work(int channel, const JobOrder *message)
{
        Told told = { .pid = getpid(), .n_fds = own_descriptors() };
        Order order;

        g_assert_cmpuint(message->size, ==, sizeof(order));
        memcpy(&order, message->data, sizeof(order));
        if (order.what == FAIL)
                return -EMEDIUMTYPE;
        if (order.what == LEAVE_OPEN && open("/", O_PATH | O_CLOEXEC) < 0)
                return -errno;
        if (order.what == TELL_LATE)
                g_usleep(SHORT_USEC);
        if (job_answer(channel, &told, sizeof(told), message->fds, message->n_fds) < 0)
                return -EIO;
        while (order.what == HANG)
                pause();
        return order.what == SPEND;
}

static int run_other_work(int channel, const JobOrder *message)
{
        return run_work(channel, message);
}

static JobSpec spec_of_work(const Order *order)
{
        return (JobSpec){ .name = "test",
                          .work = run_work,
                          .order = order,
                          .order_size = sizeof(*order),
                          .timeout_usec = LONG_USEC };
}

static Told told(Outcome *outcome)
{
        Told ret = { 0 };

        g_assert_cmpuint(outcome->n_calls, ==, 1);
        g_assert_cmpint(outcome->error, ==, 0);
        g_assert_cmpuint(outcome->size, ==, sizeof(ret));
        memcpy(&ret, outcome->data, sizeof(ret));
        g_free(outcome->data);
        return ret;
}

static Told do_work(const JobSpec *spec)
{
        Outcome outcome = { 0 };

        (void)start(spec, &outcome);
        while (outcome.n_calls == 0)
                turn();
        return told(&outcome);
}

static bool has_name(pid_t pid, const char *name)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/comm", pid), *comm = NULL;

        return g_file_get_contents(path, &comm, NULL, NULL) && g_strcmp0(g_strchomp(comm), name) == 0;
}

/* Until it is ready for the next. */
static void wait_until_ready(pid_t worker)
{
        while (!has_name(worker, JOB_IDLE_NAME))
                g_usleep(100);
        /* Its word for it; and perhaps a closer's end. */
        turn();
        while (sd_event_run(event, SHORT_USEC) > 0)
                ;
}

static pid_t work_and_wait(const JobSpec *spec)
{
        pid_t pid = do_work(spec).pid;

        wait_until_ready(pid);
        return pid;
}

static void test_worker_again(void)
{
        Order order = { TELL };
        JobSpec spec = spec_of_work(&order), other = spec;
        pid_t pid = work_and_wait(&spec);

        g_assert_cmpint(work_and_wait(&spec), ==, pid);
        g_assert_cmpint(work_and_wait(&spec), ==, pid);
        other.work = run_other_work;
        g_assert_cmpint(work_and_wait(&other), !=, pid);
}

/* One that has left something behind, or may have. */
static void test_worker_not_again(void)
{
        Order order = { TELL };
        JobSpec spec = spec_of_work(&order);
        pid_t first = work_and_wait(&spec), second;
        Outcome failed = { 0 };

        order.what = FAIL;
        (void)start(&spec, &failed);
        while (failed.n_calls == 0)
                turn();
        g_assert_cmpint(failed.error, ==, -EMEDIUMTYPE);
        order.what = SPEND;
        second = do_work(&spec).pid;
        g_assert_cmpint(second, !=, first);
        order.what = TELL;
        g_assert_cmpint(work_and_wait(&spec), !=, second);
}

/* Descriptors of a job are gone before the next one. */
static void test_worker_fds(void)
{
        int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        Order order = { LEAVE_OPEN };
        JobSpec spec = spec_of_work(&order);
        pid_t pid = work_and_wait(&spec);
        Told before = do_work(&spec), with;
        Outcome outcome = { .take_fds = true };

        g_assert_cmpint(before.pid, ==, pid);
        wait_until_ready(pid);
        spec.fds[0] = fd;
        spec.n_fds = spec.n_given = 1;
        (void)start(&spec, &outcome);
        g_assert_cmpint(fcntl(fd, F_GETFD), <, 0);
        while (outcome.n_calls == 0)
                turn();
        g_assert_cmpuint(outcome.n_fds, ==, 1);
        close(outcome.fds[0]);
        with = told(&outcome);
        g_assert_cmpint(with.pid, ==, pid);
        g_assert_cmpuint(with.n_fds, ==, before.n_fds + 1);
}

/* What dies while it waits is no loss. */
static void test_worker_dies(void)
{
        Order order = { TELL };
        JobSpec spec = spec_of_work(&order);
        pid_t pid = work_and_wait(&spec);
        siginfo_t info;

        kill(pid, SIGKILL);
        g_assert_cmpint(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), ==, 0);
        g_assert_cmpint(do_work(&spec).pid, !=, pid);
}

static void test_worker_hangs(void)
{
        Order order = { HANG };
        JobSpec spec = spec_of_work(&order);
        pid_t pid;

        spec.timeout_usec = SHORT_USEC;
        pid = do_work(&spec).pid;
        while (kill(pid, 0) == 0)
                turn();
        g_assert_cmpuint(n_stuck_all(), ==, 0);
}

/* Behind its answer it has as long as others wait for a job, and no longer, however much time its job had. */
static void test_worker_hangs_behind_answer(void)
{
        Order order = { HANG };
        JobSpec spec = spec_of_work(&order);
        gint64 began = g_get_monotonic_time();
        pid_t pid;

        spec.timeout_usec = 1000 * LONG_USEC;
        pid = do_work(&spec).pid;
        while (kill(pid, 0) == 0)
                turn();
        g_assert_cmpint(g_get_monotonic_time() - began, >=, JOB_IDLE_USEC);
}

static void test_worker_order_size(void)
{
        g_autofree char *order = g_malloc0(JOB_ORDER_SIZE_MAX + 1);
        JobSpec spec = spec_of_work((const Order *)(const void *)order);
        Job *job = NULL;
        Outcome outcome = { 0 };

        spec.order_size = JOB_ORDER_SIZE_MAX + 1;
        g_assert_cmpint(job_start(event, &spec, on_done, &outcome, &job), ==, -EMSGSIZE);
        g_assert_null(job);
}

/* Of many a few stay, of these none for long; and nothing is left of them. */
static void test_workers_go(void)
{
        Order order = { TELL_LATE };
        JobSpec spec = spec_of_work(&order);
        Outcome outcomes[JOB_IDLE_MAX + 2] = { 0 };
        for (size_t i = 0; i < ELEMENTSOF(outcomes); i++)
                (void)start(&spec, &outcomes[i]);
        for (size_t i = 0; i < ELEMENTSOF(outcomes); i++) {
                while (outcomes[i].n_calls == 0)
                        turn();
                (void)told(&outcomes[i]);
        }
        while (own_children() > JOB_IDLE_MAX + 1) /* and one that does the other work */
                turn();
        turn_until_quiet();
        own_assert_descriptors(event, n_fds_at_start);
}

/* The one that waits, as soon as there is one, and it is not @ended. */
static pid_t find_next(pid_t ended)
{
        pid_t next;

        while ((next = own_child_named(JOB_IDLE_NAME)) == 0 || next == ended)
                g_assert_cmpint(sd_event_run(event, 10 * USEC_PER_MSEC), >=, 0);
        return next;
}

/* Without a turn of the loop, so that nothing else is started. */
static void wait_for_child_named(const char *name)
{
        for (unsigned i = 0; own_child_named(name) == 0 && i < 10000; i++)
                g_usleep(1000);
        g_assert_cmpint(own_child_named(name), >, 0);
}

/* The next one is there before there is something for it to do; unused it goes. */
static void test_worker_replaced(void)
{
        Order order = { SPEND };
        JobSpec spec = spec_of_work(&order);
        JobSpec other = spec;
        Outcome failed = { 0 }, others = { 0 };
        pid_t next;

        other.work = run_other_work;
        spec.replace = true;
        next = find_next(do_work(&spec).pid);
        g_assert_cmpint(do_work(&spec).pid, ==, next);
        while (kill(next, 0) == 0)
                turn();
        /* Behind the order for somebody else, at the latest. */
        (void)start(&other, &others);
        wait_for_child_named(other.name);
        wait_for_child_named(JOB_IDLE_NAME);
        while (others.n_calls == 0)
                turn();
        (void)told(&others);
        turn_until_quiet();
        /* Or soon; also behind one that fails. */
        next = find_next(do_work(&spec).pid);
        order.what = FAIL;
        (void)start(&spec, &failed);
        while (failed.n_calls == 0)
                turn();
        g_assert_cmpint(failed.error, ==, -EMEDIUMTYPE);
        g_assert_cmpint(find_next(next), !=, next);
        /* What it says of itself does not count. */
        order.what = TELL;
        next = do_work(&spec).pid;
        g_usleep(SHORT_USEC);
        turn();
        g_assert_cmpint(do_work(&spec).pid, !=, next);
        turn_until_quiet();
        own_assert_descriptors(event, n_fds_at_start);
}

/* ---- No start ---- */

static int run_mark(int channel, const void *parameters)
{
        (void)channel;
        *(volatile int *)*(void *const *)parameters = 1;
        return 0;
}

/* Starting a job with this timeout fails with @error, its function has not run, and nothing is left. */
static void assert_no_start(uint64_t timeout_usec, int error, void *mark)
{
        int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        JobSpec spec = spec_of_call(&(Call){ run_mark, &mark });
        size_t before = own_descriptors();
        Outcome outcome = { 0 };
        Job *job = NULL;

        spec.fds[0] = fd;
        spec.n_fds = spec.n_given = 1;
        spec.timeout_usec = timeout_usec;
        g_assert_cmpint(job_start(event, &spec, on_done, &outcome, &job), ==, error);
        g_assert_null(job);
        g_assert_cmpuint(own_children(), ==, 0);
        g_assert_cmpint(*(volatile int *)mark, ==, 0);
        g_assert_cmpint(fcntl(fd, F_GETFD), >=, 0);
        own_assert_descriptors(event, before);
        close(fd);
}

static void test_no_start(void)
{
        void *mark = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct rlimit old, tight;
        int fillers[64] = { 0 };
        size_t n = 0;

        g_assert_true(mark != MAP_FAILED);
        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
        tight = (struct rlimit){ 64, old.rlim_max };
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &tight), ==, 0);
        /* Of the two that are left one is for the test, and one for its look at all of them. */
        do
                fillers[n++] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        while (fillers[n - 1] >= 0 && n < ELEMENTSOF(fillers));
        close(fillers[n - 2]);
        close(fillers[n - 3]);
        assert_no_start(LONG_USEC, -EMFILE, mark);
        for (size_t i = 0; i + 3 < n; i++)
                close(fillers[i]);
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);

        /* A time after the end of time is refused in the last step. The child is there already. */
        assert_no_start(UINT64_MAX, -EOVERFLOW, mark);
        munmap(mark, 4096);
}

int main(int argc, char *argv[])
{
        sigset_t signals;

        g_test_init(&argc, &argv, NULL);
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        g_assert_cmpint(sd_event_new(&event), ==, 0);
        g_assert_cmpint(closer_set_up(event), ==, 0);
        g_test_add_func("/job/answer", test_answer);
        g_test_add_func("/job/answer-empty", test_answer_empty);
        g_test_add_func("/job/answer-largest", test_answer_largest);
        g_test_add_func("/job/endings", test_endings);
        g_test_add_func("/job/hostile-answers", test_hostile_answers);
        g_test_add_func("/job/fds", test_fds);
        g_test_add_func("/job/no-leaks", test_no_leaks);
        g_test_add_func("/job/deadline", test_deadline);
        g_test_add_func("/job/deadline-after-answer", test_deadline_after_answer);
        g_test_add_func("/job/cancel", test_cancel);
        g_test_add_func("/job/cancel-many", test_cancel_many);
        g_test_add_func("/job/cancel-after-answer", test_cancel_after_answer);
        g_test_add_func("/job/abort", test_abort);
        g_test_add_func("/job/abort-after-answer", test_abort_after_answer);
        g_test_add_func("/job/stuck-beside-others", test_stuck_beside_others);
        g_test_add_func("/job/child-fds", test_child_fds);
        g_test_add_func("/job/child-surroundings", test_child_surroundings);
        g_test_add_func("/job/worker/again", test_worker_again);
        g_test_add_func("/job/worker/not-again", test_worker_not_again);
        g_test_add_func("/job/worker/fds", test_worker_fds);
        g_test_add_func("/job/worker/dies", test_worker_dies);
        g_test_add_func("/job/worker/hangs", test_worker_hangs);
        g_test_add_func("/job/worker/hangs-behind-answer", test_worker_hangs_behind_answer);
        g_test_add_func("/job/worker/order-size", test_worker_order_size);
        g_test_add_func("/job/worker/go", test_workers_go);
        g_test_add_func("/job/worker/replaced", test_worker_replaced);
        g_test_add_func("/job/no-start", test_no_start);

        int r = g_test_run();
        closer_tear_down();
        sd_event_unref(event);
        return r;
}
