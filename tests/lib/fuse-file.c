/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's protocol (linux/fuse.h) spoken directly: a handful of requests is
 * enough for one file. The server is a child that only makes system calls, for it
 * is forked off a process with threads. Orders reach it through shared memory and
 * a pipe that wakes it up.
 */
#include "lib/fuse-file.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/closer.h"
#include "bus/gate.h"
#include "lib/image.h"

#define FILE_NODE 2u
#define FILE_NAME "image"
#define STUCK_MAX 64u
#define BUFFER_SIZE (FUSE_MIN_READ_BUFFER + (128u << 10))

typedef struct Shared {
        atomic_bool silent;
        atomic_bool silent_at_fsync;
        atomic_ulong silent_from;
        atomic_bool silent_fsync;
        atomic_bool silent_flush;
        atomic_bool silent_open;
        atomic_bool silent_stat;
        atomic_bool silent_write;
        atomic_bool exchange_at_fsync;
        char other[256]; /* set before exchange_at_fsync */
        atomic_uint n_stuck;
} Shared;

struct TestFuseFile {
        char *folder;
        char *path;
        Shared *shared;
        int wake;
        pid_t server;
};

/* The child's. */
typedef struct Server {
        int fuse;
        int backing;
        int wake;
        uid_t uid;
        uint64_t size;
        Shared *shared;
        struct {
                struct fuse_in_header header;
                struct fuse_read_in read;
        } stuck[STUCK_MAX];
        char data[BUFFER_SIZE];
} Server;

/* ---- the child: system calls only ---- */

static void reply(const Server *server, uint64_t unique, int error, const void *data, size_t size)
{
        struct fuse_out_header header = { .len = (uint32_t)(sizeof(header) + size), .error = error, .unique = unique };
        struct iovec parts[] = { { &header, sizeof(header) }, { (void *)data, size } };

        /* Who waited may be gone (ENOENT); then there is nobody to tell. */
        if (writev(server->fuse, parts, size > 0 ? 2 : 1) < 0 && errno != ENOENT)
                _exit(3);
}

static struct fuse_attr attributes(const Server *server, uint64_t node)
{
        bool is_file = node == FILE_NODE;
        return (struct fuse_attr){
                .ino = node,
                .size = is_file ? server->size : 0,
                .blocks = is_file ? server->size / 512 : 0,
                .mode = is_file ? S_IFREG | 0644 : S_IFDIR | 0755,
                .nlink = 1,
                .uid = server->uid,
                .gid = server->uid,
                .blksize = 4096,
        };
}

static void answer_init(const Server *server, uint64_t unique)
{
        struct fuse_init_out out = {
                .major = FUSE_KERNEL_VERSION,
                .minor = 31,
                .max_readahead = 0,
                .max_write = 4096,
                .time_gran = 1,
        };
        reply(server, unique, 0, &out, sizeof(out));
}

static void answer_lookup(const Server *server, uint64_t unique, const char *name)
{
        struct fuse_entry_out out = { .nodeid = FILE_NODE, .entry_valid = 3600 };

        if (strcmp(name, FILE_NAME) != 0) {
                reply(server, unique, -ENOENT, NULL, 0);
                return;
        }
        out.attr = attributes(server, FILE_NODE);
        reply(server, unique, 0, &out, sizeof(out));
}

static void answer_attributes(const Server *server, uint64_t unique, uint64_t node)
{
        struct fuse_attr_out out = { .attr = attributes(server, node) };
        reply(server, unique, 0, &out, sizeof(out));
}

static void answer_open(const Server *server, uint64_t unique)
{
        struct fuse_open_out out = { .open_flags = FOPEN_KEEP_CACHE };
        reply(server, unique, 0, &out, sizeof(out));
}

static void answer_write(const Server *server, uint64_t unique, const struct fuse_write_in *in)
{
        struct fuse_write_out out = { 0 };
        ssize_t n = pwrite(server->backing, in + 1, in->size, (off_t)in->offset);

        out.size = n < 0 ? 0 : (uint32_t)n;
        reply(server, unique, n < 0 ? -errno : 0, &out, n < 0 ? 0 : sizeof(out));
}

static void exchange(Server *server)
{
        struct stat st;
        int fd = open(server->shared->other, O_RDONLY | O_CLOEXEC);

        if (fd < 0 || fstat(fd, &st) < 0)
                _exit(4);
        close(server->backing);
        server->backing = fd;
        server->size = (uint64_t)st.st_size;
}

static void answer_read(Server *server, uint64_t unique, const struct fuse_read_in *in)
{
        static char bytes[BUFFER_SIZE];
        ssize_t n =
                pread(server->backing, bytes, in->size < sizeof(bytes) ? in->size : sizeof(bytes), (off_t)in->offset);
        reply(server, unique, n < 0 ? -errno : 0, bytes, n < 0 ? 0 : (size_t)n);
}

