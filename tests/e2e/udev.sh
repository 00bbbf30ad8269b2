# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# udev drives the volumes: what happens to an attached image is seen at once.

has_volume() {
    [[ $(property "/image/$id/volume/$1" Volume Type) == "s \"$2\"" ]]
}

has_no_volume() {
    ! property "/image/$id/volume/$1" Volume Type
}

attach_empty() {
    copy zero.img
    attach "$copy" -w --no-mount
}

# As root() takes no input.
sfdisk_with() {
    did="sfdisk $device: $1"
    sfdisk --quiet "$device" <<<"$1"
}

test_our_devices_are_tagged_and_others_are_not() {
    attach "$images/gpt-multi.img" --settle
    root udevadm info --query=property "$device"
    expect_out_has "UDISKS_IGNORE=1"
    expect_out_has ":loopmount:"
    root udevadm info --query=property "${device}p2"
    expect_out_has "UDISKS_IGNORE=1"
    expect_out_has ":loopmount:"
    detach_all
    root losetup --find --show --read-only "$images/ext4.img"
    device=$out
    udevadm settle
    root udevadm info --query=property "$device"
    root losetup --detach "$device"
    [[ $(udevadm info --query=property "$device") != *"CURRENT_TAGS=:loopmount:"* ]] || fail "a foreign loop is tagged"
}

test_udev_does_not_look_at_what_is_in_an_image() {
    local link
    attach "$images/gpt-multi.img" --settle
    root udevadm info --query=property "${device}p2"
    expect_out_lacks ID_FS_
    for link in /dev/disk/by-label/ROOT /dev/disk/by-uuid/*; do
        [[ $(readlink -f "$link") != "$device"* ]] || fail "there is a link: $link"
    done
    detach_all
}

test_foreign_loops_are_not_shown_nor_touched() {
    root losetup --find --show --read-only "$images/ext4.img"
    local foreign=$out
    ann loopmount list --all-users
    expect_out ""
    tries ann loopmount detach "$foreign"
    local code=$status
    tries ann loopmount detach --all
    tries losetup "$foreign" >/dev/null
    root losetup --detach "$foreign"
    expect_equal 5 "$code" "the exit code"
}

test_partitioning_adds_volumes() {
    attach_empty
    sfdisk_with $'label: gpt\nsize=2M\nsize=2M'
    wait_until "volume 2 is there" has_volume 2 ""
    [[ -b ${device}p2 ]] || fail "the device of the partition is not there"
    expect_equal 's "gpt"' "$(property "/image/$id" Image PartitionTable)" "the table"
    sfdisk --quiet --delete "$device" 2
    wait_until "volume 2 is gone" has_no_volume 2
    has_volume 1 "" || fail "volume 1 is gone too"
    detach_all
}

test_partitions_of_mbr_with_logical_ones() {
    attach_empty
    sfdisk_with "label: dos
size=1M
size=5M,type=extended
${device}p5 : size=1M
${device}p6 : size=1M"
    wait_until "volume 6 is there" has_volume 6 ""
    has_volume 5 "" || fail "volume 5 is missing"
    has_no_volume 2 || fail "the extended partition is a volume"
    detach_all
}

test_mkfs_on_a_partition_changes_the_volume() {
    attach_empty
    sfdisk_with $'label: gpt\nsize=6M'
    wait_until "volume 1 is there" has_volume 1 ""
    root mkfs.ext4 -q -L FRESH "${device}p1"
    wait_until "volume 1 is ext4" has_volume 1 ext4
    ann loopmount mount "$id"
    expect_out "$media/FRESH"
    ann loopmount unmount "$id"
    root wipefs --quiet --all "${device}p1"
    wait_until "volume 1 is nothing" has_volume 1 ""
    detach_all
}

test_mkfs_on_the_whole_device() {
    attach_empty
    root mkfs.ext4 -q -L WHOLE "$device"
    wait_until "volume 0 is ext4" has_volume 0 ext4
    detach_all
}

test_the_monitor_tells_of_it() {
    attach_empty
    start monitor ann loopmount monitor
    wait_for_output monitor "$id attached"
    sfdisk_with $'label: gpt\nsize=2M'
    wait_for_output monitor "$id volume 1 added"
    sfdisk --quiet --delete "$device" 1
    wait_for_output monitor "$id volume 1 removed"
    kill "$pid"
    tries end monitor
    detach_all
}

test_a_mounted_partition_stays_when_others_change() {
    copy gpt-two-ext4.img
    attach "$copy" -w --volume 1
    did="sfdisk --delete"
    sfdisk --quiet --force --no-reread --delete "$device" 2 || fail "sfdisk fails"
    partx --update "$device" || true
    ann loopmount rescan "$id"
    has_no_volume 2 || fail "volume 2 is still there"
    expect_hello "$media/SAME" "gpt-two-ext4.img volume 1"
    detach_all
}

test_without_udev() {
    root systemctl stop systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udevd.service
    tries ann loopmount attach --print-path "$images/gpt-multi.img"
    local seen=$out
    tries ann cat "$media/ROOT/hello.txt"
    local file=$out
    tries ann loopmount detach --all
    local code=$status
    systemctl start systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udevd.service
    expect_equal 0 "$code" "the exit code of detach"
    expect_equal "$media/ESP
$media/ROOT
$media/squashfs" "$seen" "what is mounted"
    expect_equal "hello from gpt-multi.img volume 2" "$file" "the file"
}

udisks_ignores_it() {
    udisksctl info --block-device "$device" | grep -q "HintIgnore: *true"
}

test_udisks_leaves_our_devices_alone() {
    systemctl unmask --quiet udisks2.service
    root systemctl start udisks2.service
    attach "$images/ext4.img" --settle
    wait_until "udisks ignores the device" udisks_ignores_it
    root findmnt --noheadings --output TARGET --source "$device"
    local mounts=$out
    detach_all
    systemctl stop udisks2.service
    systemctl mask --quiet udisks2.service
    expect_equal "$media/EXT4" "$mounts" "where it is mounted"
}
