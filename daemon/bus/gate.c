/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whoever receives a message receives the files in it, and has to close them. That
 * has the file system flush the file, and a FUSE server need not answer. Therefore
 * the daemon receives no user's file. It sends to the bus by itself, but receives
 * from the gate: a child that looks at each message's header in the socket's queue
 * (MSG_PEEK makes no descriptors) and then
 *
 * - passes on what carries no files;
 * - has a file that a method wants received by a catcher, a child that is lent both
 *   sockets for this one message: it puts the file into a parcel, passes the message
 *   on with the parcel in the file's place, closes everything else that it has, and
 *   then the file. If it hangs in that, it holds nothing but this file. Else it waits
 *   for the next one;
 * - receives the rest without its files, which the kernel drops without a flush.
 *
 * Who sends a file is asked of the bus, over a connection of the gate's own that
 * takes no files. A user has GATE_HANGING_MAX catchers that hang; then his files are
 * not received any more. SIGKILL does not end such a catcher (FUSE_FLUSH is forced),
 * but the end of the FUSE connection does: after the deadline a child that has
 * become this user aborts it, which works if it is the user's own.
 *
 * The gate blocks in nothing but the two sockets.
 */
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fd-message.h"
#include "base/fds.h"
#include "bus/gate.h"
#include "bus/objects.h"
#include "bus/wire.h"
#include "mechanism/parcel.h"

#define BUS_ADDRESS_DEFAULT "unix:path=/run/dbus/system_bus_socket"
#define BUS_ADDRESS_PREFIX "unix:path="
#define LOOKUP_TIMEOUT_USEC (5 * USEC_PER_SEC)
/* A catcher that takes longer to close its file hangs. Usually it takes some microseconds. */
#define HANGS_USEC (200 * USEC_PER_MSEC)
#define BUFFER_SIZE WIRE_HEADER_SIZE_MAX
#define DUMMIES_MAX 253U /* what unix(7) passes on in a message */
/* What a catcher is lent for a message: the socket of the bus, that of the daemon, and something that is no file. */
#define LENT_FDS 3U
#define UNIQUE_NAME_SIZE 32U

typedef struct Catcher {
        pid_t pid;
        int channel; /* ends when it does */
        uid_t uid;
        uint64_t since_usec; /* when it began to close its file */
        unsigned fuse;       /* the number of the file's FUSE connection, if it has one; 0: none */
        bool given_up;       /* its deadline has passed, and all was done that can be */
        struct Catcher *next;
} Catcher;

typedef struct Gate {
        int bus;    /* to be received from */
        int daemon; /* to be passed on to */
        int nothing;
        uint64_t timeout_usec;
        sd_bus *lookup;
        char last_sender[UNIQUE_NAME_SIZE]; /* the bus never gives a unique name out again */
        uid_t last_uid;
        Catcher *idle; /* waits for the next file */
        Catcher *out;  /* those that close one */
        uint8_t buffer[BUFFER_SIZE];
} Gate;

static pid_t gate_pid;

static uint64_t now_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static int connect_to_bus(void)
{
        const char *address = secure_getenv("DBUS_SYSTEM_BUS_ADDRESS"), *path;
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -1;
        size_t size;

        if (!address)
                address = BUS_ADDRESS_DEFAULT;
        if (strncmp(address, BUS_ADDRESS_PREFIX, strlen(BUS_ADDRESS_PREFIX)) != 0)
                return -EPROTONOSUPPORT;
        path = address + strlen(BUS_ADDRESS_PREFIX);
        size = strcspn(path, ",;");
        if (size >= sizeof(name.sun_path))
                return -ENAMETOOLONG;
        memcpy(name.sun_path, path, size);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* @out: < 0: the same as @in. Both are the bus' then, or still the caller's on failure. */
static int start_bus(int in, int out, bool takes_files, sd_bus **ret)
{
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int r = sd_bus_new(&bus);

        if (r >= 0)
                r = sd_bus_set_bus_client(bus, true);
        if (r >= 0)
                r = sd_bus_negotiate_fds(bus, takes_files);
        if (r >= 0)
                r = sd_bus_set_fd(bus, in, out < 0 ? in : out);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r >= 0)
                *ret = TAKE_PTR(bus);
        return r;
}

int gate_open_own_bus(sd_bus **ret)
{
        int fd = connect_to_bus(), r;

        if (fd < 0)
                return fd;
        r = start_bus(fd, -1, false, ret);
        if (r < 0)
                safe_close(fd);
        return r;
}

/* ---- Both: passing on ---- */

