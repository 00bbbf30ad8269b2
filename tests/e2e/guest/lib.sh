# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What tests are written with. They run as root in the guest, each in a subshell
# of its own; "ann", "bob" and so on run a command in a session of that user.
# Every command leaves what it did in "status", "out" and "err".
#
#   ann COMMAND...           in ann's active local session; must succeed
#   fails CODE ann COMMAND   must fail with this exit code
#   tries ann COMMAND        may do as it likes
#   ann_sh SCRIPT            the same for a piece of bash
#   root COMMAND...          as root
#   start NAME ann COMMAND   in the background; "end NAME" waits for it

# shellcheck disable=SC2034 # for the tests, as most of what follows
images=/mnt/disk0
share=/mnt/share
# Is there if these are what was installed.
packages=$share/packages
# A copy in the guest: what lies in the share is read from the host each time that it is run.
bin=/var/tmp/loopmount-tools
# shellcheck disable=SC2034
media=/run/media/ann
sessions=/run/loopmount-e2e
request_timeout=180
poll_timeout=20

# shellcheck disable=SC2034 # for the tests
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

# What passes a descriptor: busctl can since systemd 257.
# shellcheck disable=SC2034
call="busctl call"
# shellcheck disable=SC2034
[[ $suite != bookworm ]] || call="$bin/call"

declare -A session_request session_reply
# What is run in a session before each command.
prelude=
wanted_status=0
status=0 out='' err=''
did=
# What the helpers leave for the tests.
# shellcheck disable=SC2034
id='' device='' mount_point='' copy='' pid='' background=''

# ---- Failing ----

fail() {
    local i
    echo "$*"
    for ((i = 1; i < ${#FUNCNAME[@]}; i++)); do
        [[ ${FUNCNAME[i]} != test_* && ${FUNCNAME[i]} != check_* ]] ||
            echo "  in ${FUNCNAME[i]}, ${BASH_SOURCE[i]##*/} line ${BASH_LINENO[i - 1]}"
    done
    if [[ -n $did ]]; then
        echo "  the last command: $did"
        echo "  its exit code: $status"
        [[ -z $out ]] || printf '%s\n' "$out" | cut --bytes=-500 | sed 's/^/  its output: /'
        [[ -z $err ]] || printf '%s\n' "$err" | cut --bytes=-500 | sed 's/^/  its errors: /'
    fi
    exit 1
}

# say TEXT: a measured figure, to be printed also when the test passes.
say() {
    echo "# $*"
}

# ---- Sessions ----

# open_session NAME USER HOW [OPTION...]
open_session() {
    local name=$1 user=$2 how=$3 dir=$sessions/$1
    install -d -m 755 "$sessions"
    install -d -m 755 -o "$user" "$dir"
    mkfifo -m 600 "$dir/request" "$dir/reply"
    chown "$user" "$dir/request" "$dir/reply"
    as-user "${@:4}" "$user" "$how" -- "$share/guest/session-server" "$dir" </dev/null >"$dir/log" 2>&1 &
    local to from
    exec {to}<>"$dir/request" {from}<>"$dir/reply"
    session_request[$name]=$to
    session_reply[$name]=$from
}

read_file() {
    IFS= read -r -d '' "$2" <"$1" || true
}

# request SESSION SCRIPT
request() {
    local dir=$sessions/$1 name=$EPOCHREALTIME answered=
    did="$1: $2"
    printf '%s\0' "$name" "$prelude$2" >&"${session_request[$1]}"
    # An answer that another test has not waited for may come first.
    while [[ $answered != "$name" ]]; do
        read -r -t "$request_timeout" answered status <&"${session_reply[$1]}" ||
            { status=none && fail "no answer for $request_timeout seconds"; }
    done
    read_file "$dir/out" out
    read_file "$dir/err" err
    out=${out%$'\n'}
    err=${err%$'\n'}
    check_status
}

check_status() {
    local wanted=$wanted_status
    wanted_status=0
    [[ $wanted == any || $status == "$wanted" ]] || fail "the exit code is $status, not $wanted"
}

# Leaves it in "command".
quote() {
    printf -v command '%q ' "$@"
}

in_session() {
    local command
    quote "${@:2}"
    request "$1" "exec $command"
}

ann() { in_session ann-local "$@"; }
ann_sh() { request ann-local "$1"; }
ann_cron() { in_session ann-cron "$@"; }
ann_ssh() { in_session ann-ssh "$@"; }
bob() { in_session bob-cron "$@"; }
bob_local() { in_session bob-local "$@"; }

root() {
    local command
    quote "$@"
    did="root: $command"
    status=0
    timeout "$request_timeout" "$@" >"$sessions/out" 2>"$sessions/err" </dev/null || status=$?
    read_file "$sessions/out" out
    read_file "$sessions/err" err
    out=${out%$'\n'}
    err=${err%$'\n'}
    check_status
}

fails() {
    wanted_status=$1
    "${@:2}"
}

tries() {
    wanted_status=any
    "$@"
}

# start NAME SESSION-FUNCTION COMMAND...: leaves the process in "pid".
start() {
    local name=$1 dir command
    quote "${@:3}"
    case $2 in
        ann) dir=ann-local ;;
        ann_ssh) dir=ann-ssh ;;
        bob) dir=bob-cron ;;
        root) dir=root ;;
        *) fail "start: what is '$2'?" ;;
    esac
    # With job control of its own, so that it does not ignore Ctrl-C.
    command="set -m; { ( echo \$BASHPID >$sessions/$dir/$name.pid; exec $command ) \
        >$sessions/$dir/$name.out 2>$sessions/$dir/$name.err; \
        echo \$? >$sessions/$dir/$name.new && mv $sessions/$dir/$name.{new,status}; } & disown"
    rm -f "$sessions/$dir/$name".*
    if [[ $dir == root ]]; then
        mkdir -p "$sessions/root"
        bash -c "$command" </dev/null >/dev/null 2>&1
    else
        request "$dir" "$command"
    fi
    background=$sessions/$dir/$name
    wait_until "$name has started" test -s "$background.pid"
    read -r pid <"$background.pid"
}

