/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tracer has to be a process of its own: whoever traces gets all stops of its
 * tracees from waitpid(2), and GLib would take them for ends of its children.
 * Orders come over a socket, one at a time, and are acknowledged; what was seen is
 * in memory that both share.
 *
 * A call that is to fail becomes close(-1), which does nothing and which every
 * seccomp filter lets through; at its end its registers get back what was in them,
 * and the error. brk(2) cannot fail but by giving the old end of the heap, so it
 * becomes brk(0). Where memory is refused it is refused until the process does
 * something else: malloc(3) tries three ways.
 *
 * Processes are let go as soon as nothing is to be seen any more, and before they
 * end: of a tracee that is dead its parent hears twice, and the daemon's event loop
 * looks once only.
 */
#include "tracer.h"

#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "base/closer.h"
#include "bus/gate.h"

#define CALLS_MAX 65536
#define NUMBERS_MAX 1024
#define PROCESSES_MAX 64
#define SYSCALL_STOP (SIGTRAP | 0x80)
#define EVENT_STOP 128
#define CLONE_FILES_FLAG 0x400U

/* ---- what differs from one architecture to the other ---- */

#if defined(__x86_64__)
typedef struct user_regs_struct Registers;
#define REGISTER_ARGUMENT(r) ((r).rdi)
#define REGISTER_RESULT(r) ((r).rax)
#define REGISTER_NUMBER(r) ((r).orig_rax)
#elif defined(__aarch64__)
typedef struct user_regs_struct Registers;
#define REGISTER_ARGUMENT(r) ((r).regs[0])
#define REGISTER_RESULT(r) ((r).regs[0])
#elif defined(__riscv) && __riscv_xlen == 64
typedef struct user_regs_struct Registers;
#define REGISTER_ARGUMENT(r) ((r).a0)
#define REGISTER_RESULT(r) ((r).a0)
#define REGISTER_NUMBER(r) ((r).a7)
#endif

typedef struct Process {
        pid_t pid;
        char role[TRACER_ROLE_SIZE]; /* "": what it does is not counted */
        unsigned n_children, n_closers;
        uint16_t counts[NUMBERS_MAX];
        bool adopted; /* its parent's stop has told of it */
        bool waiting; /* stopped, and not adopted yet */
        bool failing; /* the call that it is in fails */
        bool killed;  /* ... or is its last, and not made */
        bool without_memory;
        bool closes;  /* it last called clone(2) for a child that shares its descriptors */
        bool pausing; /* it last looked whether it has waited long enough */
        bool keeps_registers;
        Registers registers;
        int error;
} Process;

typedef struct Shared {
        bool hit;
        size_t n_calls;
        TracerCall calls[CALLS_MAX];
} Shared;

typedef struct Command {
        pid_t pid; /* 0: disarm */
        bool from_exec;
        TracerOrder order;
} Command;

static Shared *shared;
static int channel = -1;

/* Only in the tracer: */
static Process processes[PROCESSES_MAX];
static pid_t daemon_pid;
static bool armed, at_exec, done;
static TracerOrder order;

static Process *find_process(pid_t pid)
{
        for (size_t i = 0; i < PROCESSES_MAX; i++)
                if (processes[i].pid == pid)
                        return &processes[i];
        return NULL;
}

static Process *add_process(pid_t pid)
{
        Process *process = find_process(pid);

        if (process)
                return process;
        process = find_process(0);
        if (!process)
                g_error("more than %d processes", PROCESSES_MAX);
        memset(process, 0, sizeof(*process));
        process->pid = pid;
        return process;
}

/* ---- registers ---- */

static bool get_registers(pid_t pid, Registers *registers)
{
        struct iovec part = { registers, sizeof(*registers) };
        return ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &part) == 0;
}

static void set_registers(pid_t pid, Registers *registers)
{
        struct iovec part = { registers, sizeof(*registers) };
        ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &part);
}

