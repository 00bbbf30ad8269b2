# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# Automount as units of adm1's service manager: at login, later, in the background, and without a session.

# shellcheck source-path=SCRIPTDIR source=session.sh
source "${BASH_SOURCE[0]%/*}/session.sh"

home=/home/adm1

# Leaves nothing of adm1's, who then has no service manager any more.
end_automount() {
    log_out
    wait_until "all is detached" none_attached
    poll_timeout=60
    wait_until "the service manager has ended" gone /run/user/1002
    rm -rf "${home:?}"/*.img "$home/.config"
}

# What a user has of automounts: units, links, drop-ins.
expect_nothing_enabled() {
    adm1 find "$home/.config/systemd/user" -name '*loopmount*'
    expect_out ""
    adm1 systemctl --user --quiet list-units --all --state=failed --no-legend 'loopmount-automount@*'
    expect_out ""
}

test_automount() {
    log_in
    adm1 cp --sparse=always "$images/fat32.img" "$home/My \$HOME 100% disk.img"
    adm1 loopmount automount enable --writable --name="my name" "$home/My \$HOME 100% disk.img"
    expect_out 'loopmount-automount@home-adm1-My\x20\x24HOME\x20100\x25\x20disk.img.service'
    local unit=$out
    expect_err_has "disk.img: Attached, mounted at /run/media/adm1/my name"
    expect_mounted "/run/media/adm1/my name"
    adm1 touch "/run/media/adm1/my name/new"
    adm1 loopmount automount list
    expect_out "$home/My \$HOME 100% disk.img: active, Attached, mounted at /run/media/adm1/my name"
    adm1 loopmount automount list --json
    expect_equal "$home/My \$HOME 100% disk.img" "$(json automounts.0.image)" "the image"
    expect_equal "--name=my name" "$(json automounts.0.options.1)" "the second option"
    adm1 systemctl --user is-enabled "$unit"
    adm1 loopmount automount status
    expect_out_has 'Status: "Attached, mounted at /run/media/adm1/my name"'
    adm1 systemctl --user stop "$unit"
    none_attached || fail "stopping the unit does not detach"
    adm1 systemctl --user start "$unit"
    wait_until "it is mounted" mountpoint -q "/run/media/adm1/my name"
    request adm1-local "cd '/run/media/adm1/my name' && systemctl --user stop '$unit'; systemctl --user is-failed '$unit'"
    expect_out failed
    attached "$home/My \$HOME 100% disk.img" || fail "it is detached though it was in use"
    adm1 loopmount automount list
    expect_out_has "disk.img: failed, It cannot be unmounted: "
    adm1 systemctl --user restart "$unit"
    adm1 loopmount automount disable "$home/My \$HOME 100% disk.img"
    none_attached || fail "it is attached still"
    expect_nothing_enabled
    fails 5 adm1 loopmount automount disable "$home/My \$HOME 100% disk.img"
    end_automount
}

# What is in use stays attached and enabled, with the options that it has.
test_automount_in_use() {
    local file=$home/disk.img
    log_in
    adm1 cp --sparse=always "$images/fat32.img" "$file"
    adm1 loopmount automount enable --writable --name=mine "$file"
    wanted_status=4
    request adm1-local "cd /run/media/adm1/mine && loopmount automount disable '$file'"
    expect_one_line_of_error
    expect_err_has "disk.img: It cannot be unmounted: "
    expect_err_has "; it stays enabled"
    adm1 loopmount automount list
    expect_out "$file: active, Attached, mounted at /run/media/adm1/mine"
    wanted_status=4
    request adm1-local "cd /run/media/adm1/mine && loopmount automount enable --name=other '$file'"
    expect_err_has "disk.img: It cannot be unmounted: "
    expect_err_has "; it stays enabled"
    adm1 loopmount automount enable --writable --name=mine "$file"
    adm1 loopmount automount list --json
    expect_equal "active" "$(json automounts.0.state)" "the state"
    expect_equal "--writable" "$(json automounts.0.options.0)" "the first option"
    adm1 loopmount automount disable "$file"
    none_attached || fail "it is attached still"
    expect_nothing_enabled
    end_automount
}

# Of what cannot be enabled nothing is left.
test_automount_refused() {
    local file=$home/text.img unit=loopmount-automount@home-adm1-text.img.service
    log_in
    adm1 sh -c "head -c 100000 /dev/zero | tr '\\0' x >'$file'"
    fails 6 adm1 loopmount automount enable --type=ext4 "$file"
    expect_out ""
    expect_one_line_of_error
    expect_err_has "; it is not enabled"
    expect_nothing_enabled
    adm1 systemctl --user mask "$unit"
    fails 1 adm1 loopmount automount enable --writable "$file"
    expect_err_has "your service manager says: "
    expect_err_has masked
    adm1 systemctl --user unmask "$unit"
    expect_nothing_enabled
    end_automount
}

test_automount_at_login() {
    log_in
    adm1 cp "$iso" "$home/disk.img"
    adm1 loopmount automount enable "$home/disk.img"
    attached "$home/disk.img" || fail "it is not attached"
    log_out
    wait_until "it is detached" none_attached
    poll_timeout=60
    wait_until "the service manager has ended" gone /run/user/1002
    # In the background nothing is attached, and nothing is refused.
    rm -rf "${sessions:?}/adm1-local"
    open_session adm1-local adm1 local --vt 3 --background
    in_session adm1-local true
    adm1 timeout 60 sh -c "until systemctl --user --no-pager status 'loopmount-automount@*' | grep 'Waiting until attaching is permitted'; do sleep 0.2; done"
    none_attached || fail "it is attached in the background"
    foreground 3
    wait_until "it is attached" attached "$home/disk.img"
    foreground 1
    pause 1
    attached "$home/disk.img" || fail "it is detached in the background"
    end_automount
}

# Nobody is in it for a second.
is_waiting() {
    ! grep -q ' /run/media/adm1/mine .* /dev/loop' /proc/self/mountinfo
}

# is_another PID: a daemon runs, has taken over what there is, and is not this one.
is_another() {
    local now
    now=$(systemctl show --property=MainPID --value loopmountd.service)
    [[ $now != 0 && $now != "$1" ]] && systemctl --quiet is-active loopmountd.service
}

test_automount_on_access() {
    local how before
    log_in
    adm1 cp --sparse=always "$images/fat32.img" "$home/disk.img"
    adm1 loopmount automount enable --on-access --idle-timeout=3 --writable --name=mine "$home/disk.img"
    attached "$home/disk.img" || fail "it is not attached"
    adm1 ls -l /run/media/adm1
    is_waiting || fail "it is mounted, though only the folder around it was listed"
    adm1 loopmount list
    expect_out_has '/run/media/adm1/mine (waiting)'
    adm1 touch /run/media/adm1/mine/new
    wait_until "it is unmounted" is_waiting
    # Before it is unmounted by itself.
    adm1 sh -c "ls /run/media/adm1/mine && umount /run/media/adm1/mine"
    expect_out_has new
    is_waiting || fail "it is not unmounted"
    attached "$home/disk.img" || fail "it is detached by umount"
    # The service manager has what keeps the device, and those who wait.
    for how in restart "kill --signal=KILL"; do
        before=$(systemctl show --property=MainPID --value loopmountd.service)
        # shellcheck disable=SC2086 # an option, too
        root systemctl $how loopmountd.service
        wait_until "another daemon runs" is_another "$before"
        adm1 ls /run/media/adm1/mine
        expect_out_has new
        wait_until "it is unmounted" is_waiting
    done
    adm1 ls /run/media/adm1/mine
    end_automount
}

# The login does not wait for the file.
test_automount_of_what_is_missing_at_login() {
    log_in
    adm1 cp "$iso" "$home/disk.img"
    adm1 loopmount automount enable "$home/disk.img"
    log_out
    wait_until "it is detached" none_attached
    poll_timeout=60
    wait_until "the service manager has ended" gone /run/user/1002
    mv "$home/disk.img" "$home/elsewhere.img"
    log_in
    # Returns when all that was to be started has been.
    adm1 systemctl --user --wait is-system-running
    expect_out running
    adm1 systemctl --user is-active default.target
    adm1 systemctl --user show --value --property=UserspaceTimestampMonotonic --property=FinishTimestampMonotonic
    local finish=${out#*$'\n'} begin=${out%$'\n'*}
    say "the service manager was up after $(((finish - begin) / 1000)) ms"
    ((finish > begin && finish - begin < 60000000)) || fail "the login was delayed"
    adm1 loopmount automount list
    expect_out "$home/disk.img: active, The file is not there; it is attached when it appears"
    mv "$home/elsewhere.img" "$home/disk.img"
    wait_until "it is attached" attached "$home/disk.img"
    end_automount
}

# plug_in FOLDER: the disk, with a file system, is mounted there as a desktop does it.
plug_in() {
    disk=$(losetup --find --show /home/stick)
    mount "$disk" "$1"
}

unplug() {
    umount "$1"
    losetup --detach "$disk"
}

test_automount_of_a_removable_disk() {
    local folder=/mnt/stick disk='' long file
    printf -v long '%0100d/' 1 2 3
    file=$folder/${long}disk.img
    mkdir -p "$folder"
    truncate --size=32M /home/stick
    mkfs.ext4 -q /home/stick
    plug_in "$folder"
    mkdir -p "$folder/$long"
    cp "$iso" "$file"
    unplug "$folder"
    log_in
    adm1 loopmount automount enable "$file"
    expect_err_has "The file is not there; it is attached when it appears"
    adm1 loopmount automount list
    expect_out "$file: active, The file is not there; it is attached when it appears"
    root journalctl --sync
    root journalctl _UID=1002 --output=cat --since=-2min
    expect_out_has "it is not there; it is attached when it appears"
    plug_in "$folder"
    wait_until "it is attached" attached "$file"
    # Taken out in order, and put in again.
    adm1 loopmount detach "$file"
    unplug "$folder"
    adm1 timeout 60 sh -c "until loopmount automount list | grep -q 'The file is not there'; do sleep 0.1; done"
    plug_in "$folder"
    wait_until "it is attached again" attached "$file"
    adm1 loopmount automount disable "$file"
    none_attached || fail "it is attached still"
    unplug "$folder"
    rmdir "$folder"
    rm /home/stick
    end_automount
}

# With a rule that permits it, from boot on: the service manager is there without a session.
test_automount_of_a_lingering_user() {
    log_in
    adm1 cp "$iso" "$home/disk.img"
    adm1 loopmount automount enable "$home/disk.img"
    attached "$home/disk.img" || fail "it is not attached"
    log_out
    wait_until "it is detached" none_attached
    groupadd --users adm1 images
    install -m 644 /usr/share/doc/loopmount/examples/group-from-anywhere.rules /etc/polkit-1/rules.d/50-loopmount.rules
    systemctl restart polkit.service
    poll_timeout=60
    wait_until "the service manager has ended" gone /run/user/1002
    root loginctl enable-linger adm1
    wait_until "it is attached" attached "$home/disk.img"
    log_in
    log_out
    wait_until "the session has ended" session_is_over adm1
    pause 1
    attached "$home/disk.img" || fail "it is detached at logout, though it was attached without a session"
    root loginctl disable-linger adm1
    wait_until "it is detached" none_attached
    wait_until "the service manager has ended" gone /run/user/1002
    rm /etc/polkit-1/rules.d/50-loopmount.rules
    groupdel images
    systemctl restart polkit.service
    rm -rf "${home:?}"/*.img "$home/.config"
}
