# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# The D-Bus API with systemd's busctl: nothing of ours is needed to use it. ("call" is
# "busctl call", or does the same where that cannot pass descriptors yet.)

iso=$images/iso-rockridge.iso
gpt=$images/gpt-multi.img
manager="org.loopmount1 /org/loopmount1 org.loopmount1.Manager"

# call_attach FILE SIGNATURE-AND-OPTIONS...: with the file as descriptor 3.
call_attach() {
    tries ann_sh "$call $manager Attach 'ha{sv}' 3 ${*:2} 3<$1"
}

test_attach_by_descriptor() {
    ann_sh "$call $manager Attach 'ha{sv}' 3 0 3<$iso"
    expect_out_has "oas \"/org/loopmount1/image/"
    expect_out_has "\" 1 \"$media/LOOP_ISO\""
    local path=${out#*\"}
    path=${path%%\"*}
    expect_hello "$media/LOOP_ISO" iso-rockridge.iso
    ann busctl call org.loopmount1 "$path" org.loopmount1.Image Detach 'a{sv}' 0
    expect_not_mounted "$media/LOOP_ISO"
}

test_all_options_of_attach() {
    copy ext4.img
    ann_sh "$call $manager Attach 'ha{sv}' 3 12 read-only b false offset t 0 size t 4194304 sector-size u 512 \
        partition-scan b false mount b true volumes au 1 0 filesystem-type s ext4 mount-options s noatime \
        name s Wished settle b true direct-io s auto 3<>$copy"
    expect_out_has "$media/Wished"
    detach_all
    ann_sh "$call $manager Attach 'ha{sv}' 3 2 mount b false auto-detach b false 3<$copy"
    expect_out_has " 0"
    detach_all
}

expect_refused() {
    expect_equal 1 "$status" "the exit code"
    expect_err_has "$1"
}

test_wrong_options_are_named() {
    call_attach "$iso" 1 no-such-thing b true
    expect_refused no-such-thing
    call_attach "$iso" 1 read-only s yes
    expect_refused read-only
    call_attach "$iso" 2 offset t 0 offset t 0
    expect_refused offset
    call_attach "$iso" 1 sector-size u 100
    expect_refused sector-size
    call_attach "$iso" 1 direct-io s perhaps
    expect_refused direct-io
    call_attach "$iso" 2 mount b false name s x
    expect_refused mount
    call_attach "$iso" 1 read-only b false
    expect_refused read-only
}

test_wrong_descriptors_are_refused() {
    ann cp "$iso" x.iso
    fails 1 ann_sh "$call $manager Attach 'ha{sv}' 3 0 3>>x.iso"
    fails 1 ann_sh "$call $manager Attach 'ha{sv}' 3 0 3</etc"
    fails 1 ann_sh "$call $manager Attach 'ha{sv}' 3 0 3</dev/null"
    fails 1 ann_sh "true | $call $manager Attach 'ha{sv}' 0 0"
}

test_introspection_is_the_contract() {
    local interface path name
    attach "$iso"
    for interface in Manager Image Volume; do
        case $interface in
            Manager) path= ;;
            Image) path=/image/$id ;;
            Volume) path=/image/$id/volume/0 ;;
        esac
        ann busctl introspect org.loopmount1 "/org/loopmount1$path" "org.loopmount1.$interface"
        while read -r name; do
            expect_out_has "$name "
        done < <(sed -n 's/.*<\(method\|property\) name="\([A-Za-z0-9]*\)".*/.\2/p' \
            "$share/dbus/org.loopmount1.$interface.xml")
        [[ $(grep -c '^\.' <<<"$out") -eq $(grep -c '<\(method\|property\) name=' "$share/dbus/org.loopmount1.$interface.xml") ]] ||
            fail "$interface has other members than its XML says"
    done
    detach_all
}

