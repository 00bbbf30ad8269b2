# SPDX-License-Identifier: LGPL-2.1-or-later
"""One image, attached and detached again and again, in all ways; and what starting a program costs."""

from process import cpu
from report import median, p95, table, verdict

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


# The least of many tells what a machine that does much else would hide.
COLUMNS = ["who", "attach", "detach", "cycle", "x raw", "p95", "least", "goal"]


def measure(ground):
    with ground.loopmountd() as daemon, ground.null_daemon():
        yield kind(ground, "squashfs", ground.squashfs(), "ro")
        yield kind(ground, "ext4", ground.ext4(), "rw")
        yield partitions(ground)
        yield starts(ground)
        yield cost(ground, daemon)


def sample(ground, image, file_system, mode, rounds, ways, n_partitions=0):
    """Milliseconds of each cycle, in each of the ways: a list of (attach, detach)."""
    samples = {way: [] for way in ways}
    for way, attach, detach in ground.tool("cycles", image, file_system, mode, n_partitions, rounds, *ways):
        samples[way].append((int(attach) / 1e6, int(detach) / 1e6))
    return samples


def totals(cycles):
    return [attach + detach for attach, detach in cycles]


def row(name, cycles, base, goal=""):
    total = totals(cycles)
    return [name, median([attach for attach, _ in cycles]), median([detach for _, detach in cycles]), median(total),
            median(total) / base, p95(total), min(total), goal]


def kind(ground, file_system, image, mode):
    """udisksd looks at all that happens to devices. Others are not measured while it runs, but in turns with it."""
    rounds = ground.rounds(1, 10, 50)
    samples = {}
    others = ["raw", "raw, settle", "null", "mount", "losetup", "bus", "bus, user", "bus, settle", "client"]
    for _ in range(ground.rounds(1, 4, 4)):
        with ground.without_udev():
            add(samples, {"raw, no udevd": sample(ground, image, file_system, mode, rounds, ["raw"])["raw"]})
        add(samples, sample(ground, image, file_system, mode, rounds, others))
        add(samples, sample(ground, image, file_system, mode, max(1, rounds // 10), ["dissect"]))
        with ground.udisksd():
            add(samples, sample(ground, image, file_system, mode, max(1, rounds // 5), ["udisks", "udisksctl"]))
    ground.bars[f"A cycle: {file_system}, {mode}"] = {NAMES[way]: median(totals(samples[way])) for way in NAMES}
    return cycle_table(file_system, mode, samples)


def add(samples, more):
    for way, cycles in more.items():
        samples.setdefault(way, []).extend(cycles)


def cycle_table(file_system, mode, samples):
    time = {way: median(totals(cycles)) for way, cycles in samples.items()}
    goals = {
        "bus": verdict("2 x raw, p95 2 x median, udisksd 12 x",
                       time["bus"] <= 2 * time["raw"], p95(totals(samples["bus"])) <= 2 * time["bus"],
                       time["udisks"] >= 12 * time["bus"]),
        "bus, settle": verdict("raw until udev is done + 0.5 ms", time["bus, settle"] <= time["raw, settle"] + 0.5),
        "client": verdict("1.2 x mount -o loop", time["client"] <= 1.2 * time["mount"]),
    }
    rows = [row(NAMES[way], samples[way], time["raw"], goals.get(way, "")) for way in NAMES if way in samples]
    return table(f"One image: {file_system}, {mode} (ms)",
                 COLUMNS, rows)


def partitions(ground):
    image = ground.partitioned(8)
    samples = sample(ground, image, "ext4", "ro", ground.rounds(1, 10, 100), ["raw", "bus"], 8)
    base = median(totals(samples["raw"]))
    goal = verdict("2 x raw", median(totals(samples["bus"])) <= 2 * base)
    return table("One image with 8 partitions: ext4, ro (ms)",
                 COLUMNS,
                 [row(NAMES["raw"], samples["raw"], base), row(NAMES["bus"], samples["bus"], base, goal)])


def starts(ground):
    ways = ["true", "losetup --version", "mount --version", "busctl --version", "udisksctl help",
            "loopmount --version"]
    samples = sample(ground, "-", "-", "ro", ground.rounds(1, 40, 400), ways)
    base = median(totals(samples["losetup --version"]))
    goals = {"loopmount --version": verdict("1.3 x losetup",
                                            median(totals(samples["loopmount --version"])) <= 1.3 * base)}
    rows = [[way, median(totals(samples[way])), p95(totals(samples[way])), median(totals(samples[way])) / base,
             goals.get(way, "")] for way in ways]
    return table("Starting a program (ms)", ["what", "median", "p95", "x losetup", "goal"], rows)


def cost(ground, daemon):
    """What the daemon and its children compute for one cycle."""
    rows = []
    for file_system, image, mode in ("squashfs", ground.squashfs(), "ro"), ("ext4", ground.ext4(), "rw"):
        rounds = ground.rounds(1, 50, 400)
        before = cpu(daemon)
        sample(ground, image, file_system, mode, rounds, ["bus"])
        after = cpu(daemon)
        # One more round has warmed up.
        own, children = (after.own - before.own) / (rounds + 1), (after.children - before.children) / (rounds + 1)
        rows.append([f"{file_system}, {mode}", own, children, own + children,
                     verdict("1 ms", own + children <= 1)])
    return table("CPU of loopmountd for one cycle (ms)", ["what", "daemon", "its children", "both", "goal"], rows)
