# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is to measure with, inside of tests/harness/namespaces: services, images and the programs of bench/."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time

import nodes
from report import Goals

LOOPMOUNT = "org.loopmount1"
UDISKS = "org.freedesktop.UDisks2"
STOP_MAX_SEC = 60
NULL = "org.loopmount1.bench.Null"

# As an administrator would: more images than one user usually needs, and no leaving between two measurements.
CONFIGURATION = """[Limits]
MaxImagesPerUser=2000
MaxRequestsPerUser=200
IdleTimeoutSec=1h
"""
# polkit asks nobody, but has to be asked.
RULE = """polkit.addRule(function(action, subject) { return "yes"; });
"""
# Who wants to own a name, and to be called, has to be permitted to.
BUS_POLICY = f"""<busconfig><policy user="root">
  <allow own="{NULL}"/><allow send_destination="{NULL}"/>
</policy></busconfig>
"""


class Ground:
    """@output: a folder on a disk. @effort: "full", or "quick" or "smoke" for fewer rounds and the same tables."""

    def __init__(self, build, output, effort, udisks_actions):
        # Where an image is that is read and written much; all others are in memory.
        self.disk = output
        self.goals = Goals()
        # What the picture shows: see there.
        self.bars, self.lines = {}, {}
        self.build = build
        self.effort = effort
        self.folder = pathlib.Path(os.environ["LOOPMOUNT_TEST_DIR"])
        self.daemon = [build / "daemon" / "loopmountd"]
        self.udisks = ["/usr/libexec/udisks2/udisksd"]
        self.client = build / "client" / "loopmount"
        os.environ["LOOPMOUNT"] = str(self.client)
        os.environ["LOOPMOUNT_BENCH_NOTHING"] = str(build / "bench" / "nothing")
        self.prepare_services(udisks_actions)

    def prepare_services(self, udisks_actions):
        harness = pathlib.Path("/run/harness")
        drop_ins = pathlib.Path("/run/loopmount.conf.d")
        drop_ins.mkdir()
        (drop_ins / "bench.conf").write_text(CONFIGURATION)
        (pathlib.Path(os.environ["LOOPMOUNT_TEST_POLKIT_RULES"]) / "bench.rules").write_text(RULE)
        (harness / "system.d" / "bench.conf").write_text(BUS_POLICY)
        udisks_policy = pathlib.Path(f"/usr/share/dbus-1/system.d/{UDISKS}.conf").read_text()
        (harness / "system.d" / "udisks.conf").write_text(udisks_policy)
        # polkitd looks at its actions when the folder changes; there is only what the tests need.
        (harness / "actions" / "udisks.policy").write_text(udisks_actions)
        pathlib.Path("/run/udisks2").mkdir()
        self.reload_bus()

    def rounds(self, smoke, quick, full):
        """How often, or how much, by how much time there is."""
        return {"smoke": smoke, "quick": quick, "full": full}[self.effort]

    def tool(self, name, *arguments):
        """The lines that a program of bench/ prints, each split into its fields."""
        command = [str(self.build / "bench" / name), *map(str, arguments)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return [line.split("\t") for line in output.splitlines()]

    # ---- services ----

    def start(self, name, program, images="-"):
        """Starts a service; its process id, and the milliseconds until it had its name and showed so many images."""
        ((pid, named, ready),) = self.tool("start", name, images, *program)
        return int(pid), int(named) / 1e6, int(ready) / 1e6

    def stop(self, pid):
        """Somebody else's child now, so that there is nothing to wait for but its end in /proc."""
        for number in signal.SIGTERM, signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            began = time.monotonic()
            while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() - began < STOP_MAX_SEC:
                time.sleep(0.01)

    @contextlib.contextmanager
    def service(self, name, program):
        pid = self.start(name, program)[0]
        try:
            yield pid
        finally:
            self.stop(pid)

    @contextlib.contextmanager
    def without_udev(self):
        subprocess.run(["udevadm", "control", "--exit"], check=True)
        # It leaves its socket, by which others would think it there.
        pathlib.Path("/run/udev/control").unlink()
        try:
            yield
        finally:
            subprocess.run(["/lib/systemd/systemd-udevd", "--daemon"], check=True, stderr=subprocess.DEVNULL)
            subprocess.run(["udevadm", "control", "--ping"], check=True)

    @contextlib.contextmanager
    def activated(self):
        """The bus starts services of which somebody wants something."""
        folder = pathlib.Path("/run/harness/services")
        for name, program in (LOOPMOUNT, self.daemon), (UDISKS, self.udisks):
            (folder / f"{name}.service").write_text(
                f"[D-BUS Service]\nName={name}\nUser=root\nExec={' '.join(map(str, program))}\n")
        self.reload_bus()
        try:
            yield
        finally:
            for name in LOOPMOUNT, UDISKS:
                (folder / f"{name}.service").unlink()
            self.reload_bus()

    def reload_bus(self):
        subprocess.run(["busctl", "--quiet", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus",
                        "ReloadConfig"], check=True)

    @contextlib.contextmanager
    def idle_timeout(self, seconds):
        drop_in = pathlib.Path("/run/loopmount.conf.d/idle.conf")
        drop_in.write_text(f"[Limits]\nIdleTimeoutSec={seconds}s\n")
        try:
            yield
        finally:
            drop_in.unlink()

    def loopmountd(self):
        return self.service(LOOPMOUNT, self.daemon)

    def null_daemon(self):
        return self.service(NULL, [self.build / "bench" / "null-daemon"])

    def udisksd(self):
        return self.service(UDISKS, self.udisks)

    def settle(self):
        """Until udevd has done what is left of the last measurement; but not for ever, where others keep it busy."""
        subprocess.run(["udevadm", "settle", "--timeout=60"])

    # ---- images ----

    def squashfs(self):
        return self.made("squashfs.img", self.make_squashfs)

    def ext4(self):
        return self.made("ext4.img", self.make_ext4)

    def partitioned(self, count):
        return self.made(f"{count}-partitions.img", lambda path: self.make_partitioned(path, count))

    def crowd(self, count):
        """A folder of images that are all the same, and all files of their own."""
        folder = self.folder / "crowd"
        content = self.squashfs().read_bytes()
        folder.mkdir(exist_ok=True)
        for i in range(count):
            if not (folder / f"{i}.img").exists():
                (folder / f"{i}.img").write_bytes(content)
        return folder

    def detach_crowd(self):
        """The kernel's devices with it: there are more than others should have to look at."""
        numbers = nodes.numbers(str(self.folder / "crowd"))
        self.tool("crowd", "detach")
        nodes.forget(numbers)

    def sweep(self, path):
        """Takes away what udisksd has lost sight of, with too many images or clients: its calls may fail then."""
        self.settle()
        for number in nodes.numbers(str(path)):
            node = f"/dev/loop{number}"
            subprocess.run(["umount", "--quiet", "--all-targets", node], stderr=subprocess.DEVNULL)
            subprocess.run(["losetup", "--detach", node], stderr=subprocess.DEVNULL)

    def made(self, name, make):
        path = self.folder / name
        if not path.exists():
            make(path)
        return path

    def make_squashfs(self, path):
        tree = self.folder / "tree"
        tree.mkdir()
        (tree / "file").write_text("What is in an image does not matter here.\n")
        subprocess.run(["mksquashfs", tree, path, "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)

    def make_ext4(self, path, size=64 << 20):
        with open(path, "wb") as file:
            file.truncate(size)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)

    def make_partitioned(self, path, count):
        """As bench/way.h says: from 1 MiB on, 4 MiB each."""
        with open(path, "wb") as file:
            file.truncate((count * 4 + 2) << 20)
        table = "label: gpt\n" + "".join(f"start={1 + 4 * i}MiB, size=4MiB\n" for i in range(count))
        subprocess.run(["sfdisk", "--quiet", path], input=table, check=True, text=True)
        for i in range(count):
            subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", f"part{i}", "-E", f"offset={(1 + 4 * i) << 20}", path,
                            "4M"], check=True, stdout=subprocess.DEVNULL)
