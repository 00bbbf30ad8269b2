/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's end of the test channel: runs one command at a time for the
 * host, over a virtio-serial port, and passes its input, output and exit code.
 *
 * From the host come lines: "ping NONCE", "run HEX" (the arguments, each ended
 * by a NUL), "in HEX", "in" (end of input), "signal NUMBER". To the host go
 * "hello" (the agent has started), "pong NONCE", "o LENGTH" and "e LENGTH"
 * (each followed by so many bytes of output), "x CODE" (the command ended).
 * Lines to the guest are hex so that a host that died in the middle of one
 * costs the next host no more than that line.
 *
 * Invariants: a command is over when its process has ended and its pipes are
 * empty; nobody waits for a daemon that keeps them open. When the host goes
 * away or asks anew, what still runs is killed. Nothing here blocks but poll().
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES (512 * 1024)
#define CHUNK_BYTES 8192
#define ARGUMENTS_MAX 4096
#define POLL_WITHOUT_HOST_MSEC 200

typedef struct Agent {
        int port;
        int signals;
        pid_t child; /* 0: none; its process group has the same number */
        bool child_ended;
        int exit_code;
        int input; /* the write end of the command's stdin, or -1 */
        int output[2];
        char line[LINE_MAX_BYTES];
        size_t line_length;
        char pending[CHUNK_BYTES + 64]; /* on its way to the host */
        size_t pending_start;
        size_t pending_end;
        char stdin_data[LINE_MAX_BYTES / 2]; /* on its way to the command */
        size_t stdin_start;
        size_t stdin_end;
        bool stdin_eof;
} Agent;

static void close_fd(int *fd)
{
        if (*fd >= 0)
                (void)close(*fd);
        *fd = -1;
}

static _Noreturn void fail(const char *what)
{
        fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
        exit(EXIT_FAILURE);
}

static void flush_to_host(Agent *agent)
{
        while (agent->pending_start < agent->pending_end) {
                ssize_t n = write(agent->port, agent->pending + agent->pending_start,
                                  agent->pending_end - agent->pending_start);
                if (n < 0)
                        return; /* EAGAIN: poll says when; anything else: the host is gone */
                agent->pending_start += (size_t)n;
        }
        agent->pending_start = agent->pending_end = 0;
}

/* Queues a short line; there is always room, as output waits for an empty queue. */
static void say(Agent *agent, const char *word, const char *rest)
{
        size_t room = sizeof(agent->pending) - agent->pending_end;
        int n = snprintf(agent->pending + agent->pending_end, room, "%s%s%s\n", word, *rest ? " " : "", rest);

        if (n > 0 && (size_t)n < room)
                agent->pending_end += (size_t)n;
        flush_to_host(agent);
}

static void forget_command(Agent *agent)
{
        close_fd(&agent->input);
        close_fd(&agent->output[0]);
        close_fd(&agent->output[1]);
        agent->child = 0;
        agent->child_ended = false;
        agent->stdin_start = agent->stdin_end = 0;
        agent->stdin_eof = false;
}

/* The host lost interest in whatever it had asked for. */
static void abandon_command(Agent *agent)
{
        if (agent->child > 0 && !agent->child_ended)
                (void)kill(-agent->child, SIGKILL);
        forget_command(agent);
        agent->pending_start = agent->pending_end = 0;
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -1;
}

/* Decodes in place; returns the number of bytes, or -1 on anything that is not hex. */
static ssize_t decode_hex(char *text)
{
        size_t n = 0;

        for (const char *p = text; p[0]; p += 2) {
                int high = hex_digit(p[0]);
                int low = p[1] ? hex_digit(p[1]) : -1;
                if (high < 0 || low < 0)
                        return -1;
                text[n++] = (char)(high << 4 | low);
        }
        return (ssize_t)n;
}

