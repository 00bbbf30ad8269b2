# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading and writing in a mounted image, on a disk: through loopmount, through bare loop devices, and without one."""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile

from report import median, table, verdict

MIB = 1 << 20
FILE = "data"
# What is measured past the page cache of the file is what is below it.
READS = {
    "sequential reads, 1 MiB": ["--rw=read", "--bs=1M", "--direct=1"],
    "random reads, 4 KiB": ["--rw=randread", "--bs=4k", "--direct=1"],
    "random reads, 4 KiB, 32 at a time": ["--rw=randread", "--bs=4k", "--direct=1", "--ioengine=libaio",
                                          "--iodepth=32"],
}
# The last two are what a program does that knows nothing of that: its small writes, synced at their end, and one by one.
WRITES = {
    "sequential writes, 1 MiB": ["--rw=write", "--bs=1M", "--direct=1"],
    "random writes, 4 KiB": ["--rw=randwrite", "--bs=4k", "--direct=1"],
    "cached random writes, 4 KiB, then fsync": ["--rw=randwrite", "--bs=4k", "--io_size=32M", "--end_fsync=1"],
    "cached random writes, 4 KiB, fsync each": ["--rw=randwrite", "--bs=4k", "--io_size=2M", "--fsync=1"],
}


def measure(ground):
    size = ground.rounds(16, 128, 1024) * MIB
    with ground.loopmountd():
        for file_system in ground.rounds(["ext4"], ["ext4"], ["ext4", "xfs"]):
            with all_prepared(ground, file_system, size, READING) as places:
                yield speeds(ground, f"Reading: {file_system}, ro, in an image on a disk", places, READS, size)
                yield cached(file_system, places, size)
            with all_prepared(ground, file_system, size, WRITING) as places:
                yield speeds(ground, f"Writing: {file_system}, rw, in an image on a disk", places, WRITES, size)


@contextlib.contextmanager
def all_prepared(ground, file_system, size, places):
    """All of them at once, each with an image of its own."""
    with contextlib.ExitStack() as stack:
        yield {place: stack.enter_context(prepared(ground, file_system, size, mounted))
               for place, mounted in places.items()}


@contextlib.contextmanager
def prepared(ground, file_system, size, mounted):
    """A folder with a file of this size, and what it is in: an image of its own, mounted, or nothing."""
    with tempfile.TemporaryDirectory(dir=ground.disk) as folder:
        if not mounted:
            fill(folder, size)
            yield folder, None
            return
        image = pathlib.Path(folder, "disk.img")
        make_image(image, file_system, size)
        with loopmount("--writable")(ground, image) as place:
            fill(place, size)
        with mounted(ground, image) as place:
            yield place, image


def make_image(path, file_system, size):
    """With room for the file, which is all there: nothing has to be allocated while it is measured."""
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size + size // 4 + 320 * MIB)
    make = {"ext4": ["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0"], "xfs": ["mkfs.xfs", "-q", "-f"]}
    subprocess.run([*make[file_system], path], check=True)


def fill(folder, size):
    block = os.urandom(MIB)
    with open(os.path.join(folder, FILE), "wb") as file:
        for _ in range(size // MIB):
            file.write(block)
        os.fsync(file.fileno())


# ---- where the file is ----

def loopmount(*options):
    @contextlib.contextmanager
    def image_attached(ground, image):
        command = [ground.client, "attach", "--print-path", *options, image]
        folder = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip("\n")
        try:
            yield folder
        finally:
            subprocess.run([ground.client, "detach", image], check=True, stdout=subprocess.DEVNULL)
    return image_attached


def bare(mode, *options):
    @contextlib.contextmanager
    def device_mounted(ground, image):
        folder = tempfile.mkdtemp(dir=ground.folder)
        node = subprocess.run(["losetup", "--find", "--show", *options, image], check=True, stdout=subprocess.PIPE,
                              text=True).stdout.rstrip("\n")
        try:
            subprocess.run(["mount", "-o", mode, node, folder], check=True)
            try:
                yield folder
            finally:
                subprocess.run(["umount", folder], check=True)
        finally:
            subprocess.run(["losetup", "--detach", node], check=True)
    return device_mounted


READING = {
    "loopmount": loopmount(),
    "losetup --direct-io=on": bare("ro", "--direct-io=on"),
    "losetup": bare("ro"),
    "no image": None,
}
WRITING = {
    "loopmount": loopmount("--writable"),
    "loopmount --direct-io=yes": loopmount("--writable", "--direct-io=yes"),
    "losetup --direct-io=on": bare("rw", "--direct-io=on"),
    "losetup": bare("rw"),
    "no image": None,
}


# ---- how fast it is ----

def speeds(ground, title, places, jobs, size):
    found = {(place, job): [] for place in places for job in jobs}
    for _ in range(ground.rounds(1, 1, 3)):
        for job, options in jobs.items():
            for place, (folder, image) in places.items():
                forget_cached(image)
                found[place, job].append(fio(ground, folder, size, job, options))
    rows = []
    for job in jobs:
        speed = {place: median(found[place, job]) for place in places}
        share = speed["loopmount"] / speed["losetup --direct-io=on"]
        goal = verdict("0.97 x", share >= 0.97) if jobs is READS else ""
        rows.append([f"{job} ({unit(job)})", *speed.values(), share, goal])
    return table(title, ["what", *places, "x direct", "goal"], rows)


def unit(job):
    return "MiB/s" if "1 MiB" in job else "per s"


def fio(ground, folder, size, job, options):
    if "--direct=1" in options:
        options = [*options, "--time_based", f"--runtime={ground.rounds(100, 500, 2000)}ms"]
    command = ["fio", "--name=bench", f"--filename={folder}/{FILE}", f"--size={size}", "--output-format=json",
               "--fallocate=none", "--overwrite=1", *options]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    (result,) = json.loads(output)["jobs"]
    seconds = result["job_runtime"] / 1000
    done = result["read"]["io_bytes"] + result["write"]["io_bytes"]
    return done / seconds / (MIB if "1 MiB" in job else 4096)


def forget_cached(path):
    if not path:
        return
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


# ---- what it keeps in memory ----

def cached(file_system, places, size):
    """Of the file, and of the image that it is in."""
    rows = []
    for place, (folder, image) in places.items():
        path = os.path.join(folder, FILE)
        forget_cached(path)
        forget_cached(image)
        with open(path, "rb", buffering=0) as file:
            while file.read(MIB):
                pass
        kept = resident(path) + resident(image)
        rows.append([place, kept / MIB, verdict("once", kept <= 1.05 * size) if place == "loopmount" else ""])
    return table(f"Page cache after reading a file of {size // MIB} MiB: {file_system} (MiB)",
                 ["who", "cached", "goal"], rows)


def resident(path):
    if not path:
        return 0
    output = subprocess.run(["fincore", "--bytes", "--noheadings", "--output", "RES", path], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    return int(output)
