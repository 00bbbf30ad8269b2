# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What is there, as lines of text: loop devices, mounts, folders, files of the
# daemon, lines of utab, processes. Nothing of it may be there after a test
# that was not there before.

snapshot_loops() {
    local dir file
    for dir in /sys/block/loop*/loop; do
        [[ -e $dir/backing_file ]] || continue
        read -r file <"$dir/backing_file" || true
        dir=${dir%/loop}
        echo "loop device ${dir##*/}: $file"
    done
}

snapshot_mounts() {
    local point source line
    while read -r _ _ _ _ point line; do
        source=${line#* - * }
        source=${source%% *}
        if [[ $point == /run/media/* || $source == /dev/loop* || $point == /home/* ]]; then
            echo "mount at $point from $source"
        fi
    done </proc/self/mountinfo
}

snapshot_files() {
    local line
    find /run/media /run/loopmount /etc/loopmount.conf.d /etc/loopmount.conf -mindepth 1 \
        -regex '/run/media/[^/]*' -printf '' -o -path '/run/media/*/*' -prune -printf 'folder %p\n' -o \
        -printf 'file %p\n' 2>/dev/null || true
    while read -r line; do
        echo "utab: $line"
    done </run/mount/utab
}

# Of the users, all but their sessions; of root, what belongs to us. The daemon
# itself may be there or not; its children may not.
snapshot_processes() {
    local parent user name
    ps -eo ppid=,user=,comm= | while read -r parent user name; do
        case $name in
            loopmountd) [[ $parent == 1 ]] || echo "process $name of $user" ;;
            systemd | '(sd-pam)' | bash | sshd* | dbus-daemon) ;;
            loopmount | pkttyagent | polkit-agent-he | umount* | busctl) echo "process $name of $user" ;;
            *) [[ $user != ann && $user != bob && $user != adm1 ]] || echo "process $name of $user" ;;
        esac
    done
}

snapshot() {
    {
        snapshot_loops
        snapshot_mounts
        snapshot_files
        snapshot_processes
    } | sort
}

# Takes away by force what a test has left.
clean_up_by_force() {
    local user dir
    for user in ann bob adm1; do
        pkill --signal KILL --uid "$user" --exact 'loopmount|pkttyagent|busctl|sleep|cat|squashfuse|tail' || true
    done
    rm -rf /etc/loopmount.conf.d
    systemctl stop loopmountd.service || true
    while read -r dir; do
        umount --lazy "$dir" || true
    done < <(findmnt --raw --noheadings --output TARGET,SOURCE |
        awk '$1 ~ "^/run/media/" || $2 ~ "^/dev/loop" || $1 ~ "^/home/" { print $1 }' | tac)
    losetup --detach-all || true
    rm -rf /run/media/*/* /run/loopmount/{images,devices}/*
    : >/run/mount/utab
    systemctl reset-failed loopmountd.service 2>/dev/null || true
} >/dev/null 2>&1
