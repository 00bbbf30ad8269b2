# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# Every sample image, by the manifest: what can be mounted is, by ann, and holds
# what it should; what cannot gives the right reason.

# for_each_image COMMAND...: behind it the image, each once. The lines of an image follow each other.
for_each_image() {
    local image last=
    while IFS=$'\t' read -r image _; do
        [[ $image == "#"* || $image == "$last" ]] || "$@" "$image"
        last=$image
    done <"$images/manifest.tsv"
}

list_test() {
    echo "test_image_${1//[.-]/_}"
}

list_tests() {
    for_each_image list_test
}

define_test() {
    eval "test_image_${1//[.-]/_}() { check_image '$1'; }"
}

for_each_image define_test

has_driver() {
    case $1 in
        ntfs)
            ! modinfo ntfs3 >/dev/null 2>&1 || return 0
            [[ $suite == bookworm ]] || fail "this kernel has lost its driver for NTFS"
            return 1
            ;;
        *) ;;
    esac
}

# What a volume holds, in one go.
check_content() {
    local image=$1 number=$2 dir=$3 type=$4 spaces="name with spaces.txt" wanted
    wanted="hello from $image"
    [[ $number == 0 ]] || wanted+=" volume $number"
    [[ $image != iso-plain.iso ]] || spaces=name_wit.txt
    wanted+=$'\nspaces'
    if [[ $type == ntfs ]]; then
        ann cat "$dir/hello.txt" "$dir/$spaces"
    else
        ann cat "$dir/hello.txt" "$dir/$spaces" "$dir/dir/inside.txt"
        wanted+=$'\ninside'
    fi
    expect_out "$wanted"
}