/* No process goes on without the bus, or without the daemon. */
static void receive_all(int bus, void *data, size_t size, int *ret_fd)
{
        uint8_t *to = data;

        while (size > 0) {
                size_t n_fds = ret_fd && *ret_fd < 0;
                ssize_t n = n_fds > 0 ? fd_message_receive(bus, 0, to, size, ret_fd, &n_fds) : recv(bus, to, size, 0);

                if (n <= 0)
                        _exit(EXIT_SUCCESS);
                to += n;
                size -= (size_t)n;
        }
}

static void send_all(int daemon, const void *data, size_t size, const int *fds, size_t n_fds)
{
        const uint8_t *from = data;

        while (size > 0) {
                union {
                        struct cmsghdr header;
                        char bytes[CMSG_SPACE(sizeof(int) * DUMMIES_MAX)];
                } control = { 0 };
                struct iovec part = { .iov_base = (void *)from, .iov_len = size };
                struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
                ssize_t n;

                if (n_fds > 0) {
                        control.header.cmsg_level = SOL_SOCKET;
                        control.header.cmsg_type = SCM_RIGHTS;
                        control.header.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n_fds);
                        message.msg_control = &control;
                        message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                }
                n = sendmsg(daemon, &message, MSG_NOSIGNAL);
                if (n < 0)
                        _exit(EXIT_SUCCESS);
                from += n;
                size -= (size_t)n;
                n_fds = 0;
        }
}

/* The rest of a message, or all of one whose files nobody wants. */
static void pass_on(Gate *gate, size_t size, const int *fds, size_t n_fds)
{
        while (size > 0) {
                size_t n = MIN(size, sizeof(gate->buffer));

                receive_all(gate->bus, gate->buffer, n, NULL);
                send_all(gate->daemon, gate->buffer, n, fds, n_fds);
                size -= n;
                n_fds = 0;
        }
}

/* ---- The catcher ---- */

/* An empty mask asks no file system: only the device is told. FUSE's have no device of their own: major number 0. */
static unsigned fuse_connection_of(int fd)
{
        char path[64];
        struct statx stx;

        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) < 0 || stx.stx_dev_major != 0)
                return 0;
        snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u", stx.stx_dev_minor);
        return access(path, F_OK) == 0 ? stx.stx_dev_minor : 0;
}

static int wrap(int fd, int *ret_parcel)
{
        static ParcelLabel label;

        if (fd < 0)
                label = (ParcelLabel){ .error = -EMFILE };
        else
                parcel_label(fd, &label);
        return parcel_wrap(fd, &label, ret_parcel);
}

/* Receives one message. Returns the file, or < 0 if there was none. */
static int catch_file(Gate *gate, int channel, size_t size)
{
        size_t first = MIN(size, sizeof(gate->buffer));
        int fd = -1, parcel = -1;
        unsigned fuse;

        receive_all(gate->bus, gate->buffer, first, &fd);
        send_all(gate->daemon, gate->buffer, first, wrap(fd, &parcel) < 0 ? &gate->nothing : &parcel, 1);
        safe_close(parcel);
        pass_on(gate, size - first, NULL, 0);
        fuse = fd < 0 ? 0 : fuse_connection_of(fd);
        return send(channel, &fuse, sizeof(fuse), MSG_NOSIGNAL) < 0 ? -errno : fd;
}

/* Receives one message with the sockets that are lent for it, and says when it is ready for the next. */
static int work_once(Gate *gate, int channel)
{
        size_t size, n_fds = LENT_FDS;
        int lent[LENT_FDS], fd;

        if (fd_message_receive(channel, 0, &size, sizeof(size), lent, &n_fds) != sizeof(size) || n_fds != LENT_FDS)
                return -EBADMSG;
        gate->bus = lent[0];
        gate->daemon = lent[1];
        gate->nothing = lent[2];
        fd = catch_file(gate, channel, size);
        for (size_t i = 0; i < LENT_FDS; i++)
                safe_close(lent[i]);
        if (fd < 0)
                return fd;
        /* From here on it may hang, and has nothing that anybody else needs. */
        (void)prctl(PR_SET_NAME, GATE_CATCHER_NAME);
        (void)close(fd);
        (void)prctl(PR_SET_NAME, GATE_IDLE_CATCHER_NAME);
        return send(channel, "", 1, MSG_NOSIGNAL) == 1 ? 0 : -EPIPE;
}

static _Noreturn void run_catcher(Gate *gate, int channel, pid_t parent)
{
        (void)prctl(PR_SET_NAME, GATE_IDLE_CATCHER_NAME);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || fds_close_all_but(0, &channel, 1) < 0)
                _exit(EXIT_FAILURE);
        while (work_once(gate, channel) >= 0)
                ;
        _exit(EXIT_SUCCESS);
}

