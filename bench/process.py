# SPDX-License-Identifier: LGPL-2.1-or-later
"""What /proc says of a process and of those that it has started. None of them has threads."""

import collections
import os
import pathlib

TICK_MSEC = 1000 / os.sysconf("SC_CLK_TCK")

# Milliseconds: of the process itself; of all that it has started, ended or not.
CPU = collections.namedtuple("CPU", "own children")


def cpu(pid):
    """Of those that have ended the kernel tells ticks only: what two of these differ by is off by up to 10 ms."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) * TICK_MSEC
    return CPU(run_msec(pid), ended + sum(sum(cpu(child)) for child in children(pid)))


def run_msec(pid):
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return []


def pss_kib(pid):
    return keyed(f"/proc/{pid}/smaps_rollup", "Pss:")


def wake_ups(pid):
    """How often it has gone to sleep of its own will: as often as it was woken."""
    return keyed(f"/proc/{pid}/status", "voluntary_ctxt_switches:")


def keyed(path, key):
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise KeyError(key)
