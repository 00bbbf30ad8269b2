/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * probe-cases CASES IMAGES WORK: has the probe read each case, in a child in its
 * sandbox as in the daemon, and makes an image of what it answers, as the daemon
 * does. Meant to be built with sanitizers. Prints TAP.
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "base/text.h"
#include "cases.h"
#include "mechanism/job.h"
#include "mechanism/probe.h"
#include "story/volumes.h"

#define SECONDS_MAX 30
#define COPIES_MAX 64
#define ANSWER_MAX ((size_t)192 * 1024)

static struct {
        unsigned cases, recognised, with_table, errors, broken;
        double longest;
        char slowest[64];
} count;

_Noreturn static void run_child(int fd, int channel)
{
        ProbeSpec spec = { .fd = fd, .partition_scan = true, .regular_only = true };
        void *data;
        size_t size;
        int r;

        (void)alarm(SECONDS_MAX);
        r = probe_run(&spec, &data, &size);
        if (r >= 0)
                r = job_answer(channel, data, size, NULL, 0);
        else
                r = job_answer(channel, &r, sizeof(r), NULL, 0);
        _exit(r < 0);
}

/* The answer begins with an int that job_answer() puts there. */
static ssize_t probe(int fd, char *answer, int *ret_status)
{
        int channel[2];
        ssize_t n;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
                err(2, "socketpair");
        pid = fork();
        if (pid < 0)
                err(2, "fork");
        if (pid == 0)
                run_child(fd, channel[1]);
        (void)close(channel[1]);
        n = recv(channel[0], answer, ANSWER_MAX, 0);
        (void)close(channel[0]);
        if (waitpid(pid, ret_status, 0) != pid)
                err(2, "waitpid");
        return n - (ssize_t)sizeof(int);
}

static bool is_clean(const char *text)
{
        for (size_t left = strlen(text), n; left > 0; text += n, left -= n) {
                uint32_t c;

                n = text_decode(text, left, &c);
                if (n == 0 || text_is_control(c))
                        return false;
        }
        return true;
}

/* NULL: all is well. */
static const char *judge(const char *answer, size_t size)
{
        _cleanup_(image_freep) Image *image = image_new();
        _cleanup_free_ ProbeVolume *volumes = NULL;
        ProbeSummary summary;
        Volume *volume;

        if (size == sizeof(int)) {
                count.errors++;
                return NULL;
        }
        if (probe_parse(answer, size, &summary, &volumes) < 0)
                return "its answer is not believed";
        if (!image || image_from_probe(image, &summary, volumes, "file.img") < 0)
                return "no image can be made of it";
        IMAGE_FOREACH_VOLUME (volume, image)
                if (!is_clean(volume->label) || !is_clean(volume->name) || strchr(volume->name, '/'))
                        return "it has a hostile name";
        for (uint32_t i = 0; i < summary.n_volumes; i++)
                count.recognised += volumes[i].usage[0] != 0;
        count.with_table += summary.table[0] != 0;
        return NULL;
}

static double now(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void try_case(const Case *item, int fd)
{
        static char answer[ANSWER_MAX];
        double begin = now(), took;
        const char *complaint = NULL;
        int status;
        ssize_t n = probe(fd, answer, &status);

        took = now() - begin;
        if (WIFSIGNALED(status))
                complaint = strsignal(WTERMSIG(status));
        else if (WEXITSTATUS(status) != 0 || n < 0)
                complaint = "it ended without an answer";
        else
                complaint = judge(answer + sizeof(int), (size_t)n);
        if (complaint) {
                count.broken++;
                printf("# %s (%s): %s\n", item->name, item->what, complaint);
        }
        if (took > count.longest) {
                count.longest = took;
                snprintf(count.slowest, sizeof(count.slowest), "%s", item->name);
        }
        count.cases++;
}

static void try_all(const char *cases, const char *images, const char *work)
{
        static Copy copies[COPIES_MAX];
        CaseReader reader;
        Case item;

        cases_open(&reader, cases);
        while (cases_next(&reader, &item)) {
                char path[256];
                size_t i = 0;

                while (i < COPIES_MAX - 1 && copies[i].image[0] && strcmp(copies[i].image, item.image) != 0)
                        i++;
                snprintf(path, sizeof(path), "%s/copy-%zu", work, i);
                if (!copies[i].image[0])
                        copy_make(&copies[i], images, item.image, path);
                copy_apply(&copies[i], &item);
                try_case(&item, copies[i].fd);
                if (!copy_restore(&copies[i], &item)) {
                        copy_remove(&copies[i]);
                        copy_make(&copies[i], images, item.image, path);
                }
                case_done(&item);
        }
        for (size_t i = 0; i < COPIES_MAX; i++)
                if (copies[i].image[0])
                        copy_remove(&copies[i]);
}

int main(int argc, char **argv)
{
        double begin = now();

        if (argc != 4)
                errx(2, "usage: probe-cases CASES IMAGES WORK");
        if (probe_prepare_sandbox() < 0)
                errx(2, "no sandbox");
        try_all(argv[1], argv[2], argv[3]);
        printf("%sok - the probe reads all of them\n", count.broken > 0 || count.cases == 0 ? "not " : "");
        printf("#   %u cases in %.0f s; the longest %.2f s (%s)\n", count.cases, now() - begin, count.longest,
               count.slowest);
        printf("#   %u with a partition table, %u volumes recognised, %u errors\n", count.with_table, count.recognised,
               count.errors);
        return count.broken > 0 || count.cases == 0;
}
