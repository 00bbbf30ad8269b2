/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attach-cases CASES IMAGES WORK WORKERS SECONDS [no-mount]: for each case: attaches
 * it, looks around in what is mounted, detaches it, and prints a line of fields
 * separated by tabs. SECONDS is the daemon's JobTimeoutSec=.
 *
 *   RESULT  attached; or the name of the error; or what should not be: late (no answer in time), left (something
 *           is still there), stuck (somebody who looks does not come back, or it cannot be detached)
 *   NAME    of the case
 *   BEGIN   and END: seconds since boot, as in the kernel's log
 *   MODE    ro or rw
 *   MOUNTS  how many file systems were mounted
 *   TEXT    the error's message, or what was done to the image
 *
 * Runs as an ordinary user, in a session that may attach. The samples are shared
 * out among the workers, so that no two attach file systems with the same UUID.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include "cases.h"

#define SERVICE "org.loopmount1"
#define ERRORS SERVICE ".Error."
/* Children that an attach waits for: who the user is, probe, bind, partitions, mount. One more takes it all back. */
#define ATTACH_JOBS 5
/* As many times longer may it take to release what was written to. */
#define WRITE_BACK_FACTOR 10
#define LOOK_SECONDS 20
#define GONE_SECONDS 30
#define MOUNTS_MAX 128
#define IMAGES_MAX 64
#define WORKERS_MAX 8

typedef struct Attached {
        char image[128];
        char mounts[MOUNTS_MAX][512];
        size_t n_mounts;
} Attached;

typedef struct Worker {
        const char *images, *work;
        sd_bus *bus;
        Copy copies[IMAGES_MAX];
        unsigned n_made; /* for names that nobody had before */
} Worker;

