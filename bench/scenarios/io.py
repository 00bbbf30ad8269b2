# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading and writing in a mounted image, on a disk: through loopmount, through bare loop devices, and without one."""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile

from report import median, table

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
# Small blocks would be another thing: see "Past the page cache" in docs/performance.md. And what a journal needs.
MAKE = {"ext4": (["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", "lazy_itable_init=0"], 64 * MIB),
        "xfs": (["mkfs.xfs", "-q", "-f"], 320 * MIB)}


def measure(ground):
    size = ground.rounds(16, 128, 1024) * MIB
    with ground.loopmountd(), tempfile.TemporaryDirectory(dir=ground.disk) as folder:
        fill(folder, size)
        image = pathlib.Path(folder, "disk.img")
        for file_system in ground.rounds(["ext4"], ["ext4"], ["ext4", "xfs"]):
            make_image(ground, image, file_system, size)
            yield speeds(ground, f"reading: {file_system}, ro", image, "ro", READS, size)
            yield speeds(ground, f"writing: {file_system}, rw", image, "rw", WRITES, size)
            yield page_cache(ground, file_system, image, size)


def make_image(ground, path, file_system, size):
    """With room for the file, which is all there: nothing has to be allocated while it is measured."""
    command, room = MAKE[file_system]
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size + size // 8 + room)
    subprocess.run([*command, path], check=True)
    with loopmount(ground, path, "rw") as folder:
        fill(folder, size)
    # Whatever else keeps parts of the disk in memory now has it all.
    for read in path, path.with_name(FILE):
        subprocess.run(["dd", f"if={read}", "of=/dev/null", "bs=1M", "iflag=direct", "status=none"], check=True)


def fill(folder, size):
    block = os.urandom(MIB)
    with open(os.path.join(folder, FILE), "wb") as file:
        for _ in range(size // MIB):
            file.write(block)
        os.fsync(file.fileno())


# ---- where the file is ----

@contextlib.contextmanager
def loopmount(ground, image, mode):
    command = [ground.client, "attach", "--print-path", *(["--writable"] if mode == "rw" else []), image]
    folder = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip("\n")
    try:
        yield folder
    finally:
        subprocess.run([ground.client, "detach", image], check=True, stdout=subprocess.DEVNULL)


def bare(*options):
    @contextlib.contextmanager
    def device_mounted(ground, image, mode):
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
            ground.settle()
    return device_mounted


@contextlib.contextmanager
def no_image(_, image, __):
    yield image.parent


OURS, DIRECT = "loopmount", "losetup --direct-io=on"
PLACES = {OURS: loopmount, DIRECT: bare("--direct-io=on"), "losetup": bare(), "no image": no_image}


# ---- how fast it is ----

def speeds(ground, title, image, mode, jobs, size):
    """All loop devices in turn have the same image, and every second time the other way round."""
    found = {(place, job): [] for place in PLACES for job in jobs}
    for turn in range(ground.rounds(1, 2, 4)):
        for place in list(PLACES)[:: -1 if turn % 2 else 1]:
            with PLACES[place](ground, image, mode) as folder:
                for job, options in jobs.items():
                    forget_cached(image)
                    found[place, job].append(fio(ground, folder, size, job, options))
    share = {job: median([ours / direct for ours, direct in zip(found[OURS, job], found[DIRECT, job])]) for job in jobs}
    worst = min(share, key=share.get)
    ground.goals.at_least(title, share[worst], 0.97, f"x {DIRECT}", f"the least, of {worst}")
    return table(f"{title.capitalize()}, in an image on a disk", ["what", *PLACES, "x direct"],
                 [[f"{job} ({unit(job)})", *(median(found[place, job]) for place in PLACES), share[job]] for job in jobs])


def unit(job):
    return "MiB/s" if "1 MiB" in job else "per s"


def fio(ground, folder, size, job, options):
    if "--direct=1" in options:
        options = [*options, "--time_based", f"--runtime={ground.rounds(50, 300, 1000)}ms"]
    command = ["fio", "--name=bench", f"--filename={folder}/{FILE}", f"--size={size}", "--output-format=json",
               "--fallocate=none", "--overwrite=1", *options]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    (result,) = json.loads(output)["jobs"]
    seconds = result["job_runtime"] / 1000
    done = result["read"]["io_bytes"] + result["write"]["io_bytes"]
    return done / seconds / (MIB if "1 MiB" in job else 4096)


def forget_cached(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


# ---- what it keeps in memory ----

def page_cache(ground, file_system, image, size):
    """Of the file, and of the image that it is in."""
    kept = {place: kept_by(ground, mounted, image) for place, mounted in PLACES.items()}
    ground.goals.at_most(f"page cache after reading a file, {file_system}", kept[OURS] / size, 1.05, "x the file",
                         f"losetup: {kept['losetup'] / size:.2f}")
    return table(f"Page cache after reading a file of {size // MIB} MiB: {file_system} (MiB)", ["who", "cached"],
                 [[place, kept[place] / MIB] for place in PLACES])


def kept_by(ground, mounted, image):
    with mounted(ground, image, "ro") as folder:
        path = os.path.join(folder, FILE)
        forget_cached(path)
        forget_cached(image)
        with open(path, "rb", buffering=0) as file:
            while file.read(MIB):
                pass
        return resident(path) + resident(image)


def resident(path):
    output = subprocess.run(["fincore", "--bytes", "--noheadings", "--output", "RES", path], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    return int(output)