test_tree_and_properties() {
    attach "$gpt"
    ann busctl tree --list org.loopmount1
    expect_out_has "/org/loopmount1/image/$id/volume/6"
    expect_equal "s \"$device\"" "$(property "/image/$id" Image Device)" Device
    expect_equal 's "gpt"' "$(property "/image/$id" Image PartitionTable)" PartitionTable
    expect_equal 'u 1000' "$(property "/image/$id" Image OwnerUID)" OwnerUID
    expect_equal 's "crypto_LUKS"' "$(property "/image/$id/volume/6" Volume Type)" Type
    expect_equal "as 1 \"$media/ROOT\"" "$(property "/image/$id/volume/2" Volume MountPoints)" MountPoints
    expect_equal "t $(cat "/sys/block/${device##*/}/diskseq")" "$(property "/image/$id" Image DiskSequence)" DiskSequence
    # shellcheck disable=SC2086
    ann busctl get-property $manager FilesystemTypes
    expect_out_has '"iso9660"'
    ann busctl call org.loopmount1 /org/loopmount1 org.freedesktop.DBus.ObjectManager GetManagedObjects
    expect_out_has "/org/loopmount1/image/$id/volume/7"
    detach_all
}

test_find_by_file_and_detach_all() {
    attach "$iso"
    ann_sh "$call $manager FindByFile h 3 3<$iso"
    expect_out "ao 1 \"/org/loopmount1/image/$id\""
    ann_sh "$call $manager FindByFile h 3 3<$gpt"
    expect_out "ao 0"
    bob sh -c "$call $manager FindByFile h 3 3<$iso"
    expect_out "ao 0"
    # shellcheck disable=SC2086 # three words
    ann busctl call $manager DetachAll 'a{sv}' 0
    fails 5 ann loopmount info "$iso"
}

test_volume_methods() {
    ann loopmount attach --json --no-mount "$gpt"
    local volume
    volume=/org/loopmount1/image/$(json image.id)/volume/2
    ann busctl call org.loopmount1 "$volume" org.loopmount1.Volume Mount 'a{sv}' 1 name s Root
    expect_out "s \"$media/Root\""
    fails 1 ann busctl call org.loopmount1 "$volume" org.loopmount1.Volume Mount 'a{sv}' 0
    expect_err_has "$media/Root"
    ann busctl call org.loopmount1 "$volume" org.loopmount1.Volume Unmount 'a{sv}' 0
    fails 1 ann busctl call org.loopmount1 "$volume" org.loopmount1.Volume Unmount 'a{sv}' 0
    ann busctl call org.loopmount1 "${volume%/volume/2}" org.loopmount1.Image Rescan 'a{sv}' 0
    ann busctl call org.loopmount1 "${volume%/volume/2}" org.loopmount1.Image Detach 'a{sv}' 0
}

test_set_capacity() {
    copy zero.img
    attach "$copy" -w --no-mount
    ann truncate --size=16M "$copy"
    ann busctl call org.loopmount1 "/org/loopmount1/image/$id" org.loopmount1.Image SetCapacity 'a{sv}' 0
    expect_equal "t 16777216" "$(property "/image/$id" Image Size)" Size
    root blockdev --getsize64 "$device"
    expect_out 16777216
    detach_all
}

# The numbers of the lines of the monitor's output with these words.
line_of() {
    awk -v pattern="$1" '$0 ~ pattern { print NR; exit }' "$sessions/root/watch.out"
}

watch_bus() {
    start watch root busctl monitor org.loopmount1 --json=short
    wait_until "the monitor watches" sees_a_call
}

sees_a_call() {
    property "" Manager Version
    [[ -s $sessions/root/watch.out ]]
}

test_signals_come_before_the_reply() {
    watch_bus
    ann_sh "$call $manager Attach 'ha{sv}' 3 1 mount b false 3<$gpt"
    local path=${out#*\"}
    path=${path%%\"*}
    ann busctl call org.loopmount1 "$path/volume/2" org.loopmount1.Volume Mount 'a{sv}' 0
    ann busctl call org.loopmount1 "$path" org.loopmount1.Image Detach 'a{sv}' 0
    wait_until "the removal is seen" line_has_come '"member":"InterfacesRemoved".*"'"$path"'"'
    wait_until "the last reply is seen" last_reply_has_come
    kill "$pid"
    tries end watch
    local added changed attach_reply mount_reply
    added=$(line_of '"member":"InterfacesAdded".*"'"$path"'"')
    attach_reply=$(line_of '"type":"method_return".*"'"$path"'"')
    changed=$(line_of '"path":"'"$path"'/volume/2".*"member":"PropertiesChanged".*MountPoints.*ROOT')
    mount_reply=$(line_of '"type":"method_return".*"data":[[]"'"$media"'/ROOT"')
    expect_before "$added" "$attach_reply" "InterfacesAdded" "the reply to Attach"
    expect_before "$changed" "$mount_reply" "PropertiesChanged" "the reply to Mount"
    expect_before "$(line_of '"member":"InterfacesRemoved".*"'"$path"'"')" "$(last_reply)" \
        "InterfacesRemoved" "the reply to Detach"
}

line_has_come() {
    [[ -n $(line_of "$1") ]]
}

last_reply() {
    awk '/"type":"method_return".*("data":\[\]|"payload":null)/ { line = NR } END { print line }' "$sessions/root/watch.out"
}

last_reply_has_come() {
    [[ -n $(last_reply) ]]
}

expect_before() {
    [[ -n $1 && -n $2 ]] || fail "the monitor has not seen $3 ('$1') or $4 ('$2'), but:
$(cut --bytes=-200 "$sessions/root/watch.out")"
    (($1 < $2)) || fail "$3 (line $1) comes behind $4 (line $2)"
}
