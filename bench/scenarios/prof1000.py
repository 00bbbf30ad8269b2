import collections, shutil, subprocess
from ground import LOOPMOUNT
from scenarios.profile import folded
def rec(ground, pid, name):
    data = ground.disk / "perf.data"
    cycles = [ground.build / "bench" / "cycles", ground.squashfs(), "squashfs", "ro", "0", 500, "bus"]
    subprocess.run([*map(str, cycles[:-2]), "20", "bus"], check=True, stdout=subprocess.DEVNULL)
    kids = subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, text=True).stdout.split()
    subprocess.run(["perf", "record", "--quiet", "--freq=4000", "--call-graph=dwarf", f"--output={data}",
                    f"--pid={','.join([str(pid), *kids])}", "--", *map(str, cycles)], check=True, stdout=subprocess.DEVNULL)
    output = subprocess.run(["perf", "script", f"--input={data}", "--no-inline", "--fields=comm,ip,sym,dso"], check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    data.unlink()
    st = collections.Counter(folded(sample) for sample in output.split("\n\n") if sample.strip())
    open(f"/root/stacks-{name}.txt","w").write("\n".join(f"{c} "+";".join(k) for k,c in st.items()))
def measure(ground):
    folder = ground.crowd(1000)
    pid = ground.start(LOOPMOUNT, ground.daemon)[0]
    try:
        rec(ground, pid, "0")
        ground.tool("crowd", "attach", folder, 0, 1000)
        rec(ground, pid, "1000")
    finally:
        ground.detach_crowd()
        ground.stop(pid)
    yield "x"
