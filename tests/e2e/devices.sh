# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# Images that name a device which is not their own: the attacks of an ordinary user.

# Somebody's journal: a device of root's. Leaves "journal", its node.
make_journal() {
    root truncate --size=4M /root/journal.img
    root mke2fs -q -F -b 1024 -O journal_dev /root/journal.img
    root losetup --find --show /root/journal.img
    journal=$out
    fails 1 ann head -c 1 "$journal"
    root sha256sum /root/journal.img
    untouched=$out
}

# Two images of ann's, which differ in nothing but the superblock: "own.sb" has a journal inside, "theirs.sb" names root's.
make_images() {
    ann truncate --size=8M own.img
    ann mke2fs -q -F -b 1024 -t ext4 -L JOURNAL own.img
    root cp /home/ann/own.img /root/theirs.img
    root tune2fs -O ^has_journal /root/theirs.img
    root tune2fs -J "device=$journal" /root/theirs.img
    root install -o ann -m 644 /root/theirs.img /home/ann/theirs.img
    ann_sh "for name in own theirs; do dd if=\$name.img of=\$name.sb bs=1024 skip=1 count=1 status=none; done"
    # tune2fs has written to the journal: that it is this image's.
    root sync /root/journal.img
    root blockdev --flushbufs "$journal"
    root sha256sum /root/journal.img
    untouched=$out
}

# Were it opened only, the driver would have written to it.
expect_untouched() {
    root blockdev --flushbufs "$journal"
    root sha256sum /root/journal.img
    expect_out "$untouched"
}

remove_all() {
    ann rm own.img theirs.img own.sb theirs.sb
    root losetup --detach "$journal"
    root rm /root/journal.img /root/theirs.img
}

superblock() {
    ann dd if="$1.sb" of=own.img bs=1024 seek=1 count=1 conv=notrunc status=none
}

test_a_journal_on_another_device() {
    make_journal
    make_images
    fails 6 ann loopmount attach --writable theirs.img
    expect_err_has "its journal is on another device"
    fails 6 ann loopmount attach --writable --type ext4 theirs.img
    expect_err_has "its journal is on another device"
    attach theirs.img --type ext4
    expect_mounted "$media/JOURNAL"
    detach_all
    expect_untouched
    remove_all
}

# The probe, and whoever is asked for a permission, have seen another superblock than the driver does.
test_a_journal_that_moves_behind_the_probe() {
    local i
    make_journal
    make_images
    for i in 1 2 3 4; do
        attach own.img --writable --no-mount
        superblock theirs
        fails 6 ann loopmount mount own.img
        expect_err_has "mounting it as ext4 failed"
        ann loopmount detach own.img
        superblock own
    done
    expect_untouched
    attach own.img --writable --on-access
    superblock theirs
    fails 1 ann touch "$media/JOURNAL/file"
    fails 1 root touch "$media/JOURNAL/file"
    detach_all
    superblock own
    expect_untouched
    remove_all
}

# At any moment: a process of ann's changes the superblock all the time. Whether a mount succeeds is chance.
test_a_journal_that_moves_all_the_time() {
    local i failed=0
    make_journal
    make_images
    start flipper ann sh -c "while [ -e theirs.sb ]; do
        for name in theirs own; do dd if=\$name.sb of=own.img bs=1024 seek=1 count=1 conv=notrunc status=none; done
    done; exit 0"
    for ((i = 0; i < 15; i++)); do
        tries ann loopmount attach --writable own.img
        [[ $status -eq 0 ]] || failed=$((failed + 1))
        tries ann loopmount detach own.img
    done
    say "$failed of 15 mounts failed"
    ann mv theirs.sb gone.sb
    tries end flipper
    ann mv gone.sb theirs.sb
    detach_all
    expect_untouched
    remove_all
}

# btrfs keeps the name of a device after the mount: it gets one that no later device has. The system's own tools, and
# systemd, get along with it.
test_btrfs_gets_a_name_of_its_own() {
    copy btrfs.img
    attach btrfs.img --writable
    ann findmnt --noheadings --output SOURCE "$mount_point"
    [[ $out == "$device".[0-9]* ]] || fail "the source is $out"
    fails 2 root ls "$out"
    ann df "$mount_point"
    root systemctl daemon-reload
    expect_mounted "$mount_point"
    ann umount "$mount_point"
    fails 1 ann findmnt "$mount_point"
    # With the same UUIDs, by root.
    root losetup --find --show /home/ann/btrfs.img
    device=$out
    root mount "$device" /mnt
    root umount /mnt
    root losetup --detach "$device"
    ann rm btrfs.img
}

