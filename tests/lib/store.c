/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A thread reads what comes: the daemon's sd_notify(3) waits while the socket is full, as it is after a few. */
#include "lib/store.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

struct TestStore {
        int socket;
        GThread *thread;
        GMutex lock;
        GHashTable *fds; /* by name */
};

static int fd_of(struct msghdr *message)
{
        int fd = -1;

        for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header))
                if (header->cmsg_type == SCM_RIGHTS)
                        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
        return fd;
}

static void close_stored(gpointer value)
{
        close(GPOINTER_TO_INT(value));
}

static void take(TestStore *store, char **lines, int fd)
{
        char *name = NULL;

        for (char **line = lines; *line; line++)
                if (g_str_has_prefix(*line, "FDNAME="))
                        name = *line + strlen("FDNAME=");
        g_mutex_lock(&store->lock);
        if (name && fd >= 0)
                g_hash_table_replace(store->fds, g_strdup(name), GINT_TO_POINTER(fd));
        else if (name && g_strv_contains((const char *const *)lines, "FDSTOREREMOVE=1"))
                g_hash_table_remove(store->fds, name);
        g_mutex_unlock(&store->lock);
}

static gpointer run(gpointer userdata)
{
        TestStore *store = userdata;
        char text[512];
        ssize_t n;

        for (;;) {
                union {
                        struct cmsghdr header;
                        char bytes[256];
                } control = { 0 };
                struct iovec part = { text, sizeof(text) - 1 };
                struct msghdr message = {
                        .msg_iov = &part,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control),
                };

                n = recvmsg(store->socket, &message, MSG_CMSG_CLOEXEC);
                if (n <= 0)
                        return NULL;
                text[n] = 0;
                g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
                take(store, lines, fd_of(&message));
        }
}

TestStore *test_store_new(void)
{
        TestStore *store = g_new0(TestStore, 1);
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        g_autofree char *path = g_build_filename(g_getenv("LOOPMOUNT_TEST_DIR"), "notify", NULL);

        g_assert_cmpuint(strlen(path), <, sizeof(address.sun_path));
        strcpy(address.sun_path, path);
        unlink(path);
        store->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        g_assert_cmpint(bind(store->socket, (const struct sockaddr *)&address, sizeof(address)), ==, 0);
        g_mutex_init(&store->lock);
        store->fds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, close_stored);
        store->thread = g_thread_new("store", run, store);
        g_setenv("NOTIFY_SOCKET", path, TRUE);
        return store;
}

TestStore *test_store_free(TestStore *store)
{
        unlink(g_getenv("NOTIFY_SOCKET"));
        g_unsetenv("NOTIFY_SOCKET");
        shutdown(store->socket, SHUT_RDWR);
        g_thread_join(store->thread);
        close(store->socket);
        g_hash_table_unref(store->fds);
        g_mutex_clear(&store->lock);
        g_free(store);
        return NULL;
}

unsigned test_store_count(TestStore *store)
{
        g_mutex_lock(&store->lock);
        unsigned n = g_hash_table_size(store->fds);
        g_mutex_unlock(&store->lock);
        return n;
}

TestDaemon *test_store_start_daemon(TestStore *store)
{
        g_autoptr(GString) names = g_string_new(NULL);
        g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
        GHashTableIter iter;
        gpointer name, fd;

        g_mutex_lock(&store->lock);
        g_hash_table_iter_init(&iter, store->fds);
        while (g_hash_table_iter_next(&iter, &name, &fd)) {
                int number = GPOINTER_TO_INT(fd);

                g_string_append_printf(names, "%s%s", names->len > 0 ? ":" : "", (const char *)name);
                g_array_append_val(fds, number);
        }
        TestDaemon *daemon = test_daemon_start_with_fds((const int *)(void *)fds->data, fds->len, names->str);
        g_mutex_unlock(&store->lock);
        return daemon;
}