# Waits for what was started last with this name; leaves status, out and err.
end() {
    local name=$1 file
    for file in "$sessions"/*/"$name.pid"; do
        background=${file%.pid}
    done
    wait_until "$name has ended" test -e "$background.status"
    did="$name, in the background"
    read -r status <"$background.status"
    read_file "$background.out" out
    read_file "$background.err" err
    out=${out%$'\n'}
    err=${err%$'\n'}
    check_status
}

# ---- Waiting ----

# A pause that starts no process.
pause() {
    read -r -t "$1" <>"$sessions/never" || true
}

# wait_until WHAT CONDITION...: polls the condition, silently.
wait_until() {
    local what=$1 deadline=$((SECONDS + poll_timeout))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "waited $poll_timeout seconds in vain until: $what"
        pause 0.05
    done
}

file_has() {
    local content
    read_file "$1" content
    # shellcheck disable=SC2053 # a pattern
    [[ $content == $2 ]]
}

# wait_for_output NAME PATTERN: of what was started.
wait_for_output() {
    local file
    for file in "$sessions"/*/"$1.out"; do
        wait_until "$1 prints $2" file_has "$file" "*$2*"
    done
}

gone() {
    [[ ! -e $1 ]]
}

# ---- Expecting ----

expect_equal() {
    [[ $2 == "$1" ]] || fail "${3:-it} is '$2', not '$1'"
}

# For long ones: tells only what differs.
expect_same() {
    [[ $2 == "$1" ]] || fail "$3 is another one:
$(diff <(echo "$1") <(echo "$2") || true)"
}

expect_out() {
    [[ $out == "$1" ]] || fail "the output is not '$1'"
}

# shellcheck disable=SC2053 # patterns
expect_out_has() {
    [[ $out == *$1* ]] || fail "the output does not have '$1'"
}

# shellcheck disable=SC2053
expect_out_lacks() {
    [[ $out != *$1* ]] || fail "the output has '$1'"
}

# shellcheck disable=SC2053
expect_err_has() {
    [[ $err == *$1* ]] || fail "the error does not have '$1'"
}

expect_no_err() {
    [[ -z $err ]] || fail "there is something on standard error"
}

expect_one_line_of_error() {
    [[ -n $err && $err != *$'\n'* ]] || fail "the error is not one line"
}