# ---- File systems on several devices ----

# root_device SAMPLE: a device of root's that holds a copy of it; leaves its node in "out".
root_device() {
    root cp --sparse=always "$images/$1" "/root/$1"
    root losetup --find --show "/root/$1"
}

remove_root_device() {
    root losetup --detach "$1"
    root rm "/root/$2"
}

# An array of root's that is not mounted, but known to the kernel; its one file says whose it is.
make_array() {
    root modprobe btrfs
    root_device btrfs-array-1.img
    array=("$out")
    root_device btrfs-array-2.img
    array+=("$out")
    # It may have looked at them before there was a driver to tell.
    root udevadm trigger --action=change --settle "${array[@]}"
    wait_until "the array is complete" mount -t btrfs "${array[0]}" /mnt
    root sh -c "echo root >/mnt/whose"
    root umount /mnt
}

# By either device root gets what root has written. udev may take a moment to register them again.
expect_array_of_root() {
    local device
    for device in "${array[@]}"; do
        wait_until "the array is complete" mount -t btrfs "$device" /mnt
        root cat /mnt/whose
        expect_out root
        root umount /mnt
    done
}

remove_array() {
    remove_root_device "${array[0]}" btrfs-array-1.img
    remove_root_device "${array[1]}" btrfs-array-2.img
    rm "$copy"
}

# The twin's superblock is newer than those of the array that it claims to be part of.
test_a_twin_of_an_array_without_permission() {
    without_any_filesystem
    make_array
    copy btrfs-twin.img
    fails 3 ann loopmount attach --no-ask-password --writable "$copy"
    expect_array_of_root
    attach "$copy" --writable --no-mount
    expect_array_of_root
    fails 3 ann loopmount mount --no-ask-password "$copy"
    detach_all
    expect_array_of_root
    remove_array
}

# Linux 6.1 says EINVAL, and 6.12 ENOENT.
refused_by_driver() {
    tries "$@"
    [[ $status -eq 1 || $status -eq 6 ]] || fail "the exit code is neither 1 nor 6"
    expect_err_has "mounting it as btrfs failed"
}

# The mount fails, as the second device is missing. Then the same loop device again, to take the place of root's.
test_a_twin_of_an_array_with_permission() {
    local i
    make_array
    copy btrfs-twin.img
    for i in 1 2; do
        refused_by_driver ann loopmount attach --writable "$copy"
        expect_array_of_root
        attach "$copy" --writable --no-mount
        expect_array_of_root
        refused_by_driver ann loopmount mount "$copy"
        detach_all
        expect_array_of_root
    done
    remove_array
}

# f2fs opens the first device by its name, too: has ann's image name the device that it is attached to.
name_first() {
    local offset
    while IFS=: read -r offset _; do
        printf '%s\0' "${device#/dev/}" | dd of="$copy" bs=1 seek="$offset" conv=notrunc status=none
    done < <(LC_ALL=C grep --text --byte-offset --only-matching loopmount-first "$copy" || true)
}

# another_device TYPE: an image of ann's names a device of root's by its path. Root could mount it; for ann the driver
# does not read a block of that device.
another_device() {
    local first second reads
    copy "$1-two-1.img"
    root_device "$1-two-1.img"
    first=$out
    root_device "$1-two-2.img"
    second=$out
    root ln -s "$first" /dev/loopmount-first
    root ln -s "$second" /dev/loopmount-second
    fails 1 ann head -c 1 "$second"
    root mount -o ro -t "$1" "$first" /mnt
    root umount /mnt
    reads=$(cat "/sys/block/${second#/dev/}/stat")
    attach "$copy" --no-mount
    name_first
    # Linux 6.12 mounts the erofs, and cannot read what should be on the other device.
    tries ann loopmount mount "$copy"
    say "exit code $status $err"
    tries ann_sh "cat $media/*/file"
    expect_out_lacks "second"
    expect_equal "$reads" "$(cat "/sys/block/${second#/dev/}/stat")" "what was read of root's device"
    detach_all
    root rm /dev/loopmount-first /dev/loopmount-second
    remove_root_device "$first" "$1-two-1.img"
    remove_root_device "$second" "$1-two-2.img"
    rm "$copy"
}

test_f2fs_names_another_device() {
    another_device f2fs
}

test_erofs_names_another_device() {
    another_device erofs
}
