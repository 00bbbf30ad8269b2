# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# An ordinary user in an active local session: attach, look, detach, and every
# option of attach.

iso=$images/iso-rockridge.iso
gpt=$images/gpt-multi.img

test_attach_prints_where_and_the_files_can_be_read() {
    ann loopmount attach "$iso"
    expect_out "$media/LOOP_ISO  (iso9660, read-only)"
    expect_no_err
    ann cat "$media/LOOP_ISO/hello.txt" "$media/LOOP_ISO/name with spaces.txt" "$media/LOOP_ISO/dir/inside.txt"
    expect_out "hello from iso-rockridge.iso
spaces
inside"
    fails 1 ann touch "$media/LOOP_ISO/new"
    ann loopmount detach "$iso"
    expect_out ""
    expect_no_err
    [[ ! -e $media/LOOP_ISO ]] || fail "the folder is still there"
}

test_others_cannot_look_into_it() {
    ann loopmount attach "$iso"
    fails 2 bob ls "$media"
    fails 2 bob ls "$media/LOOP_ISO/"
    root cat "$media/LOOP_ISO/hello.txt"
    detach_all
}

test_list_shows_images_and_partitions() {
    ann loopmount list
    expect_out ""
    expect_equal "No images attached." "$err"
    ann loopmount attach "$iso" "$gpt"
    ann loopmount list
    expect_out_has "iso-rockridge.iso"
    expect_out_has "$media/LOOP_ISO"
    expect_out_has "gpt-multi.img"
    expect_out_has "  volume 2"
    expect_out_has "$media/ROOT"
    expect_out_has "crypto_LUKS"
    expect_no_err
    bob loopmount list
    expect_out ""
    bob loopmount list --all-users
    expect_out_has "gpt-multi.img"
    detach_all
}

test_list_json_is_json() {
    ann loopmount list --json
    expect_out '{"images":[]}'
    ann loopmount attach "$gpt"
    ann loopmount list --json
    local document=$out
    expect_equal gpt "$(json images.0.partition_table "$document")" "the table"
    expect_equal 1000 "$(json images.0.owner_uid "$document")" "the owner"
    expect_equal attached "$(json images.0.state "$document")" "the state"
    expect_equal true "$(json images.0.read_only "$document")" "read_only"
    expect_equal true "$(json images.0.auto_detach "$document")" "auto_detach"
    expect_equal 22020096 "$(json images.0.size "$document")" "the size"
    expect_equal 512 "$(json images.0.sector_size "$document")" "the sector size"
    expect_equal "$gpt" "$(json images.0.backing_file "$document")" "the file"
    expect_equal ROOT "$(json images.0.volumes.1.label "$document")" "a label"
    expect_equal "$media/ROOT" "$(json images.0.volumes.1.mount_points "$document")" "a mount point"
    expect_equal "EFI system" "$(json images.0.volumes.0.partition_name "$document")" "a partition's name"
    expect_equal crypto "$(json images.0.volumes.5.usage "$document")" "the usage of a LUKS"
    [[ $(json images.0.volumes.5.obstacle "$document") == *encrypted* ]] || fail "the obstacle of a LUKS is not told"
    detach_all
}

test_info_by_file_mount_point_device_and_id() {
    local target
    attach "$gpt"
    for target in "$gpt" "$media/ROOT" "$device" "${device}p2" "$id" "id:$id"; do
        ann loopmount info "$target"
        expect_out_has "$device"
        expect_out_has "$media/ROOT"
        ann loopmount info --json "$target"
        expect_equal "$id" "$(json image.id)" "the id by $target"
    done
    ann loopmount info "$id" "$media/ROOT"
    fails 5 ann loopmount info "$images/ext4.img"
    expect_err_has "is not attached"
    fails 5 ann loopmount info "$media/ROOT/dir"
    detach_all
}

check_detach_by() {
    attach "$gpt"
    ann loopmount detach "${1//DEVICE/$device}"
    expect_not_mounted "$media/ROOT"
    ann loopmount list
    expect_out ""
}

test_detach_by_file() { check_detach_by "$gpt"; }
test_detach_by_mount_point() { check_detach_by "$media/ROOT"; }
test_detach_by_device() { check_detach_by DEVICE; }
test_detach_by_partition() { check_detach_by DEVICEp2; }

test_detach_by_id() {
    attach "$gpt"
    ann loopmount detach "$id"
    ann loopmount list
    expect_out ""
}

test_detach_by_another_name_of_the_file() {
    ann loopmount attach "$iso"
    ann ln -s "$iso" "link to it"
    ann loopmount detach "link to it"
    ann loopmount list
    expect_out ""
}

