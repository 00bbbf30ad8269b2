/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * probe-cases CASES IMAGES WORK: has the probe read each sample and each case, in
 * a child in its sandbox as in the daemon, and makes an image of what it answers,
 * as the daemon does. Then it has a loop device read that is bound to the same
 * file: the answers have to be the same in each field. Meant to be built with
 * sanitizers; for root, in the namespaces of ../harness. Prints TAP.
 */

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "base/text.h"
#include "cases.h"
#include "mechanism/job.h"
#include "mechanism/loop.h"
#include "mechanism/probe.h"
#include "story/volumes.h"

#define SECONDS_MAX 30
#define COPIES_MAX 64
#define ANSWER_MAX ((size_t)192 * 1024)

static struct {
        unsigned cases, devices, recognised, with_table, errors, broken;
        double longest;
        char slowest[64];
} count;

_Noreturn static void run_child(const ProbeSpec *spec, int channel)
{
        void *data;
        size_t size;
        int r;

        (void)alarm(SECONDS_MAX);
        r = probe_run(spec, channel, &data, &size);
        if (r >= 0)
                r = job_answer(channel, data, size, NULL, 0);
        else
                r = job_answer(channel, &r, sizeof(r), NULL, 0);
        _exit(r < 0);
}

/* The answer begins with an int that job_answer() puts there. */
static ssize_t probe(const ProbeSpec *spec, char *answer, int *ret_status)
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
                run_child(spec, channel[1]);
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

/* Binds a loop device to @path as the daemon does, reads it, and compares. NULL: the answers are the same. */
static const char *compare_with_device(const char *path, const char *answer, ssize_t n)
{
        static char of_device[ANSWER_MAX];
        LoopSpec loop = { .file_fd = open(path, O_RDONLY | O_CLOEXEC), .read_only = true, .partition_scan = true };
        ProbeSpec spec = { .partition_scan = true };
        ProbeSummary summary, other;
        LoopDevice device;
        int status;
        ssize_t m;

        memcpy(&summary, answer, sizeof(summary));
        loop.sector_size = spec.sector_size = summary.sector_size;
        /* It is too small for its sectors, which is an error of the step after the probe. */
        if (summary.size < summary.sector_size)
                return NULL;
        if (loop.file_fd < 0 || loop_bind(&loop, &device, &spec.fd) < 0)
                return "no loop device can be bound to it";
        close(loop.file_fd);
        m = probe(&spec, of_device, &status);
        if (loop_release(spec.fd, device.number, device.diskseq, SECONDS_MAX * USEC_PER_SEC) < 0)
                return "its loop device does not go";
        loop_forget(device.number, device.diskseq);
        count.devices++;
        memcpy(&other, of_device + sizeof(int), sizeof(other));
        other.file_device = summary.file_device;
        other.file_inode = summary.file_inode;
        memcpy(of_device + sizeof(int), &other, sizeof(other));
        return m == n && memcmp(of_device + sizeof(int), answer, (size_t)n) == 0 ? NULL
                                                                                 : "its device gives another answer";
}

static double now(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void try_case(const char *name, const char *what, int fd, const char *path)
{
        static char answer[ANSWER_MAX];
        const ProbeSpec spec = { .fd = fd, .partition_scan = true, .regular_only = true };
        double begin = now(), took;
        const char *complaint = NULL;
        int status;
        ssize_t n = probe(&spec, answer, &status);

        took = now() - begin;
        if (WIFSIGNALED(status))
                complaint = strsignal(WTERMSIG(status));
        else if (WEXITSTATUS(status) != 0 || n < 0)
                complaint = "it ended without an answer";
        else
                complaint = judge(answer + sizeof(int), (size_t)n);
        if (!complaint && n >= (ssize_t)sizeof(ProbeSummary))
                complaint = compare_with_device(path, answer + sizeof(int), n);
        if (complaint) {
                count.broken++;
                printf("# %s (%s): %s\n", name, what, complaint);
        }
        if (took > count.longest) {
                count.longest = took;
                snprintf(count.slowest, sizeof(count.slowest), "%s", name);
        }
        count.cases++;
}

static void try_samples(const char *images)
{
        DIR *dir = opendir(images);

        if (!dir)
                err(2, "%s", images);
        for (const struct dirent *entry; (entry = readdir(dir));) {
                char path[512];
                int fd;

                snprintf(path, sizeof(path), "%s/%s", images, entry->d_name);
                if (entry->d_name[0] == '.' || strcmp(entry->d_name, "manifest.tsv") == 0)
                        continue;
                fd = open(path, O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        err(2, "%s", path);
                try_case(entry->d_name, "a sample", fd, path);
                close(fd);
        }
        closedir(dir);
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
                try_case(item.name, item.what, copies[i].fd, copies[i].path);
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
        try_samples(argv[2]);
        try_all(argv[1], argv[2], argv[3]);
        printf("%sok - the probe reads all of them, as files and as devices\n",
               count.broken > 0 || count.cases == 0 ? "not " : "");
        printf("#   %u cases in %.0f s, %u of them as devices, too; the longest %.2f s (%s)\n", count.cases,
               now() - begin, count.devices, count.longest, count.slowest);
        printf("#   %u with a partition table, %u volumes recognised, %u errors\n", count.with_table, count.recognised,
               count.errors);
        return count.broken > 0 || count.cases == 0;
}
