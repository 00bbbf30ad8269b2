/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ways that are programs, as one types them; the program's start is a part of what is measured. */
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include "base/macro.h"
#include "way.h"

extern char **environ;

/* The device, as the program has named it. */
static char device[32];

/* What the programs say besides, for who looks for a reason. */
#define LOG "/run/programs.log"

/* Runs a program, whose first line of output goes to @ret. */
static int run_for(const char *const *argv, char *ret, size_t size)
{
        _cleanup_(fclosep) FILE *output = NULL;
        posix_spawn_file_actions_t actions;
        int fds[2], status, r;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return way_failed(-errno, "pipe");
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, LOG, O_WRONLY | O_CREAT | O_APPEND, 0644);
        r = -posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        close(fds[1]);
        output = fdopen(fds[0], "re");
        if (r < 0)
                return way_failed(r, argv[0]);
        if (!fgets(ret, (int)size, output))
                *ret = '\0';
        while (fgetc(output) != EOF)
                ;
        if (waitpid(pid, &status, 0) < 0)
                return way_failed(-errno, "waitpid");
        return way_failed(status == 0 ? 0 : -EIO, argv[0]);
}

#define run(...)                                                                                                       \
        ({                                                                                                             \
                char line_[256];                                                                                       \
                run_for((const char *const[]){ __VA_ARGS__, NULL }, line_, sizeof(line_));                             \
        })

/* ---- mount(8), losetup(8) ------------------------------------------------------------ */

static int mount_attach(const Task *task)
{
        return run("mount", "-o", task->writable ? "loop,nosuid,nodev" : "loop,ro,nosuid,nodev", task->image,
                   way_target());
}

static int umount(const Task *task)
{
        (void)task;
        return run("umount", way_target());
}

static int losetup_attach(const Task *task)
{
        int r = run_for((const char *const[]){ "losetup", "--find", "--show", task->writable ? "--" : "--read-only",
                                               task->image, NULL },
                        device, sizeof(device));

        device[strcspn(device, "\n")] = '\0';
        return r < 0 ? r
                     : run("mount", "-o", task->writable ? "nosuid,nodev" : "ro,nosuid,nodev", device, way_target());
}

static int losetup_detach(const Task *task)
{
        int r = umount(task);

        return r < 0 ? r : run("losetup", "--detach", device);
}

/* ---- loopmount(1) -------------------------------------------------------------------- */

static const char *client(void)
{
        const char *path = getenv("LOOPMOUNT");

        return path ? path : "loopmount";
}

static int client_attach(const Task *task)
{
        return task->writable ? run(client(), "attach", "--writable", task->image)
                              : run(client(), "attach", task->image);
}

static int client_detach(const Task *task)
{
        return run(client(), "detach", task->image);
}

/* ---- udisksctl(1) -------------------------------------------------------------------- */

/* "Mapped file disk.img as /dev/loop0." */
static int udisksctl_attach(const Task *task)
{
        char line[512], *found;
        int r = run_for((const char *const[]){ "udisksctl", "loop-setup", "--file", task->image,
                                               task->writable ? NULL : "--read-only", NULL },
                        line, sizeof(line));

        if (r < 0)
                return r;
        found = strrchr(line, ' ');
        if (!found)
                return way_failed(-EBADMSG, "udisksctl");
        snprintf(device, sizeof(device), "%s", found + 1);
        device[strcspn(device, ".\n")] = '\0';
        return run("udisksctl", "mount", "--block-device", device);
}

static int udisksctl_detach(const Task *task)
{
        int r = run("udisksctl", "unmount", "--block-device", device);

        (void)task;
        return r < 0 ? r : run("udisksctl", "loop-delete", "--block-device", device);
}

/* ---- systemd-dissect(1) -------------------------------------------------------------- */

static int dissect_attach(const Task *task)
{
        return task->writable ? run("systemd-dissect", "--mount", "--fsck=no", task->image, way_target())
                              : run("systemd-dissect", "--mount", "--read-only", task->image, way_target());
}

static int dissect_detach(const Task *task)
{
        (void)task;
        return run("systemd-dissect", "--umount", way_target());
}

/* ---- programs that only start -------------------------------------------------------- */

static int start_true(const Task *task)
{
        (void)task;
        return run("true");
}

static int start_nothing(const Task *task)
{
        const char *path = getenv("LOOPMOUNT_BENCH_NOTHING");

        (void)task;
        return path ? run(path) : -ENOENT;
}

static int start_losetup(const Task *task)
{
        (void)task;
        return run("losetup", "--version");
}

static int start_mount(const Task *task)
{
        (void)task;
        return run("mount", "--version");
}

static int start_busctl(const Task *task)
{
        (void)task;
        return run("busctl", "--version");
}

static int start_udisksctl(const Task *task)
{
        (void)task;
        return run("udisksctl", "help");
}

static int start_client(const Task *task)
{
        (void)task;
        return run(client(), "--version");
}

static int list_client(const Task *task)
{
        (void)task;
        return run(client(), "list", "--all-users");
}

static int list_losetup(const Task *task)
{
        (void)task;
        return run("losetup", "--list");
}

const Way ways_command[] = {
        { "mount", mount_attach, umount },
        { "losetup", losetup_attach, losetup_detach },
        { "client", client_attach, client_detach },
        { "udisksctl", udisksctl_attach, udisksctl_detach },
        { "dissect", dissect_attach, dissect_detach },
        { "true", start_true, NULL },
        { "nothing, with libsystemd", start_nothing, NULL },
        { "losetup --version", start_losetup, NULL },
        { "mount --version", start_mount, NULL },
        { "busctl --version", start_busctl, NULL },
        { "udisksctl help", start_udisksctl, NULL },
        { "loopmount --version", start_client, NULL },
        { "loopmount list", list_client, NULL },
        { "losetup --list", list_losetup, NULL },
        { 0 },
};
