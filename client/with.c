/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * with: attach, run a command in the mount point, detach.
 *
 * The volumes are mounted for this process alone (the option "hold" of Attach): the
 * daemon unmounts those that were not mounted before when it is told to
 * (Release), or when this process leaves the bus, however it ends. So the
 * connection lasts as long as the command.
 *
 * The command is an ordinary child in our process group, so that the terminal
 * and its job control treat both as one job. What the terminal sends (Ctrl-C)
 * reaches the child by itself; what another process sends to us alone is
 * forwarded. We outlive the child in any case, since we are to say whether
 * everything could be unmounted; hence the signals are blocked and waited for, from
 * before the fork on. Before that a signal ends it all (see connection.c).
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "attach.h"
#include "errors.h"
#include "i18n.h"
#include "interrupt.h"
#include "output.h"
#include "verbs.h"

/* As shells have it. */
#define STATUS_CANNOT_RUN 126
#define STATUS_NO_COMMAND 127
#define STATUS_SIGNAL 128

static void block_signals(sigset_t *ret_blocked, sigset_t *ret_original)
{
        interrupt_fill_set(ret_blocked);
        sigaddset(ret_blocked, SIGCHLD);
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
        interrupt_end();
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

/* Gives an exit code; what went wrong has been printed, unless the user interrupted it. */
static int attach(const Settings *settings, Connection *connection, Attached *ret)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_close_ int fd = -1;
        const char *name = settings->operands[0];
        int r, status;

        status = attach_open(name, settings->writable, &fd);
        if (status == STATUS_OK)
                status = connection_open(connection, !settings->no_ask_password);
        if (status != STATUS_OK)
                return status;

        connection_say(connection, _("Attaching %s"), name);
        interrupt_catch();
        r = attach_call(connection, settings, fd, &error, ret);
        if (r < 0)
                return connection->cancelled ? STATUS_SIGNAL + interrupt_signal() : error_print_bus(name, &error, r);
        return STATUS_OK;
}

static int release(Connection *connection, const char *name)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        connection_say(connection, _("Detaching %s"), name);
        r = connection_call_simple(connection, ROOT_PATH, MANAGER_INTERFACE, "Release", &error);
        return r < 0 ? error_print_bus(name, &error, r) : STATUS_OK;
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
        _cleanup_connection_ Connection connection = { 0 };
        _cleanup_attached_ Attached attached = { 0 };
        sigset_t blocked, original;
        int status, released;

        status = attach(settings, &connection, &attached);
        if (status != STATUS_OK)
                return status;

        block_signals(&blocked, &original);
        if (interrupt_signal())
                status = STATUS_SIGNAL + interrupt_signal();
        else if (!attached.mount_points || !attached.mount_points[0])
                status = complain_not_mounted(settings, attached.path);
        else
                status = run(settings, attached.mount_points, &blocked, &original);
        sigprocmask(SIG_SETMASK, &original, NULL);

        released = release(&connection, settings->operands[0]);
        return status == STATUS_OK ? released : status;
}
