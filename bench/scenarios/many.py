# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many images, of several users, attached and mounted: what one more costs, a list, and a start of the daemon."""

import json
import os
import signal
import subprocess

from ground import LOOPMOUNT
from report import median, p95, table
from scenarios.cycles import Samples, cost, sample

WAYS = {"raw": "raw system calls", "null": "null daemon", "bus": "loopmountd", "udisks": "udisksd"}
# How many times faster than udisksd, from its version 2.10 on and before, where so many are attached.
UDISKS_COUNT, UDISKS_NEW, UDISKS_OLD = 500, 25, 500

COLUMNS = ["attached", "raw", "null daemon", "loopmountd", "x none", "CPU: daemon", "its children", "both", "x none"]


def measure(ground):
    counts = ground.rounds([0, 5], [0, 50, 200], [0, 100, 500, 1000])
    folder = ground.crowd(counts[-1])
    points, restarts, attached = [], [], 0
    pid = ground.start(LOOPMOUNT, ground.daemon)[0]
    try:
        with ground.null_daemon():
            for count in counts:
                ground.tool("crowd", "attach", folder, attached, count)
                attached = count
                points.append(Point(ground, pid, count))
                pid, named, ready = restart(ground, pid, count)
                restarts.append([count, named, ready])
            turns = in_turn(ground, pid, folder, counts[-1])
    finally:
        ground.detach_crowd()
        ground.stop(pid)
    set_goals(ground.goals, points, turns, restarts[-1])
    for way, who in WAYS.items():
        ground.lines[who] = {point.count: point.all_times[way] for point in points if point.all_times[way]}
    yield table("One more image: squashfs, ro (ms)", [*COLUMNS, "p95", "udisksd", "list"],
                [point.row(points[0]) for point in points])
    yield table("One more image, with none and with many in turn: squashfs, ro (ms)", COLUMNS,
                [turn.row(turns[0]) for turn in turns])
    yield table("A start of the daemon, after SIGKILL (ms)", ["attached", "owns its name", "all are there"], restarts)


def in_turn(ground, pid, folder, count):
    """The machine may change by more, in the minutes between the first point and the last, than one does from the other."""
    none, many = Cost(ground, 0), Cost(ground, count)
    for _ in range(ground.rounds(1, 2, 5)):
        ground.detach_crowd()
        none.measure(pid)
        ground.tool("crowd", "attach", folder, 0, count)
        many.measure(pid)
    return [none, many]


class Cost:
    """Of one more when so many are attached."""

    def __init__(self, ground, count):
        self.ground, self.count = ground, count
        self.samples = {way: Samples() for way in ("raw", "null", "bus")}
        self.costs = []

    def measure(self, pid):
        self.ground.settle()
        image, rounds = self.ground.squashfs(), self.ground.rounds(1, 10, 100)
        for way, found in sample(self.ground, image, "squashfs", "ro", rounds, self.samples).items():
            self.samples[way].extend(found)
        self.costs.append(cost(self.ground, pid, "bus", rounds * 2, image, "squashfs", "ro"))

    @property
    def time(self):
        return {way: median(found.cycle) for way, found in self.samples.items()}

    @property
    def cpu(self):
        """Of the daemon itself, of its children, of both."""
        own, children = (sum(part) / len(part) for part in zip(*self.costs))
        return [own, children, own + children]

    def row(self, first):
        return [self.count, *self.time.values(), self.time["bus"] / first.time["bus"], *self.cpu,
                self.cpu[-1] / first.cpu[-1]]


class Point(Cost):
    """And what else there is to know then."""

    def __init__(self, ground, pid, count):
        super().__init__(ground, count)
        self.measure(pid)
        self.listing = listing(ground, count)
        self.udisks = udisksd_cycle(ground, ground.squashfs()) if count <= UDISKS_COUNT else None

    @property
    def all_times(self):
        return self.time | {"udisks": self.udisks}

    def row(self, first):
        return [*super().row(first), p95(self.samples["bus"].cycle), self.udisks, self.listing]


def udisksd_cycle(ground, image):
    """With many devices one takes seconds, with more a minute; or udisksd gives up, and then there is no figure."""
    try:
        with ground.udisksd():
            return median(sample(ground, image, "squashfs", "ro", ground.rounds(1, 2, 2), ["udisks"])["udisks"].cycle)
    except subprocess.CalledProcessError:
        ground.sweep(image)
        return None


def listing(ground, count):
    """Of all that there are: without the option it would be root's."""
    output = subprocess.run([ground.client, "list", "--all-users", "--json"], check=True, stdout=subprocess.PIPE).stdout
    listed = len(json.loads(output)["images"])
    if listed != count:
        raise RuntimeError(f"{count} images are attached, and the list has {listed}")
    return median(sample(ground, "-", "-", "ro", 10, ["loopmount list"])["loopmount list"].cycle)


def restart(ground, pid, count):
    os.kill(pid, signal.SIGKILL)
    ground.stop(pid)
    return ground.start(LOOPMOUNT, ground.daemon, count)


def set_goals(goals, points, turns, restarted):
    none, many = turns
    among = f"with {many.count} attached"
    goals.at_most(f"cycle {among}", many.time["bus"] / none.time["bus"], 1.3, "x with none",
                  f"raw: {many.time['raw'] / none.time['raw']:.2f}")
    goals.at_most(f"CPU for a cycle {among}", many.cpu[-1] / none.cpu[-1], 1.5, "x with none")
    goals.at_most(f"CPU for a cycle {among}", many.cpu[-1], 1, "ms")
    set_udisks_goal(goals, points)
    goals.at_most(f"loopmount list {among}", points[-1].listing, 30, "ms")
    _, named, ready = restarted
    goals.at_most(f"a start of the daemon {among}: its name", named, 30, "ms")
    goals.at_most(f"a start of the daemon {among}: all are there", ready, 300, "ms")


def set_udisks_goal(goals, points):
    version = subprocess.run(["dpkg-query", "--show", "--showformat=${Version}", "udisks2"], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    old = subprocess.run(["dpkg", "--compare-versions", version, "lt", "2.10"]).returncode == 0
    wanted = UDISKS_OLD if old else UDISKS_NEW
    what, unit = f"cycle with {UDISKS_COUNT} attached", f"x faster than udisksd {version}"
    for point in points:
        if point.count == UDISKS_COUNT and point.udisks:
            goals.at_least(what, point.udisks / point.time["bus"], wanted, unit)
            return
    goals.unknown(what, f"at least {wanted} {unit}", "only a full run has so many, and udisksd has to manage them")