static void replace_call(Process *process, int number, uint64_t argument)
{
        Registers registers;

        if (!get_registers(process->pid, &process->registers))
                return;
        process->keeps_registers = true;
        registers = process->registers;
        REGISTER_ARGUMENT(registers) = argument;
#ifdef __aarch64__
        struct iovec part = { &number, sizeof(number) };
        ptrace(PTRACE_SETREGSET, process->pid, NT_ARM_SYSTEM_CALL, &part);
#else
        REGISTER_NUMBER(registers) = (unsigned long long)number;
#endif
        set_registers(process->pid, &registers);
}

static void end_call(Process *process, int64_t result)
{
        Registers registers;

        if (!get_registers(process->pid, &registers))
                return;
        if (process->keeps_registers)
                registers = process->registers;
        REGISTER_RESULT(registers) = (unsigned long long)result;
        set_registers(process->pid, &registers);
        process->keeps_registers = false;
}

/* ---- at a system call ---- */

static bool is_memory(int number)
{
#ifdef SYS_mmap
        return number == SYS_brk || number == SYS_mmap;
#else
        return number == SYS_brk;
#endif
}

static void make_fail(Process *process, int number, int error)
{
        process->failing = true;
        process->error = error;
        process->without_memory = is_memory(number);
        if (number == SYS_brk) {
                process->error = 0;
                replace_call(process, SYS_brk, 0);
        } else if (number != SYS_close)
                replace_call(process, SYS_close, UINT64_MAX);
}

static void act(Process *process, int number)
{
        shared->hit = done = true;
        switch (order.action) {
        case TRACER_RECORD:
                break;
        case TRACER_FAIL:
                make_fail(process, number, order.error);
                break;
        case TRACER_KILL_DAEMON:
                process->killed = process->pid == daemon_pid;
                if (!process->killed)
                        kill(daemon_pid, SIGKILL);
                break;
        case TRACER_KILL_CHILD:
                process->killed = true;
                break;
        }
}

static void record(const Process *process, const uint64_t *arguments, int number)
{
        TracerCall *call = &shared->calls[shared->n_calls];

        if (shared->n_calls >= CALLS_MAX)
                return;
        strcpy(call->point.role, process->role);
        call->point.number = number;
        call->point.occurrence = process->counts[number];
        memcpy(call->arguments, arguments, sizeof(call->arguments));
        shared->n_calls++;
}

bool tracer_may_fail(int number, const uint64_t arguments[static TRACER_ARGUMENTS])
{
        if (number == SYS_epoll_ctl)
                return arguments[1] == EPOLL_CTL_ADD;
        if (number == SYS_fcntl)
                return arguments[1] == F_DUPFD || arguments[1] == F_DUPFD_CLOEXEC;
        if (number == SYS_prctl)
                return arguments[0] != PR_SET_NAME;
        return true;
}

/*
 * The daemon waits for its closers by looking again and again, with pauses. How often depends on who is faster: so
 * only the first time counts, as all later ones are like it.
 */
static bool looks_again(Process *process, int number, const uint64_t *arguments)
{
        bool was = process->pausing;

        if ((number == SYS_ppoll && arguments[1] == 0) || number == SYS_sched_yield)
                process->pausing = true;
        else if (number != SYS_fcntl && number != SYS_waitid && number != SYS_wait4)
                process->pausing = false;
        return was && process->pausing;
}

static void on_entry(Process *process, const struct __ptrace_syscall_info *info)
{
        const uint64_t arguments[TRACER_ARGUMENTS] = { info->entry.args[0], info->entry.args[1], info->entry.args[2] };
        int number = (int)info->entry.nr;

        if (number < 0 || number >= NUMBERS_MAX)
                return;
        if (process->without_memory && is_memory(number)) {
                make_fail(process, number, ENOMEM);
                return;
        }
        process->without_memory = false;
        process->closes = number == SYS_clone && arguments[0] & CLONE_FILES_FLAG;
        if (!process->role[0] || done || looks_again(process, number, arguments))
                return;
        process->counts[number]++;
        record(process, arguments, number);
        if (order.action != TRACER_RECORD && number == order.point.number &&
            process->counts[number] == order.point.occurrence && streq(process->role, order.point.role) &&
            (order.action != TRACER_FAIL || tracer_may_fail(number, arguments)))
                act(process, number);
}

