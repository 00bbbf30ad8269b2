# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# The client: "with", help, exit codes.

iso=$images/iso-rockridge.iso
gpt=$images/gpt-multi.img

expect_detached() {
    fails 5 ann loopmount info "$iso"
    [[ ! -e $media/LOOP_ISO ]] || fail "the folder is still there"
}

test_with_runs_in_the_mount_point() {
    ann loopmount with "$iso" -- cat hello.txt
    expect_out "hello from iso-rockridge.iso"
    expect_no_err
    expect_detached
    # shellcheck disable=SC2016
    ann loopmount with "$iso" -- sh -c 'pwd; echo "$LOOPMOUNT_DIR"'
    expect_out "$media/LOOP_ISO
$media/LOOP_ISO"
    # shellcheck disable=SC2016
    ann loopmount with "$gpt" -- sh -c 'echo "$LOOPMOUNT_DIRS"'
    expect_out "$media/ESP
$media/ROOT
$media/squashfs"
}

test_with_passes_the_exit_code_on() {
    fails 42 ann loopmount with "$iso" -- sh -c "exit 42"
    expect_detached
    fails 143 ann loopmount with "$iso" -- sh -c 'kill -TERM $$'
    expect_detached
    fails 127 ann loopmount with "$iso" -- no-such-command
    fails 126 ann loopmount with "$iso" -- ./hello.txt
    fails 6 ann loopmount with "$images/zero.img" -- true
    fails 2 ann loopmount with "$iso"
    expect_detached
}

test_with_takes_the_options_of_attach() {
    copy fat16.img
    ann loopmount with -w --name Wished "$copy" -- sh -c 'pwd >where.txt'
    ann loopmount with "$copy" -- cat where.txt
    expect_out "$media/Wished"
    ann loopmount with --volume 2 "$gpt" -- cat hello.txt
    expect_out "hello from gpt-multi.img volume 2"
}

test_with_and_ctrl_c() {
    fails 130 ann "$bin/terminal" ready $'\x03' -- loopmount with "$iso" -- sh -c 'echo ready; exec sleep 60'
    expect_detached
}

test_with_and_a_command_that_survives_ctrl_c() {
    fails 7 ann "$bin/terminal" ready $'\x03' -- \
        loopmount with "$iso" -- bash -c 'trap "echo caught; exit 7" INT; echo ready; while :; do read -t 1 -r x; done'
    expect_out_has caught
    expect_detached
}

check_with_signal() {
    start client ann loopmount with "$iso" -- sleep 60
    wait_until "it is mounted" mountpoint "$media/LOOP_ISO"
    wait_until "the command runs" sleeps_in_it
    kill "-$1" "$pid"
    fails "$2" end client
    expect_detached
}

sleeps_in_it() {
    pgrep --parent "$pid" --exact sleep
}

test_with_passes_sigterm_on() { check_with_signal TERM 143; }
test_with_passes_sigint_on() { check_with_signal INT 130; }
test_with_passes_sighup_on() { check_with_signal HUP 129; }

test_with_and_a_hangup_of_the_terminal() {
    tries ann "$bin/terminal" ready @hangup -- loopmount with "$iso" -- sh -c 'echo ready; exec sleep 60'
    wait_until "it is detached" gone "$media/LOOP_ISO"
}

test_with_leaves_what_was_attached_before() {
    attach "$iso"
    ann loopmount with "$iso" -- cat hello.txt
    expect_mounted "$media/LOOP_ISO"
    detach_all
}

test_with_runs_in_the_volume_that_was_named() {
    copy gpt-multi.img
    ann loopmount attach -w --volume 1,2 "$copy"
    ann loopmount with -w --volume 2 "$copy" -- pwd
    expect_out "$media/ROOT"
    expect_mounted "$media/ESP"
    expect_mounted "$media/ROOT"
    detach_all
    ann loopmount attach -w --volume 1 "$copy"
    ann loopmount with -w --volume 2 "$copy" -- pwd
    expect_out "$media/ROOT"
    expect_mounted "$media/ESP"
    expect_not_mounted "$media/ROOT"
    detach_all
}