static void read_or_keep(Server *server, const struct fuse_in_header *header, const struct fuse_read_in *in)
{
        unsigned n = atomic_load(&server->shared->n_stuck);

        if (!atomic_load(&server->shared->silent) ||
            in->offset + in->size <= atomic_load(&server->shared->silent_from) || n >= STUCK_MAX) {
                answer_read(server, header->unique, in);
                return;
        }
        server->stuck[n].header = *header;
        server->stuck[n].read = *in;
        atomic_store(&server->shared->n_stuck, n + 1);
}

static void answer_stuck(Server *server)
{
        unsigned n = atomic_exchange(&server->shared->n_stuck, 0);
        for (unsigned i = 0; i < n; i++)
                if (server->stuck[i].header.opcode == FUSE_READ)
                        answer_read(server, server->stuck[i].header.unique, &server->stuck[i].read);
                else if (server->stuck[i].header.opcode == FUSE_GETATTR)
                        answer_attributes(server, server->stuck[i].header.unique, server->stuck[i].header.nodeid);
                else if (server->stuck[i].header.opcode == FUSE_OPEN)
                        answer_open(server, server->stuck[i].header.unique);
                else if (server->stuck[i].header.opcode == FUSE_WRITE)
                        /* Its bytes were not kept. */
                        reply(server, server->stuck[i].header.unique, -EIO, NULL, 0);
                else
                        reply(server, server->stuck[i].header.unique, 0, NULL, 0);
}

/* Those that have no answer but that they are done. */
static void done_or_keep(Server *server, const struct fuse_in_header *header, bool keep)
{
        unsigned n = atomic_load(&server->shared->n_stuck);

        if (!keep || n >= STUCK_MAX) {
                reply(server, header->unique, 0, NULL, 0);
                return;
        }
        server->stuck[n].header = *header;
        atomic_store(&server->shared->n_stuck, n + 1);
}

/* Whether it comes from the daemon itself, or from what closes files for it. */
static bool is_of_daemon(const struct fuse_in_header *header)
{
        char path[32], comm[17] = "";
        _cleanup_close_ int fd = -1;
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%u/comm", header->pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? 0 : read(fd, comm, sizeof(comm) - 1);
        if (n <= 0)
                return false;
        comm[strcspn(comm, "\n")] = 0;
        return strcmp(comm, "loopmountd") == 0 || strcmp(comm, CLOSER_NAME) == 0 || strcmp(comm, GATE_NAME) == 0 ||
               strcmp(comm, GATE_CATCHER_NAME) == 0;
}

static void handle(Server *server, const struct fuse_in_header *header, const void *body)
{
        struct fuse_statfs_out statfs = { .st = { .bsize = 4096, .frsize = 4096, .namelen = 255 } };

        switch (header->opcode) {
        case FUSE_INIT:
                answer_init(server, header->unique);
                break;
        case FUSE_LOOKUP:
                answer_lookup(server, header->unique, body);
                break;
        case FUSE_GETATTR:
                if (atomic_load(&server->shared->silent_stat))
                        done_or_keep(server, header, true);
                else
                        answer_attributes(server, header->unique, header->nodeid);
                break;
        case FUSE_OPEN:
                if (atomic_load(&server->shared->silent_open))
                        done_or_keep(server, header, true);
                else
                        answer_open(server, header->unique);
                break;
        case FUSE_READ:
                read_or_keep(server, header, body);
                break;
        case FUSE_WRITE:
                if (atomic_load(&server->shared->silent_write))
                        done_or_keep(server, header, true);
                else
                        answer_write(server, header->unique, body);
                break;
        case FUSE_STATFS:
                reply(server, header->unique, 0, &statfs, sizeof(statfs));
                break;
        case FUSE_FSYNC:
                if (atomic_exchange(&server->shared->silent_at_fsync, false))
                        atomic_store(&server->shared->silent, true);
                if (atomic_exchange(&server->shared->exchange_at_fsync, false))
                        exchange(server);
                done_or_keep(server, header, atomic_load(&server->shared->silent_fsync));
                break;
        case FUSE_FLUSH:
                done_or_keep(server, header, atomic_load(&server->shared->silent_flush) && is_of_daemon(header));
                break;
        case FUSE_RELEASE:
        case FUSE_ACCESS:
                reply(server, header->unique, 0, NULL, 0);
                break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
                /* Are not answered. What is interrupted is as silent as the rest. */
                break;
        default:
                reply(server, header->unique, -ENOSYS, NULL, 0);
        }
}

static void serve(Server *server)
{
        struct pollfd events[] = { { .fd = server->fuse, .events = POLLIN }, { .fd = server->wake, .events = POLLIN } };
        char byte;

        for (;;) {
                if (poll(events, ELEMENTSOF(events), -1) < 0)
                        continue;
                if (events[1].revents) {
                        if (read(server->wake, &byte, 1) != 1)
                                _exit(0);
                        answer_stuck(server);
                }
                if (!(events[0].revents & (POLLIN | POLLERR)))
                        continue;
                ssize_t n = read(server->fuse, server->data, sizeof(server->data));
                if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
                        continue;
                if (n < (ssize_t)sizeof(struct fuse_in_header))
                        _exit(errno == ENODEV ? 0 : 2); /* unmounted */
                handle(server, (struct fuse_in_header *)server->data, server->data + sizeof(struct fuse_in_header));
        }
}

