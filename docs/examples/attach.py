#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# Attaches the image sys.argv[1], shows what is in it, and detaches it.
import sys

from gi.repository import Gio, GLib

ROOT = "/org/loopmount1"
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)


def call(path, interface, method, parameters=None, fds=None):
    reply, _ = bus.call_with_unix_fd_list_sync(
        "org.loopmount1", path, interface, method, parameters, None,
        Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, GLib.MAXINT, fds)
    return reply.unpack()


try:
    with open(sys.argv[1], "rb") as file:
        fds = Gio.UnixFDList.new()
        options = {"name": GLib.Variant("s", "example")}
        arguments = GLib.Variant("(ha{sv})", (fds.append(file.fileno()), options))
        image, mount_points = call(ROOT, "org.loopmount1.Manager", "Attach", arguments, fds)

    print(image, mount_points)
    (objects,) = call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    for path, interfaces in sorted(objects.items()):
        volume = interfaces.get("org.loopmount1.Volume")
        if volume and volume["Image"] == image:
            print(volume["Number"], volume["Type"], volume["Label"], volume["Obstacle"])

    call(image, "org.loopmount1.Image", "Detach", GLib.Variant("(a{sv})", ({},)))
except GLib.Error as error:
    sys.exit(error.message)
