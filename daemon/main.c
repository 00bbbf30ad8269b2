/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* loopmountd(8): the command line, which is nearly nothing. */
#include <getopt.h>

#include "base/log.h"
#include "manager.h"

static int help(void)
{
        puts("loopmountd [OPTIONS...]\n"
             "\n"
             "Attaches disk images for users, on request over D-Bus. Started by the bus\n"
             "or by the service manager; see loopmountd(8).\n"
             "\n"
             "  -h --help     Show this help\n"
             "     --version  Show the version");
        return EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
        static const struct option options[] = {
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, 'v' },
                {},
        };
        int option, r;

        while ((option = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (option) {
                case 'h':
                        return help();
                case 'v':
                        puts("loopmountd " LOOPMOUNT_VERSION);
                        return EXIT_SUCCESS;
                default:
                        return 2;
                }
        if (optind < argc) {
                fprintf(stderr, "loopmountd: it takes no arguments; see --help\n");
                return 2;
        }
        r = manager_run();
        if (r < 0) {
                log_message(LOG_ERR, "loopmountd cannot go on: %s", strerror(-r));
                return EXIT_FAILURE;
        }
        return r;
}
