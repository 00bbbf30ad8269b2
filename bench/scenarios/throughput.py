# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several clients at once; and one whose image keeps everybody waiting who waits for it."""

import contextlib
import math
import os
import subprocess

from report import median, percentile, table

TYPE = "squashfs"
NAMES = {"raw": "raw system calls", "null": "null daemon", "bus": "loopmountd", "udisks": "udisksd"}
MANY = 4


def measure(ground):
    clients = ground.rounds([1, MANY], [1, MANY], [1, 2, MANY, 8, 100])
    folder = ground.crowd(max(clients))
    with ground.loopmountd(), ground.null_daemon():
        yield several(ground, clients, folder)
        yield beside_slow(ground, folder)


class Runs:
    """What so many clients got done, each time that they were let loose."""

    def __init__(self):
        self.times, self.rates, self.failures = [], [], 0

    def more(self, ground, way, clients, seconds, folder):
        ground.settle()
        *cycles, (_, failures, nsec) = ground.tool("throughput", way, clients, seconds, folder)
        self.times += [int(time) / 1e6 for time, in cycles]
        self.rates.append(len(cycles) / (int(nsec) / 1e9))
        self.failures += int(failures)

    @property
    def rate(self):
        return median(self.rates)

    @property
    def p99(self):
        return percentile(self.times, 0.99) if self.times else math.nan

    def row(self):
        return [self.rate, median(self.times) if self.times else math.nan, self.p99, self.failures]


def several(ground, clients, folder):
    seconds = ground.rounds(0.1, 0.5, 0.5)
    runs = {(way, n): Runs() for n in clients for way in NAMES}
    for n in clients:
        for _ in range(ground.rounds(1, 3, 3)):
            for way in "raw", "null", "bus":
                runs[way, n].more(ground, way, n, seconds, folder)
            with ground.udisksd():
                runs["udisks", n].more(ground, "udisks", n, seconds, folder)
            ground.sweep(folder)
    set_goals(ground.goals, clients, runs)
    return table(f"Several clients at once: {TYPE}, ro",
                 ["clients", "who", "cycles per s", "median ms", "p99 ms", "failures"],
                 [[n, NAMES[way], *found.row()] for (way, n), found in runs.items()])


def set_goals(goals, clients, runs):
    """Of each the worst, and with how many clients that is."""
    def worst(way):
        return min((runs["bus", n].rate / runs[way, n].rate if runs[way, n].rate else math.inf, n) for n in clients)
    counts = f"{', '.join(map(str, clients))} clients"
    goals.none(f"{counts}: all cycles", sum(runs["bus", n].failures for n in clients), "failures",
               f"udisksd: {sum(runs['udisks', n].failures for n in clients)}")
    share, n = worst("udisks")
    goals.at_least(f"{counts}: cycles per second", share, 10, "x udisksd", f"the least, with {n}")
    share, n = worst("null")
    goals.at_least(f"{counts}: cycles per second", share, 0.7, "x null daemon", f"the least, with {n}")


# ---- an image that is slow to attach ----

def beside_slow(ground, folder):
    """What is slow has to be so for longer than the clients' turn, or that says nothing; hence short turns."""
    situations = {"nothing slow, before": nothing, "a FUSE file that does not answer": hung,
                  "an fsync of much that is dirty": dirty, "nothing slow, after": nothing}
    runs, slow = {name: Runs() for name in situations}, {name: 0 for name in situations}
    turns = ground.rounds(1, 3, 5)
    for _ in range(turns):
        for name, situation in situations.items():
            with situation(ground) as is_slow:
                runs[name].more(ground, "bus", MANY, ground.rounds(0.05, 0.3, 0.3), folder)
                slow[name] += is_slow()
    base = min(runs["nothing slow, before"].p99, runs["nothing slow, after"].p99)
    for name in list(situations)[1:-1]:
        set_slow_goal(ground.goals, name, runs[name], base, slow[name] == turns)
    return table(f"{MANY} clients beside an image that is slow to attach",
                 ["what", "cycles per s", "median ms", "p99 ms", "failures", "x nothing slow", "turns", "slow until the end"],
                 [[name, *found.row(), found.p99 / base, turns, slow[name]] for name, found in runs.items()])


def set_slow_goal(goals, name, runs, base, was_slow):
    what, limit = f"p99 of {MANY} clients beside {name}", 2
    if was_slow:
        goals.at_most(what, runs.p99 / base, limit, "x nothing slow", f"{runs.failures} failures")
    else:
        goals.unknown(what, f"at most {limit} x nothing slow", "it was not slow until the end of each turn")


@contextlib.contextmanager
def nothing(_):
    yield lambda: False


@contextlib.contextmanager
def hung(ground):
    with subprocess.Popen([ground.build / "bench" / "hung", ground.squashfs()], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdout.readline()

        def hangs():
            process.stdin.write(b"\n")
            process.stdin.flush()
            return process.stdout.readline() == b"hangs\n"
        yield hangs
        process.stdin.close()


@contextlib.contextmanager
def dirty(ground):
    """Binding a loop device has the kernel write all of its file first."""
    path = ground.disk / "dirty.img"
    block = os.urandom(1 << 20)
    with open(path, "wb") as file:
        for _ in range(ground.rounds(1, 1024, 1024)):
            file.write(block)
    try:
        with subprocess.Popen([ground.client, "attach", "--no-mount", path], stdout=subprocess.DEVNULL) as process:
            yield lambda: process.poll() is None
        if process.wait() == 0:
            subprocess.run([ground.client, "detach", path], check=True, stdout=subprocess.DEVNULL)
    finally:
        path.unlink()
