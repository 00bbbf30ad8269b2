# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# Where an image file may be, and what may be wrong with it.

manager="org.loopmount1 /org/loopmount1 org.loopmount1.Manager"

test_truncated_while_it_is_attached() {
    copy fat16.img
    attach "$copy"
    ann truncate --size=16384 "$copy"
    tries ann sh -c "cat $media/FAT16/dir/inside.txt; cat $media/FAT16/*"
    ann loopmount detach "$copy"
}

test_empty_and_tiny_files() {
    fails 6 ann loopmount attach "$images/empty.img"
    expect_err_has "empty"
    fails 6 ann loopmount attach --no-mount "$images/empty.img"
    fails 6 ann loopmount attach --no-mount "$images/tiny.img"
    ann loopmount attach --print-path "$images/trailing.img"
    expect_hello "$out" trailing.img
    detach_all
}

test_sparse_file() {
    copy fat32.img
    root du --block-size=1K "$copy"
    [[ ${out%%[^0-9]*} -lt 5000 ]] || fail "the copy is not sparse"
    attach "$copy" -w
    ann_sh "head -c 2000000 /dev/urandom >$media/FAT32/big"
    detach_all
    root du --block-size=1K "$copy"
    [[ ${out%%[^0-9]*} -gt 1900 && ${out%%[^0-9]*} -lt 12000 ]] || fail "it is not sparse any more"
}

test_a_large_sparse_file() {
    ann truncate --size=3T huge.img
    attach huge.img -w --no-mount
    root blockdev --getsize64 "$device"
    expect_out 3298534883328
    detach_all
}

test_on_a_read_only_file_system() {
    fails 1 ann touch "$images/x"
    ann loopmount attach "$images/ext4.img"
    detach_all
    fails 1 ann loopmount attach --writable "$images/ext4.img"
    expect_err_has "cannot be opened for writing"
    expect_one_line_of_error
}

test_a_file_that_may_only_be_read() {
    root install -m 644 "$images/ext4.img" /home/ann/read-only.img
    ann loopmount attach read-only.img
    detach_all
    fails 1 ann loopmount attach -w read-only.img
    expect_err_has "cannot be opened for writing"
    fails 5 ann loopmount info read-only.img
}

mount_fuse() {
    ann mkdir -p fuse
    ann squashfuse "$@" "$images/nested.squashfs" fuse
    expect_mounted /home/ann/fuse
}

test_on_the_users_own_fuse() {
    mount_fuse
    tries ann timeout 30 loopmount attach fuse/ext4.img
    local code=$status text=$err
    ann fusermount3 -u fuse
    expect_equal 6 "$code" "the exit code"
    [[ $text == *FUSE* ]] || fail "the error does not tell of FUSE: $text"
}

test_on_fuse_that_others_may_read() {
    root sh -c "echo user_allow_other >>/etc/fuse.conf"
    mount_fuse -o allow_other
    ann loopmount attach fuse/ext4.img
    expect_hello "$media/EXT4" ext4.img
    fails 1 ann fusermount3 -u fuse
    detach_all
    ann fusermount3 -u fuse
}

test_on_fat_and_one_in_another() {
    copy fat32.img
    attach "$copy" -w
    ann cp "$images/ext4.img" "$media/FAT32/inner.img"
    ann loopmount attach -w "$media/FAT32/inner.img"
    expect_hello "$media/EXT4" ext4.img
    fails 4 ann loopmount detach "$copy"
    expect_mounted "$media/FAT32"
    ann loopmount detach "$media/FAT32/inner.img"
    ann loopmount detach "$copy"
}

test_detach_all_of_one_in_another() {
    copy fat32.img
    attach "$copy" -w
    ann cp "$images/ext4.img" "$media/FAT32/inner.img"
    ann loopmount attach "$media/FAT32/inner.img"
    tries ann loopmount detach --all
    [[ $status -eq 0 || $status -eq 4 ]] || fail "the exit code is $status"
    ann loopmount detach --all
}

test_on_tmpfs() {
    ann_sh "cp $images/ext4.img /dev/shm/ann.img"
    ann loopmount attach -w /dev/shm/ann.img
    expect_hello "$media/EXT4" ext4.img
    detach_all
    ann rm /dev/shm/ann.img
}

test_a_file_that_is_deleted() {
    copy ext4.img
    attach "$copy"
    ann rm "$copy"
    expect_hello "$media/EXT4" ext4.img
    ann loopmount list
    expect_out_has EXT4
    ann loopmount detach "$id"
}

test_memfd() {
    # shellcheck disable=SC2086
    ann "$bin/memfd" "$images/ext4.img" $call $manager Attach 'ha{sv}' 3 0
    expect_out_has "$media/EXT4"
    expect_hello "$media/EXT4" ext4.img
    detach_all
    # shellcheck disable=SC2086
    ann "$bin/memfd" "$images/ext4.img" $call $manager Attach 'ha{sv}' 3 1 read-only b false
    detach_all
}

test_sealed_memfd() {
    # shellcheck disable=SC2086
    ann "$bin/memfd" --sealed "$images/ext4.img" $call $manager Attach 'ha{sv}' 3 0
    expect_hello "$media/EXT4" ext4.img
    detach_all
    # shellcheck disable=SC2086
    fails 1 ann "$bin/memfd" --sealed "$images/ext4.img" $call $manager Attach 'ha{sv}' 3 1 read-only b false
    expect_err_has sealed
}

