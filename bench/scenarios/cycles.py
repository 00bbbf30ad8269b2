# SPDX-License-Identifier: LGPL-2.1-or-later
"""One image, attached and detached again and again, in all ways; and what starting a program costs."""

import subprocess

from process import cpu
from report import median, p95, table

NAMES = {
    "raw, no udevd": "raw system calls, without udevd",
    "raw": "raw system calls",
    "raw, settle": "raw system calls, until udev is done",
    "null": "null daemon",
    "mount": "mount -o loop, umount",
    "losetup": "losetup, mount, umount, losetup -d",
    "dissect": "systemd-dissect",
    "udisks": "udisksd, over D-Bus",
    "udisksctl": "udisksctl",
    "bus": "loopmountd, over D-Bus, root",
    "bus, user": "loopmountd, over D-Bus, a user",
    "bus, settle": "loopmountd, over D-Bus, root, --settle",
    "client": "loopmount attach, detach",
}
# No cycles: what a user's attach, and the client, cannot do without.
PARTS = {"polkit": "one question to polkit", "loopmount --version": "a start of the client"}

# The least of many tells what a machine that does much else would hide.
COLUMNS = ["who", "attach", "detach", "cycle", "x raw", "p95", "least"]


def measure(ground):
    with ground.loopmountd() as daemon, ground.null_daemon() as null:
        yield kind(ground, "squashfs", ground.squashfs(), "ro")
        yield kind(ground, "ext4", ground.ext4(), "rw")
        yield partitions(ground)
        yield starts(ground)
        yield costs(ground, daemon, null)


def sample(ground, image, file_system, mode, rounds, ways, n_partitions=0):
    """What each cycle took, in each of the ways."""
    samples = {way: Samples() for way in ways}
    for way, attach, detach in ground.tool("cycles", image, file_system, mode, n_partitions, rounds, *ways):
        samples[way].attach.append(int(attach) / 1e6)
        samples[way].detach.append(int(detach) / 1e6)
    return samples


class Samples:
    """Milliseconds."""

    def __init__(self):
        self.attach, self.detach = [], []

    def extend(self, more):
        self.attach += more.attach
        self.detach += more.detach

    @property
    def cycle(self):
        return [attach + detach for attach, detach in zip(self.attach, self.detach)]

    def row(self, name, base):
        cycle = median(self.cycle)
        return [name, median(self.attach), median(self.detach), cycle, cycle / base, p95(self.cycle), min(self.cycle)]


