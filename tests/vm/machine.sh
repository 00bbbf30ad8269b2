# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# machine.sh: the guest on disk, the one machine, QEMU and the guest's agent.
# Sourced by "vm", whose variables and messages it uses.
#
# A booted machine is saved once, and every later start restores it: 1 s where
# a boot takes 10. What is saved fits one QEMU, one command line and one disk
# only; the key beside it says which, and when it does not come back to life
# it is thrown away and the guest boots. So the command line has two parts:
# what the guest sees, always the same, and where that lies on the host.
# Disks are plugged in afterwards; the folders for 9p are on the command line,
# but the guest has none of them mounted when it is saved (QEMU insists).
#
# shellcheck disable=SC2154,SC2034 # the variables of "vm"

# ---- the guest on disk ----

guest_dir() {
    echo "$cache/vm-$suite"
}

inputs_stamp() {
    (cd "$here" && sha256sum build debian.sh guest/* && echo "$suite") | sha256sum | cut -d' ' -f1
}

build() {
    local dir new stamp began
    dir=$(guest_dir)
    new=$dir.new
    stamp=$(inputs_stamp)
    [[ $(cat "$dir/stamp" 2>/dev/null) != "$stamp" ]] || return 0
    [[ $EUID -eq 0 ]] || die "The guest must be built by root: run 'sudo $0 build $suite'."

    mkdir -p "$cache"
    exec 8>"$dir.lock"
    flock -w "$build_timeout" 8 || die "Another build of $suite did not end in time."
    if [[ $(cat "$dir/stamp" 2>/dev/null) != "$stamp" ]]; then
        began=$(date +%s%N)
        echo "vm: Building the $suite guest (a minute or two) ..." >&2
        rm -rf --one-file-system "$new"
        timeout --foreground "$build_timeout" "$here/build" "$suite" "$new" >&2 9>&- ||
            { rm -rf --one-file-system "$new" && die "The $suite guest could not be built."; }
        echo "$stamp" >"$new/stamp"
        rm -rf --one-file-system "$dir"
        mv "$new" "$dir"
        echo "vm: Built in $(seconds_since "$began") s: $dir" >&2
    fi
    exec 8>&-
}

# ---- one machine for each state folder ----

# The process is known by its command line: a number may be anybody's by now.
background_runs() {
    [[ -e $state/background ]] &&
        grep -qsaF "path=$(qemu_path "$state")/agent.sock" "/proc/$(cat "$state/pid")/cmdline"
}

# Takes the lock (and with it the right to start a machine), or finds that a
# background machine of ours is there to be used, perhaps after a while.
take_machine() {
    local deadline=$((SECONDS + lock_timeout))
    mkdir -p "$state"
    exec 9>"$state/lock"
    ours=yes
    flock -n 9 && return
    background_runs || echo "vm: Waiting for another virtual machine to end ..." >&2
    until background_runs; do
        [[ $SECONDS -lt $deadline ]] || die "Another virtual machine did not end within $lock_timeout s."
        if flock -w 1 9; then
            return
        fi
    done
    ours=
    exec 9>&-
    [[ $(cat "$state/background") == "$suite" ]] ||
        die "A $(cat "$state/background") machine runs in the background: use it, or run '$0 stop'."
}

# Commands in a background machine come one after the other.
take_turn() {
    exec 7>"$state/turn"
    flock -w "$lock_timeout" 7 || die "The command before this one did not end within $lock_timeout s."
}

# ---- QEMU ----

# What QEMU has translated is good for other processes, too, as long as libraries lie where they lay in the others: with
# addresses at random each process is translated anew, and takes more than twice as long.
kernel_line="console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off nokaslr norandmaps tsc=reliable audit=0"
kernel_line+=" systemd.show_status=0 systemd.getty_auto=no"

# One processor: of two that are emulated one waits, computing, for what the other holds whenever that has to wait for
# a real one; where two machines and other tests share two processors, each test takes twice as much of them.
# Without ERMS the guest's kernel clears and copies memory by words: emulated, that is three times as fast as by bytes.
# shellcheck disable=SC2054 # the commas are QEMU's
guest_arguments=(-nodefaults -no-user-config -display none -machine pc,usb=off
    -accel tcg,thread=multi,tb-size=512 -cpu max,la57=off,svm=off,erms=off -smp 1 -m 1536
    -bios qboot.rom -append "$kernel_line" -serial chardev:console
    -device virtio-blk-pci,drive=root,serial=root
    -device virtio-serial-pci
    -device virtserialport,chardev=agent,name=loopmount.agent
    -device virtio-rng-pci
    -device virtio-9p-pci,fsdev=exchange,mount_tag=exchange
    -device virtio-9p-pci,fsdev=share,mount_tag=share)

qemu_path() {
    echo "${1//,/,,}" # QEMU's way to quote the only character that matters
}

# Takes the options of the root disk.
host_arguments() {
    local dir state_path
    dir=$(guest_dir)
    state_path=$(qemu_path "$state")
    printf '%s\0' -name "loopmount-$suite" -kernel "$dir/vmlinux" -initrd "$dir/initrd" \
        -drive "if=none,id=root,cache=unsafe,$1" \
        -chardev "file,id=console,path=$state_path/console.log" \
        -chardev "socket,id=agent,path=$state_path/agent.sock,server=on,wait=off" \
        -qmp "unix:$state_path/qmp.sock,server=on,wait=off" \
        -fsdev "local,id=exchange,path=$state_path/exchange,security_model=none,multidevs=remap" \
        -fsdev "local,id=share,path=$(qemu_path "${share:-$state/exchange}"),security_model=none,multidevs=remap"
}

# start_qemu ROOT-DISK-OPTIONS [QEMU-OPTION...]: "qemu_wrapper" says what ties
# its life to ours, or does not.
start_qemu() {
    local -a host
    rm -rf "${state:?}"/{agent.sock,qmp.sock,background,exchange,pid}
    mkdir -p "$state/exchange"
    : >"$state/console.log"
    mapfile -d '' host < <(host_arguments "$1")
    "${qemu_wrapper[@]}" qemu-system-x86_64 "${guest_arguments[@]}" "${host[@]}" "${@:2}" \
        </dev/null >"$state/qemu.log" 2>&1 &
    qemu_pid=$!
    echo "$qemu_pid" >"$state/pid"
    wait_for_socket
}

wait_for_socket() {
    local try
    for ((try = 0; try < 200; try++)); do
        [[ ! -S $state/agent.sock || ! -S $state/qmp.sock ]] || return 0
        kill -0 "$qemu_pid" 2>/dev/null || break
        sleep 0.05
    done
    cat "$state/qemu.log" >&2
    die "QEMU does not start."
}

show_console() {
    echo "vm: The last lines of $state/console.log:" >&2
    tail -n 30 "$state/console.log" | tr -d '\r' >&2
}

end_qemu() {
    [[ -n $qemu_pid ]] || return 0
    kill "$qemu_pid" 2>/dev/null || true
    wait "$qemu_pid" 2>/dev/null || true
    qemu_pid=
    rm -rf "${state:?}"/{agent.sock,qmp.sock,exchange,pid}
}

# ---- talking to the guest ----

# In the background, so that a signal to this script is acted on at once.
ask() {
    local code=0
    setpriv --pdeathsig TERM -- "$here/ask-agent" --socket "$state/agent.sock" "$@" <&0 7>&- 9>&- &
    child_pid=$!
    wait "$child_pid" || code=$?
    child_pid=
    return $code
}

prepare() {
    ask --timeout 120 -- /usr/local/lib/loopmount-test/prepare "$@" </dev/null &>"$state/prepare.log" ||
        { cat "$state/prepare.log" >&2 && die "The guest could not prepare itself ($*)."; }
}

# ---- cold boot, saving, restoring ----

boot_cold() {
    start_qemu "$1"
    ask --boot-timeout "$boot_timeout" </dev/null || { show_console && die "The $suite guest does not boot."; }
}

saved_key() {
    printf '%s\n' "${guest_arguments[@]}" "$(qemu-system-x86_64 --version)" "$(inputs_stamp)" |
        sha256sum | cut -d' ' -f1
}

# saved_state_is key: it can be restored; unusable: that was tried in vain.
saved_state_is() {
    [[ $(cat "$(guest_dir)/saved/$1" 2>/dev/null) == "$(saved_key)" ]]
}

wants_saving() {
    [[ $use_saved == yes && -w $(guest_dir) ]] && ! saved_state_is key && ! saved_state_is unusable
}

# Needs the lock of the machine. A failure to save is no failure: the guest
# then boots each time.
save_machine() {
    local dir saved began
    dir=$(guest_dir)
    saved=$dir/saved
    # Closed by whom it is inherited; the machine that saves ends before us.
    exec 8>"$dir.lock"
    flock -w "$build_timeout" 8 || die "Another saving of $suite did not end in time."
    wants_saving || { exec 8>&- && return; }
    began=$(date +%s%N)
    echo "vm: Booting the $suite guest once, to save its state ..." >&2
    rm -rf "$saved"
    mkdir "$saved"
    qemu-img create -q -f qcow2 -F raw -b ../disk.raw "$saved/root.qcow2"
    boot_cold "file=$(qemu_path "$saved/root.qcow2"),format=qcow2"
    prepare settle
    if "$here/ask-qemu" "$state/qmp.sock" \
        'migrate-set-parameters={"max-bandwidth": 2000000000}' "migrate={\"uri\": \"exec:zstd -q -1 -o $(printf %q "$saved/memory.zst")\"}" saved quit >/dev/null; then
        wait "$qemu_pid" || true
        saved_key >"$saved/key"
        echo "vm: Saved in $(seconds_since "$began") s." >&2
    else
        rm -rf "$saved"
    fi
    end_qemu
    exec 8>&-
}

restore() {
    local saved
    saved=$(guest_dir)/saved
    start_qemu "file=$(qemu_path "$saved/root.qcow2"),format=qcow2,snapshot=on" \
        -incoming "exec:zstd -dcq $(printf %q "$saved/memory.zst")"
    if ask --boot-timeout "$restore_timeout" --timeout 20 -- \
        /usr/local/lib/loopmount-test/prepare clock "$(date +%s.%N)" </dev/null; then
        return 0
    fi
    echo "vm: The saved state does not come back; booting instead." >&2
    end_qemu
    mv "$saved/key" "$saved/unusable"
    rm -f "$saved/memory.zst" "$saved/root.qcow2"
    return 1
}

plug_disk() {
    local number=$1 mode=${disks[$1]%%:*} file=${disks[$1]#*:} read_only=false
    [[ $mode == rw ]] || read_only=true
    file=${file//\\/\\\\}
    file=${file//\"/\\\"}
    "$here/ask-qemu" "$state/qmp.sock" \
        "blockdev-add={\"driver\": \"raw\", \"node-name\": \"disk$number\", \"read-only\": $read_only, \"file\": {\"driver\": \"file\", \"filename\": \"$file\"}}" \
        "device_add={\"driver\": \"virtio-blk-pci\", \"id\": \"disk$number\", \"drive\": \"disk$number\", \"serial\": \"disk$number\"}" ||
        die "The disk '$file' cannot be attached."
    prepare disk "$number" "$mode"
}

# Brings up a machine of our own with all that the options ask for.
boot() {
    local began number
    if wants_saving; then
        save_machine
    fi
    began=$(date +%s%N)
    if [[ $use_saved != yes ]] || ! saved_state_is key || ! restore; then
        boot_cold "file=$(qemu_path "$(guest_dir)/disk.raw"),format=raw,snapshot=on"
    fi
    tell "$suite was up after $(seconds_since "$began") s."
    [[ -z $share ]] || prepare share
    for number in "${!disks[@]}"; do
        plug_disk "$number"
    done
}
