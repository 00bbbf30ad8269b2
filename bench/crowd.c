/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Many images at once, of several users, for whoever wants to know what one more costs.
 *
 *   crowd attach FOLDER FROM TO    attaches FOLDER/FROM.img and so on, each as the next user: root, ann, bob, carol
 *   crowd detach                   detaches all that is attached, of whomever
 */
#include <fcntl.h>

#include "base/macro.h"
#include "bus.h"
#include "way.h"

static int attach(const char *folder, unsigned i)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_close_ int file = -1;
        unsigned user = i % (BENCH_N_USERS + 1);
        char path[512];
        int r;

        snprintf(path, sizeof(path), "%s/%u.img", folder, i);
        file = way_failed_errno(open(path, O_RDONLY | O_CLOEXEC), path);
        if (file < 0)
                return file;
        r = sd_bus_call_method(bench_bus(user == 0 ? 0 : BENCH_USER + user - 1), "org.loopmount1", "/org/loopmount1",
                               "org.loopmount1.Manager", "Attach", &error, NULL, "ha{sv}", file, 0);
        return bench_bus_failed(r, &error, path);
}

static int attach_all(const char *folder, unsigned from, unsigned to)
{
        int r = 0;

        for (unsigned i = from; i < to && r >= 0; i++)
                r = attach(folder, i);
        return r;
}

static int detach(const char *image)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bench_bus(0), "org.loopmount1", image, "org.loopmount1.Image", "Detach", &error,
                                   NULL, "a{sv}", 0);

        return bench_bus_failed(r, &error, image);
}

static int detach_all(void)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int r = bench_managed_objects("org.loopmount1", &reply), first = 0;

        while (r >= 0 && (r = bench_next_object(reply, &path)) > 0)
                if (bench_is_image(path)) {
                        int q = detach(path);

                        first = first < 0 ? first : q;
                }
        return r < 0 ? r : first;
}

int main(int argc, char *argv[])
{
        int r;

        if (argc == 5 && streq(argv[1], "attach")) {
                r = attach_all(argv[2], (unsigned)strtoul(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10));
        } else if (argc == 2 && streq(argv[1], "detach")) {
                r = detach_all();
        } else {
                fprintf(stderr, "crowd attach FOLDER FROM TO | crowd detach\n");
                return 2;
        }
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