# By the table itself, which escapes blanks: to start findmnt(8) takes longer than most tests have to wait.
is_mounted() {
    local table path=${1//\\/\\134}
    path=${path// /\\040} path=${path//$'\t'/\\011} path=${path//$'\n'/\\012}
    read_file /proc/self/mountinfo table
    [[ $table == *" $path "* ]]
}

expect_mounted() {
    is_mounted "$1" || fail "'$1' is not mounted"
}

expect_not_mounted() {
    ! is_mounted "$1" || fail "'$1' is mounted"
}

expect_hello() {
    ann cat "$1/hello.txt"
    expect_out "hello from $2"
}

# ---- Looking ----

# json PATH [TEXT]: of "out", if no text is given. Prints it.
json() {
    "$bin/json" "$1" <<<"${2:-$out}" || fail "'$1' is not in the JSON"
}

# Attaches a sample image, or a file, without a word of what is mounted; leaves
# "device", "id" and, if something is mounted, "mount_point" (the first).
attach() {
    ann loopmount attach --json "${@:2}" "$1"
    [[ $out =~ ^\{\"image\":\{\"id\":\"([0-9]+)\" ]] || fail "there is no id in the JSON"
    id=${BASH_REMATCH[1]}
    [[ $out =~ \"device\":\"(/dev/loop[0-9]+)\" ]] || fail "there is no device in the JSON"
    device=${BASH_REMATCH[1]}
    mount_point=
    [[ $out != *'"mount_points":["'* ]] || mount_point=${out#*\"mount_points\":[\"} mount_point=${mount_point%%\"*}
}

detach_all() {
    ann loopmount detach --all
}

# copy SAMPLE [NAME]: a file of ann's own; leaves its path in "copy".
copy() {
    copy=/home/ann/${2:-$1}
    ann cp --sparse=always "$images/$1" "$copy"
}

# All that is told of ann's images, a volume a line.
listing() {
    ann loopmount list --json
    echo "${out//\},\{/$'},\n{'}"
}

# All files of the system that a package could have put there, and what it is expected to leave nothing of.
list_files() {
    find / -xdev '(' -path /proc -o -path /sys -o -path /dev -o -path /home -o -path /tmp -o -path /mnt -o -path /var/tmp -o -path /var/log \
        -o -path /var/lib/dpkg -o -path /var/lib/udisks2 -o -path /var/cache ')' -prune -o -print | sort
    ! [[ -d /run/loopmount ]] || find /run/loopmount | sort
}

# Holds a file of an attached image open in the background, and reads it when it is told to.
start_reader() {
    ann mkfifo /home/ann/go
    # shellcheck disable=SC2016 # for the other shell
    start reader ann bash -c 'exec 3<"$1" && read -r _ <"$2" && cat <&3' reader "$1" /home/ann/go
    wait_until "the file is open" has_open "$pid" "$1"
}

end_reader() {
    ann_sh "echo >/home/ann/go"
    end reader
}

has_open() {
    [[ $(readlink "/proc/$1/fd/3") == "$2" ]]
}

# A property of an object, as busctl shows it: property PATH INTERFACE NAME
property() {
    busctl get-property org.loopmount1 "/org/loopmount1$1" "org.loopmount1.$2" "$3"
}

# configure TEXT: for the daemon that is started next.
configure() {
    mkdir -p /etc/loopmount.conf.d
    printf '%s\n' "$1" >/etc/loopmount.conf.d/test.conf
    systemctl reset-failed loopmountd.service 2>/dev/null || true
    root systemctl restart loopmountd.service
}

unconfigure() {
    rm -rf /etc/loopmount.conf.d
    systemctl reset-failed loopmountd.service 2>/dev/null || true
    root systemctl restart loopmountd.service
}

# ---- polkit ----

# Not more often than its unit likes.
restart_polkit() {
    systemctl reset-failed polkit.service 2>/dev/null || true
    systemctl restart polkit.service
}

# What the tests' own rule permits is not permitted until the test ends.
without_any_filesystem() {
    local rule=/etc/polkit-1/rules.d/60-any-filesystem.rules
    # shellcheck disable=SC2064
    trap "mv /run/60-any-filesystem.rules $rule; restart_polkit" EXIT
    mv "$rule" /run/60-any-filesystem.rules
    restart_polkit
}