static double now(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void pause_briefly(void)
{
        const struct timespec pause = { .tv_nsec = 20000000 };

        (void)nanosleep(&pause, NULL);
}

static void check(int r, const char *what)
{
        if (r < 0)
                errx(2, "%s: %s", what, strerror(-r));
}

/* ---- Looking around, as a file manager would ---- */

static void read_some(int directory, const char *name)
{
        char buffer[16384];
        int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

        for (int i = 0; fd >= 0 && i < 4 && read(fd, buffer, sizeof(buffer)) > 0; i++)
                ;
        if (fd >= 0)
                (void)close(fd);
}

static void look_into(int directory, int depth)
{
        DIR *dir = fdopendir(directory);
        struct dirent *entry;
        char target[256];
        struct stat st;

        for (int i = 0; dir && i < 32 && (entry = readdir(dir)); i++) {
                if (fstatat(directory, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                if (S_ISREG(st.st_mode))
                        read_some(directory, entry->d_name);
                else if (S_ISLNK(st.st_mode))
                        (void)!readlinkat(directory, entry->d_name, target, sizeof(target));
                else if (S_ISDIR(st.st_mode) && depth > 0 && entry->d_name[0] != '.') {
                        int fd = openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                        if (fd >= 0)
                                look_into(fd, depth - 1);
                }
        }
        if (dir)
                (void)closedir(dir);
}

static void write_some(int directory)
{
        int fd = openat(directory, "new", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0)
                return;
        (void)!write(fd, "new\n", 4);
        (void)fsync(fd);
        (void)close(fd);
        (void)mkdirat(directory, "folder", 0700);
        (void)unlinkat(directory, "new", 0);
}

_Noreturn static void look(const char *mount, bool writable)
{
        int directory = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct statfs st;

        (void)statfs(mount, &st);
        if (directory < 0)
                _exit(1);
        if (writable)
                write_some(directory);
        look_into(directory, 1);
        _exit(0);
}

/* False: whoever looks is stuck in the kernel, and is left there. */
static bool look_with_deadline(const char *mount, bool writable)
{
        double end = now() + LOOK_SECONDS;
        bool killed = false;
        pid_t pid = fork();

        if (pid < 0)
                err(2, "fork");
        if (pid == 0)
                look(mount, writable);
        while (waitpid(pid, NULL, WNOHANG) == 0) {
                if (now() > end && killed)
                        return false;
                if (now() > end) {
                        (void)kill(pid, SIGKILL);
                        killed = true;
                        end += LOOK_SECONDS;
                }
                pause_briefly();
        }
        return true;
}

/* ---- The calls ---- */

static void read_attached(sd_bus_message *reply, Attached *ret)
{
        const char *text;

        check(sd_bus_message_read(reply, "o", &text), "reply");
        snprintf(ret->image, sizeof(ret->image), "%s", text);
        check(sd_bus_message_enter_container(reply, 'a', "s"), "reply");
        while (ret->n_mounts < MOUNTS_MAX && sd_bus_message_read(reply, "s", &text) > 0)
                snprintf(ret->mounts[ret->n_mounts++], sizeof(ret->mounts[0]), "%s", text);
}

static bool mounting = true;
static uint64_t job_usec;

static uint64_t release_usec(bool writable)
{
        return writable ? job_usec * WRITE_BACK_FACTOR : job_usec;
}

static int attach(sd_bus *bus, const char *path, bool writable, Attached *ret, sd_bus_error *error)
{
        int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC), r;
        sd_bus_message *call = NULL, *reply = NULL;

        if (fd < 0)
                err(2, "%s", path);
        check(sd_bus_message_new_method_call(bus, &call, SERVICE, "/org/loopmount1", SERVICE ".Manager", "Attach"),
              "call");
        check(sd_bus_message_append(call, "ha{sv}", fd, 2, "read-only", "b", !writable, "mount", "b", mounting),
              "call");
        r = sd_bus_call(bus, call, ATTACH_JOBS * job_usec + release_usec(writable), error, &reply);
        (void)close(fd);
        if (r >= 0)
                read_attached(reply, ret);
        sd_bus_message_unref(call);
        sd_bus_message_unref(reply);
        return r;
}

/* Somebody may still be in it for a moment. */
static bool detach(sd_bus *bus, const char *image, bool writable)
{
        double end = now() + GONE_SECONDS;

        for (;;) {
                sd_bus_error error = SD_BUS_ERROR_NULL;
                sd_bus_message *call = NULL;
                int r;

                check(sd_bus_message_new_method_call(bus, &call, SERVICE, image, SERVICE ".Image", "Detach"), "call");
                check(sd_bus_message_append(call, "a{sv}", 0), "call");
                r = sd_bus_call(bus, call, release_usec(writable), &error, NULL);
                sd_bus_message_unref(call);
                /* It went by itself. */
                if (r < 0 && sd_bus_error_has_name(&error, SD_BUS_ERROR_UNKNOWN_OBJECT))
                        r = 0;
                if (r < 0)
                        warnx("%s: %s", image, error.message);
                sd_bus_error_free(&error);
                if (r >= 0 || now() > end)
                        return r >= 0;
                pause_briefly();
        }
}

/* ---- What has to be gone ---- */

static bool has_device(const char *path)
{
        DIR *dir = opendir("/sys/block");
        struct dirent *entry;
        bool found = false;

        while (dir && !found && (entry = readdir(dir))) {
                char name[300], line[256] = "";
                FILE *f;

                if (strncmp(entry->d_name, "loop", 4) != 0)
                        continue;
                snprintf(name, sizeof(name), "/sys/block/%s/loop/backing_file", entry->d_name);
                f = fopen(name, "re");
                if (!f)
                        continue;
                found = fgets(line, sizeof(line), f) && strncmp(line, path, strlen(path)) == 0;
                (void)fclose(f);
        }
        if (dir)
                (void)closedir(dir);
        return found;
}

static bool is_gone(const char *path, const Attached *attached)
{
        for (size_t i = 0; i < attached->n_mounts; i++)
                if (access(attached->mounts[i], F_OK) == 0)
                        return false;
        return !has_device(path);
}

static bool wait_gone(const char *path, const Attached *attached)
{
        double end = now() + GONE_SECONDS;

        while (!is_gone(path, attached)) {
                if (now() > end)
                        return false;
                pause_briefly();
        }
        return true;
}

/* ---- A case ---- */

static Copy *find_copy(Worker *worker, const char *image)
{
        Copy *free_one = NULL;
        char path[256];

        for (size_t i = 0; i < IMAGES_MAX; i++) {
                Copy *copy = &worker->copies[i];

                if (strcmp(copy->image, image) == 0)
                        return copy;
                if (!copy->image[0] && !free_one)
                        free_one = copy;
        }
        if (!free_one)
                errx(2, "there are more than %d samples", IMAGES_MAX);
        snprintf(path, sizeof(path), "%s/%d-%u", worker->work, (int)getpid(), worker->n_made++);
        copy_make(free_one, worker->images, image, path);
        return free_one;
}

static const char *try_case(Worker *worker, const Case *item, const Copy *copy, Attached *attached, sd_bus_error *error)
{
        bool looked = true;
        int r = attach(worker->bus, copy->path, item->writable, attached, error);

        if (r == -ETIMEDOUT || sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY))
                return "late";
        if (r < 0 && !error->name)
                errx(2, "%s: %s", item->name, strerror(-r));
        for (size_t i = 0; i < attached->n_mounts; i++)
                looked &= look_with_deadline(attached->mounts[i], item->writable);
        if (r >= 0 && (!detach(worker->bus, attached->image, item->writable) || !looked))
                return "stuck";
        if (!wait_gone(copy->path, attached))
                return "left";
        if (r >= 0)
                return "attached";
        return strncmp(error->name, ERRORS, strlen(ERRORS)) == 0 ? error->name + strlen(ERRORS) : error->name;
}

static void run_case(Worker *worker, const Case *item)
{
        Copy *copy = find_copy(worker, item->image);
        sd_bus_error error = SD_BUS_ERROR_NULL;
        Attached attached = { 0 };
        double begin = now();
        const char *result;

        copy_apply(copy, item);
        result = try_case(worker, item, copy, &attached, &error);
        printf("%s\t%s\t%.3f\t%.3f\t%s\t%zu\t%s\n", result, item->name, begin, now(), item->writable ? "rw" : "ro",
               attached.n_mounts, error.message ? error.message : item->what);
        (void)fflush(stdout);
        if (!copy_restore(copy, item) || strcmp(result, "stuck") == 0 || strcmp(result, "left") == 0 ||
            strcmp(result, "late") == 0)
                copy_remove(copy);
        sd_bus_error_free(&error);
}

/* Whose it is: the samples' names are taken by turns. */
static unsigned worker_of(const Case *item, unsigned n_workers)
{
        static char names[IMAGES_MAX][64];
        unsigned i;

        for (i = 0; i < IMAGES_MAX && names[i][0]; i++)
                if (strcmp(names[i], item->image) == 0)
                        return i % n_workers;
        if (i < IMAGES_MAX)
                snprintf(names[i], sizeof(names[i]), "%s", item->image);
        return i % n_workers;
}

static void work(const char *cases, Worker *worker, unsigned number, unsigned n_workers)
{
        CaseReader reader;
        Case item;

        check(sd_bus_open_system(&worker->bus), "bus");
        cases_open(&reader, cases);
        while (cases_next(&reader, &item)) {
                if (worker_of(&item, n_workers) == number)
                        run_case(worker, &item);
                case_done(&item);
        }
        for (size_t i = 0; i < IMAGES_MAX; i++)
                if (worker->copies[i].image[0])
                        copy_remove(&worker->copies[i]);
}

int main(int argc, char **argv)
{
        unsigned n_workers = argc >= 5 ? (unsigned)strtoul(argv[4], NULL, 10) : 0;
        int status, failed = 0;
        pid_t pids[WORKERS_MAX];

        job_usec = argc >= 6 ? strtoull(argv[5], NULL, 10) * 1000000 : 0;
        if (n_workers == 0 || n_workers > WORKERS_MAX || job_usec == 0)
                errx(2, "usage: attach-cases CASES IMAGES WORK WORKERS SECONDS [no-mount]");
        mounting = argc == 6;
        for (unsigned i = 0; i < n_workers; i++) {
                static Worker worker;

                pids[i] = fork();
                if (pids[i] < 0)
                        err(2, "fork");
                if (pids[i] > 0)
                        continue;
                worker = (Worker){ .images = argv[2], .work = argv[3] };
                work(argv[1], &worker, i, n_workers);
                exit(0);
        }
        /* Not for all: PAM's helper is a child of whom the service manager starts, and stays as long. */
        for (unsigned i = 0; i < n_workers; i++)
                failed |= waitpid(pids[i], &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        return failed;
}
