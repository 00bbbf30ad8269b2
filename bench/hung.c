/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image whose file system has stopped to answer.
 *
 *   hung IMAGE
 *
 * Shows the image through FUSE, asks loopmountd to attach it, and lets it hang in the middle of that. Prints "hangs"
 * when it does, and for each line of its input whether it still does ("hangs" or "answered"); at the end of the input
 * it lets all of it go.
 */
#include <fcntl.h>

#include "bus.h"
#include "lib/fuse-file.h"
#include "lib/wait.h"
#include "way.h"

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        (void)reply;
        (void)error;
        *(bool *)userdata = true;
        return 0;
}

static void tell(const bool *answered)
{
        while (sd_bus_process(bench_bus(0), NULL) > 0)
                ;
        puts(*answered ? "answered" : "hangs");
        fflush(stdout);
}

int main(int argc, char *argv[])
{
        TestFuseFile *fuse;
        bool answered = false;
        int file, r;

        if (argc != 2) {
                fprintf(stderr, "hung IMAGE\n");
                return 2;
        }
        fuse = test_fuse_file_start("hung", argv[1], 0, true);
        test_fuse_file_silence_at_fsync(fuse);
        file = open(test_fuse_file_path(fuse), O_RDONLY | O_CLOEXEC);
        r = sd_bus_call_method_async(bench_bus(0), NULL, "org.loopmount1", "/org/loopmount1", "org.loopmount1.Manager",
                                     "Attach", on_reply, &answered, "ha{sv}", file, 0);
        if (way_failed(r, "Attach") < 0 || way_failed(sd_bus_flush(bench_bus(0)), "Attach") < 0)
                return EXIT_FAILURE;
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "the attach to hang");
        do
                tell(&answered);
        while (getchar() == '\n');
        /* Nobody waits for it any more: it is undone. */
        sd_bus_close(bench_bus(0));
        test_fuse_file_resume(fuse);
        close(file);
        test_fuse_file_stop(fuse);
        return EXIT_SUCCESS;
}