check_image() {
    local image=$1 document of path number type mountable content usage offset index=0 volume whole=
    local -a numbers=() options=() told
    local -A types contents mountables
    while IFS=$'\t' read -r of _ number usage type _ mountable content _ offset _; do
        [[ $of == "$image" && $number != - ]] || continue
        [[ $number != 0 || $usage != filesystem ]] || whole=yes
        numbers+=("$number")
        types[$number]=$type contents[$number]=$content mountables[$number]=$mountable
        # Its bytes belong to the file system on the whole image.
        [[ -z $whole || $number == 0 ]] || mountables[$number]=part
        has_driver "$type" || mountables[$number]=driver
        [[ $number != 0 || $offset == 0 ]] || options=(--offset "$offset")
    done <"$images/manifest.tsv"
    [[ $image != gpt-two-sectors.img ]] || options=(--sector-size 4096)

    if [[ ! " ${mountables[*]} " =~ " yes " ]]; then
        check_not_mountable "$image"
        return
    fi
    ann loopmount attach --json "${options[@]}" "$images/$image"
    document=$out
    for number in "${numbers[@]}"; do
        volume=image.volumes.$index
        mapfile -t told < <("$bin/json" "$volume.number" "$volume.type" "$volume.obstacle" "$volume.mount_points" <<<"$document")
        path=${told[3]}
        expect_equal "$number" "${told[0]}" "the number"
        if [[ ${types[$number]} != - ]]; then
            expect_equal "${types[$number]}" "${told[1]}" "the type"
        fi
        if [[ ${mountables[$number]} == yes ]]; then
            [[ ${path%/*} == "$media" ]] || fail "volume $number is mounted at '$path'"
            ann ls "$path"
            [[ ${contents[$number]} == no ]] || check_content "$image" "$number" "$path" "${types[$number]}"
        else
            expect_equal "" "$path" "the mount point of volume $number"
            [[ -n ${told[2]} ]] || fail "no obstacle is told for volume $number"
        fi
        index=$((index + 1))
    done
    detach_all
}

check_not_mountable() {
    local image=$1 words=
    case $image in
        ntfs.img) words="this kernel has no driver" ;;
        luks.img) words="encrypted" ;;
        lvm.img | raid.img | raid-*.img) words="volume group or an array" ;;
        swap.img) words="it holds no files" ;;
        gpt-none-mountable.img) words="volume 1: it holds no files" ;;
        gpt-empty.img) words="has no partitions" ;;
        zero.img | random.img) words="nothing was recognised" ;;
        ambivalent.img) words="several file systems" ;;
        empty.img | tiny.img) words="" ;;
        truncated-ext4.img) words="" ;;
        *) fail "nobody knows what to expect of this image" ;;
    esac
    fails 6 ann loopmount attach "$images/$image"
    expect_one_line_of_error
    expect_err_has "$words"
    # As a device it serves all the same, but for those that have no byte to show.
    [[ $image != empty.img && $image != tiny.img ]] || return 0
    ann loopmount attach --no-mount "$images/$image"
    detach_all
}

# ---- What the manifest does not tell ----

test_hybrid_mounts_no_byte_twice() {
    local image
    for image in mbr debian gpt; do
        ann loopmount attach --print-path "$images/iso-hybrid-$image.iso"
        expect_out "$media/HYBRID_${image^^}"
        detach_all
    done
}

test_hybrid_volume_2_by_choice() {
    ann loopmount attach --print-path --volume 2 "$images/iso-hybrid-gpt.iso"
    expect_out "$media/EFI"
    expect_hello "$media/EFI" "iso-hybrid-gpt.iso volume 2"
    detach_all
    ann loopmount attach --print-path --volume 2 "$images/iso-hybrid-debian.iso"
    expect_hello "$media/EFI" "iso-hybrid-debian.iso volume 2"
    detach_all
}

test_sectors_of_4096_bytes_are_found() {
    local image
    for image in gpt-4096.img mbr-4096.img; do
        attach "$images/$image" --no-mount
        root blockdev --getss "$device"
        expect_out 4096
        root blkid --probe --output value --match-tag TYPE "${device}p1"
        expect_out ext4
        detach_all
    done
}

test_a_dirty_journal_is_not_replayed_unless_writable() {
    ann loopmount attach "$images/ext4-dirty.img"
    ann cat "$media/DIRTY/journal.txt"
    expect_out_has "replayed: no"
    detach_all
    copy ext4-dirty.img
    ann loopmount attach -w "$copy"
    ann cat "$media/DIRTY/journal.txt"
    expect_out_has "replayed: yes"
    detach_all
}

test_a_truncated_iso_mounts_and_fails_to_read() {
    ann loopmount attach "$images/truncated-iso.img"
    fails 1 ann cat "$media/TRUNCATED/hello.txt"
    expect_err_has "Input/output error"
    detach_all
}

# The sample is empty: mkfs.exfat takes no folder.
test_exfat_is_written_and_read() {
    copy exfat.img
    attach "$copy" --writable
    ann_sh "mkdir '$mount_point/folder' && echo 'some words' >'$mount_point/folder/A name with spaces.txt'"
    detach_all
    attach "$copy"
    ann cat "$mount_point/folder/A name with spaces.txt"
    expect_out "some words"
    fails 1 ann touch "$mount_point/new"
    detach_all
}

# Every option that is offered, tried on this kernel; see the program's head.
check_options() {
    local type=$1 device
    root install -o ann -m 600 "$images/$2" /home/ann/options.img
    root losetup --find --show /home/ann/options.img
    device=$out
    tries root "$bin/try-mount-options" "$type" "$device"
    losetup --detach "$device"
    [[ $status -eq 0 ]] || fail "not every option works: $(grep '^not ok' <<<"$out")"
}

test_options_of_iso9660() { check_options iso9660 iso-joliet.iso; }
test_options_of_udf() { check_options udf udf-2048.img; }
test_options_of_vfat() { check_options vfat fat32.img; }
test_options_of_exfat() { check_options exfat exfat.img; }
test_options_of_ext2() { check_options ext2 ext2.img; }
test_options_of_ext3() { check_options ext3 ext3.img; }
test_options_of_ext4() { check_options ext4 ext4.img; }
test_options_of_squashfs() { check_options squashfs squashfs.img; }
test_options_of_erofs() { check_options erofs erofs.img; }
test_options_of_xfs() { check_options xfs xfs.img; }
test_options_of_btrfs() { check_options btrfs btrfs.img; }
test_options_of_f2fs() { check_options f2fs f2fs.img; }
test_options_of_ntfs() {
    has_driver ntfs || { fails 1 root modprobe ntfs3 && return; }
    check_options ntfs ntfs.img
}