def kind(ground, file_system, image, mode):
    """udisksd looks at all that happens to devices. Others are not measured while it runs, but in turns with it."""
    rounds = ground.rounds(1, 10, 50)
    samples = {way: Samples() for way in [*NAMES, *PARTS]}
    others = ["raw", "raw, settle", "null", "mount", "losetup", "bus", "bus, user", "bus, settle", "client", *PARTS]

    def more(rounds, *ways):
        for way, found in sample(ground, image, file_system, mode, rounds, ways).items():
            samples[way].extend(found)

    for _ in range(ground.rounds(1, 4, 4)):
        with ground.without_udev():
            samples["raw, no udevd"].extend(sample(ground, image, file_system, mode, rounds, ["raw"])["raw"])
        more(rounds, *others)
        more(max(1, rounds // 10), "dissect")
        with_udisksd(ground, image, lambda: more(max(1, rounds // 5), "udisks", "udisksctl"))
    cycle = {way: median(found.cycle) for way, found in samples.items()}
    ground.bars[f"A cycle: {file_system}, {mode}"] = {name: cycle[way] for way, name in NAMES.items()}
    set_goals(ground.goals, f"{file_system}, {mode}", samples, cycle)
    return table(f"One image: {file_system}, {mode} (ms)", COLUMNS,
                 [samples[way].row(name, cycle["raw"]) for way, name in (NAMES | PARTS).items()])


def with_udisksd(ground, image, measure_it):
    """It may lose a mount of its own while many devices of others come and go: then once more."""
    for tries_left in 2, 1, 0:
        try:
            with ground.udisksd():
                return measure_it()
        except subprocess.CalledProcessError:
            if tries_left == 0:
                raise
            ground.sweep(image)


def set_goals(goals, what, samples, cycle):
    attach = {way: median(found.attach) for way, found in samples.items()}
    goals.at_most(f"attach and mount: {what}", attach["bus"] / attach["raw"], 2, "x raw",
                  f"null daemon: {attach['null'] / attach['raw']:.2f}")
    goals.at_most(f"cycle: {what}", cycle["bus"] / cycle["raw"], 2, "x raw",
                  f"null daemon: {cycle['null'] / cycle['raw']:.2f}")
    goals.at_most(f"p95 of the cycle: {what}", p95(samples["bus"].cycle) / cycle["bus"], 2, "x its median",
                  f"raw: {p95(samples['raw'].cycle) / cycle['raw']:.2f}")
    goals.at_least(f"cycle: {what}", cycle["udisks"] / cycle["bus"], 12, "x faster than udisksd")
    goals.at_most(f"cycle of a user, above root's: {what}", (cycle["bus, user"] - cycle["bus"]) / cycle["polkit"], 1,
                  "questions to polkit")
    goals.at_most(f"attach --settle: {what}", attach["bus, settle"] - attach["raw, settle"], 0.5,
                  "ms above raw until udev is done")
    needed = 2 * cycle["loopmount --version"] + cycle["bus"]
    goals.at_most(f"the client's cycle: {what}", cycle["client"] / cycle["mount"], 1.2, "x mount -o loop, umount",
                  f"two starts and a cycle over D-Bus: {needed / cycle['mount']:.2f}")


def partitions(ground):
    samples = sample(ground, ground.partitioned(8), "ext4", "ro", ground.rounds(1, 10, 100), ["raw", "bus"], 8)
    base = median(samples["raw"].cycle)
    ground.goals.at_most("cycle of an image with 8 partitions", median(samples["bus"].cycle) / base, 2, "x raw")
    return table("One image with 8 partitions: ext4, ro (ms)", COLUMNS,
                 [samples[way].row(NAMES[way], base) for way in samples])


def starts(ground):
    ways = ["true", "nothing, with libsystemd", "losetup --version", "mount --version", "busctl --version", "udisksctl help",
            "loopmount --version"]
    samples = sample(ground, "-", "-", "ro", ground.rounds(1, 40, 400), ways)
    base = median(samples["losetup --version"].cycle)
    rows = [[way, median(found.cycle), p95(found.cycle), median(found.cycle) / base] for way, found in samples.items()]
    share = {name: share for name, _, _, share in rows}
    ground.goals.at_most("loopmount --version", share["loopmount --version"], 1.3, "x losetup --version",
                         f"nothing, with libsystemd: {share['nothing, with libsystemd']:.2f}")
    return table("Starting a program (ms)", ["what", "median", "p95", "x losetup"], rows)


def costs(ground, daemon, null):
    """What a daemon and its children compute for one cycle."""
    rounds, rows = ground.rounds(1, 50, 400), []
    for task in (ground.squashfs(), "squashfs", "ro"), (ground.ext4(), "ext4", "rw"):
        what = ", ".join(task[1:])
        found = {"null daemon": cost(ground, null, "null", rounds, *task),
                 "loopmountd": cost(ground, daemon, "bus", rounds, *task)}
        with ground.udisksd() as udisksd:
            found["udisksd"] = cost(ground, udisksd, "udisks", max(1, rounds // 10), *task)
        rows += [[who, what, own, children, own + children] for who, (own, children) in found.items()]
        ground.goals.at_most(f"CPU for a cycle: {what}", sum(found["loopmountd"]), 1, "ms",
                             f"null daemon: {sum(found['null daemon']):.2f} ms")
    return table("CPU of a daemon for one cycle (ms)", ["who", "of", "itself", "its children", "both"], rows)


def cost(ground, pid, way, rounds, image, file_system, mode):
    before = cpu(pid)
    sample(ground, image, file_system, mode, rounds, [way])
    after = cpu(pid)
    # One more round has warmed up.
    return [(now - then) / (rounds + 1) for then, now in zip(before, after)]
