# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154 # the variables of guest/lib.sh
#
# The daemon ends while it has much to do: killed, restarted, out of memory,
# replaced by another version. What was attached stays, with its open files; each
# request ends, with a result or an error; nothing leaks (guest/snapshot.sh).

gpt=$images/gpt-multi.img
busy=/home/ann/busy
clients=(1 2)

main_pid() {
    systemctl show --property=MainPID --value loopmountd.service
}

is_up_again() {
    local now
    now=$(main_pid)
    [[ $now != 0 && $now != "$1" ]] && systemctl --quiet is-active loopmountd.service
}

# Attaches and detaches a file of its own as long as there is something to do, and then once more.
client_script() {
    cat <<'END_OF_SCRIPT'
round() {
    loopmount attach --print-path "$1" >/dev/null 2>&1
    echo "attach $?"
    loopmount detach "$1" >/dev/null 2>&1
    echo "detach $?"
}
while [[ -e $2 ]]; do round "$1"; done
echo last
round "$1"
END_OF_SCRIPT
}

start_clients() {
    local i
    for i in "${clients[@]}"; do
        copy ext4.img "load-$i.img"
        start "load-$i" ann bash -c "$(client_script)" client "$copy" "$busy"
    done
}

# All requests were answered; those behind the end of the load went well.
end_clients() {
    local i line n=0
    for i in "${clients[@]}"; do
        end "load-$i"
        [[ $out == *$'last\nattach 0\ndetach 0' ]] || fail "the last round of client $i did not go well"
        while read -r line; do
            case $line in
                'attach '[0-7] | 'detach '[0-7]) n=$((n + 1)) ;;
                last) ;;
                *) fail "a request of client $i ended with '$line'" ;;
            esac
        done <<<"$out"
    done
    ((n > 2 * ${#clients[@]})) || fail "there was no load"
    echo "# $n requests under load"
}

# check_under_load COMMAND...: lets it end the daemon, several times.
check_under_load() {
    local before main i
    attach "$gpt"
    before=$(ann loopmount info --json "$gpt" && echo "$out")
    start_reader "$media/ROOT/hello.txt"
    touch "$busy"
    start_clients
    for i in 1 2; do
        pause 1
        main=$(main_pid)
        systemctl reset-failed loopmountd.service 2>/dev/null || true
        "$@"
        wait_until "another daemon is up ($i)" is_up_again "$main"
    done
    rm "$busy"
    end_clients
    end_reader
    expect_out "hello from gpt-multi.img volume 2"
    expect_same "$before" "$(ann loopmount info --json "$gpt" && echo "$out")" "what is told of the image"
    expect_hello "$media/ROOT" "gpt-multi.img volume 2"
    detach_all
}

test_killed_under_load() {
    check_under_load systemctl kill --signal=KILL loopmountd.service
}

test_restarted_under_load() {
    check_under_load systemctl restart loopmountd.service
}

# The kernel kills what is in the service's cgroup until the rest needs no more than that.
run_out_of_memory() {
    local since
    since=$(oom_kills)
    systemctl set-property --runtime loopmountd.service MemoryMax=4K
    wait_until "the kernel has killed something" has_more_oom_kills "$since"
    systemctl set-property --runtime loopmountd.service MemoryMax=infinity
    # What was started meanwhile had no memory either, and systemd may have given up.
    systemctl reset-failed loopmountd.service 2>/dev/null || true
    systemctl start loopmountd.service
}

# Of the whole system: the service's own count goes with its cgroup.
oom_kills() {
    local name n
    while read -r name n; do
        [[ $name != oom_kill ]] || echo "$n"
    done </proc/vmstat
}

has_more_oom_kills() {
    (($(oom_kills) > $1))
}

test_out_of_memory_under_load() {
    check_under_load run_out_of_memory
    # Not "revert": others have settings for the service, too.
    rm -rf /run/systemd/system.control/loopmountd.service.d
    systemctl daemon-reload
}

# As a package manager does; package.sh has the real one.
reinstall() {
    local new
    cp --preserve=all /usr/libexec/loopmountd /usr/libexec/loopmountd.new
    mv /usr/libexec/loopmountd.new /usr/libexec/loopmountd
    systemctl daemon-reload
    systemctl restart loopmountd.service
    new=$(readlink "/proc/$(main_pid)/exe")
    expect_equal /usr/libexec/loopmountd "$new" "the program that runs"
}

test_replaced_under_load() {
    check_under_load reinstall
}