test_detach_several_at_once() {
    attach "$iso"
    local first=$id
    attach "$images/ext4.img"
    ann loopmount attach "$images/fat32.img"
    fails 5 ann loopmount detach "$first" "$images/zero.img" "$mount_point" "$images/fat32.img"
    expect_err_has zero.img
    expect_one_line_of_error
    ann loopmount list
    expect_out ""
}

test_detach_all() {
    ann loopmount attach "$iso" "$images/ext4.img" "$gpt"
    ann loopmount detach --all
    expect_out ""
    expect_no_err
    ann loopmount detach --all
}

test_attach_several_tries_all() {
    fails 6 ann loopmount attach "$images/zero.img" "$iso"
    expect_out "$media/LOOP_ISO  (iso9660, read-only)"
    expect_err_has zero.img
    detach_all
}

test_mount_and_unmount() {
    ann loopmount attach --no-mount "$gpt"
    expect_out_has "nothing is mounted"
    ann loopmount mount --volume 2 "$gpt"
    expect_out "$media/ROOT"
    expect_hello "$media/ROOT" "gpt-multi.img volume 2"
    fails 4 ann loopmount mount --volume 2 "$gpt"
    ann loopmount mount "$gpt"
    expect_out "$media/ESP
$media/squashfs"
    ann loopmount unmount "$media/ESP"
    expect_not_mounted "$media/ESP"
    ann loopmount unmount "$gpt"
    expect_not_mounted "$media/ROOT"
    fails 5 ann loopmount unmount "$gpt"
    # It was attached without mounting: it stays.
    ann loopmount info "$gpt"
    ann loopmount detach "$gpt"
}

test_unmounting_the_last_volume_detaches() {
    ann loopmount attach --volume 1,2 "$gpt"
    ann loopmount unmount --volume 1 "$gpt"
    ann loopmount info "$gpt"
    ann loopmount unmount --volume 2 "$gpt"
    fails 5 ann loopmount info "$gpt"
}

test_monitor_tells_what_happens() {
    ann loopmount attach "$images/ext4.img"
    start monitor ann loopmount monitor
    wait_for_output monitor "mounted: $media/EXT4"
    attach "$iso"
    wait_for_output monitor "$id attached: "
    wait_for_output monitor "mounted: $media/LOOP_ISO"
    ann loopmount detach "$iso"
    wait_for_output monitor "$id volume 0 unmounted: $media/LOOP_ISO"
    wait_for_output monitor "$id detached: "
    kill -INT "$pid"
    tries end monitor
    expect_out_lacks "LOOP_ISO
LOOP_ISO"
    detach_all
}

test_monitor_json_outlives_the_daemon() {
    start monitor ann loopmount monitor --json
    ann loopmount list
    root systemctl restart loopmountd.service
    attach "$iso"
    wait_for_output monitor '"event":"mounted"'
    detach_all
    wait_for_output monitor '"event":"detached"'
    kill -TERM "$pid"
    tries end monitor
    local events=() line document=$out
    while read -r line; do
        events+=("$(json event "$line")")
        expect_equal "$id" "$(json image_id "$line")" "the id"
    done <<<"$document"
    expect_equal "attached volume-added mounted unmounted volume-removed detached" "${events[*]}" "the events"
}

# ---- Options ----

test_writable() {
    copy ext4.img
    ann loopmount attach "$copy"
    fails 4 ann loopmount attach --writable "$copy"
    expect_err_has "$media/EXT4"
    detach_all
    copy fat16.img
    ann loopmount attach -w "$copy"
    expect_out "$media/FAT16  (vfat, writable)"
    ann_sh "echo written >$media/FAT16/new.txt"
    ann loopmount detach "$copy"
    ann loopmount attach "$copy"
    ann cat "$media/FAT16/new.txt"
    expect_out written
    fails 1 ann_sh "echo x >$media/FAT16/other.txt"
    detach_all
}

test_looking_at_an_image_does_not_change_it() {
    local name
    for name in ext4-dirty.img xfs.img btrfs.img f2fs.img fat32.img; do
        copy "$name"
        ann loopmount attach "$copy"
        tries ann sh -c "cat $media/*/hello.txt"
        ann loopmount detach "$copy"
        cmp "$copy" "$images/$name" || fail "$name was changed"
        ann rm "$copy"
    done
}

test_offset() {
    fails 6 ann loopmount attach "$images/offset.img"
    ann loopmount attach --offset=1M "$images/offset.img"
    expect_out "$media/OFFSET  (ext4, read-only)"
    expect_hello "$media/OFFSET" offset.img
    detach_all
    ann loopmount attach --offset=1048576 --no-mount "$images/offset.img"
    detach_all
    ann loopmount attach --offset=1024KiB --size=4MiB --no-mount "$images/offset.img"
    ann loopmount list --json
    expect_equal 1048576 "$(json images.0.offset)" "the offset"
    expect_equal 4194304 "$(json images.0.size)" "the size"
    detach_all
    fails 2 ann loopmount attach --offset=1000 "$images/offset.img"
    fails 2 ann loopmount attach --offset=1MX "$images/offset.img"
    fails 6 ann loopmount attach --offset=1G "$images/offset.img"
}