static size_t split_arguments(char *data, size_t length, char *arguments[])
{
        size_t count = 0;

        for (size_t at = 0; at < length && count < ARGUMENTS_MAX; at += strlen(data + at) + 1)
                arguments[count++] = data + at;
        arguments[count] = NULL;
        return count;
}

static _Noreturn void become_command(char *arguments[], const int pipes[3][2])
{
        static char *fresh_environment[] = {
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/lib/loopmount-test",
                "HOME=/root",
                "USER=root",
                "LOGNAME=root",
                "SHELL=/bin/bash",
                "LANG=C.UTF-8",
                "TERM=linux",
                NULL,
        };
        sigset_t none;

        (void)setsid();
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)signal(SIGPIPE, SIG_DFL);
        if (dup2(pipes[0][0], 0) < 0 || dup2(pipes[1][1], 1) < 0 || dup2(pipes[2][1], 2) < 0 || chdir("/root") < 0)
                _exit(126);
        environ = fresh_environment; /* whose PATH is the one that counts */
        (void)execvp(arguments[0], arguments);
        dprintf(2, "The guest cannot run %s: %s\n", arguments[0], strerror(errno));
        _exit(errno == ENOENT ? 127 : 126);
}

static void start_command(Agent *agent, char *hex)
{
        static char *arguments[ARGUMENTS_MAX + 1];
        int pipes[3][2];
        ssize_t length = decode_hex(hex);

        abandon_command(agent);
        if (length <= 0 || hex[length - 1] != '\0' || split_arguments(hex, (size_t)length, arguments) == 0) {
                say(agent, "x", "125");
                return;
        }
        for (int i = 0; i < 3; i++)
                if (pipe2(pipes[i], O_CLOEXEC) < 0)
                        fail("pipe");
        agent->child = fork();
        if (agent->child < 0)
                fail("fork");
        if (agent->child == 0)
                become_command(arguments, pipes);
        (void)close(pipes[0][0]);
        (void)close(pipes[1][1]);
        (void)close(pipes[2][1]);
        agent->input = pipes[0][1];
        agent->output[0] = pipes[1][0];
        agent->output[1] = pipes[2][0];
        (void)fcntl(agent->input, F_SETFL, O_NONBLOCK);
        (void)fcntl(agent->output[0], F_SETFL, O_NONBLOCK);
        (void)fcntl(agent->output[1], F_SETFL, O_NONBLOCK);
}

static void feed_command(Agent *agent)
{
        while (agent->input >= 0 && agent->stdin_start < agent->stdin_end) {
                ssize_t n = write(agent->input, agent->stdin_data + agent->stdin_start,
                                  agent->stdin_end - agent->stdin_start);
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0)
                        close_fd(&agent->input); /* it reads no more */
                else
                        agent->stdin_start += (size_t)n;
        }
        agent->stdin_start = agent->stdin_end = 0;
        if (agent->stdin_eof)
                close_fd(&agent->input);
}

static void take_input(Agent *agent, char *hex)
{
        ssize_t length = decode_hex(hex);

        if (length > 0 && (size_t)length <= sizeof(agent->stdin_data) - agent->stdin_end) {
                memcpy(agent->stdin_data + agent->stdin_end, hex, (size_t)length);
                agent->stdin_end += (size_t)length;
        }
        if (length == 0)
                agent->stdin_eof = true;
        feed_command(agent);
}

static void handle_line(Agent *agent, char *line)
{
        char *rest = strchr(line, ' ');

        if (rest)
                *rest++ = '\0';
        else
                rest = line + strlen(line);

        if (strcmp(line, "ping") == 0) {
                abandon_command(agent);
                say(agent, "pong", rest);
        } else if (strcmp(line, "run") == 0)
                start_command(agent, rest);
        else if (strcmp(line, "in") == 0)
                take_input(agent, rest);
        else if (strcmp(line, "signal") == 0 && agent->child > 0 && !agent->child_ended)
                (void)kill(-agent->child, atoi(rest));
}

