/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attaches the image argv[1], prints where it is mounted, and detaches it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

static int attach_and_detach(sd_bus *bus, int fd, sd_bus_error *error)
{
        sd_bus_message *call = NULL, *reply = NULL;
        const char *image, *mount_point;
        int r = sd_bus_message_new_method_call(bus, &call, "org.loopmount1", "/org/loopmount1",
                                               "org.loopmount1.Manager", "Attach");

        if (r >= 0)
                r = sd_bus_message_append(call, "ha{sv}", fd, 1, "name", "s", "example");
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(call, 1);
        /* No time limit: somebody may be asked for a password. */
        if (r >= 0)
                r = sd_bus_call(bus, call, UINT64_MAX, error, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &image);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "s");
        while (r >= 0 && (r = sd_bus_message_read(reply, "s", &mount_point)) > 0)
                puts(mount_point);
        if (r >= 0)
                r = sd_bus_call_method(bus, "org.loopmount1", image, "org.loopmount1.Image", "Detach", error, NULL,
                                       "a{sv}", 0);
        sd_bus_message_unref(call);
        sd_bus_message_unref(reply);
        return r;
}

int main(int argc, char *argv[])
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus *bus = NULL;
        int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1, r;

        if (fd < 0 || sd_bus_open_system(&bus) < 0) {
                fprintf(stderr, "no image, or no system bus\n");
                return EXIT_FAILURE;
        }
        r = attach_and_detach(bus, fd, &error);
        if (r < 0)
                fprintf(stderr, "%s\n", sd_bus_error_is_set(&error) ? error.message : strerror(-r));
        sd_bus_error_free(&error);
        sd_bus_flush_close_unref(bus);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