test_size() {
    ann loopmount attach --no-mount --size=2MB "$images/zero.img"
    ann loopmount list --json
    expect_equal 1999872 "$(json images.0.size)" "the size, in whole sectors"
    detach_all
    ann loopmount attach --offset=7340032 --size=4194304 "$gpt"
    expect_out "$media/ROOT  (ext4, read-only)"
    detach_all
}

test_sector_size() {
    ann loopmount attach --json --no-mount --sector-size=4096 "$images/ext4.img"
    expect_equal 4096 "$(json image.sector_size)" "the sector size"
    root blockdev --getss "$(json image.device)"
    expect_out 4096
    detach_all
    fails 6 ann loopmount attach "$images/gpt-two-sectors.img"
    expect_err_has sector-size
    ann loopmount attach --sector-size=512 "$images/gpt-two-sectors.img"
    expect_hello "$media/BOTH" "gpt-two-sectors.img volume 1"
    detach_all
    fails 2 ann loopmount attach --sector-size=777 "$images/ext4.img"
}

test_no_mount() {
    attach "$iso" --no-mount
    expect_equal "" "$mount_point" "the mount point"
    root blkid --probe --output value --match-tag LABEL "$device"
    expect_out LOOP_ISO
    ann loopmount detach "$device"
}

test_no_mount_of_nothing() {
    fails 6 ann loopmount attach "$images/zero.img"
    expect_one_line_of_error
    ann loopmount attach --no-mount "$images/zero.img"
    expect_out_has "/dev/loop"
    ann loopmount detach "$images/zero.img"
}

test_no_partition_scan() {
    fails 6 ann loopmount attach --no-partition-scan "$gpt"
    attach "$gpt" --no-partition-scan --no-mount
    [[ ! -e ${device}p1 ]] || fail "there are partitions"
    ann loopmount list --json
    [[ $out != *'"number":1'* ]] || fail "there is a volume 1"
    detach_all
}

# Where a file system has the whole image the kernel does not look for a table.
test_a_table_below_a_file_system_is_none() {
    attach "$images/over-gpt.img"
    expect_hello "$mount_point" over-gpt.img
    [[ -z $(compgen -G "${device}p*") ]] || fail "there are partitions"
    detach_all
    # There is one.
    root partx --show --noheadings --output NR "$images/over-gpt.img"
    expect_equal 255 "$(wc -l <<<"$out")" "the number of partitions in the table"
}

# The kernel's own parser finds them as soon as it may look.
test_a_file_system_gives_way_to_a_table() {
    copy ext4.img
    truncate -s "$(stat -c %s "$images/gpt-two-ext4.img")" "$copy"
    attach "$copy" -w --no-mount
    [[ -z $(compgen -G "${device}p*") ]] || fail "there are partitions"
    root dd if="$images/gpt-two-ext4.img" of="$copy" conv=notrunc,fsync status=none
    ann loopmount rescan "$device"
    ann loopmount mount --volume 2 "$device"
    expect_hello "$media/SAME" "gpt-two-ext4.img volume 2"
    detach_all
    [[ -z $(compgen -G "${device}p*") ]] || fail "partitions are left"
}

test_volume() {
    ann loopmount attach --volume=4,2 "$gpt"
    expect_out "$media/squashfs  (squashfs, read-only)
$media/ROOT  (ext4, read-only)"
    expect_not_mounted "$media/ESP"
    ann loopmount attach --volume=2 --print-path "$gpt"
    expect_out "$media/ROOT"
    detach_all
    ann loopmount attach --volume 1 --volume 2 --print-path "$gpt"
    expect_out "$media/ESP
$media/ROOT"
    detach_all
    fails 2 ann loopmount attach --volume 9 "$gpt"
    fails 6 ann loopmount attach --volume 1,6 "$gpt"
    expect_err_has encrypted
}

test_type() {
    ann loopmount attach --type ext4 "$images/ambivalent.img"
    ann loopmount list --json
    expect_equal "hello from ambivalent.img" "$(cat "$(json images.0.volumes.0.mount_points)/hello.txt")" "the file"
    detach_all
    ann loopmount attach -t iso9660 "$images/iso-udf.iso"
    expect_hello "$media/LOOP_BRIDGE" iso-udf.iso
    root findmnt --noheadings --output FSTYPE "$media/LOOP_BRIDGE"
    expect_out iso9660
    detach_all
    fails 6 ann loopmount attach -t xfs "$images/ext4.img"
    expect_err_has xfs
    fails 6 ann loopmount attach -t proc "$images/ext4.img"
}

