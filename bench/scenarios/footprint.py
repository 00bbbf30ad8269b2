# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a daemon takes while nobody wants anything of it: memory, and wake-ups."""

import collections
import ctypes
import os
import pathlib
import subprocess
import time

from process import cpu, pss_kib, wake_ups
from report import median, p95, table, verdict
from scenarios.cycles import sample

LIBC = ctypes.CDLL(None, use_errno=True)
Woken = collections.namedtuple("Woken", "times usec")


def measure(ground):
    yield first_replies(ground)
    with ground.loopmountd() as daemon:
        yield memory(ground, daemon)
        yield wakening(ground, daemon)


def first_replies(ground):
    """Of services that the bus starts for the call."""
    ways = ["activate loopmountd", "activate udisksd"]
    with ground.activated():
        samples = sample(ground, "-", "-", "ro", ground.rounds(1, 5, 30), ways)
    replies = {way: [attach for attach, _ in cycles] for way, cycles in samples.items()}
    rows = [[way.removeprefix("activate "), median(replies[way]), p95(replies[way])] for way in ways]
    rows[0].append(verdict("8 ms", median(replies[ways[0]]) <= 8))
    return table("The first reply of a service that is not there yet (ms)", ["who", "median", "p95", "goal"], rows)


def memory(ground, daemon):
    """The first image makes the daemon load what it needs for any: it counts for the daemon."""
    count = ground.rounds(12, 50, 500)
    folder = ground.crowd(count)
    idle = pss_kib(daemon)
    ground.tool("crowd", "attach", folder, 0, 10)
    few = pss_kib(daemon)
    ground.tool("crowd", "attach", folder, 10, count)
    each = (pss_kib(daemon) - few) / (count - 10)
    ground.tool("crowd", "detach")
    after = pss_kib(daemon)
    with ground.udisksd() as udisksd:
        udisks = pss_kib(udisksd)
    rows = [["loopmountd, idle, just started", idle, verdict("2048 KiB", idle <= 2048)],
            ["with 10 images", few, ""],
            [f"for each further one up to {count}", each, verdict("2 KiB", each <= 2)],
            ["when all of them are gone", after, ""],
            ["udisksd, idle, just started", udisks, ""]]
    return table("Memory: proportional set size, with children (KiB)", ["what", "KiB", "goal"], rows)


class Watch:
    """How often a process is woken, and for how long it runs, until udevd and it have been quiet again."""

    def __init__(self, ground, pid):
        self.ground, self.pid = ground, pid
        self.woken = None

    def __enter__(self):
        self.settle()
        self.before = wake_ups(self.pid), sum(cpu(self.pid))
        return self

    def __exit__(self, *_):
        self.settle()
        before, run = self.before
        # Who has ended meanwhile is not counted.
        times = sum(count - before.get(pid, 0) for pid, count in wake_ups(self.pid).items())
        self.woken = Woken(times, 1000 * (sum(cpu(self.pid)) - run))

    def settle(self):
        self.ground.settle()
        time.sleep(0.2)


def wakening(ground, daemon):
    """With images attached: then there is something to watch."""
    ground.tool("crowd", "attach", ground.crowd(20), 0, 20)
    seconds, events, batches = ground.rounds((1, 20, 1), (5, 500, 5), (60, 10000, 10))
    rows = []
    with Watch(ground, daemon) as watch:
        time.sleep(seconds)
    rows.append([f"{seconds} s of idle", watch.woken.times, watch.woken.usec, verdict("none", watch.woken.times == 0)])
    with Watch(ground, daemon) as watch:
        unrelated_events(ground, events)
    rows.append([f"{events} uevents of somebody else's loop device", watch.woken.times, watch.woken.usec,
                 verdict("none", watch.woken.times == 0)])
    with Watch(ground, daemon) as watch:
        foreign_mounts(ground, batches)
    rows.append([f"{batches} times 25 mounts and unmounts of others", watch.woken.times, watch.woken.usec,
                 verdict("one of 30 us for each time", watch.woken.times <= batches,
                         watch.woken.usec <= 30 * batches)])
    ground.tool("crowd", "detach")
    return table("Wake-ups of loopmountd, with 20 images", ["what", "wake-ups", "CPU us", "goal"], rows)


def unrelated_events(ground, count):
    """Of a loop device that is somebody else's: udevd processes them as any other's."""
    node = subprocess.run(["losetup", "--find", "--show", "--read-only", ground.squashfs()], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.rstrip("\n")
    for _ in range(count):
        pathlib.Path("/sys/block", pathlib.Path(node).name, "uevent").write_text("change")
    ground.settle()
    subprocess.run(["losetup", "--detach", node], check=True)


def foreign_mounts(ground, batches):
    folders = [ground.folder / "foreign" / str(i) for i in range(25)]
    for folder in folders:
        folder.mkdir(parents=True)
    for _ in range(batches):
        for folder in folders:
            called(LIBC.mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"size=4k"))
        for folder in folders:
            called(LIBC.umount2(os.fsencode(folder), 0))
        time.sleep(0.1)


def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
