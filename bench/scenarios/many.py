# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many images, of several users, attached and mounted: what one more costs, a list, and a start of the daemon."""

import os
import signal

import nodes
from ground import LOOPMOUNT
from process import cpu
from report import median, p95, table, verdict
from scenarios.cycles import sample, totals

WAYS = {"raw": "raw system calls", "null": "null daemon", "bus": "loopmountd", "udisks": "udisksd"}


def measure(ground):
    counts = ground.rounds([0, 5], [0, 50, 200], [0, 100, 500, 1000])
    folder = ground.crowd(counts[-1])
    cycles, restarts, first, attached, before = [], [], None, 0, nodes.numbers()
    pid = ground.start(LOOPMOUNT, ground.daemon)[0]
    try:
        with ground.null_daemon():
            for count in counts:
                ground.tool("crowd", "attach", folder, attached, count)
                attached = count
                point = one_more(ground, pid, count)
                first = first or point
                cycles.append(point.row(first))
                for way, who in WAYS.items():
                    ground.lines.setdefault(who, {})[count] = point.time[way]
                pid, row = restart(ground, pid, count)
                restarts.append(row)
        yield table("One more image: squashfs, ro (ms)",
                    ["attached", "raw", "null daemon", "udisksd", "loopmountd", "p95", "x none", "CPU: daemon",
                     "its children", "both", "x none", "list", "goal"], cycles)
        yield table("A start of the daemon, after SIGKILL (ms)", ["attached", "owns its name", "all are there", "goal"],
                    restarts)
        ours = nodes.numbers(f"{ground.folder}/") - before
        ground.tool("crowd", "detach")
        nodes.forget(ours)
    finally:
        ground.stop(pid)


class Point:
    """What one more costs when so many are attached."""

    def __init__(self, count, samples, own, children, listing):
        self.count = count
        self.time = {way: median(totals(cycles)) for way, cycles in samples.items()}
        self.p95 = p95(totals(samples["bus"]))
        self.own, self.children, self.listing = own, children, listing
        self.cpu = own + children

    def row(self, first):
        slower, dearer = self.time["bus"] / first.time["bus"], self.cpu / first.cpu
        goal = verdict("1.3 x time, 1.5 x and 1 ms CPU, list 30 ms",
                       slower <= 1.3, dearer <= 1.5, self.cpu <= 1, self.listing <= 30)
        return [self.count, self.time["raw"], self.time["null"], self.time["udisks"], self.time["bus"], self.p95,
                slower, self.own, self.children, self.cpu, dearer, self.listing, goal]


def one_more(ground, pid, count):
    image, rounds = ground.squashfs(), ground.rounds(1, 10, 100)
    samples = sample(ground, image, "squashfs", "ro", rounds, ["raw", "null", "bus"])
    before = cpu(pid)
    sample(ground, image, "squashfs", "ro", rounds * 2, ["bus"])
    after = cpu(pid)
    listing = median(totals(sample(ground, "-", "-", "ro", 10, ["loopmount list"])["loopmount list"]))
    # With many devices one cycle of its may take seconds.
    with ground.udisksd():
        samples.update(sample(ground, image, "squashfs", "ro", ground.rounds(1, 2, 2), ["udisks"]))
    n = rounds * 2 + 1
    return Point(count, samples, (after.own - before.own) / n, (after.children - before.children) / n, listing)


def restart(ground, pid, count):
    os.kill(pid, signal.SIGKILL)
    ground.stop(pid)
    pid, named, ready = ground.start(LOOPMOUNT, ground.daemon, count)
    return pid, [count, named, ready, verdict("30 ms, 300 ms", named <= 30, ready <= 300)]
