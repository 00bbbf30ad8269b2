/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long do attach + mount + unmount + detach of one image take, by loopmountd
 * and by its peers? Each round runs every way once, so that a noisy machine is
 * noisy for all of them. Run by bench/run, as root, on a private bus.
 *
 *   latency IMAGE TYPE ROUNDS PATH-OF-CLIENT
 *
 * Ways:
 *   raw         the system calls in this process, without policy or bookkeeping
 *   mount       mount -o loop,ro and umount, as root
 *   bus         org.loopmount1: Attach and Detach from this process
 *   client      loopmount attach and loopmount detach
 *   udisks      org.freedesktop.UDisks2: LoopSetup, Mount, Unmount, Delete from this process
 *   udisksctl   the same by four calls of udisksctl
 */
#include <fcntl.h>
#include <linux/loop.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <time.h>

#include "base/macro.h"

#define TARGET "/run/bench-mount"

static sd_bus *bus;
static const char *image, *type, *client;
extern char **environ;

static void check(int r, const char *what)
{
        if (r >= 0)
                return;
        fprintf(stderr, "latency: %s: %s\n", what, strerror(-r));
        exit(EXIT_FAILURE);
}

static void check_errno(int r, const char *what)
{
        check(r < 0 ? -errno : 0, what);
}

static void check_call(int r, const sd_bus_error *error, const char *what)
{
        if (r < 0)
                fprintf(stderr, "latency: %s\n", strempty(error->message));
        check(r, what);
}

static void run(const char *const *argv)
{
        posix_spawn_file_actions_t actions;
        int status;
        pid_t pid;

        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        check(-posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ), argv[0]);
        posix_spawn_file_actions_destroy(&actions);
        check_errno(waitpid(pid, &status, 0), "waitpid");
        check(status == 0 ? 0 : -EIO, argv[0]);
}

static void cycle_raw(void)
{
        _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), loop = -1, fs = -1, mnt = -1;
        _cleanup_close_ int file = open(image, O_RDONLY | O_CLOEXEC);
        struct loop_config config = {
                .fd = (unsigned)file,
                .block_size = 512,
                .info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN | LO_FLAGS_DIRECT_IO,
        };
        char node[32];

        snprintf(node, sizeof(node), "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
        loop = open(node, O_RDONLY | O_CLOEXEC);
        check_errno(ioctl(loop, LOOP_CONFIGURE, &config), "LOOP_CONFIGURE");
        fs = fsopen(type, FSOPEN_CLOEXEC);
        check_errno(fs, "fsopen");
        check_errno(fsconfig(fs, FSCONFIG_SET_STRING, "source", node, 0), "source");
        check_errno(fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0), "ro");
        if (streq(type, "ext4"))
                check_errno(fsconfig(fs, FSCONFIG_SET_FLAG, "noload", NULL, 0), "noload");
        check_errno(fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "create");
        mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
        check_errno(mnt, "fsmount");
        check_errno(move_mount(mnt, "", AT_FDCWD, TARGET, MOVE_MOUNT_F_EMPTY_PATH), "move_mount");
        mnt = safe_close(mnt);
        fs = safe_close(fs);
        check_errno(umount2(TARGET, UMOUNT_NOFOLLOW), "umount");
        check_errno(ioctl(loop, LOOP_CLR_FD), "LOOP_CLR_FD");
}

static void cycle_mount(void)
{
        run((const char *const[]){ "mount", "-o", "loop,ro,nosuid,nodev", image, TARGET, NULL });
        run((const char *const[]){ "umount", TARGET, NULL });
}

static void cycle_bus(void)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_close_ int file = open(image, O_RDONLY | O_CLOEXEC);
        const char *object;

        check_call(sd_bus_call_method(bus, "org.loopmount1", "/org/loopmount1", "org.loopmount1.Manager", "Attach",
                                      &error, &reply, "ha{sv}", file, 0),
                   &error, "Attach");
        check(sd_bus_message_read_basic(reply, 'o', &object), "Attach");
        check_call(sd_bus_call_method(bus, "org.loopmount1", object, "org.loopmount1.Image", "Detach", &error, NULL,
                                      "a{sv}", 0),
                   &error, "Detach");
}