static void read_lines(Agent *agent)
{
        char *end;
        ssize_t n = read(agent->port, agent->line + agent->line_length, sizeof(agent->line) - 1 - agent->line_length);

        if (n <= 0)
                return;
        agent->line_length += (size_t)n;
        while ((end = memchr(agent->line, '\n', agent->line_length))) {
                size_t used = (size_t)(end - agent->line) + 1;
                *end = '\0';
                handle_line(agent, agent->line);
                agent->line_length -= used;
                memmove(agent->line, agent->line + used, agent->line_length);
        }
        if (agent->line_length == sizeof(agent->line) - 1)
                agent->line_length = 0; /* not ours: no line is so long */
}

/* One chunk of output to the host. Returns whether there was any. */
static bool pass_output(Agent *agent, int which)
{
        char chunk[CHUNK_BYTES];
        ssize_t n;

        if (agent->output[which] < 0)
                return false;
        n = read(agent->output[which], chunk, sizeof(chunk));
        if (n < 0)
                return false;
        if (n == 0) {
                close_fd(&agent->output[which]);
                return false;
        }
        agent->pending_end = (size_t)sprintf(agent->pending, "%c %zd\n", which == 0 ? 'o' : 'e', n);
        memcpy(agent->pending + agent->pending_end, chunk, (size_t)n);
        agent->pending_end += (size_t)n;
        flush_to_host(agent);
        return true;
}

static void finish_command(Agent *agent)
{
        char code[16];

        snprintf(code, sizeof(code), "%d", agent->exit_code);
        forget_command(agent);
        say(agent, "x", code);
}

static void reap(Agent *agent)
{
        struct signalfd_siginfo info;
        int status;
        pid_t pid;

        (void)!read(agent->signals, &info, sizeof(info));
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                if (pid != agent->child)
                        continue;
                agent->child_ended = true;
                agent->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
}

static void lose_host(Agent *agent)
{
        abandon_command(agent);
        agent->line_length = 0;
        (void)poll(NULL, 0, POLL_WITHOUT_HOST_MSEC);
}

static void turn(Agent *agent)
{
        bool idle = agent->pending_end == 0, more = false;
        struct pollfd fds[] = {
                { .fd = agent->port, .events = (short)(POLLIN | (idle ? 0 : POLLOUT)) },
                { .fd = agent->signals, .events = POLLIN },
                { .fd = idle ? agent->output[0] : -1, .events = POLLIN },
                { .fd = idle ? agent->output[1] : -1, .events = POLLIN },
                { .fd = agent->stdin_end > 0 ? agent->input : -1, .events = POLLOUT },
        };

        /* What an ended command left in its pipes is all that will come. */
        if (poll(fds, sizeof(fds) / sizeof(fds[0]), agent->child_ended && idle ? 0 : -1) < 0)
                return;
        if (fds[0].revents & POLLHUP) {
                lose_host(agent);
                return;
        }
        if (fds[1].revents)
                reap(agent);
        if (fds[4].revents)
                feed_command(agent);
        if (fds[0].revents & POLLIN)
                read_lines(agent);
        flush_to_host(agent);
        for (int i = 0; i < 2; i++)
                more = agent->pending_end > 0 || pass_output(agent, i) || more;
        if (agent->child_ended && !more)
                finish_command(agent);
}

int main(int argc, char *argv[])
{
        static Agent agent = { .input = -1, .output = { -1, -1 } };
        sigset_t mask;

        if (argc != 2) {
                fprintf(stderr, "agent: the port is missing\n");
                return EXIT_FAILURE;
        }
        (void)signal(SIGPIPE, SIG_IGN);
        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        (void)sigprocmask(SIG_BLOCK, &mask, NULL);
        agent.signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        agent.port = open(argv[1], O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (agent.signals < 0 || agent.port < 0)
                fail(argv[1]);
        say(&agent, "hello", "");
        for (;;)
                turn(&agent);
}
