# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where loopmountd and its children have been computing, as a table and a flame graph."""

import collections
import shutil
import subprocess

from picture import flames
from report import table

PROCESSES = {"loopmountd": "the daemon itself", "bind": "binding loop devices", "probe": "reading what is in an image",
             "mount": "mounting", "release": "unmounting, releasing devices", "idle": "workers without work"}
# What every stack begins with says nothing.
BEGINNING = {"_start", "__libc_start_main@@GLIBC_2.34", "__libc_start_call_main", "main", "manager_run", "sd_event_loop",
             "sd_event_run"}


def measure(ground):
    if not shutil.which("perf"):
        yield "There is no perf here, and so no profile.\n"
        return
    stacks = recorded(ground)
    (ground.disk / "flames.svg").write_text(flames("Where loopmountd and its children compute: cycles of squashfs, ro", stacks))
    shares = collections.Counter()
    for (process, *_), count in stacks.items():
        shares[PROCESSES.get(process, "others")] += count
    total = shares.total()
    yield table("Where the time of a cycle is spent: squashfs, ro (%)", ["who", "share"],
                [[who, 100 * count / total] for who, count in shares.most_common()])


def recorded(ground):
    """Each stack, its process first, with how often it was found. The daemon is new, so that all its children are seen."""
    data = ground.disk / "perf.data"
    cycles = [ground.build / "bench" / "cycles", ground.squashfs(), "squashfs", "ro", "0", ground.rounds(10, 200, 1000),
              "bus"]
    with ground.loopmountd() as daemon:
        subprocess.run(["perf", "record", "--quiet", "--freq=4000", "--call-graph=dwarf", f"--output={data}",
                        f"--pid={daemon}", "--", *map(str, cycles)], check=True, stdout=subprocess.DEVNULL)
    output = subprocess.run(["perf", "script", f"--input={data}", "--no-inline", "--fields=comm,ip,sym,dso"], check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    data.unlink()
    return collections.Counter(folded(sample) for sample in output.split("\n\n") if sample.strip())


def folded(sample):
    """Static functions of stripped libraries have no names: theirs is the library's, once."""
    process, *frames = sample.strip().splitlines()
    stack = [process.strip()]
    for frame in reversed(frames):
        _, symbol, place = frame.split(maxsplit=2)
        name = symbol if symbol != "[unknown]" else place.strip("()").rpartition("/")[2]
        if name != stack[-1] and name not in BEGINNING:
            stack.append(name)
    return tuple(stack)
