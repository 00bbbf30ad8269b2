# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# The service: started by the bus, gone when idle, not missed when it is
# restarted; its files, its settings, its journal.

iso=$images/iso-rockridge.iso
gpt=$images/gpt-multi.img

unit_state() {
    systemctl show --property="$1" --value loopmountd.service
}

is_inactive() {
    [[ $(unit_state ActiveState) == inactive ]]
}

is_active() {
    [[ $(unit_state ActiveState) == active ]]
}

test_it_is_activated_and_leaves_when_idle() {
    configure $'[Limits]\nIdleTimeoutSec=1s'
    wait_until "it has left" is_inactive
    expect_equal success "$(unit_state Result)" "the result"
    ann loopmount attach "$iso"
    is_active || fail "it does not run"
    pause 3
    is_active || fail "it has left with an image attached"
    expect_hello "$media/LOOP_ISO" iso-rockridge.iso
    ann loopmount detach "$iso"
    wait_until "it has left" is_inactive
    attach "$iso" --no-mount
    pause 3
    is_active || fail "it has left with an image attached"
    detach_all
    wait_until "it has left" is_inactive
    unconfigure
}

attach_some() {
    copy fat16.img
    attach "$copy" --writable
    attach "$gpt"
    attach "$iso" --no-mount
    attach "$images/ext4.img" --keep
    ann loopmount unmount "$images/ext4.img"
    root loopmount attach "$images/fat32.img"
}

check_all_is_there() {
    expect_same "$1" "$(listing)" "the list"
    expect_hello "$media/ROOT" "gpt-multi.img volume 2"
    ann_sh "echo more >>$media/FAT16/new.txt"
    ann loopmount mount "$iso"
    expect_hello "$media/LOOP_ISO" iso-rockridge.iso
    ann umount "$media/ESP" "$media/ROOT" "$media/squashfs"
    fails 5 ann loopmount info "$gpt"
    fails 3 bob loopmount detach "$device"
    detach_all
    root loopmount detach "$images/fat32.img"
}

test_a_restart_loses_nothing() {
    local before
    attach_some
    before=$(listing)
    root systemctl restart loopmountd.service
    check_all_is_there "$before"
}

test_a_crash_loses_nothing() {
    local before main
    attach_some
    before=$(listing)
    main=$(unit_state MainPID)
    kill -KILL "$main"
    wait_until "a new one runs" is_another_one "$main"
    check_all_is_there "$before"
}

is_another_one() {
    is_active && [[ $(unit_state MainPID) != "$1" && $(unit_state MainPID) != 0 ]]
}

test_what_goes_while_it_is_down_is_noticed() {
    attach "$gpt"
    attach "$iso"
    systemctl stop loopmountd.service
    root umount --internal-only "$media/LOOP_ISO" "$media/ESP"
    ann loopmount list
    expect_out_has "$media/ROOT"
    wait_until "the image is detached" gone "/run/loopmount/images/$id"
    ann loopmount list
    expect_out_lacks iso-rockridge
    expect_out_lacks "$media/ESP"
    wait_until "the folder is gone" gone "$media/ESP"
    wait_until "the folder is gone" gone "$media/LOOP_ISO"
    detach_all
}

test_killed_at_any_point_of_attach() {
    local i
    for i in 0 5 10 20 40; do
        start client ann loopmount attach "$images/gpt-8.img"
        pause "0.$(printf %02d "$i")"
        systemctl reset-failed loopmountd.service 2>/dev/null || true
        systemctl kill --signal=KILL loopmountd.service || true
        tries end client
        ann loopmount list
        detach_all
    done
}

test_stopping_in_the_middle_of_attach() {
    start client ann loopmount attach "$images/gpt-8.img"
    # If the call comes only now, it starts the daemon again, and the stop is cancelled.
    systemctl stop loopmountd.service || say "the client was later"
    tries end client
    detach_all
}

test_the_journal() {
    local since
    since=$(date '+%Y-%m-%d %H:%M:%S')
    attach "$iso"
    root journalctl --sync
    root journalctl --output=json --since="$since" LOOPMOUNT_IMAGE="$id"
    local line=${out%%$'\n'*}
    expect_equal "$device" "$(json LOOPMOUNT_DEVICE "$line")" LOOPMOUNT_DEVICE
    expect_equal "$iso" "$(json LOOPMOUNT_BACKING_FILE "$line")" LOOPMOUNT_BACKING_FILE
    expect_equal 1000 "$(json LOOPMOUNT_OWNER_UID "$line")" LOOPMOUNT_OWNER_UID
    expect_equal 6 "$(json PRIORITY "$line")" PRIORITY
    expect_equal loopmountd.service "$(json _SYSTEMD_UNIT "$line")" _SYSTEMD_UNIT
    expect_equal "$iso is attached as $device for ann" "$(json MESSAGE "$line")" MESSAGE
    detach_all
    root journalctl --sync
    root journalctl --output=cat --since="$since" LOOPMOUNT_IMAGE="$id"
    expect_out_has "is detached from $device"
}

