/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * terminal [WAIT-FOR TYPE]... -- COMMAND...
 *
 * A person at a terminal: runs COMMAND as the foreground job of a new one, waits
 * until it shows each WAIT-FOR in turn, and types TYPE then. Instead of typing,
 * "@hangup" closes the terminal, and "@kill" kills the process of COMMAND.
 * What the terminal shows goes to standard output. The exit code is that of
 * COMMAND as a shell has it; 124 if what is waited for does not come.
 */
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_SEC 60
#define SCREEN_SIZE 65536U

static char screen[SCREEN_SIZE + 1];
static size_t shown, looked_at;

/* False: the terminal has no user on the other side any more. */
static bool read_screen(int terminal, time_t deadline)
{
        struct pollfd p = { .fd = terminal, .events = POLLIN };
        time_t now = time(NULL);
        ssize_t n;

        if (now >= deadline || poll(&p, 1, (int)(deadline - now) * 1000) <= 0)
                return false;
        n = read(terminal, screen + shown, SCREEN_SIZE - shown);
        if (n <= 0)
                return false;
        (void)!write(STDOUT_FILENO, screen + shown, (size_t)n);
        shown += (size_t)n;
        screen[shown] = '\0';
        return shown < SCREEN_SIZE;
}

static bool wait_for(int terminal, const char *text, time_t deadline)
{
        const char *found;

        while (!(found = memmem(screen + looked_at, shown - looked_at, text, strlen(text))))
                if (!read_screen(terminal, deadline))
                        return false;
        looked_at = (size_t)(found - screen) + strlen(text);
        return true;
}

/* Who asks for a password throws away what was typed before the echo was off. Behind ssh nobody can see that; there the
 * person takes as long as persons do. */
static void wait_for_no_echo(int terminal)
{
        struct timespec pause = { .tv_nsec = 20000000 }, a_moment = { .tv_sec = 1 };
        struct termios settings = { .c_lflag = ICANON };

        for (int i = 0; i < 100; i++) {
                if (tcgetattr(terminal, &settings) < 0 || !(settings.c_lflag & ECHO))
                        break;
                nanosleep(&pause, NULL);
        }
        if (!(settings.c_lflag & ICANON))
                nanosleep(&a_moment, NULL);
}

static int exit_code(pid_t child)
{
        int state;

        while (waitpid(child, &state, 0) < 0)
                if (errno != EINTR)
                        return 1;
        return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

int main(int argc, char **argv)
{
        time_t deadline = time(NULL) + TIMEOUT_SEC;
        int command = 1, terminal, state;
        bool gone = false;
        pid_t child;

        while (command < argc && strcmp(argv[command], "--") != 0)
                command++;
        if (command + 1 >= argc || (command - 1) % 2 != 0)
                errx(2, "usage: terminal [WAIT-FOR TYPE]... -- COMMAND...");
        child = forkpty(&terminal, NULL, NULL, &(struct winsize){ .ws_row = 25, .ws_col = 200 });
        if (child < 0)
                err(1, "forkpty");
        if (child == 0) {
                execvp(argv[command + 1], argv + command + 1);
                err(127, "%s", argv[command + 1]);
        }
        for (int i = 1; i < command; i += 2) {
                if (!wait_for(terminal, argv[i], deadline)) {
                        kill(child, SIGKILL);
                        fprintf(stderr, "terminal: '%s' was not shown\n", argv[i]);
                        return 124;
                }
                if (strcmp(argv[i + 1], "@kill") == 0)
                        kill(child, SIGKILL);
                else if (strcmp(argv[i + 1], "@hangup") == 0)
                        gone = close(terminal) == 0;
                else {
                        if (strstr(argv[i], "assword"))
                                wait_for_no_echo(terminal);
                        (void)!write(terminal, argv[i + 1], strlen(argv[i + 1]));
                }
        }
        while (!gone && read_screen(terminal, deadline))
                ;
        if (!gone && time(NULL) >= deadline && waitpid(child, &state, WNOHANG) == 0) {
                kill(child, SIGKILL);
                fprintf(stderr, "terminal: the command did not end\n");
                return 124;
        }
        return exit_code(child);
}
