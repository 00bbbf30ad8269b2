# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# What logging in and out does. adm1 does it here: the sessions of ann stay open for all tests.

iso=$images/iso-rockridge.iso

# On a terminal, which comes to the foreground.
log_in() {
    rm -rf "${sessions:?}/adm1-local"
    open_session adm1-local adm1 local --vt 3
    in_session adm1-local true
}

foreground() {
    busctl --quiet call org.freedesktop.login1 /org/freedesktop/login1/seat/seat0 org.freedesktop.login1.Seat \
        SwitchTo u "$1"
}

adm1() {
    in_session adm1-local "$@"
}

# log_out [NAME]: returns when logind knows, and ann is in front again.
log_out() {
    local name=${1:-adm1-local}
    printf 'quit\0' >&"${session_request[$name]}"
    foreground 1
}

attached() {
    [[ $(loopmount list --all-users --json) == *"\"backing_file\":\"$1\""* ]]
}

none_attached() {
    [[ $(loopmount list --all-users --json) == '{"images":[]}' ]]
}

journal_has() {
    journalctl --sync
    [[ $(journalctl --unit loopmountd.service --since "@$since" --output cat) == *$1* ]]
}

test_logout_detaches() {
    log_in
    adm1 cp --sparse=always "$images/fat32.img" /home/adm1/disk.img
    adm1 loopmount attach --writable --print-path /home/adm1/disk.img
    adm1 sh -c "head -c 300000 /dev/zero | tr '\\0' x >'$out/written'"
    adm1 loopmount attach --no-mount "$iso"
    log_out
    wait_until "all is detached" none_attached
    mkdir /run/loopmount-e2e/look
    root mount -o loop,ro /home/adm1/disk.img /run/loopmount-e2e/look
    root sh -c "tr -d x </run/loopmount-e2e/look/written | wc -c; wc -c </run/loopmount-e2e/look/written"
    expect_out $'0\n300000'
    root umount /run/loopmount-e2e/look
    rmdir /run/loopmount-e2e/look
    rm /home/adm1/disk.img
}

test_the_last_session_counts() {
    log_in
    rm -rf "${sessions:?}/adm1-ssh"
    open_session adm1-ssh adm1 ssh
    in_session adm1-ssh true
    adm1 loopmount attach "$iso"
    log_out
    wait_until "the session has ended" session_is_over adm1
    pause 1
    attached "$iso" || fail "it is detached though adm1 has a session by ssh"
    log_out adm1-ssh
    wait_until "it is detached" none_attached
}

# Of the user's sessions none is on the seat.
session_is_over() {
    [[ $(loginctl list-sessions --no-legend | awk -v user="$1" '$3 == user && $4 == "seat0"') == "" ]]
}

test_switching_and_locking_change_nothing() {
    log_in
    adm1 loopmount attach "$iso"
    foreground 1
    root loginctl lock-sessions
    pause 1
    attached "$iso" || fail "it is detached"
    adm1 loopmount detach "$iso"
    log_out
}

test_keep_stays() {
    log_in
    adm1 loopmount attach --keep "$iso"
    log_out
    wait_until "the session has ended" session_is_over adm1
    pause 1
    attached "$iso" || fail "it is detached in spite of --keep"
    root loopmount detach "$iso"
}

# root has a session here, and does not attach in it.
test_a_service_is_in_no_session() {
    root loopmount attach --json "$iso"
    expect_equal false "$(json image.session_bound)" "session_bound"
    root loopmount detach "$iso"
    ann loopmount attach --json "$iso"
    expect_equal true "$(json image.session_bound)" "session_bound"
    detach_all
}

test_what_is_left_behind_keeps_it() {
    local since=$EPOCHSECONDS poll_timeout=40 left
    log_in
    adm1 loopmount attach --print-path "$iso"
    request adm1-local "cd $out && (setsid sleep 900 </dev/null >/dev/null 2>&1 & echo \$!)"
    left=$out
    log_out
    wait_until "the journal says who uses it" journal_has "stays attached though adm1 has logged out: it is in use by sleep (pid $left)"
    attached "$iso" || fail "it is detached though it is in use"
    kill "$left"
    poll_timeout=70
    wait_until "it is detached" none_attached
}

test_logout_while_the_daemon_is_away() {
    log_in
    adm1 loopmount attach "$iso"
    root systemctl stop loopmountd.service
    log_out
    wait_until "the session has ended" session_is_over adm1
    expect_mounted /run/media/adm1/LOOP_ISO
    root loopmount list
    wait_until "it is detached" none_attached
}
