# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# A person in front of a screen: real file managers, gvfs, notifications and
# polkit's agent in ann's local session, a mouse and a keyboard. One desktop serves
# all: it is what takes the time. Screenshots are left in the share.

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
    rm -rf /home/ann/images /home/ann/disks
    pkill --uid ann --exact 'thunar|Thunar|pcmanfm|xterm|loopmount|lxpolkit|Xvfb' || true
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

is_attached() {
    is_mounted "$media/$label"
}

is_detached() {
    ! is_attached && [[ ! -e $media/$label && -z $(ls /run/loopmount/images) ]]
}

# A file manager may still be reading what is new in it.
detached() {
    tries ann loopmount detach "$1"
    [[ $status -eq 0 ]]
}

is_waiting() {
    ann loopmount list --json
    [[ $(json images.0.volumes.0.waiting) == true ]]
}

no_thunar_is_left() {
    ! pgrep --uid ann --exact 'thunar|Thunar'
}

no_client_is_left() {
    ! pgrep --exact loopmount
}

expect_one_in_sidebar() {
    ann gio mount -l
    [[ $(grep -c "^ *Mount.*: $label -> file://$media/$label\$" <<<"$out") -eq 1 ]] || fail "it is not there once"
    [[ $(grep -c "$label\|loop" <<<"$out") -eq 1 ]] || fail "it is there twice"
}

is_not_listed() {
    ann gio mount -l
    [[ $out != *"$label"* ]]
}

expect_writable() {
    wait_until "$label is mounted" is_attached
    ann_sh "echo new >$media/$label/new.txt"
}

# ---- the test ----

# What a file manager looks up for a double click, after nothing but the installation. The last one is known by its
# content.
check_types() {
    ann_sh "cd images && cp $images/ext4.img a.img && cp $images/fat12.img b.fd && cp $images/squashfs.img c.sqsh &&
        cp c.sqsh d.squashfs"
    # shellcheck disable=SC2016 # for the other shell
    ann_sh 'for file in images/*; do
        type=$(gio info --attributes=standard::content-type "$file" | sed -n "s/.*content-type: //p")
        echo "$file ($type): $(gio mime "$type" | sed -n "1s/.*: //p")"
    done'
    expect_equal 5 "$(grep -c ': org.loopmount1.attach.desktop$' <<<"$out")" "the number of types that are ours"
    ann_sh "rm images/[a-d].*"
}

double_click_the_image() {
    wait_for_window "$1"
    click_in "$2" "$3" 2
    wait_until "$label is mounted" is_attached
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

    ann loopmount attach "$iso"
    wait_for_window pcmanfm --class
    picture pcmanfm
    wait_for_window pcmanfm --class
    click_in 137 163
    wait_until "the sidebar has ejected it" is_detached
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

# The menu's second entry has those that are not the default, in their order: "Eject Image", "Mount Image Writable".
check_open_with() {
    local label=FAT16
    start files ann thunar /home/ann/disks
    wait_for_window '^disks'
    click_in 217 110
    ann xdotool key shift+F10
    wait_for_window '^Thunar$'
    ann xdotool key Down Down Right
    picture open-with
    ann xdotool key Down Return
    expect_writable
    wait_until "Thunar has looked at it" detached disks/fat16.img
    wait_until "nobody waits for the notification" no_client_is_left
}

# As file managers start what was chosen, and KDE's and Nemo's menus the same commands.
check_launch() {
    local label=FAT16 applications=/usr/share/applications
    ann gio launch $applications/org.loopmount1.writable.desktop disks/fat16.img
    expect_writable
    ann gio launch $applications/org.loopmount1.detach.desktop disks/fat16.img
    wait_until "it is detached" is_detached
    wait_until "nobody waits for the notification" no_client_is_left
}

# As any program does it that uses GLib.
check_gio() {
    ann loopmount attach "$iso"
    expect_one_in_sidebar
    ann gio mount --unmount "file://$media/$label"
    wait_until "gio has ejected it" is_detached
}

# What waits is not listed, nor entered by those that list; what is entered is as any other. A Thunar that has shown the
# folder before enters it by itself: that of Debian 13 when it is there again, that of Debian 12 when it is unmounted.
check_on_access() {
    pkill --uid ann --exact 'thunar|Thunar'
    wait_until "Thunar has ended" no_thunar_is_left
    start files ann thunar /home/ann/disks
    wait_for_window '^disks'
    ann loopmount attach --on-access "$iso"
    wait_for_window '^disks'
    picture waiting
    ann gio mount -l
    expect_out_lacks "$label"
    wait_until "it waits" is_waiting
    ann ls "$media/$label/"
    expect_one_in_sidebar
    wait_until "Thunar has looked at it" detached "$iso"
    wait_until "it is not in the sidebar any more" is_not_listed
}

# As a terminal shows it, in colours.
check_list() {
    ann loopmount attach "$iso" disks/fat16.img "$images/gpt-multi.img"
    # shellcheck disable=SC2016 # for the other shell
    start terminal ann xterm -T list -geometry 110x16+0+0 -fa Mono -fs 8 -e bash -c \
        'echo "$ loopmount list"; loopmount list; read -r'
    wait_for_window '^list$'
    picture list
    pkill --uid ann --exact xterm
    ann loopmount detach --all
}

# What cannot be opened is told.
check_error() {
    ann truncate --size=1M /home/ann/images/zeros.img
    fails 6 ann loopmount open /home/ann/images/zeros.img
    wait_for_window notifyd --class
    picture error
}

# ---- a password, by polkit's agent ----

# ann wants bob's image to go. Of an agent that has just been started polkit may not know yet: then nobody is asked.
asks_for_password() {
    start asker ann loopmount detach "$id"
    wait_until "it asks, or is refused" asks_or_has_ended
    has_window '^Authenticat'
}

asks_or_has_ended() {
    [[ -e $background.status ]] || has_window '^Authenticat'
}

# answer KEYS...: as xdotool takes them.
answer() {
    wait_until "the agent asks" asks_for_password
    wait_for_window '^Authenticat'
    picture password
    ann xdotool "$@"
}

check_password() {
    local before
    start agent ann lxpolkit
    root as-bob-ssh "$bin/terminal" "Password: " $'adm1\n' -- loopmount attach "$images/iso-rockridge.iso"
    root loopmount list --all-users --json
    before=$out
    id=$(json images.0.id)

    answer key Escape
    fails 3 end asker
    root loopmount list --all-users --json
    expect_same "$before" "$out" "the list"

    answer key a d m 1 Return
    end asker
    root loopmount list --all-users --json
    expect_out_lacks LOOP_ISO
}

test_double_click_notification_sidebar_and_password() {
    ann mkdir images disks
    ann cp "$images/iso-rockridge.iso" "$iso"
    ann cp "$images/fat16.img" disks/fat16.img
    check_types
    start_desktop
    check_pcmanfm
    check_thunar
    check_open_with
    check_launch
    check_gio
    check_on_access
    check_list
    check_error
    check_password
}