test_a_full_disk_below_a_writable_image() {
    root install -d -o ann /home/ann/small
    root mount -t tmpfs -o size=6M,uid=1000 tmpfs /home/ann/small
    ann cp --sparse=always "$images/fat32.img" small/fat32.img
    ann chmod u+w small/fat32.img
    attach /home/ann/small/fat32.img -w
    tries ann sh -c "dd if=/dev/zero bs=1M count=20 status=none | tr '\\0' x | dd of=$media/FAT32/big bs=64K conv=fsync status=none"
    local code=$status text=$err
    tries ann loopmount detach --all
    local detached=$status told=$err
    wait_until "it is detached" gone "$media/FAT32"
    root umount /home/ann/small
    # Which one it is is up to the kernel.
    [[ $code -ne 0 && $text == *@("Input/output error"|"No space left on device")* ]] || fail "the writer sees no error: $code '$text'"
    expect_equal 1 "$detached" "the exit code of detach"
    [[ $told == *"not all that was written"* ]] || fail "detach says: $told"
}

# limit_ann NODE MEGABYTES: her quota of a file system.
limit_ann() {
    # shellcheck disable=SC2016
    root perl -e 'syscall(179, 0x80000800, $ARGV[0], 1000, pack("Q8L", $ARGV[1] * 1024, (0) x 7, 1)) == 0 or die "quotactl: $!"' "$1" "$2"
}

# The kernel writes to the file with rights that she has not.
test_a_quota_below_a_writable_image() {
    root truncate --size=300M /var/tmp/quota.disk
    root mke2fs -q -t ext4 -m 5 -O quota -E quotatype=usrquota /var/tmp/quota.disk
    root install -d /home/ann/quota
    root mount -o loop,usrquota /var/tmp/quota.disk /home/ann/quota
    limit_ann "$(findmnt --noheadings --output SOURCE /home/ann/quota)" 100
    root install -d -o ann /home/ann/quota/ann

    ann truncate --size=200M quota/ann/large.img
    ann mke2fs -q -t ext4 -E root_owner=1000:1000 quota/ann/large.img
    fails 1 ann loopmount attach -w quota/ann/large.img
    expect_err_has "has holes"
    root du --block-size=1M /home/ann/quota/ann/large.img
    [[ ${out%%[^0-9]*} -lt 20 ]] || fail "something of it was allocated"
    ann loopmount attach quota/ann/large.img
    ann loopmount detach quota/ann/large.img
    ann rm quota/ann/large.img

    ann truncate --size=60M quota/ann/small.img
    ann mke2fs -q -t ext4 -L SMALL -E root_owner=1000:1000 quota/ann/small.img
    ann loopmount attach -w quota/ann/small.img
    tries ann dd if=/dev/zero of=quota/ann/first bs=1M
    tries ann dd if=/dev/zero of="$media/SMALL/second" bs=1M conv=fsync
    ann loopmount detach quota/ann/small.img
    root du --block-size=1M --summarize /home/ann/quota/ann
    local used=${out%%[^0-9]*}
    root dd if=/dev/zero of=/home/ann/quota/roots bs=1M count=1 conv=fsync
    root umount /home/ann/quota
    root rmdir /home/ann/quota
    root rm /var/tmp/quota.disk
    [[ $used -ge 95 && $used -le 100 ]] || fail "she has $used MiB"
}

# A stick that is pulled out: its device is gone, whatever is open.
test_the_medium_is_pulled_out() {
    local disk
    root modprobe scsi_debug dev_size_mb=64
    root udevadm settle
    disk=$(lsblk --noheadings --nodeps --output NAME,MODEL | sed -n 's/ *scsi_debug.*//p')
    [[ -n $disk ]] || fail "there is no disk of scsi_debug"
    root mke2fs -q -t ext4 "/dev/$disk"
    root install -d /home/ann/stick
    root mount "/dev/$disk" /home/ann/stick
    root install -o ann "$images/fat16.img" /home/ann/stick/fat16.img
    root chown ann /home/ann/stick
    root chmod u+w /home/ann/stick/fat16.img
    ann loopmount attach -w stick/fat16.img
    ann dd if=/dev/zero of="$media/FAT16/new" bs=64K count=8 status=none
    root sh -c "echo 1 >/sys/block/$disk/device/delete"
    tries ann loopmount detach --all
    local code=$status told=$err
    wait_until "it is detached" gone "$media/FAT16"
    root umount /home/ann/stick
    root rmdir /home/ann/stick
    wait_until "scsi_debug can go" root modprobe --remove scsi_debug
    expect_equal 1 "$code" "the exit code of detach"
    [[ $told == *"not all that was written"* ]] || fail "detach says: $told"
}

test_a_file_system_that_is_mounted_elsewhere() {
    root mkdir -p /home/ann/elsewhere
    copy ext4.img
    root mount -o loop,ro "$copy" /home/ann/elsewhere
    tries ann loopmount attach "$copy"
    local code=$status
    tries ann loopmount detach --all
    root umount /home/ann/elsewhere
    expect_equal 0 "$code" "the exit code"
}
