# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# Who may: the active local session; others with an administrator's password,
# asked for on the terminal; nobody another one's image.

iso=$images/iso-rockridge.iso
prompt="Password: "

# In ann's ssh session, at a terminal.
at_terminal() {
    ann_ssh "$bin/terminal" "$@"
}

test_a_local_session_may() {
    ann loopmount attach --no-ask-password "$iso"
    detach_all
}

test_ssh_without_a_terminal_is_refused() {
    fails 3 ann_ssh loopmount attach "$iso"
    expect_err_has "administrator"
    expect_one_line_of_error
    fails 3 ann_ssh loopmount attach --no-ask-password "$iso"
    fails 1 ann_ssh sh -c "$call org.loopmount1 /org/loopmount1 org.loopmount1.Manager Attach 'ha{sv}' 3 0 3<$iso"
    expect_err_has "administrator"
}

test_cron_is_refused() {
    fails 3 ann_cron loopmount attach "$iso"
    expect_err_has "administrator"
}

test_an_inactive_session_is_refused() {
    fails 3 bob_local loopmount attach "$iso"
}

test_the_terminal_asks_for_an_administrator() {
    at_terminal "$prompt" $'adm1\n' -- loopmount attach "$iso"
    expect_out_has "AUTHENTICATING FOR org.loopmount1.attach"
    expect_out_has "attach the disk image iso-rockridge.iso"
    expect_out_has "adm1"
    expect_out_has "$media/LOOP_ISO  (iso9660, read-only)"
    expect_hello "$media/LOOP_ISO" iso-rockridge.iso
    ann_ssh loopmount detach "$iso"
}

test_a_real_ssh_terminal() {
    root "$bin/terminal" "$prompt" $'adm1\n' -- as-user ann ssh-tty -- loopmount attach "$iso"
    expect_out_has "$media/LOOP_ISO"
    detach_all
}

test_no_ask_password_does_not_ask() {
    fails 3 at_terminal -- loopmount attach --no-ask-password "$iso"
    expect_out_lacks AUTHENTICATING
}

test_a_wrong_password_attaches_nothing() {
    fails 3 at_terminal "$prompt" $'wrong\n' -- loopmount attach "$iso"
    expect_out_has "AUTHENTICATION FAILED"
    fails 5 ann loopmount info "$iso"
}

test_cancelling_the_prompt_leaves_nothing() {
    fails 130 at_terminal "$prompt" $'\x03' -- loopmount attach "$iso"
    fails 5 ann loopmount info "$iso"
}

test_killing_the_client_at_the_prompt_leaves_nothing() {
    fails 137 at_terminal "$prompt" @kill -- loopmount attach "$iso"
    fails 5 ann loopmount info "$iso"
}

test_hanging_up_at_the_prompt_leaves_nothing() {
    fails 129 at_terminal "$prompt" @hangup -- loopmount attach "$iso"
    fails 5 ann loopmount info "$iso"
}

test_with_asks_once_and_cleans_up() {
    at_terminal "$prompt" $'adm1\n' -- loopmount with "$iso" -- cat hello.txt
    expect_out_has "hello from iso-rockridge.iso"
    fails 5 ann loopmount info "$iso"
}

test_the_owner_detaches_without_a_prompt_from_anywhere() {
    ann loopmount attach "$iso"
    ann_ssh loopmount detach --no-ask-password "$iso"
    ann loopmount attach "$iso"
    ann_cron loopmount detach "$iso"
    ann loopmount attach "$iso"
    ann_cron loopmount unmount "$iso"
    ann loopmount attach "$iso"
    ann_cron umount "$media/LOOP_ISO"
    wait_until "it is detached" gone "$media/LOOP_ISO"
    ann loopmount attach "$iso"
    ann_ssh loopmount detach --all
}

test_mounting_later_is_asked_for_too() {
    ann loopmount attach --no-mount "$iso"
    fails 3 ann_ssh loopmount mount "$iso"
    at_terminal "$prompt" $'adm1\n' -- loopmount mount "$iso"
    expect_out_has "AUTHENTICATING FOR org.loopmount1.mount"
    expect_out_has "$media/LOOP_ISO"
    detach_all
}

test_another_users_image_is_out_of_reach() {
    attach "$iso"
    fails 3 bob loopmount detach "$id"
    fails 3 bob loopmount unmount "$id"
    fails 3 bob loopmount rescan "$id"
    fails 3 bob loopmount detach "$device"
    fails 5 bob loopmount detach "$iso"
    bob loopmount detach --all
    fails 1 bob busctl call org.loopmount1 "/org/loopmount1/image/$id" org.loopmount1.Image Detach 'a{sv}' 0
    expect_err_has "manage-other-users"
    tries bob umount "$mount_point"
    [[ $status -ne 0 ]] || fail "bob could unmount it"
    tries bob umount "$device"
    [[ $status -ne 0 ]] || fail "bob could unmount the device"
    expect_hello "$mount_point" iso-rockridge.iso
    detach_all
}