test_with_behind_a_foreign_unmount() {
    local i
    copy ext4.img
    for i in {1..10}; do
        ann loopmount attach -w "$copy"
        root umount "$media/EXT4"
        ann loopmount with -w "$copy" -- cat hello.txt
    done
    ann loopmount list
    expect_out ""
}

# They are interrupted evenly over the time that it takes.
test_an_interrupted_with_leaves_nothing() {
    local began took delay i interrupted=0
    ann loopmount with "$gpt" -- true
    began=$EPOCHREALTIME
    ann loopmount with "$gpt" -- true
    took=$((${EPOCHREALTIME/[.,]/} - ${began/[.,]/}))
    ann mkfifo never
    for i in {1..40}; do
        printf -v delay '%d.%06d' $((took * i / 40 / 1000000)) $((took * i / 40 % 1000000))
        # shellcheck disable=SC2016
        ann_sh '
            loopmount with '"$gpt"' -- true &
            read -t '"$delay"' -r x <>never
            kill -TERM $!
            wait $!
            echo $?
            loopmount list'
        [[ $out == 0 || $out == 143 ]] || fail "it was left behind: $out"
        [[ $out == 0 ]] || interrupted=$((interrupted + 1))
    done
    say "$interrupted of 40 were interrupted, within $((took / 1000)) ms"
    ((interrupted >= 10)) || fail "most of them had come to their end"
}

test_with_says_so_when_it_cannot_detach() {
    fails 4 ann loopmount with "$iso" -- sh -c 'sleep 60 >/dev/null 2>&1 & echo $!'
    expect_err_has "sleep (pid $out)"
    kill "$out"
    wait_until "the process is gone" gone "/proc/$out"
    ann loopmount detach "$iso"
}

test_help_is_complete() {
    local verb option
    ann loopmount --help
    expect_no_err
    for verb in attach detach list info mount unmount rescan monitor with open automount help; do
        expect_out_has "  $verb "
    done
    ann loopmount attach --help
    for option in -w --writable --offset --size --sector-size --no-mount --no-partition-scan --volume -t --type \
        -o --options --name --direct-io --keep --settle --print-path --json --no-ask-password; do
        expect_out_has " $option"
    done
    local attach_help=$out
    ann loopmount help attach
    expect_out "$attach_help"
    for verb in detach list info mount unmount rescan monitor with open automount; do
        ann loopmount "$verb" --help
        expect_out_has "Usage: loopmount $verb"
    done
}

test_version() {
    ann loopmount --version
    [[ $out =~ [0-9]+\.[0-9]+ ]] || fail "there is no version"
    local version=${BASH_REMATCH[0]}
    expect_equal "s \"$version\"" "$(property "" Manager Version)" "the daemon's version"
}

test_wrong_usage() {
    fails 2 ann loopmount
    fails 2 ann loopmount no-such-verb
    fails 2 ann loopmount attach
    fails 2 ann loopmount attach --no-such-option "$iso"
    expect_one_line_of_error
    fails 2 ann loopmount detach
    fails 2 ann loopmount detach --all "$iso"
    fails 2 ann loopmount list --writable
    fails 2 ann loopmount list extra
    fails 2 ann loopmount attach --volume x "$iso"
}

test_the_list_on_a_terminal() {
    ann loopmount attach "$iso"
    ann "$bin/terminal" -- env TERM=linux loopmount list
    expect_out_has "1 image attached."
    expect_out_has $'\e[4m'
    ann "$bin/terminal" -- env TERM=linux NO_COLOR=1 loopmount list
    expect_out_lacks $'\e'
    detach_all
}

test_the_daemon_cannot_be_reached() {
    systemctl mask --runtime --quiet --now loopmountd.service
    tries ann loopmount list
    local code=$status
    systemctl unmask --runtime --quiet loopmountd.service
    expect_equal 7 "$code" "the exit code"
    expect_one_line_of_error
}