/* NULL: there is none, for want of memory or processes. */
static Catcher *new_catcher(Gate *gate)
{
        _cleanup_free_ Catcher *catcher = calloc(1, sizeof(*catcher));
        pid_t parent = getpid();
        int ends[2];

        if (!catcher || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return NULL;
        catcher->pid = fork();
        if (catcher->pid == 0)
                run_catcher(gate, ends[1], parent);
        safe_close(ends[1]);
        if (catcher->pid < 0) {
                safe_close(ends[0]);
                return NULL;
        }
        catcher->channel = ends[0];
        return TAKE_PTR(catcher);
}

/* ---- The gate: who hangs ---- */

static Catcher *free_catcher(Catcher *catcher)
{
        if (catcher)
                safe_close(catcher->channel);
        free(catcher);
        return NULL;
}

/* Those that say so are back, and one of them waits for the next file; those whose channel has ended are dead. */
static void collect_catchers(Gate *gate)
{
        for (Catcher **link = &gate->out; *link;) {
                Catcher *catcher = *link;
                char byte;
                ssize_t n = recv(catcher->channel, &byte, 1, MSG_DONTWAIT);

                if (n < 0) {
                        link = &catcher->next;
                        continue;
                }
                *link = catcher->next;
                if (n > 0 && !gate->idle && !catcher->given_up)
                        gate->idle = catcher;
                else
                        free_catcher(catcher);
        }
}

/* The kernel lets the owner of a connection, and nobody else but root, open its file. */
static void abort_fuse(const Catcher *catcher)
{
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", catcher->fuse);
        if (fork() != 0)
                return;
        if (setgroups(0, NULL) < 0 || setresgid(catcher->uid, catcher->uid, catcher->uid) < 0 ||
            setresuid(catcher->uid, catcher->uid, catcher->uid) < 0)
                _exit(EXIT_FAILURE);
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        _exit(fd >= 0 && write(fd, "1", 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Returns when to look again, in ms for poll(2). */
static int give_up_hanging(Gate *gate)
{
        uint64_t now = now_usec(), next = UINT64_MAX;

        for (Catcher *catcher = gate->out; catcher; catcher = catcher->next) {
                uint64_t deadline = catcher->since_usec + gate->timeout_usec;

                if (catcher->given_up)
                        continue;
                if (deadline > now) {
                        next = MIN(next, deadline);
                        continue;
                }
                catcher->given_up = true;
                (void)kill(catcher->pid, SIGKILL);
                if (catcher->fuse != 0 && catcher->uid != 0)
                        abort_fuse(catcher);
        }
        return next == UINT64_MAX ? -1 : (int)((next - now) / USEC_PER_MSEC) + 1;
}

/* Returns the number of @uid's catchers that are not back. *ret: the one that has hung for the shortest time. */
static unsigned count_out(const Gate *gate, uid_t uid, const Catcher **ret)
{
        unsigned n = 0;

        *ret = NULL;
        for (const Catcher *catcher = gate->out; catcher; catcher = catcher->next)
                if (catcher->uid == uid) {
                        n++;
                        if (!*ret || catcher->since_usec > (*ret)->since_usec)
                                *ret = catcher;
                }
        return n;
}

/* Waits a moment if @uid has as many out as may hang, since all may be back soon. */
static bool is_full(Gate *gate, uid_t uid)
{
        const Catcher *latest;

        collect_catchers(gate);
        while (count_out(gate, uid, &latest) >= GATE_HANGING_MAX) {
                struct pollfd end = { .fd = latest->channel, .events = POLLIN };
                uint64_t now = now_usec();

                if (now >= latest->since_usec + HANGS_USEC)
                        return true;
                (void)poll(&end, 1, (int)((latest->since_usec + HANGS_USEC - now) / USEC_PER_MSEC) + 1);
                collect_catchers(gate);
        }
        return false;
}

static int ask_bus(Gate *gate, const char *sender, uid_t *ret)
{
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        int r = 0;

        if (!gate->lookup) {
                r = gate_open_own_bus(&gate->lookup);
                if (r >= 0)
                        r = sd_bus_set_method_call_timeout(gate->lookup, LOOKUP_TIMEOUT_USEC);
        }
        if (r >= 0)
                r = sd_bus_get_name_creds(gate->lookup, sender, SD_BUS_CREDS_EUID, &creds);
        if (r >= 0)
                r = sd_bus_creds_get_euid(creds, ret);
        /* Signals to all, and what somebody may have sent here. */
        while (r >= 0 && sd_bus_process(gate->lookup, NULL) > 0)
                ;
        return r;
}

/* Asks the bus, but not again for the last one. */
static int find_user(Gate *gate, const char *sender, uid_t *ret)
{
        int r = *sender && streq(gate->last_sender, sender) ? 0 : ask_bus(gate, sender, &gate->last_uid);

        if (r < 0)
                gate->last_sender[0] = 0;
        else if (snprintf(gate->last_sender, sizeof(gate->last_sender), "%s", sender) >= (int)UNIQUE_NAME_SIZE)
                gate->last_sender[0] = 0;
        *ret = gate->last_uid;
        return r;
}

/* ---- The gate: messages ---- */

/* Whether sd-bus is going to call one of the two methods that take a file. */
static bool is_wanted(const WireHeader *header)
{
        if (!header->is_call || header->n_fds != 1 || !streq(header->path, BUS_ROOT_PATH) ||
            (header->interface[0] && !streq(header->interface, BUS_MANAGER_INTERFACE)))
                return false;
        return (streq(header->member, "Attach") && streq(header->signature, "ha{sv}")) ||
               (streq(header->member, "FindByFile") && streq(header->signature, "h"));
}

/* Files that are not received. */
static void pass_on_without(Gate *gate, size_t size, size_t n_fds)
{
        int dummies[DUMMIES_MAX];

        for (size_t i = 0; i < ELEMENTSOF(dummies); i++)
                dummies[i] = gate->nothing;
        pass_on(gate, size, dummies, MIN(n_fds, ELEMENTSOF(dummies)));
}

static void pass_on_refused(Gate *gate, size_t size, int error)
{
        static ParcelLabel label;
        int parcel;

        label.error = error;
        if (parcel_wrap(-1, &label, &parcel) < 0) {
                pass_on_without(gate, size, 1);
                return;
        }
        pass_on(gate, size, &parcel, 1);
        safe_close(parcel);
}

/* The next message is not looked at before this one is through. */
static void await_catcher(Gate *gate, Catcher *catcher, uid_t uid)
{
        if (recv(catcher->channel, &catcher->fuse, sizeof(catcher->fuse), 0) != sizeof(catcher->fuse))
                _exit(EXIT_FAILURE);
        catcher->uid = uid;
        catcher->since_usec = now_usec();
        catcher->next = gate->out;
        gate->out = catcher;
}

static int lend(const Gate *gate, const Catcher *catcher, size_t size)
{
        const int fds[LENT_FDS] = { gate->bus, gate->daemon, gate->nothing };
        struct iovec part = { &size, sizeof(size) };

        return fd_message_send(catcher->channel, 0, &part, 1, fds, LENT_FDS);
}

/* The one that waits may have been killed meanwhile: then a new one. */
static Catcher *employ_catcher(Gate *gate, size_t size)
{
        Catcher *catcher = NULL;

        for (unsigned i = 0; !catcher && i < 2; i++) {
                catcher = gate->idle ? TAKE_PTR(gate->idle) : new_catcher(gate);
                if (catcher && lend(gate, catcher, size) < 0)
                        catcher = free_catcher(catcher);
        }
        return catcher;
}

static void pass_on_file(Gate *gate, const WireHeader *header, size_t size)
{
        Catcher *catcher;
        uid_t uid = 0;
        int r = find_user(gate, header->sender, &uid);

        if (r < 0 || is_full(gate, uid)) {
                pass_on_refused(gate, size, r < 0 ? r : -EUSERS);
                return;
        }
        catcher = employ_catcher(gate, size);
        if (catcher)
                await_catcher(gate, catcher, uid);
        else
                pass_on_refused(gate, size, -EAGAIN);
}

/* Looks at the next @size bytes that were not looked at yet. They come in parts. */
static void peek(Gate *gate, uint8_t *data, size_t size)
{
        while (size > 0) {
                ssize_t n = recv(gate->bus, data, size, MSG_PEEK);

                if (n <= 0)
                        _exit(EXIT_SUCCESS);
                data += n;
                size -= (size_t)n;
        }
}

/* What comes before the first message: a line of the handshake at a time. */
static void pass_on_line(Gate *gate)
{
        char byte;

        do {
                receive_all(gate->bus, &byte, 1, NULL);
                send_all(gate->daemon, &byte, 1, NULL, 0);
        } while (byte != '\n');
}

static void drop(Gate *gate, size_t size)
{
        while (size > 0) {
                size_t n = MIN(size, sizeof(gate->buffer));

                receive_all(gate->bus, gate->buffer, n, NULL);
                size -= n;
        }
}

static void pass_on_message(Gate *gate)
{
        size_t header_size, size;
        WireHeader header;

        peek(gate, gate->buffer, 1);
        if (gate->buffer[0] != 'l' && gate->buffer[0] != 'B') {
                pass_on_line(gate);
                return;
        }
        peek(gate, gate->buffer + 1, WIRE_FIXED_SIZE - 1);
        if (wire_sizes(gate->buffer, &header_size, &size) < 0)
                _exit(EXIT_FAILURE);
        if (header_size > sizeof(gate->buffer)) {
                drop(gate, size);
                return;
        }
        peek(gate, gate->buffer + WIRE_FIXED_SIZE, header_size - WIRE_FIXED_SIZE);
        if (wire_parse_header(gate->buffer, header_size, &header) < 0)
                drop(gate, size);
        else if (is_wanted(&header))
                pass_on_file(gate, &header, size);
        else
                pass_on_without(gate, size, header.n_fds);
}

static void wait_for_something(Gate *gate, int timeout, bool *ret_message)
{
        struct pollfd ends[2 + 64] = { { .fd = gate->bus, .events = POLLIN }, { .fd = gate->daemon } };
        nfds_t n = 2;

        for (const Catcher *catcher = gate->out; catcher && n < ELEMENTSOF(ends); catcher = catcher->next)
                ends[n++] = (struct pollfd){ .fd = catcher->channel, .events = POLLIN };
        (void)poll(ends, n, timeout);
        if (ends[1].revents != 0)
                _exit(EXIT_SUCCESS);
        *ret_message = ends[0].revents != 0;
}

static _Noreturn void run_gate(int bus, int daemon, uint64_t timeout_usec, pid_t parent)
{
        static Gate gate;
        sigset_t none;
        int from = 0;

        if (fds_close_all_but(STDERR_FILENO + 1, (const int[]){ bus, daemon }, 2) < 0)
                _exit(EXIT_FAILURE);
        gate = (Gate){ .bus = bus, .daemon = daemon, .timeout_usec = timeout_usec };
        gate.nothing = open("/dev/null", O_PATH | O_CLOEXEC);
        sigemptyset(&none);
        /* Catchers need not be waited for. What is to end the daemon lets it answer, so the gate stays until it has. */
        if (gate.nothing < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent ||
            signal(SIGCHLD, SIG_IGN) == SIG_ERR || signal(SIGTERM, SIG_IGN) == SIG_ERR ||
            signal(SIGINT, SIG_IGN) == SIG_ERR || sigprocmask(SIG_SETMASK, &none, NULL) < 0 ||
            setsockopt(bus, SOL_SOCKET, SO_PEEK_OFF, &from, sizeof(from)) < 0)
                _exit(EXIT_FAILURE);
        (void)prctl(PR_SET_NAME, GATE_NAME);
        gate.idle = new_catcher(&gate);
        for (;;) {
                bool message = false;

                collect_catchers(&gate);
                wait_for_something(&gate, give_up_hanging(&gate), &message);
                if (message)
                        pass_on_message(&gate);
        }
}

/* ---- The daemon ---- */

/* The gate waits for the bus, so its end must block; sd-bus sends without that (MSG_DONTWAIT). */
static int make_blocking(int fd)
{
        int flags = fcntl(fd, F_GETFL);

        return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

static int start_gate(int bus, int daemon, uint64_t timeout_usec)
{
        pid_t parent = getpid();

        gate_pid = fork();
        if (gate_pid == 0)
                run_gate(bus, daemon, timeout_usec, parent);
        return gate_pid < 0 ? -errno : 0;
}

int gate_open_bus(uint64_t timeout_usec, sd_bus **ret)
{
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        int fd = connect_to_bus(), ends[2], r;

        if (fd < 0)
                return fd;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
                r = -errno;
                safe_close(fd);
                return r;
        }
        r = start_bus(ends[0], fd, true, &bus);
        if (r < 0) {
                safe_close(ends[0]);
                safe_close(fd);
        }
        if (r >= 0)
                r = make_blocking(fd);
        if (r >= 0)
                r = start_gate(fd, ends[1], timeout_usec);
        safe_close(ends[1]);
        if (r >= 0)
                *ret = TAKE_PTR(bus);
        return r;
}

void gate_close(void)
{
        if (gate_pid <= 0)
                return;
        (void)kill(gate_pid, SIGKILL);
        (void)waitpid(gate_pid, NULL, 0);
        gate_pid = 0;
}
