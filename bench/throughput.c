/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How many cycles do several clients get at once, and how long does each of theirs take?
 *
 *   throughput WAY CLIENTS SECONDS FOLDER
 *
 * Client number N has a process, a connection and the image FOLDER/N.img (squashfs) of its own. All begin together,
 * when each has done one cycle. Prints a line with the nanoseconds of each cycle, and at last one of
 * "failures<tab>FAILURES<tab>NANOSECONDS": how many failed, and how long it took until all clients had finished what
 * they were at.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/macro.h"
#include "way.h"

#define MAX_CYCLES 50000

typedef struct Client {
        unsigned n_failures;
        unsigned n_cycles;
        uint64_t nsec[MAX_CYCLES];
} Client;

/* Two pipes: the last client to close its end of @ready is the last to be ready, and all wait until @go ends. */
typedef struct Gate {
        int ready[2], go[2];
} Gate;

static void wait_at_gate(const Gate *gate)
{
        char byte;

        close(gate->go[1]);
        close(gate->ready[1]);
        (void)!read(gate->go[0], &byte, 1);
}

static void open_gate(const Gate *gate)
{
        char byte;

        close(gate->ready[1]);
        (void)!read(gate->ready[0], &byte, 1);
        close(gate->go[1]);
}

static bool cycle(const Way *way, const Task *task, Client *client)
{
        bool done = way->attach(task) >= 0 && way->detach(task) >= 0;

        client->n_failures += !done;
        return done;
}

static void work(const Way *way, const char *folder, unsigned number, const Gate *gate, double seconds, Client *client)
{
        char image[512];
        Task task = { .image = image, .type = "squashfs" };
        uint64_t until;

        snprintf(image, sizeof(image), "%s/%u.img", folder, number);
        cycle(way, &task, client);
        wait_at_gate(gate);
        until = way_now_nsec() + (uint64_t)(seconds * 1e9);
        while (way_now_nsec() < until && client->n_cycles < MAX_CYCLES) {
                uint64_t began = way_now_nsec();

                if (cycle(way, &task, client))
                        client->nsec[client->n_cycles++] = way_now_nsec() - began;
        }
}

static void print(const Client *clients, unsigned n_clients, uint64_t nsec)
{
        unsigned n_failures = 0;

        for (unsigned i = 0; i < n_clients; i++) {
                n_failures += clients[i].n_failures;
                for (unsigned j = 0; j < clients[i].n_cycles; j++)
                        printf("%" PRIu64 "\n", clients[i].nsec[j]);
        }
        printf("failures\t%u\t%" PRIu64 "\n", n_failures, nsec);
}

static int measure(const Way *way, unsigned n_clients, double seconds, const char *folder)
{
        Gate gate;
        uint64_t began;
        Client *clients =
                mmap(NULL, n_clients * sizeof(*clients), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (clients == MAP_FAILED)
                return way_failed(-errno, "mmap");
        if (pipe2(gate.ready, O_CLOEXEC) < 0 || pipe2(gate.go, O_CLOEXEC) < 0)
                return way_failed(-errno, "pipe");
        for (unsigned i = 0; i < n_clients; i++) {
                pid_t pid = fork();

                if (pid < 0)
                        return way_failed(-errno, "fork");
                if (pid == 0) {
                        work(way, folder, i, &gate, seconds, &clients[i]);
                        _exit(EXIT_SUCCESS);
                }
        }
        open_gate(&gate);
        began = way_now_nsec();
        while (wait(NULL) > 0)
                ;
        print(clients, n_clients, way_now_nsec() - began);
        return 0;
}

int main(int argc, char *argv[])
{
        if (argc != 5) {
                fprintf(stderr, "throughput WAY CLIENTS SECONDS FOLDER\n");
                return 2;
        }
        return measure(way_find(argv[1]), (unsigned)strtoul(argv[2], NULL, 10), strtod(argv[3], NULL), argv[4]) < 0
                       ? EXIT_FAILURE
                       : EXIT_SUCCESS;
}
