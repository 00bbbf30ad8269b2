# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many images, of several users, attached and mounted: what one more costs, a list, and a start of the daemon."""

import json
import os
import signal
import subprocess

from ground import LOOPMOUNT
from report import median, p95, table
from scenarios.cycles import cost, sample

WAYS = {"raw": "raw system calls", "null": "null daemon", "bus": "loopmountd", "udisks": "udisksd"}
# How many times faster than udisksd, from its version 2.10 on and before, where so many are attached.
UDISKS_COUNT, UDISKS_NEW, UDISKS_OLD = 500, 25, 500


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
    finally:
        ground.detach_crowd()
        ground.stop(pid)
    set_goals(ground.goals, points, restarts[-1])
    for way, who in WAYS.items():
        ground.lines[who] = {point.count: point.time[way] for point in points if point.time[way]}
    yield table("One more image: squashfs, ro (ms)",
                ["attached", "raw", "null daemon", "udisksd", "loopmountd", "p95", "x none", "CPU: daemon",
                 "its children", "both", "x none", "list"], [point.row(points[0]) for point in points])
    yield table("A start of the daemon, after SIGKILL (ms)", ["attached", "owns its name", "all are there"], restarts)


class Point:
    """What one more costs when so many are attached."""

    def __init__(self, ground, pid, count):
        image, rounds = ground.squashfs(), ground.rounds(1, 10, 100)
        self.count = count
        samples = sample(ground, image, "squashfs", "ro", rounds, ["raw", "null", "bus"])
        self.own, self.children = cost(ground, pid, "bus", rounds * 2, image, "squashfs", "ro")
        self.cpu = self.own + self.children
        self.listing = listing(ground, count)
        self.time = {way: median(found.cycle) for way, found in samples.items()}
        self.time["udisks"] = udisksd_cycle(ground, image) if count <= UDISKS_COUNT else None
        self.p95 = p95(samples["bus"].cycle)

    def row(self, first):
        return [self.count, *(self.time[way] for way in ("raw", "null", "udisks", "bus")), self.p95,
                self.time["bus"] / first.time["bus"], self.own, self.children, self.cpu, self.cpu / first.cpu,
                self.listing]


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


def set_goals(goals, points, restarted):
    first, last = points[0], points[-1]
    among = f"with {last.count} attached"
    goals.at_most(f"cycle {among}", last.time["bus"] / first.time["bus"], 1.3, "x with none",
                  f"raw: {last.time['raw'] / first.time['raw']:.2f}")
    goals.at_most(f"CPU for a cycle {among}", last.cpu / first.cpu, 1.5, "x with none")
    goals.at_most(f"CPU for a cycle {among}", last.cpu, 1, "ms")
    set_udisks_goal(goals, points)
    goals.at_most(f"loopmount list {among}", last.listing, 30, "ms")
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
        if point.count == UDISKS_COUNT and point.time["udisks"]:
            goals.at_least(what, point.time["udisks"] / point.time["bus"], wanted, unit)
            return
    goals.unknown(what, f"at least {wanted} {unit}", "only a full run has so many, and udisksd has to manage them")
