# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel makes a loop device for whoever wants one and keeps it; a thousand of them are in everybody's way."""

import concurrent.futures
import contextlib
import fcntl
import os
import pathlib

LOOP_CTL_REMOVE = 0x4C81


def numbers(folder=None):
    """Of all loop devices, or of those that are bound to a file whose path begins so."""
    found = set()
    for path in pathlib.Path("/sys/block").glob("loop*"):
        # It may be free by now.
        with contextlib.suppress(OSError):
            if not folder or (path / "loop" / "backing_file").read_text().startswith(folder):
                found.add(int(path.name.removeprefix("loop")))
    return found


def forget_unused():
    """Those that the kernel has not made by itself, and that nobody uses: what others do is slower for each of them."""
    forget({number for number in numbers() - numbers("/") if number >= 8})


def forget(wanted):
    """The kernel waits for a while for each, which it can do for several at a time."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(remove, wanted))


def remove(number):
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    # Busy: somebody else has it by now.
    with contextlib.suppress(OSError):
        fcntl.ioctl(control, LOOP_CTL_REMOVE, number)
    os.close(control)
