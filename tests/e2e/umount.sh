# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# Plain umount works, and detaching tells the truth.

iso=$images/iso-rockridge.iso
gpt=$images/gpt-multi.img

is_detached() {
    ! property "/image/$id" Image Device
}

test_umount_by_the_user() {
    attach "$iso"
    ann umount "$mount_point"
    expect_no_err
    expect_not_mounted "$mount_point"
    is_detached || fail "it is still attached"
    [[ ! -e $mount_point ]] || fail "the folder is still there"
}

test_umount_by_the_user_of_the_device() {
    attach "$iso"
    ann umount "$device"
    is_detached || fail "it is still attached"
}

test_umount_of_the_last_volume_detaches() {
    attach "$gpt"
    ann umount "$media/ESP" "$media/squashfs"
    expect_mounted "$media/ROOT"
    ann umount "$media/ROOT"
    is_detached || fail "it is still attached"
}

test_umount_by_root() {
    attach "$gpt"
    root umount "$media/ROOT"
    wait_until "the folder is gone" gone "$media/ROOT"
    root umount "$media/ESP" "$media/squashfs"
    wait_until "it is detached" is_detached
}

test_umount_by_root_without_the_helper() {
    attach "$iso"
    root umount --internal-only "$mount_point"
    wait_until "it is detached" is_detached
    wait_until "the folder is gone" gone "$mount_point"
}

test_umount_in_odd_ways_by_the_user_is_refused() {
    attach "$iso"
    local option
    for option in --lazy --force --read-only; do
        tries ann umount "$option" "$mount_point"
        [[ $status -ne 0 ]] || fail "umount $option succeeds"
        expect_mounted "$mount_point"
    done
    ann umount --verbose "$mount_point"
}

test_lazy_umount_by_root_while_it_is_in_use() {
    attach "$iso"
    start holder ann sh -c "cd $mount_point && exec sleep 60"
    root umount --lazy --internal-only "$mount_point"
    wait_until "the folder is gone" gone "$mount_point"
    kill "$pid"
    tries end holder
    wait_until "it is detached" is_detached
}

test_umount_while_busy_says_who() {
    attach "$iso"
    start holder ann sh -c "cd $mount_point && exec sleep 60"
    wait_until "it sleeps" grep -q sleep "/proc/$pid/comm"
    fails 32 ann umount "$mount_point"
    expect_err_has "sleep (pid $pid)"
    expect_mounted "$mount_point"
    kill "$pid"
    tries end holder
    ann umount "$mount_point"
}

test_detach_while_busy_names_the_process_and_changes_nothing() {
    attach "$gpt"
    start holder ann sleep 60
    kill "$pid"
    tries end holder
    start holder ann sh -c "exec sleep 60 <$media/ROOT/hello.txt"
    wait_until "it sleeps" grep -q sleep "/proc/$pid/comm"
    fails 4 ann loopmount detach "$gpt"
    expect_err_has "sleep (pid $pid)"
    expect_one_line_of_error
    local name
    for name in ESP ROOT squashfs; do
        expect_mounted "$media/$name"
        ann ls "$media/$name"
    done
    expect_hello "$media/ROOT" "gpt-multi.img volume 2"
    fails 4 ann loopmount detach --all
    fails 4 ann loopmount unmount --volume 2 "$gpt"
    kill "$pid"
    tries end holder
    ann loopmount detach "$gpt"
}

test_forced_detach_while_busy() {
    attach "$gpt"
    start holder ann sh -c "exec sleep 60 <$media/ROOT/hello.txt"
    wait_until "it sleeps" grep -q sleep "/proc/$pid/comm"
    fails 3 bob loopmount detach --force --no-ask-password "$device"
    expect_mounted "$media/ROOT"
    ann loopmount detach --force "$gpt"
    expect_err_has "it goes when the last program closes it"
    [[ ! -e $media/ROOT && ! -e $media/ESP ]] || fail "a folder is still there"
    ann loopmount list
    expect_out_has gpt-multi.img
    kill "$pid"
    tries end holder
    wait_until "it is detached" is_detached
}

test_forced_detach_of_what_nobody_uses() {
    attach "$iso"
    ann loopmount detach --force "$iso"
    expect_no_err
    is_detached || fail "it is still there"
}

test_other_users_processes_are_only_counted() {
    attach "$iso"
    start holder root sh -c "cd $mount_point && exec sleep 60"
    wait_until "it sleeps" grep -q sleep "/proc/$pid/comm"
    fails 4 ann loopmount detach "$iso"
    expect_err_has "1 process of another user"
    [[ $err != *"$pid"* ]] || fail "the process of root is named"
    root sh -c "loopmount detach $iso || true"
    expect_err_has "sleep (pid $pid)"
    kill "$pid"
    tries end holder
    ann loopmount detach "$iso"
}

test_the_device_open_elsewhere() {
    attach "$iso" --no-mount
    start holder root sh -c "exec sleep 60 <$device"
    wait_until "it sleeps" grep -q sleep "/proc/$pid/comm"
    fails 4 ann loopmount detach "$iso"
    expect_err_has "process"
    kill "$pid"
    tries end holder
    wait_until "it is detached" is_detached
}

test_something_mounted_below() {
    attach "$gpt"
    root mount -t tmpfs tmpfs "$media/ROOT/dir"
    tries ann loopmount detach "$gpt"
    local code=$status
    umount "$media/ROOT/dir"
    expect_equal 4 "$code" "the exit code"
    ann loopmount detach "$gpt"
}

test_writes_are_on_the_file_when_detach_returns() {
    copy fat16.img
    attach "$copy" -w
    ann_sh "head -c 3000000 /dev/urandom >$media/FAT16/big; sha256sum <$media/FAT16/big >sum"
    ann loopmount detach "$copy"
    attach "$copy"
    ann_sh "sha256sum <$media/FAT16/big | cmp - sum"
    detach_all
}

# Does not walk to the mount point: that would be using it.
is_unmounted() {
    ! grep -q " $mount_point ext4 " /proc/mounts
}

# A mount namespace of another user keeps the superblock of what has been unmounted. It can be mounted again all the same.
test_a_namespace_has_a_copy_of_the_mount() {
    local i
    copy ext4.img
    attach "$copy" --on-access --idle-timeout=1
    for i in 1 2; do
        ann ls "$mount_point"
        start holder bob unshare --user --map-root-user --mount sleep 60
        wait_until "it sleeps" grep -q sleep "/proc/$pid/comm"
        wait_until "it is unmounted" is_unmounted
        expect_hello "$mount_point" ext4.img
        kill "$pid"
        tries end holder
    done
    detach_all
    rm "$copy"
}
