# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a daemon takes while nobody wants anything of it: memory, and wake-ups."""

import contextlib
import ctypes
import os
import pathlib
import subprocess
import time

import nodes
from process import children, cpu, pss_kib, wake_ups
from report import median, p95, table
from scenarios.cycles import sample

LIBC = ctypes.CDLL(None, use_errno=True)
WAIT_MAX_SEC = 60
IDLE_SEC = 1


def measure(ground):
    yield first_replies(ground)
    yield last_seconds(ground)
    count = ground.rounds(12, 50, 1000)
    with ground.loopmountd() as daemon:
        try:
            yield memory(ground, daemon, count)
            yield wakening(ground, daemon, count)
        finally:
            ground.detach_crowd()


def first_replies(ground):
    """Of services that the bus starts for the call."""
    ways = ["activate loopmountd", "activate udisksd"]
    with ground.activated():
        samples = sample(ground, "-", "-", "ro", ground.rounds(1, 5, 30), ways)
    rows = [[way.removeprefix("activate "), median(found.attach), p95(found.attach)] for way, found in samples.items()]
    ground.goals.at_most("first reply of a service that is not there yet", rows[0][1], 8, "ms")
    return table("The first reply of a service that is not there yet (ms)", ["who", "median", "p95"], rows)


def last_seconds(ground):
    """It goes when nobody has wanted anything for a while, here the shortest that there is."""
    with ground.idle_timeout(IDLE_SEC), ground.loopmountd() as daemon:
        began = time.monotonic()
        wait_until(lambda: not pathlib.Path(f"/proc/{daemon}").exists(), "leaving when idle")
        took = time.monotonic() - began
    ground.goals.at_most(f"leaving when idle, IdleTimeoutSec={IDLE_SEC}s", took, 2 * IDLE_SEC, "s")
    return table("Leaving when idle (s)", ["what", "gone after"], [[f"loopmountd, IdleTimeoutSec={IDLE_SEC}s", took]])


def wait_until(condition, what):
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > WAIT_MAX_SEC:
            raise RuntimeError(f"{what} takes more than {WAIT_MAX_SEC} s")
        time.sleep(0.005)


# ---- memory ----

def memory(ground, daemon, count):
    """The first image makes the daemon load what it needs for any: it counts for the daemon."""
    with ground.udisksd() as udisksd:
        udisks = pss_kib(udisksd)
    folder = ground.crowd(count)
    idle = pss_kib(daemon)
    ground.tool("crowd", "attach", folder, 0, 10)
    wait_for_workers(daemon)
    few = pss_kib(daemon)
    ground.tool("crowd", "attach", folder, 10, count)
    wait_for_workers(daemon)
    each = (pss_kib(daemon) - few) / (count - 10)
    ground.goals.at_most("memory of the daemon, just started", idle, 2048, "KiB")
    ground.goals.at_most(f"memory for each of {count} images", each, 2, "KiB")
    return table("Memory: proportional set size (KiB)", ["what", "KiB"],
                 [["loopmountd, just started", idle], ["with 10 images", few],
                  [f"for each further one up to {count}", each], ["udisksd, just started", udisks]])


def wait_for_workers(daemon):
    """They stay for some seconds, in case there is more to do; the gate, and the one that closes, stay for ever."""
    wait_until(lambda: len(children(daemon)) <= 2, "the end of the workers")


# ---- wake-ups ----

class Watch:
    """How often a process is woken, and for how long it runs, until udevd and it have been quiet again."""

    def __init__(self, ground, pid):
        self.ground, self.pid = ground, pid

    def __enter__(self):
        self.settle()
        wait_for_workers(self.pid)
        self.before = wake_ups(self.pid), sum(cpu(self.pid))
        return self

    def __exit__(self, *_):
        self.settle()
        times, run = self.before
        self.times = wake_ups(self.pid) - times
        self.usec = 1000 * (sum(cpu(self.pid)) - run)

    def settle(self):
        self.ground.settle()
        time.sleep(0.2)


def wakening(ground, daemon, count):
    seconds, events, batches = ground.rounds((1, 20, 1), (5, 500, 5), (60, 10000, 10))
    idle, strangers, former, mounts = (Watch(ground, daemon) for _ in range(4))
    never = max(nodes.numbers()) + 100
    with idle:
        time.sleep(seconds)
    bind(ground, never)
    with unbound_later(ground, never), strangers:
        change(ground, never, events)
    once = bind_once_ours(ground)
    with unbound_later(ground, once), former:
        change(ground, once, events)
    with mounts:
        foreign_mounts(ground, batches)
    nodes.forget([never, once])
    goals, among = ground.goals, f"with {count} attached"
    goals.none(f"{seconds} s of idle, {among}", idle.times, "wake-ups")
    goals.none(f"{events} uevents of others, {among}", strangers.times, "wake-ups")
    goals.at_most(f"25 mounts and unmounts of others, {among}", mounts.times / batches, 1, "wake-ups")
    goals.at_most(f"25 mounts and unmounts of others, {among}", mounts.usec / batches, 30, "us of CPU")
    rows = [[f"{seconds} s of idle", idle], [f"{events} uevents of a device that never was loopmount's", strangers],
            [f"{events} uevents of a device that once was loopmount's", former],
            [f"{batches} times 25 mounts and unmounts of others", mounts]]
    return table(f"Wake-ups of loopmountd, {among}", ["what", "wake-ups", "CPU us"],
                 [[what, watch.times, watch.usec] for what, watch in rows])


def once_ours(ground):
    """The number of a loop device that loopmount has had, and udev has tagged: its tags stay with the name for good."""
    subprocess.run([ground.client, "attach", ground.squashfs()], check=True, stdout=subprocess.DEVNULL)
    (number,) = nodes.numbers(str(ground.squashfs()))
    ground.settle()
    subprocess.run([ground.client, "detach", ground.squashfs()], check=True, stdout=subprocess.DEVNULL)
    return number


def bind_once_ours(ground):
    """Others on this machine may take a number that has just become free: then the next one."""
    for tries_left in range(9, -1, -1):
        number = once_ours(ground)
        try:
            bind(ground, number)
            return number
        except subprocess.CalledProcessError:
            if tries_left == 0:
                raise


def bind(ground, number):
    subprocess.run(["losetup", "--read-only", f"/dev/loop{number}", ground.squashfs()], check=True)


@contextlib.contextmanager
def unbound_later(ground, number):
    try:
        yield
    finally:
        subprocess.run(["losetup", "--detach", f"/dev/loop{number}"], check=True)
        ground.settle()


def change(ground, number, count):
    """udevd processes these as any other's. What many that wait for each other cost it is more than square."""
    for i in range(count):
        pathlib.Path(f"/sys/block/loop{number}/uevent").write_text("change")
        if i % 100 == 99:
            ground.settle()


def foreign_mounts(ground, batches):
    folders = [ground.folder / "foreign" / str(i) for i in range(25)]
    for folder in folders:
        folder.mkdir(parents=True)
    for _ in range(batches):
        for folder in folders:
            called(LIBC.mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"size=4k"))
        for folder in folders:
            called(LIBC.umount2(os.fsencode(folder), 0))
        time.sleep(0.2)


def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