# ---- Settings ----

test_limit_of_images() {
    configure $'[Limits]\nMaxImagesPerUser=2'
    ann loopmount attach "$iso" "$gpt"
    fails 1 ann loopmount attach "$images/ext4.img"
    expect_err_has "Too many images"
    ann loopmount attach "$iso"
    root loopmount attach "$images/ext4.img"
    root loopmount detach "$images/ext4.img"
    expect_equal "u 2" "$(property "" Manager MaxImagesPerUser)" "the property"
    ann loopmount detach "$iso"
    ann loopmount attach "$images/ext4.img"
    detach_all
    unconfigure
}

test_limit_of_volumes() {
    configure $'[Limits]\nMaxVolumesPerImage=4'
    fails 1 ann loopmount attach "$gpt"
    expect_err_has "more than 4"
    unconfigure
}

test_file_systems_that_are_permitted() {
    configure $'[Mount]\nFileSystems=iso9660 vfat'
    ann loopmount attach "$iso"
    fails 6 ann loopmount attach "$images/ext4.img"
    expect_err_has "does not permit"
    ann loopmount attach "$gpt"
    expect_out "$media/ESP  (vfat, read-only)"
    fails 6 ann loopmount attach -t ext4 "$images/ambivalent.img"
    expect_equal 'as 2 "iso9660" "vfat"' "$(property "" Manager FilesystemTypes)" "the property"
    detach_all
    unconfigure
}

test_options_of_a_type() {
    configure $'[FileSystem vfat]\nOptions=umask=0077,noexec'
    ann loopmount attach "$images/fat16.img"
    root findmnt --noheadings --output OPTIONS "$media/FAT16"
    expect_out_has fmask=0077
    expect_out_has noexec
    detach_all
    fails 3 ann loopmount attach -o exec "$images/fat16.img"
    unconfigure
}

test_writing_that_is_not_permitted() {
    configure $'[Mount]\nAllowWritable=no'
    copy ext4.img
    fails 3 ann loopmount attach -w "$copy"
    ann loopmount attach "$copy"
    detach_all
    unconfigure
}

test_executing_that_is_not_permitted() {
    configure $'[Mount]\nAllowExec=no'
    ann loopmount attach "$images/ext4.img"
    root findmnt --noheadings --output OPTIONS "$media/EXT4"
    expect_out_has noexec
    detach_all
    fails 3 ann loopmount attach -o exec "$images/ext4.img"
    unconfigure
}

test_the_strict_example() {
    configure "$(</usr/share/doc/loopmount/examples/strict.conf)"
    root journalctl --sync
    root journalctl --unit loopmountd.service --output=cat --lines=3
    expect_out_lacks test.conf
    fails 6 ann loopmount attach "$images/ext4.img"
    copy fat16.img
    fails 3 ann loopmount attach --writable "$copy"
    fails 3 ann loopmount attach -o exec "$copy"
    ann loopmount attach "$copy"
    root findmnt --noheadings --output OPTIONS "$media/FAT16"
    expect_out_has noexec
    expect_out_has fmask=0077
    detach_all
    unconfigure
}

test_another_root() {
    configure $'[Mount]\nRoot=/run/elsewhere'
    ann loopmount attach --print-path "$iso"
    expect_out /run/elsewhere/ann/LOOP_ISO
    ann cat /run/elsewhere/ann/LOOP_ISO/hello.txt
    ann umount /run/elsewhere/ann/LOOP_ISO
    wait_until "the folder is gone" gone /run/elsewhere/ann/LOOP_ISO
    root rm -r --one-file-system /run/elsewhere
    unconfigure
}

test_a_wrong_setting_is_told_and_the_rest_counts() {
    configure $'[Limits]\nNonsense=1\nMaxImagesPerUser=many\nMaxVolumesPerImage=7'
    expect_equal "u 64" "$(property "" Manager MaxImagesPerUser)" "the default"
    root journalctl --sync
    root journalctl --unit loopmountd.service --output=cat --lines=20
    expect_out_has "/etc/loopmount.conf.d/test.conf:2: "
    expect_out_has "/etc/loopmount.conf.d/test.conf:3: "
    expect_out_lacks "test.conf:4"
    unconfigure
}