static void on_exit_of_call(Process *process, const struct __ptrace_syscall_info *info)
{
        if (!process->failing)
                return;
        process->failing = false;
        end_call(process, process->error ? -process->error : info->exit.rval);
}

static void on_syscall(Process *process)
{
        struct __ptrace_syscall_info info;

        if (ptrace(PTRACE_GET_SYSCALL_INFO, process->pid, sizeof(info), &info) <= 0)
                return;
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY || info.op == PTRACE_SYSCALL_INFO_SECCOMP)
                on_entry(process, &info);
        else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
                on_exit_of_call(process, &info);
}

/* ---- stops ---- */

static void let_go(Process *process, int signal)
{
        ptrace(PTRACE_DETACH, process->pid, NULL, (void *)(intptr_t)signal);
        process->pid = 0;
}

static void resume(Process *process, int signal)
{
        if (process->killed)
                let_go(process, SIGKILL);
        else if (process->failing || process->without_memory || (armed && !done && process->role[0]))
                ptrace(PTRACE_SYSCALL, process->pid, NULL, (void *)(intptr_t)signal);
        else if (armed && !done)
                ptrace(PTRACE_CONT, process->pid, NULL, (void *)(intptr_t)signal);
        else
                let_go(process, signal);
}

static void on_child(Process *parent)
{
        unsigned long message = 0;
        Process *child;

        if (done || !armed)
                return;
        ptrace(PTRACE_GETEVENTMSG, parent->pid, NULL, &message);
        child = add_process((pid_t)message);
        child->adopted = true;
        if (parent->role[0]) {
                char name[64];

                if (parent->closes)
                        snprintf(name, sizeof(name), "%s.c%u", parent->role, ++parent->n_closers);
                else
                        snprintf(name, sizeof(name), "%s.%u", parent->role, ++parent->n_children);
                g_strlcpy(child->role, name, sizeof(child->role));
        }
        if (child->waiting)
                resume(child, 0);
        child->waiting = false;
}

static void begin_at_exec(Process *process)
{
        if (armed && at_exec && process->pid == daemon_pid)
                strcpy(process->role, "d");
}

static void on_stop(pid_t pid, int status)
{
        Process *process = add_process(pid);
        int signal = WSTOPSIG(status), event = (int)((unsigned)status >> 16), deliver = 0;

        if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE)
                on_child(process);
        else if (event == PTRACE_EVENT_EXEC)
                begin_at_exec(process);
        else if (signal == SYSCALL_STOP)
                on_syscall(process);
        else if (event != EVENT_STOP)
                deliver = signal;
        /* A child may be here before its parent's stop tells whose it is. */
        if (event == PTRACE_EVENT_EXIT)
                let_go(process, 0);
        else if (!process->adopted && armed && !done)
                process->waiting = true;
        else
                resume(process, deliver);
}

/* A parent that was killed while it forked tells of no child. */
static void let_go_of_waiting(void)
{
        for (size_t i = 0; i < PROCESSES_MAX; i++)
                if (processes[i].pid > 0 && processes[i].waiting)
                        let_go(&processes[i], 0);
}

static void on_status(pid_t pid, int status)
{
        Process *process;

        if (WIFSTOPPED(status))
                on_stop(pid, status);
        else if ((process = find_process(pid)))
                process->pid = 0;
        if (done || !armed)
                let_go_of_waiting();
}

static void look_at_stops(void)
{
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
                on_status(pid, status);
}

/* ---- orders ---- */

static Process *seize(pid_t pid)
{
        const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                             PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT;
        Process *process;

        if (ptrace(PTRACE_SEIZE, pid, NULL, options) < 0)
                return NULL;
        process = add_process(pid);
        process->adopted = true;
        return process;
}

static bool is_closer_or_gate(const char *pid)
{
        g_autofree char *path = g_strdup_printf("/proc/%s/comm", pid), *comm = NULL;

        return g_file_get_contents(path, &comm, NULL, NULL) &&
               (streq(g_strchomp(comm), CLOSER_IDLE_NAME) || streq(comm, GATE_NAME));
}