/* ---- the test's side ---- */

static void check(bool ok, const char *what)
{
        if (!ok)
                g_error("%s: %s", what, g_strerror(errno));
}

static int mount_fuse(const char *folder, uid_t uid, bool others)
{
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
        check(fd >= 0, "/dev/fuse");
        g_autofree char *options = g_strdup_printf("fd=%d,rootmode=40000,user_id=%u,group_id=%u%s", fd, uid, uid,
                                                   others ? ",allow_other" : "");
        check(mount("fuse", folder, "fuse", MS_NOSUID | MS_NODEV, options) == 0, "mount fuse");
        return fd;
}

TestFuseFile *test_fuse_file_start(const char *name, const char *backing, uid_t uid, bool others)
{
        TestFuseFile *fuse = g_new0(TestFuseFile, 1);
        Server *server = g_new0(Server, 1);
        struct stat st;
        int wake[2];

        fuse->folder = test_folder(name);
        fuse->path = g_build_filename(fuse->folder, FILE_NAME, NULL);
        fuse->shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        check(fuse->shared != MAP_FAILED, "mmap");
        check(pipe2(wake, O_CLOEXEC) == 0, "pipe");
        server->backing = open(backing, O_RDWR | O_CLOEXEC);
        check(server->backing >= 0 && fstat(server->backing, &st) == 0, backing);
        server->fuse = mount_fuse(fuse->folder, uid, others);
        server->wake = wake[0];
        server->uid = uid;
        server->size = (uint64_t)st.st_size;
        server->shared = fuse->shared;

        fuse->server = fork();
        check(fuse->server >= 0, "fork");
        if (fuse->server == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(wake[1]);
                serve(server);
        }
        close(wake[0]);
        close(server->fuse);
        close(server->backing);
        g_free(server);
        fuse->wake = wake[1];
        return fuse;
}

const char *test_fuse_file_path(const TestFuseFile *fuse)
{
        return fuse->path;
}

void test_fuse_file_silence(TestFuseFile *fuse, uint64_t offset)
{
        atomic_store(&fuse->shared->silent_from, offset);
        atomic_store(&fuse->shared->silent, true);
}

void test_fuse_file_silence_at_fsync(TestFuseFile *fuse)
{
        atomic_store(&fuse->shared->silent_from, 0);
        atomic_store(&fuse->shared->silent_at_fsync, true);
}

void test_fuse_file_silence_fsync(TestFuseFile *fuse)
{
        atomic_store(&fuse->shared->silent_fsync, true);
}

void test_fuse_file_silence_flush(TestFuseFile *fuse)
{
        atomic_store(&fuse->shared->silent_flush, true);
}

void test_fuse_file_silence_open(TestFuseFile *fuse)
{
        atomic_store(&fuse->shared->silent_open, true);
}

void test_fuse_file_silence_stat(TestFuseFile *fuse)
{
        atomic_store(&fuse->shared->silent_stat, true);
}

void test_fuse_file_silence_write(TestFuseFile *fuse)
{
        atomic_store(&fuse->shared->silent_write, true);
}

void test_fuse_file_exchange_at_fsync(TestFuseFile *fuse, const char *backing)
{
        g_strlcpy(fuse->shared->other, backing, sizeof(fuse->shared->other));
        atomic_store(&fuse->shared->exchange_at_fsync, true);
}

void test_fuse_file_kill(TestFuseFile *fuse)
{
        kill(fuse->server, SIGKILL);
        waitpid(fuse->server, NULL, 0);
        fuse->server = 0;
}

unsigned test_fuse_file_n_stuck(const TestFuseFile *fuse)
{
        return atomic_load(&fuse->shared->n_stuck);
}

bool test_fuse_file_has_stuck(gpointer userdata)
{
        return test_fuse_file_n_stuck(userdata) > 0;
}

void test_fuse_file_resume(TestFuseFile *fuse)
{
        atomic_store(&fuse->shared->silent, false);
        atomic_store(&fuse->shared->silent_fsync, false);
        atomic_store(&fuse->shared->silent_flush, false);
        atomic_store(&fuse->shared->silent_open, false);
        atomic_store(&fuse->shared->silent_stat, false);
        atomic_store(&fuse->shared->silent_write, false);
        check(write(fuse->wake, "", 1) == 1, "wake up the FUSE server");
}

TestFuseFile *test_fuse_file_stop(TestFuseFile *fuse)
{
        if (fuse->server > 0)
                test_fuse_file_kill(fuse);
        close(fuse->wake);
        /* Lazily: a loop device that was just cleared may hold the file for a moment. */
        check(umount2(fuse->folder, MNT_DETACH) == 0, "umount fuse");
        check(rmdir(fuse->folder) == 0, "rmdir");
        munmap(fuse->shared, sizeof(Shared));
        g_free(fuse->folder);
        g_free(fuse->path);
        g_free(fuse);
        return NULL;
}
