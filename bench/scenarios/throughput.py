# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several clients at once; and one whose image keeps everybody waiting who waits for it."""

import contextlib
import os
import subprocess

from report import median, percentile, table, verdict

TYPE = "squashfs"


def measure(ground):
    clients = ground.rounds([1, 4], [1, 4], [1, 2, 4, 8, 100])
    ways = ["raw", "null", "bus", "udisks"]
    folder = ground.crowd(max(clients))
    runs = {}
    with ground.loopmountd(), ground.null_daemon():
        for n in clients:
            for way in ways[:3]:
                runs[way, n] = Run(ground, way, n, folder)
            with ground.udisksd():
                runs["udisks", n] = Run(ground, "udisks", n, folder)
        yield throughput_table(clients, runs)
        yield slow_table(ground, folder)


class Run:
    """What so many clients got done in a while."""

    def __init__(self, ground, way, clients, folder):
        ground.settle()
        *cycles, (_, failures, nsec) = ground.tool("throughput", way, clients, ground.rounds(0.1, 0.5, 3), folder)
        self.times = [int(time) / 1e6 for time, in cycles]
        self.failures = int(failures)
        self.rate = len(self.times) / (int(nsec) / 1e9)

    def quantiles(self):
        return [median(self.times), percentile(self.times, 0.99)] if self.times else ["-", "-"]


def throughput_table(clients, runs):
    rows = []
    for n in clients:
        ours, null, udisks = (runs[way, n] for way in ("bus", "null", "udisks"))
        for name, way in ("raw system calls", "raw"), ("null daemon", "null"), ("udisksd", "udisks"):
            rows.append([n, name, runs[way, n].rate, *runs[way, n].quantiles(), runs[way, n].failures])
        goal = verdict("no failure, 10 x udisksd, 70 % of null daemon", ours.failures == 0,
                       ours.rate >= 10 * udisks.rate, ours.rate >= 0.7 * null.rate)
        rows.append([n, "loopmountd", ours.rate, *ours.quantiles(), ours.failures, goal])
    return table(f"Several clients at once: {TYPE}, ro",
                 ["clients", "who", "cycles per s", "median ms", "p99 ms", "failures", "goal"], rows)


def slow_table(ground, folder):
    rows, base = [], None
    for name, slow in (("nothing slow", nothing), ("a FUSE file that does not answer", hung),
                       ("an fsync of much that is dirty", dirty)):
        with slow(ground):
            run = Run(ground, "bus", 4, folder)
        p99 = percentile(run.times, 0.99)
        base = base or p99
        rows.append([name, run.rate, *run.quantiles(), p99 / base, run.failures,
                     verdict("2 x", p99 <= 2 * base, run.failures == 0) if p99 != base else ""])
    return table("4 clients beside an image that is slow to attach",
                 ["what", "cycles per s", "median ms", "p99 ms", "x nothing slow", "failures", "goal"], rows)


def nothing(_):
    return contextlib.nullcontext()


@contextlib.contextmanager
def hung(ground):
    with subprocess.Popen([ground.build / "bench" / "hung", ground.squashfs()], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield
        process.stdin.close()


@contextlib.contextmanager
def dirty(ground):
    """Binding a loop device has the kernel write all of its file first."""
    path = ground.disk / "dirty.img"
    block = os.urandom(1 << 20)
    with open(path, "wb") as file:
        for _ in range(ground.rounds(1, 256, 1024)):
            file.write(block)
    try:
        with subprocess.Popen([ground.client, "attach", "--no-mount", path], stdout=subprocess.DEVNULL) as process:
            yield
        if process.wait() == 0:
            subprocess.run([ground.client, "detach", path], check=True, stdout=subprocess.DEVNULL)
    finally:
        path.unlink()
