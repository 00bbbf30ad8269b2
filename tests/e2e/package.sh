# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2016,SC2034 # the variables of guest/lib.sh, and dpkg's
#
# The packages: installed, upgraded, removed and purged with images attached. Each
# test begins and ends with the packages installed; guest/run-tests has installed
# them the first time. There is nothing of this where no package was.

# shellcheck source-path=SCRIPTDIR source=crash.sh
source "${BASH_SOURCE[0]%/*}/crash.sh"

iso=$images/iso-rockridge.iso

is_installed() {
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' loopmount 2>/dev/null) == installed ]]
}

# Of all packages that were installed, one a line.
package_names() {
    local deb
    for deb in "$packages"/*.deb; do
        basename "${deb%%_*}"
    done
}

install() {
    root dpkg --install "$@"
    is_installed || fail "it is not installed"
}

# take_away remove|purge
take_away() {
    local -a names
    mapfile -t names < <(package_names)
    root dpkg "--$1" "${names[@]}"
}

# What an administrator has written is neither asked about nor changed, and counts.
administer() {
    echo '# mine' >/etc/loopmount.conf
    configure $'[Limits]\nMaxImagesPerUser=7'
}

expect_administered() {
    expect_equal '# mine' "$(</etc/loopmount.conf)" "the administrator's file"
    expect_equal "u 7" "$(property "" Manager MaxImagesPerUser)" "the administrator's setting"
}

unadminister() {
    rm /etc/loopmount.conf
    unconfigure
}

# An image that is written to, one that nothing but the daemon holds, and one with an open file.
attach_some() {
    copy fat16.img
    attach "$copy" --writable
    attach "$iso" --no-mount
    attach "$gpt"
    start_reader "$media/ROOT/hello.txt"
}

expect_a_new_daemon() {
    [[ $(main_pid) != 0 && $(main_pid) != "$1" ]] || fail "there is no new daemon"
    expect_equal /usr/libexec/loopmountd "$(readlink "/proc/$(main_pid)/exe")" "the program that runs"
}

# check_images_stay DEB...: while these are installed.
check_images_stay() {
    local before main
    before=$(listing)
    main=$(main_pid)
    install "$@"
    expect_a_new_daemon "$main"
    expect_same "$before" "$(listing)" "the list"
    ann_sh "echo more >>$media/FAT16/new.txt"
    expect_administered
}

test_an_upgrade_keeps_images_and_settings() {
    administer
    attach_some
    check_images_stay "$packages"/newer/*.deb
    root dpkg-query --show --showformat='${Version}' loopmount
    expect_out_has +newer
    # The same once more.
    check_images_stay "$packages"/newer/*.deb
    end_reader
    expect_out "hello from gpt-multi.img volume 2"
    ann cat "$media/FAT16/new.txt"
    expect_out $'more\nmore'
    ann loopmount mount "$iso"
    expect_hello "$media/LOOP_ISO" iso-rockridge.iso
    detach_all
    unadminister
}

has_version() {
    root dpkg-query --show --showformat='${Version}' loopmount
    [[ $out == *"$1" ]]
}

# To the newer version, and back. Under load dpkg takes its time.
change_version() {
    local -a debs=("$packages"/newer/*.deb)
    local request_timeout=300
    ! has_version +newer || debs=("$packages"/*.deb)
    install "${debs[@]}"
}

test_upgraded_and_downgraded_under_load() {
    local before
    root dpkg-query --show --showformat='${Version}' loopmount
    before=$out
    check_under_load change_version
    root dpkg-query --show --showformat='${Version}' loopmount
    expect_out "$before"
}

# What is in use stays, and the package with it; all else is detached.
test_removing_it_detaches_images() {
    attach_some
    ann_sh "echo data >$media/FAT16/new.txt"
    root loopmount attach "$images/ext4.img"
    fails 1 take_away remove
    expect_err_has "(pid $pid)"
    expect_err_has "loopmount is not removed"
    is_installed || fail "it is not installed any more"
    expect_hello "$media/ROOT" "gpt-multi.img volume 2"
    end_reader
    expect_out "hello from gpt-multi.img volume 2"

    take_away remove
    expect_not_mounted "$media/ROOT"
    root losetup --list --noheadings
    expect_out ""
    root systemctl list-units --all --plain --no-legend 'loopmountd*' 'loopmount-shutdown*' 'loopmount-backing*'
    expect_out ""
    gone /run/media/ann || fail "there is a folder left"
    fails 127 ann loopmount list

    install "$packages"/*.deb
    expect_equal inactive "$(systemctl is-active loopmountd.service || true)" "the service that nobody has called"
    attach "$copy"
    ann cat "$media/FAT16/new.txt"
    expect_out data
    detach_all
}

test_purging_it_leaves_nothing() {
    administer
    attach "$iso"
    take_away purge
    local files names
    files=$(list_files)
    names=$(busctl list --activatable)
    # First of all it is there again: the other tests need it. Bus, udev and polkit know of it at once.
    install "$packages"/*.deb
    expect_same "$(<"$sessions/files-without")" "$files" "what there was without it"
    [[ $names != *org.loopmount1* ]] || fail "the bus would still start it"
    attach "$iso" --settle
    root udevadm info --query=property "$device"
    expect_out_has UDISKS_IGNORE=1
    expect_hello "$media/LOOP_ISO" iso-rockridge.iso
    detach_all
}
