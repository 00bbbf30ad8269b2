# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# A person in front of a screen: real file managers, gvfs and notifications in
# ann's local session, and a mouse. One desktop serves all: it is what takes the
# time. Screenshots are left in the share.

poll_timeout=100

iso=/home/ann/images/iso-rockridge.iso
label=LOOP_ISO

# ---- the desktop ----

start_desktop() {
    trap stop_desktop EXIT
    # LXDE is what PCManFM belongs to.
    prelude+="export DISPLAY=:7 XDG_CURRENT_DESKTOP=LXDE NO_AT_BRIDGE=1; "
    systemctl unmask --quiet udisks2.service
    root systemctl start udisks2.service
    root update-desktop-database /usr/share/applications
    start screen ann Xvfb :7 -screen 0 800x500x24 -nolisten tcp
    wait_until "there is a screen" test -S /tmp/.X11-unix/X7
    ann dbus-update-activation-environment --systemd DISPLAY
    ann xfconf-query --channel xfce4-notifyd --property /expire-timeout --create --type int --set 600
    start windows ann openbox
}

# Its parts go with the screen, or when they are told to.
stop_desktop() {
    local code=$?
    trap - EXIT
    rm -rf /home/ann/images
    pkill --uid ann --exact 'thunar|Thunar|pcmanfm|loopmount|Xvfb' || true
    pkill --uid ann 'gvfs|xfconfd|xfce4-notifyd|dconf-service|openbox|xdg-|menu-cached|at-spi' || true
    systemctl stop udisks2.service
    systemctl mask --quiet udisks2.service
    exit "$code"
}

picture() {
    install -d -m 1777 "$share/pictures"
    # Out of the way, so that nothing explains itself.
    ann xdotool mousemove 790 490
    pause 1
    ann scrot --overwrite /tmp/picture.png
    cp /tmp/picture.png "$share/pictures/$suite-$1.png"
}

# has_window PATTERN [--class]: of the title; leaves its number in "out".
has_window() {
    tries ann xdotool search --onlyvisible "${2:---name}" "$1"
    [[ $status -eq 0 ]]
}

# A window may be there before it can take a click.
wait_for_window() {
    wait_until "there is a window '$1'" has_window "$@"
    pause 2
    has_window "$@" || fail "the window '$1' has gone"
}

# click_in X Y [TIMES]: from the upper left corner of the window that was waited for last; a negative X or Y counts
# from the other end.
click_in() {
    local WINDOW X Y WIDTH HEIGHT SCREEN
    ann xdotool getwindowgeometry --shell "${out%%$'\n'*}"
    eval "$out"
    ann xdotool mousemove --window "$WINDOW" $(($1 + ($1 < 0 ? WIDTH : 0))) $(($2 + ($2 < 0 ? HEIGHT : 0))) \
        click --repeat "${3:-1}" --delay 100 1
}

# ---- what there is to see ----

is_mounted() {
    findmnt --mountpoint "$media/$label"
}

is_detached() {
    ! is_mounted && [[ ! -e $media/$label && -z $(ls /run/loopmount/images) ]]
}

no_client_is_left() {
    ! pgrep --exact loopmount
}

expect_one_in_sidebar() {
    ann gio mount -l
    [[ $(grep -c "^ *Mount.*: $label -> file://$media/$label\$" <<<"$out") -eq 1 ]] || fail "it is not there once"
    [[ $(grep -c "$label\|loop" <<<"$out") -eq 1 ]] || fail "it is there twice"
}

# ---- the test ----

double_click_the_image() {
    wait_for_window "$1"
    click_in "$2" "$3" 2
    wait_until "$label is mounted" is_mounted
}

# The only file of the folder is the first icon in it.
check_pcmanfm() {
    start files ann pcmanfm /home/ann/images
    double_click_the_image '^images$' 206 96
    wait_for_window "^$label\$"
    wait_for_window notifyd --class
    picture double-click
    expect_one_in_sidebar
    ann loopmount list
    expect_out_has "$media/$label"
    expect_out_has " ro "

    # Again: the same place, and no second notification.
    ann loopmount open "$iso"
    expect_equal 1 "$(pgrep --count --exact loopmount)" "the number of clients that wait"

    wait_for_window notifyd --class
    click_in -40 -24
    wait_until "the notification has ejected it" is_detached
    wait_until "nobody waits for the notification" no_client_is_left
    pkill --uid ann --exact pcmanfm
}

check_thunar() {
    start files ann thunar /home/ann/images
    double_click_the_image '^images' 217 110
    wait_for_window "^$label"
    expect_one_in_sidebar
    picture sidebar
    wait_for_window "^$label"
    click_in 160 238
    wait_until "the sidebar has ejected it" is_detached
    wait_until "nobody waits for the notification" no_client_is_left
}

# As any program does it that uses GLib.
check_gio() {
    ann loopmount attach "$iso"
    expect_one_in_sidebar
    ann gio mount --unmount "file://$media/$label"
    wait_until "gio has ejected it" is_detached
}

# What cannot be opened is told.
check_error() {
    ann truncate --size=1M /home/ann/images/zeros.img
    fails 6 ann loopmount open /home/ann/images/zeros.img
    wait_for_window notifyd --class
    picture error
}

test_double_click_notification_and_sidebar() {
    ann mkdir images
    ann cp "$images/iso-rockridge.iso" "$iso"
    start_desktop
    check_pcmanfm
    check_thunar
    check_gio
    check_error
}