/*
 * Children that wait for their next job, in the order in which they were made: "d.w1" and so on. Not the closer: it
 * makes no call that can fail; nor the gate, whose end is the daemon's.
 */
static void seize_children(void)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/children", daemon_pid, daemon_pid), *text = NULL;
        unsigned n = 0;

        if (!g_file_get_contents(path, &text, NULL, NULL))
                return;
        g_auto(GStrv) pids = g_strsplit(g_strchomp(text), " ", -1);
        for (char **pid = pids; *pid; pid++) {
                Process *process = **pid && !is_closer_or_gate(*pid) ? seize(atoi(*pid)) : NULL;

                if (!process)
                        continue;
                snprintf(process->role, sizeof(process->role), "d.w%u", ++n);
                ptrace(PTRACE_INTERRUPT, process->pid, NULL, NULL);
        }
}

/* Stops it, so that it may go on with or without stops at its calls. */
static void arm(const Command *command)
{
        Process *process;

        memset(processes, 0, sizeof(processes));
        armed = true;
        at_exec = command->from_exec;
        done = shared->hit = false;
        shared->n_calls = 0;
        order = command->order;
        daemon_pid = command->pid;
        process = seize(daemon_pid);
        if (!process)
                g_error("cannot trace %d: %s", daemon_pid, g_strerror(errno));
        if (at_exec)
                return;
        seize_children();
        strcpy(process->role, "d");
        ptrace(PTRACE_INTERRUPT, daemon_pid, NULL, NULL);
}

/* Comes back when nobody is traced any more. */
static void disarm(void)
{
        int status;
        pid_t pid;

        armed = false;
        let_go_of_waiting();
        for (size_t i = 0; i < PROCESSES_MAX; i++)
                if (processes[i].pid > 0)
                        ptrace(PTRACE_INTERRUPT, processes[i].pid, NULL, NULL);
        while ((pid = waitpid(-1, &status, __WALL)) > 0)
                on_status(pid, status);
}

/* False: nobody is there any more to give orders. */
static bool obey(void)
{
        Command command;

        if (recv(channel, &command, sizeof(command), 0) != sizeof(command))
                return false;
        if (command.pid > 0)
                arm(&command);
        else
                disarm();
        return send(channel, "", 1, MSG_NOSIGNAL) == 1;
}

static void on_sigchld(int signal)
{
        (void)signal;
}

static _Noreturn void run(void)
{
        struct sigaction action = { .sa_handler = on_sigchld };
        struct pollfd pollfd = { .fd = channel, .events = POLLIN };
        sigset_t blocked, before;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "tracer");
        sigaction(SIGCHLD, &action, NULL);
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGCHLD);
        sigprocmask(SIG_BLOCK, &blocked, &before);
        for (;;) {
                int n = ppoll(&pollfd, 1, NULL, &before);
                look_at_stops();
                if (n > 0 && !obey())
                        _exit(EXIT_SUCCESS);
        }
}

/* ---- the test's side ---- */

void tracer_start(void)
{
        int ends[2];
        pid_t pid;

        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                g_error("no tracer: %s", g_strerror(errno));
        pid = fork();
        if (pid < 0)
                g_error("no tracer: %s", g_strerror(errno));
        channel = ends[pid == 0];
        close(ends[pid != 0]);
        if (pid == 0)
                run();
}

static void order_and_wait(const Command *command)
{
        char answer;

        if (send(channel, command, sizeof(*command), MSG_NOSIGNAL) < 0 || recv(channel, &answer, 1, 0) != 1)
                g_error("the tracer has gone");
}

void tracer_arm(pid_t pid, const TracerOrder *what, bool from_exec)
{
        order_and_wait(&(Command){ .pid = pid, .order = *what, .from_exec = from_exec });
}

bool tracer_disarm(const TracerCall **ret_calls, size_t *ret_n)
{
        order_and_wait(&(Command){ 0 });
        if (ret_calls)
                *ret_calls = shared->calls;
        if (ret_n)
                *ret_n = shared->n_calls;
        return shared->hit;
}