static void cycle_client(void)
{
        run((const char *const[]){ client, "attach", image, NULL });
        run((const char *const[]){ client, "detach", image, NULL });
}

static void udisks(const char *object, const char *interface, const char *method, sd_bus_message **ret)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        check_call(
                sd_bus_call_method(bus, "org.freedesktop.UDisks2", object, interface, method, &error, ret, "a{sv}", 0),
                &error, method);
}

static void cycle_udisks(void)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL, *mounted = NULL;
        _cleanup_close_ int file = open(image, O_RDONLY | O_CLOEXEC);
        const char *object;

        check_call(sd_bus_call_method(bus, "org.freedesktop.UDisks2", "/org/freedesktop/UDisks2/Manager",
                                      "org.freedesktop.UDisks2.Manager", "LoopSetup", &error, &reply, "ha{sv}", file, 1,
                                      "read-only", "b", 1),
                   &error, "LoopSetup");
        check(sd_bus_message_read_basic(reply, 'o', &object), "LoopSetup");
        udisks(object, "org.freedesktop.UDisks2.Filesystem", "Mount", &mounted);
        udisks(object, "org.freedesktop.UDisks2.Filesystem", "Unmount", NULL);
        udisks(object, "org.freedesktop.UDisks2.Loop", "Delete", NULL);
}

static void cycle_udisksctl(void)
{
        char command[1024];

        snprintf(command, sizeof(command),
                 "d=$(udisksctl loop-setup -r -f %s) && d=${d##* } && d=${d%%.} && udisksctl mount -b $d && "
                 "udisksctl unmount -b $d && udisksctl loop-delete -b $d",
                 image);
        run((const char *const[]){ "sh", "-c", command, NULL });
}

static const struct {
        const char *name;
        void (*cycle)(void);
} ways[] = {
        { "raw", cycle_raw },       { "mount", cycle_mount },   { "bus", cycle_bus },
        { "client", cycle_client }, { "udisks", cycle_udisks }, { "udisksctl", cycle_udisksctl },
};

static int compare(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static double measure(void (*cycle)(void))
{
        struct timespec begin, end;

        clock_gettime(CLOCK_MONOTONIC, &begin);
        cycle();
        clock_gettime(CLOCK_MONOTONIC, &end);
        return (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
}

int main(int argc, char *argv[])
{
        double *times[ELEMENTSOF(ways)];
        int rounds;

        if (argc != 5 || (rounds = atoi(argv[3])) < 1) {
                fprintf(stderr, "latency IMAGE TYPE ROUNDS PATH-OF-CLIENT\n");
                return 2;
        }
        image = argv[1];
        type = argv[2];
        client = argv[4];
        check(sd_bus_open_system(&bus), "system bus");
        for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
                times[i] = calloc((size_t)rounds, sizeof(double));
                check(times[i] ? 0 : -ENOMEM, "memory");
                ways[i].cycle();
        }
        for (int round = 0; round < rounds; round++)
                for (size_t i = 0; i < ELEMENTSOF(ways); i++)
                        times[i][round] = measure(ways[i].cycle);
        for (size_t i = 0; i < ELEMENTSOF(ways); i++)
                qsort(times[i], (size_t)rounds, sizeof(double), compare);
        printf("%-10s %10s %10s %8s\n", type, "median ms", "p95 ms", "x raw");
        for (size_t i = 0; i < ELEMENTSOF(ways); i++)
                printf("%-10s %10.2f %10.2f %8.1f\n", ways[i].name, times[i][rounds / 2], times[i][rounds * 95 / 100],
                       times[i][rounds / 2] / times[0][rounds / 2]);
        return EXIT_SUCCESS;
}