test_an_administrator_may_take_away_another_users_image() {
    attach "$iso"
    root "$bin/terminal" "$prompt" $'adm1\n' -- as-user bob ssh-tty -- loopmount detach "$id"
    expect_out_has "AUTHENTICATING FOR org.loopmount1.manage-other-users"
    fails 5 ann loopmount info "$iso"
    attach "$iso"
    root loopmount detach "$iso"
    fails 5 ann loopmount info "$iso"
}

# Behind all the questions above whose askers have gone.
test_polkit_still_answers() {
    timeout 20 busctl get-property org.freedesktop.PolicyKit1 /org/freedesktop/PolicyKit1/Authority \
        org.freedesktop.PolicyKit1.Authority BackendVersion
}

test_without_polkit_root_alone_may() {
    local unit=polkit.service
    systemctl mask --runtime --quiet --now "$unit"
    tries ann loopmount attach "$iso"
    local ann_status=$status ann_err=$err
    tries root loopmount attach "$iso"
    local root_status=$status root_out=$out
    tries root loopmount detach "$iso"
    systemctl unmask --runtime --quiet "$unit"
    expect_equal 3 "$ann_status" "the exit code for ann"
    expect_equal 0 "$root_status" "the exit code for root"
    expect_equal "/run/media/root/LOOP_ISO  (iso9660, read-only)" "$root_out" "what root sees"
    [[ -n $ann_err ]] || fail "ann is told nothing"
    ann loopmount attach "$iso"
    ann loopmount detach "$iso"
}

test_what_is_attached_can_be_detached_without_polkit() {
    attach "$iso"
    systemctl mask --runtime --quiet --now polkit.service
    tries ann loopmount detach "$iso"
    systemctl unmask --runtime --quiet polkit.service
    expect_equal 0 "$status" "the exit code"
}

# ---- Drivers that need a permission of their own ----

test_an_unhardened_driver_needs_an_administrator() {
    local name
    without_any_filesystem
    for name in xfs btrfs f2fs; do
        fails 3 ann loopmount attach --no-ask-password "$images/$name.img"
        expect_err_has "administrator's password"
    done
    ann loopmount attach --no-mount "$images/btrfs.img"
    fails 3 ann loopmount mount --no-ask-password "$images/btrfs.img"
    detach_all
    ann loopmount attach "$images/ext4.img"
    detach_all
}

# Once for each attach, and not again for some minutes.
test_the_question_names_image_and_type() {
    without_any_filesystem
    ann "$bin/terminal" "$prompt" $'adm1\n' -- loopmount attach "$images/btrfs.img"
    expect_out_has "AUTHENTICATING FOR org.loopmount1.mount-unhardened"
    expect_out_has "disk image btrfs.img; its file system: btrfs"
    [[ $(grep --count AUTHENTICATING <<<"$out") == 1 ]] || fail "it asks more than once"
    detach_all
}

# ---- The rules in docs/examples ----

# with_rules NAME: as an administrator would install it, until the test ends. Which groups somebody is in counts
# from the next login on (polkit 124 and later): "root as-bob-cron" is one.
with_rules() {
    trap without_rules EXIT
    install -m 644 "/usr/share/doc/loopmount/examples/$1.rules" /etc/polkit-1/rules.d/50-loopmount.rules
    restart_polkit
}

without_rules() {
    rm -f /etc/polkit-1/rules.d/50-loopmount.rules
    ! getent group images >/dev/null || groupdel images
    restart_polkit
}

test_a_rule_permits_a_group_from_anywhere() {
    groupadd --users bob images
    with_rules group-from-anywhere
    root as-bob-cron loopmount attach "$iso"
    bob loopmount detach "$iso"
    fails 3 ann_cron loopmount attach "$iso"
    without_rules
    fails 3 root as-bob-cron loopmount attach "$iso"
}

test_a_rule_asks_everybody() {
    with_rules always-ask
    fails 3 ann loopmount attach --no-ask-password "$iso"
    root loopmount attach "$iso"
    root loopmount detach "$iso"
    without_rules
    ann loopmount attach "$iso"
    detach_all
}

# A member is asked for the password of an administrator from cron, as ever; others need not try.
test_a_rule_permits_a_group_only() {
    groupadd --users bob images
    with_rules group-only
    fails 3 ann loopmount attach "$iso"
    expect_err_has "Not authorised"
    fails 3 root as-bob-cron loopmount attach "$iso"
    expect_err_has "administrator's password"
    without_rules
    ann loopmount attach "$iso"
    detach_all
}

# One of ann's waits for a password.
test_limit_of_requests() {
    configure $'[Limits]\nMaxRequestsPerUser=1'
    start waiting ann_ssh "$bin/terminal" -- loopmount attach "$iso"
    wait_for_output waiting "$prompt"
    fails 1 ann loopmount attach "$images/ext4.img"
    expect_err_has "Too many requests"
    root loopmount attach "$images/ext4.img"
    root loopmount detach "$images/ext4.img"
    root pkill --signal TERM --uid ann --exact loopmount
    tries end waiting
    ann loopmount attach "$images/ext4.img"
    detach_all
    unconfigure
}
