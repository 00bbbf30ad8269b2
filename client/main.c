/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loopmount: the command. Reads the command line, runs the verb, and returns
 * its exit code; the verbs are in verbs.c.
 */
#include "errors.h"
#include "i18n.h"
#include "options.h"

int main(int argc, char **argv)
{
        _cleanup_(settings_clear) Settings settings;
        int status;

        i18n_start();
        status = options_parse(argc, argv, &settings);
        if (status != STATUS_OK)
                return status;
        if (settings.help)
                options_print_help(settings.verb);
        else if (settings.version)
                puts("loopmount " VERSION);
        else
                status = settings.verb->run(&settings);

        /* Nobody has read what could not be written. */
        if (status == STATUS_OK && (fflush(stdout) == EOF || ferror(stdout)))
                return error_print(STATUS_FAILED, _("standard output"), "%s", strerror(errno));
        return status;
}