test_options() {
    ann loopmount attach -o noexec,noatime,umask=0077 "$images/fat32.img"
    root findmnt --noheadings --output OPTIONS "$media/FAT32"
    expect_out_has noexec
    expect_out_has nosuid
    expect_out_has nodev
    expect_out_has fmask=0077
    detach_all
    fails 3 ann loopmount attach -o suid "$images/ext4.img"
    expect_err_has suid
    fails 3 ann loopmount attach -o dev,exec "$images/ext4.img"
    fails 3 ann loopmount attach -o uid=0 "$images/fat32.img"
    fails 3 ann loopmount attach -o errors=panic "$images/ext4.img"
    expect_err_has errors
}

test_programs_run_unless_they_are_set_user_id() {
    copy ext4.img
    attach "$copy" -w
    root cp -p /usr/bin/id "$mount_point/id"
    root chmod 4755 "$mount_point/id"
    ann "$mount_point/id" -u
    expect_out 1000
    root mknod -m 666 "$mount_point/null" c 1 3
    fails 1 ann cat "$mount_point/null"
    detach_all
}

test_name() {
    ann loopmount attach --name "My disc" "$iso"
    expect_out "$media/My disc  (iso9660, read-only)"
    detach_all
    ann loopmount attach --name hidden --print-path --volume 1,2 "$gpt"
    expect_out "$media/hidden
$media/hidden 2"
    detach_all
    ann loopmount attach --print-path --name "../../../etc/passwd" "$iso"
    [[ $(dirname "$out") == "$media" ]] || fail "it is mounted somewhere else"
    detach_all
    ann loopmount attach --print-path --name "$(printf 'x%.0s' {1..300})" "$iso"
    ann ls "$out/hello.txt"
    detach_all
    fails 2 ann loopmount attach --name $'a\xff' "$iso"
    expect_err_has UTF-8
    ann loopmount attach --print-path --name $'a\nb%n' "$iso"
    [[ $out != *$'\n'* ]] || fail "there is a line feed in the path"
    detach_all
    fails 2 ann loopmount attach --name "" "$iso"
}

check_direct_io() {
    ann loopmount attach --json --no-mount --direct-io="$1" "$2"
    expect_equal "$3" "$(json image.direct_io)" "direct_io with $1"
    root losetup --noheadings --output DIO "$(json image.device)"
    expect_equal "$3" "$(sed 's/.*1.*/true/; s/.*0.*/false/' <<<"$out")" "what losetup says"
    detach_all
}

test_direct_io() {
    copy ext4.img
    check_direct_io yes "$copy" true
    check_direct_io no "$copy" false
    check_direct_io auto "$copy" true
    fails 2 ann loopmount attach --direct-io=maybe "$copy"
}

test_keep() {
    ann loopmount attach --keep "$iso"
    ann loopmount unmount "$iso"
    ann loopmount info "$iso"
    ann loopmount mount "$iso"
    ann umount "$media/LOOP_ISO"
    ann loopmount info "$iso"
    ann loopmount detach "$iso"
}

test_settle() {
    attach "$gpt" --settle
    local number
    for number in 1 2 3 4 5 6 7; do
        [[ $(udevadm info --query=property "${device}p$number") == *USEC_INITIALIZED=* ]] ||
            fail "udev has not processed partition $number"
    done
    detach_all
}

test_print_path() {
    ann loopmount attach --print-path "$gpt"
    expect_out "$media/ESP
$media/ROOT
$media/squashfs"
    expect_no_err
    detach_all
}

test_json() {
    ann loopmount attach --json "$iso"
    expect_equal LOOP_ISO "$(json image.volumes.0.label)" "the label"
    expect_equal iso9660 "$(json image.volumes.0.type)" "the type"
    expect_equal "$media/LOOP_ISO" "$(json image.volumes.0.mount_points)" "the mount point"
    expect_no_err
    detach_all
}

test_what_is_not_mounted_is_told() {
    ann loopmount attach "$gpt"
    expect_out "$media/ESP  (vfat, read-only)
$media/ROOT  (ext4, read-only)
$media/squashfs  (squashfs, read-only)"
    expect_err_has "volume 3 is not mounted"
    expect_err_has "volume 5 is not mounted"
    expect_err_has "volume 6 is not mounted: it is encrypted"
    expect_err_has "volume 7 is not mounted"
    detach_all
}

test_wrong_files() {
    fails 5 ann loopmount attach /nowhere/x.img
    expect_one_line_of_error
    fails 6 ann loopmount attach /etc
    fails 6 ann loopmount attach /dev/null
    fails 6 ann loopmount attach /dev/vda
    root install -m 600 "$iso" /home/ann/secret.iso
    fails 1 ann loopmount attach /home/ann/secret.iso
    expect_err_has "Permission denied"
    ann mkfifo pipe
    fails 6 ann loopmount attach pipe
}