# ---- Installed ----

test_every_file_is_where_it_belongs() {
    local path
    for path in /usr/bin/loopmount /usr/libexec/loopmountd /usr/sbin/umount.loopmount \
        /usr/lib/systemd/system/loopmountd.service /usr/lib/tmpfiles.d/loopmount.conf \
        /usr/lib/udev/rules.d/60-loopmount.rules \
        /usr/share/dbus-1/system.d/org.loopmount1.conf \
        /usr/share/dbus-1/system-services/org.loopmount1.service \
        /usr/share/dbus-1/interfaces/org.loopmount1.{Manager,Image,Volume}.xml \
        /usr/share/polkit-1/actions/org.loopmount1.policy \
        /usr/share/man/man1/loopmount.1 /usr/share/man/man8/loopmountd.8 \
        /usr/share/man/man5/loopmount.conf.5 /usr/share/man/man5/org.loopmount1.5; do
        # Debian's packages have man pages compressed.
        [[ $path != */man/* || ! -d $packages ]] || path+=.gz
        [[ -s $path ]] || fail "$path is missing"
        expect_equal root:root "$(stat --format=%U:%G "$path")" "the owner of $path"
    done
    # What is installed besides belongs to the documentation.
    while read -r path; do
        [[ -e ${path#.} ]] || fail "$path was not installed"
    done <"$share/installed-files"
    expect_equal 755 "$(stat --format=%a /usr/bin/loopmount)" "the mode of loopmount: not set-user-ID"
    expect_equal 755 "$(stat --format=%a /usr/sbin/umount.loopmount)" "the mode of umount.loopmount"
    expect_equal 700 "$(stat --format=%a /run/loopmount/images)" "the mode of the records' folder"
}

test_polkit_and_udev_accept_our_files() {
    root pkaction --verbose --action-id org.loopmount1.attach
    expect_out_has "implicit active:   yes"
    expect_out_has "implicit any:      auth_admin"
    root pkaction --verbose --action-id org.loopmount1.manage-other-users
    expect_out_has "implicit active:   auth_admin"
    if udevadm verify --help >/dev/null 2>&1; then
        root udevadm verify /usr/lib/udev/rules.d/60-loopmount.rules
    fi
    root systemd-tmpfiles --create loopmount.conf
    expect_no_err
}

test_the_unit_is_valid_and_hardened() {
    root systemd-analyze verify --man=no loopmountd.service
    expect_no_err
    ann loopmount list
    local main
    main=$(unit_state MainPID)
    [[ $(readlink /proc/1/ns/mnt) != $(readlink "/proc/$main/ns/mnt") ]] || fail "it has no mount namespace of its own"
    grep -q $'^NoNewPrivs:\t1' "/proc/$main/status" || fail "NoNewPrivileges= is off"
    grep -q $'^Seccomp:\t2' "/proc/$main/status" || fail "there is no seccomp filter"
    ! grep -q $'^CapBnd:\t000001ffffffffff' "/proc/$main/status" || fail "it has all capabilities"
}

# exposure UNIT: leaves in "exposure" what systemd-analyze gives it as it is installed, 0.0 (none) to 10.0. What
# the tests themselves add to the service (run-tests' drop-in for sanitizers) does not count.
exposure() {
    local units=/usr/lib/systemd/system
    root env SYSTEMD_UNIT_PATH=$units systemd-analyze security --no-pager --offline=yes "$units/$1"
    [[ $out =~ \ level\ for\ $1:\ ([0-9]+\.[0-9]) ]] || fail "systemd-analyze says nothing of $1"
    exposure=${BASH_REMATCH[1]}
}

test_the_exposure_of_the_service() {
    local exposure ours
    exposure loopmountd.service
    ours=$exposure
    exposure udisks2.service
    say "exposure of loopmountd.service: $ours, of udisks2.service: $exposure (10.0 is the worst)"
    ((${ours/./} <= 30)) || fail "the exposure of loopmountd.service is $ours, which is over 3.0"
}

test_mounts_reach_every_session() {
    ann loopmount attach "$iso"
    ann_ssh cat "$media/LOOP_ISO/hello.txt"
    ann_cron cat "$media/LOOP_ISO/hello.txt"
    root grep -c "$media/LOOP_ISO" /proc/1/mountinfo
    expect_out 1
    detach_all
}

test_nobody_may_take_its_name() {
    systemctl stop loopmountd.service
    tries ann busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus RequestName su org.loopmount1 0
    [[ $status -ne 0 ]] || fail "ann could take the name"
    ann loopmount list
}
