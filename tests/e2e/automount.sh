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

test_automount() {
    log_in
    adm1 cp --sparse=always "$images/fat32.img" "$home/My \$HOME 100% disk.img"
    adm1 loopmount automount enable --writable --name="my name" "$home/My \$HOME 100% disk.img"
    expect_out 'loopmount-automount@home-adm1-My\x20\x24HOME\x20100\x25\x20disk.img.service'
    local unit=$out
    wait_until "it is mounted" mountpoint -q "/run/media/adm1/my name"
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
    adm1 systemctl --user restart "$unit"
    adm1 loopmount automount disable "$home/My \$HOME 100% disk.img"
    wait_until "it is detached" none_attached
    adm1 find "$home/.config/systemd/user" -name 'loopmount*'
    expect_out ""
    fails 5 adm1 loopmount automount disable "$home/My \$HOME 100% disk.img"
    end_automount
}

test_automount_at_login() {
    log_in
    adm1 cp "$iso" "$home/disk.img"
    adm1 loopmount automount enable "$home/disk.img"
    wait_until "it is attached" attached "$home/disk.img"
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
    adm1 loopmount automount enable --on-access --idle-timeout=1 --writable --name=mine "$home/disk.img"
    wait_until "it is attached" attached "$home/disk.img"
    adm1 ls -l /run/media/adm1
    is_waiting || fail "it is mounted, though only the folder around it was listed"
    adm1 loopmount list
    expect_out_has '/run/media/adm1/mine (waiting)'
    adm1 touch /run/media/adm1/mine/new
    wait_until "it is unmounted" is_waiting
    adm1 ls /run/media/adm1/mine
    expect_out_has new
    adm1 umount /run/media/adm1/mine
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

test_automount_of_what_comes_later() {
    local folder=/mnt/later long
    printf -v long '%0100d/' 1 2 3
    long=${long%/}
    mkdir -p "$folder"
    log_in
    adm1 loopmount automount enable "$folder/$long/disk.img"
    adm1 timeout 60 sh -c "until loopmount automount list | grep -q 'The file is not there'; do sleep 0.2; done"
    adm1 loopmount automount list
    expect_out "$folder/$long/disk.img: active, The file is not there; it is attached when it appears"
    root journalctl --sync
    root journalctl _UID=1002 --output=cat --since=-2min
    expect_out_has "it is not there; it is attached when it appears"
    mount -t tmpfs later "$folder"
    mkdir -p "$folder/$long"
    cp "$iso" "$folder/$long/disk.img"
    wait_until "it is attached" attached "$folder/$long/disk.img"
    adm1 loopmount automount disable "$folder/$long/disk.img"
    wait_until "it is detached" none_attached
    umount "$folder"
    rmdir "$folder"
    end_automount
}

# With a rule that permits it, from boot on: the service manager is there without a session.
test_automount_of_a_lingering_user() {
    log_in
    adm1 cp "$iso" "$home/disk.img"
    adm1 loopmount automount enable "$home/disk.img"
    wait_until "it is attached" attached "$home/disk.img"
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
