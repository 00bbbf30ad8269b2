/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-pair.h"

#include <glib.h>
#include <sys/socket.h>

static sd_bus *new_end(int fd)
{
        sd_bus *bus;

        g_assert_cmpint(sd_bus_new(&bus), >=, 0);
        g_assert_cmpint(sd_bus_set_fd(bus, fd, fd), >=, 0);
        return bus;
}

void bus_pair_open(BusPair *pair)
{
        sd_id128_t id;
        int fds[2];

        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
        g_assert_cmpint(sd_id128_randomize(&id), >=, 0);
        pair->client = new_end(fds[0]);
        pair->server = new_end(fds[1]);
        g_assert_cmpint(sd_bus_set_server(pair->server, true, id), >=, 0);
        g_assert_cmpint(sd_bus_start(pair->server), >=, 0);
        g_assert_cmpint(sd_bus_start(pair->client), >=, 0);
        bus_pair_turn(pair);
        g_assert_cmpint(sd_bus_is_ready(pair->client), >, 0);
        g_assert_cmpint(sd_bus_is_ready(pair->server), >, 0);
}

void bus_pair_close(BusPair *pair)
{
        pair->client = sd_bus_close_unref(pair->client);
        pair->server = sd_bus_close_unref(pair->server);
}

void bus_pair_turn(BusPair *pair)
{
        int r;

        do {
                r = sd_bus_process(pair->client, NULL);
                if (r <= 0)
                        r = sd_bus_process(pair->server, NULL);
        } while (r > 0);
        g_assert_true(r == 0 || r == -ENOTCONN || r == -ECONNRESET);
}
