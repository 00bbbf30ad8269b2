/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* loopmountd(8): the command line, which is nearly nothing. */
#include <getopt.h>

#include "base/log.h"
#include "manager.h"
#include "mechanism/mount.h"

static int help(void)
{
        puts("loopmountd [OPTIONS...]\n"
             "\n"
             "Attaches disk images for users, on request over D-Bus. Started by the bus\n"
             "or by the service manager; see loopmountd(8).\n"
             "\n"
             "  -h --help        Show this help\n"
             "     --version     Show the version\n"
             "     --outside     Mount in the mount namespace of process 1: it has one of\n"
             "                   its own, made by the service manager\n"
             "     --detach-all  Detach all images, whoever uses them, and end: for the\n"
             "                   shutdown. While the service runs this does nothing");
        return EXIT_SUCCESS;
}

static int fail(const char *what, int error)
{
        log_message(LOG_ERR, "loopmountd %s: %s", what, strerror(-error));
        return EXIT_FAILURE;
}

int main(int argc, char *argv[])
{
        static const struct option options[] = {
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, 'v' },
                { "outside", no_argument, NULL, 'o' },
                { "detach-all", no_argument, NULL, 'd' },
                {},
        };
        int (*run)(void) = manager_run;
        int option, r;

        while ((option = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (option) {
                case 'h':
                        return help();
                case 'v':
                        puts("loopmountd " LOOPMOUNT_VERSION);
                        return EXIT_SUCCESS;
                case 'o':
                        r = mount_stay_outside();
                        if (r < 0)
                                return fail("cannot look into the mount namespace of process 1", r);
                        break;
                case 'd':
                        run = manager_detach_all;
                        break;
                default:
                        return 2;
                }
        if (optind < argc) {
                fprintf(stderr, "loopmountd: it takes no arguments; see --help\n");
                return 2;
        }
        r = run();
        return r < 0 ? fail("cannot go on", r) : r;
}
