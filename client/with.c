/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * with: attach, run a command in the mount point, detach.
 *
 * The command is an ordinary child in our process group, so that the terminal
 * and its job control treat both as one job. What the terminal sends (Ctrl-C)
 * reaches the child by itself; what another process sends to us alone is
 * forwarded. We outlive the child in any case, because detaching is our duty;
 * hence the signals are blocked and waited for, from before the fork on.
 *
 * Before that, in the middle of Attach, a signal shuts the connection down: the
 * daemon rolls back, unless its reply is here already, and then we detach.
 *
 * An image that was attached before is somebody's: it is used and left alone.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "attach.h"
#include "detach.h"
#include "errors.h"
#include "i18n.h"
#include "output.h"
#include "verbs.h"

/* As shells have it. */
#define STATUS_CANNOT_RUN 126
#define STATUS_NO_COMMAND 127
#define STATUS_SIGNAL 128

static const int forwarded[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

static volatile sig_atomic_t interrupted;
static volatile sig_atomic_t bus_fd = -1;

static void on_signal(int signal)
{
        int saved = errno;

        interrupted = signal;
        shutdown(bus_fd, SHUT_RDWR);
        errno = saved;
}

/* A signal that was ignored when we started (nohup) stays ignored. */
static void catch_signals(int fd)
{
        struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, old;

        bus_fd = fd;
        for (size_t i = 0; i < ELEMENTSOF(forwarded); i++)
                if (sigaction(forwarded[i], NULL, &old) >= 0 && old.sa_handler != SIG_IGN)
                        sigaction(forwarded[i], &action, NULL);
}

static void block_signals(sigset_t *ret_blocked, sigset_t *ret_original)
{
        sigemptyset(ret_blocked);
        sigaddset(ret_blocked, SIGCHLD);
        for (size_t i = 0; i < ELEMENTSOF(forwarded); i++)
                sigaddset(ret_blocked, forwarded[i]);
        sigprocmask(SIG_BLOCK, ret_blocked, ret_original);
        /* Ignored by the one who started us, it would reap our child. */
        signal(SIGCHLD, SIG_DFL);
}

static _Noreturn void run_command(char **command, char **mount_points, const sigset_t *mask)
{
        _cleanup_free_ char *all = output_join_lines(mount_points);

        if (!all || setenv("LOOPMOUNT_DIR", mount_points[0], true) < 0 || setenv("LOOPMOUNT_DIRS", all, true) < 0)
                _exit(error_print(STATUS_CANNOT_RUN, command[0], "%s", strerror(ENOMEM)));
        if (chdir(mount_points[0]) < 0)
                _exit(error_print(STATUS_CANNOT_RUN, mount_points[0], "%s", strerror(errno)));
        sigprocmask(SIG_SETMASK, mask, NULL);
        execvp(command[0], command);
        _exit(error_print(errno == ENOENT ? STATUS_NO_COMMAND : STATUS_CANNOT_RUN, command[0], "%s", strerror(errno)));
}

/* Forwards signals until the child is gone; gives its status as a shell does. */
static int wait_for_command(pid_t child, const sigset_t *blocked)
{
        siginfo_t info;
        int state, signal;

        for (;;) {
                signal = sigwaitinfo(blocked, &info);
                if (signal == SIGCHLD) {
                        if (waitpid(child, &state, WNOHANG) != child)
                                continue;
                        return WIFEXITED(state) ? WEXITSTATUS(state) : STATUS_SIGNAL + WTERMSIG(state);
                }
                /* The kernel's own come from the terminal, and the child has got them too; but of a hang-up it tells
                 * the leader of the session alone. */
                if (signal == SIGHUP || (signal > 0 && info.si_code <= 0))
                        kill(child, signal);
        }
}

static int run(const Settings *settings, char **mount_points, const sigset_t *blocked, const sigset_t *original)
{
        pid_t child = fork();

        if (child < 0)
                return error_print(STATUS_FAILED, settings->command[0], "%s", strerror(errno));
        if (child == 0)
                run_command(settings->command, mount_points, original);
        return wait_for_command(child, blocked);
}

/* Asks which images are attached from the file already. Prints what goes wrong; gives an exit code. */
static int find_attached(Connection *connection, const char *name, int fd, Model *ret)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return error_print(STATUS_FAILED, name, "%s", strerror(errno));
        r = model_query(connection, &(ModelFilter){ .file = &st }, &error, ret);
        if (r >= 0)
                return STATUS_OK;
        return interrupted ? STATUS_SIGNAL + interrupted : error_print_bus(name, &error, r);
}

/* Gives an exit code; what went wrong has been printed, unless the user interrupted it. */
static int attach(const Settings *settings, Attached *ret, bool *ret_was_attached)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_model_ Model before = { 0 };
        _cleanup_connection_ Connection connection = { 0 };
        _cleanup_close_ int fd = -1;
        const char *name = settings->operands[0];
        int r, status;

        status = attach_open(name, settings->writable, &fd);
        if (status == STATUS_OK)
                status = connection_open(&connection, !settings->no_ask_password);
        if (status != STATUS_OK)
                return status;

        catch_signals(sd_bus_get_fd(connection.bus));
        status = find_attached(&connection, name, fd, &before);
        if (status != STATUS_OK)
                return status;
        connection_say(&connection, _("Attaching %s"), name);
        r = attach_call(&connection, settings, fd, &error, ret);
        if (r < 0)
                return interrupted ? STATUS_SIGNAL + interrupted : error_print_bus(name, &error, r);
        *ret_was_attached = model_find_image(&before, ret->path);
        return STATUS_OK;
}

/* By a connection of its own: the other one need not last as long as the command, and may be shut down. */
static int detach(const Settings *settings, const char *path)
{
        _cleanup_connection_ Connection connection = { 0 };
        int status;

        status = connection_open(&connection, !settings->no_ask_password);
        if (status != STATUS_OK)
                return status;
        return detach_image(&connection, path, settings->operands[0], false);
}

static int complain_not_mounted(const Settings *settings, const char *path)
{
        _cleanup_connection_ Connection connection = { 0 };
        _cleanup_model_ Model model = { 0 };
        const Image *image = NULL;

        if (connection_open(&connection, false) == STATUS_OK &&
            model_list(&connection, &(ModelFilter){ .id = model_id_of(path) }, &model) == STATUS_OK)
                image = model.images;
        if (image)
                attach_print_obstacles(image, settings->operands[0]);
        return error_print(STATUS_BAD_IMAGE, settings->operands[0], _("nothing in it can be mounted"));
}

int verb_with(const Settings *settings)
{
        _cleanup_attached_ Attached attached = { 0 };
        sigset_t blocked, original;
        bool was_attached = false;
        int status, detached;

        status = attach(settings, &attached, &was_attached);
        if (status != STATUS_OK)
                return status;

        block_signals(&blocked, &original);
        if (interrupted)
                status = STATUS_SIGNAL + interrupted;
        else if (!attached.mount_points || !attached.mount_points[0])
                status = complain_not_mounted(settings, attached.path);
        else
                status = run(settings, attached.mount_points, &blocked, &original);

        detached = was_attached ? STATUS_OK : detach(settings, attached.path);
        return status == STATUS_OK ? detached : status;
}
