/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pkttyagent asks for the administrator's password where no desktop does: on
 * a console, over ssh. It is polkit's own program, and runs as our child for
 * as long as one call lasts, so that it shares the terminal with nothing else.
 *
 * It closes the descriptor given with --notify-fd when it is registered, and so
 * does its death: either way the wait ends. With --fallback it leaves a
 * session that has an agent already alone.
 */
#include "agent.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "interrupt.h"

/* In the background a question would stop us with SIGTTIN. */
static bool can_ask(void)
{
        return geteuid() != 0 && isatty(STDIN_FILENO) && isatty(STDERR_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
}

static _Noreturn void run_agent(int notify_fd, pid_t parent)
{
        char fd[16];

        /* Whoever kills us without leave to clean up must not leave an agent on the terminal. */
        if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
                _exit(EXIT_FAILURE);
        if (fcntl(notify_fd, F_SETFD, 0) < 0)
                _exit(EXIT_FAILURE);

        snprintf(fd, sizeof(fd), "%d", notify_fd);
        execlp("pkttyagent", "pkttyagent", "--notify-fd", fd, "--fallback", NULL);
        _exit(EXIT_FAILURE);
}

pid_t agent_start(void)
{
        _cleanup_close_ int ready = -1, notify = -1;
        pid_t agent, parent = getpid();
        int fds[2];

        if (!can_ask() || pipe2(fds, O_CLOEXEC) < 0)
                return 0;
        ready = fds[0];
        notify = fds[1];

        agent = fork();
        if (agent < 0)
                return 0;
        if (agent == 0)
                run_agent(notify, parent);

        notify = safe_close(notify);
        struct pollfd p = { .fd = ready };
        while (interrupt_poll(&p, UINT64_MAX, true) == -EINTR && !interrupt_signal())
                ;
        return agent;
}

void agent_stop(pid_t agent)
{
        if (agent <= 0)
                return;
        kill(agent, SIGTERM);
        kill(agent, SIGCONT);
        while (waitpid(agent, NULL, 0) < 0 && errno == EINTR)
                ;
}
