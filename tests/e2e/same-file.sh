# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2154,SC2034 # the variables of guest/lib.sh
#
# The same file twice, many at once, the same and hostile names.

iso=$images/iso-rockridge.iso

test_the_same_again_is_the_same_image() {
    attach "$iso"
    local first=$id
    attach "$iso"
    expect_equal "$first" "$id" "the id"
    expect_equal "$media/LOOP_ISO" "$mount_point" "the mount point"
    detach_all
    copy iso-rockridge.iso
    ann ln "$copy" hard.iso
    attach "$copy"
    first=$id
    attach hard.iso
    expect_equal "$first" "$id" "the id by another name"
    detach_all
}

test_another_part_of_the_file_is_another_image() {
    attach "$images/gpt-two-ext4.img" --offset=1M --size=4M
    local first=$id
    attach "$images/gpt-two-ext4.img" --offset=5M --size=4M
    [[ $id != "$first" ]] || fail "it is the same image"
    fails 2 ann loopmount mount "$images/gpt-two-ext4.img"
    expect_err_has "$first"
    expect_err_has "attached 2 times"
    ann loopmount detach "$images/gpt-two-ext4.img"
    fails 5 ann loopmount info "$id"
}

test_a_writer_is_alone() {
    copy ext4.img
    attach "$copy" -w
    fails 4 ann loopmount attach "$copy"
    expect_err_has "attached already"
    expect_err_has writable
    expect_err_has "$media/EXT4"
    detach_all
}

test_another_user_may_look_at_the_same_file() {
    ann loopmount attach "$iso"
    root loopmount attach "$iso"
    expect_out "/run/media/root/LOOP_ISO  (iso9660, read-only)"
    expect_hello "$media/LOOP_ISO" iso-rockridge.iso
    ann loopmount detach "$iso"
    root cat /run/media/root/LOOP_ISO/hello.txt
    root loopmount detach "$iso"
}

test_fifty_clients_with_the_same_image() {
    # shellcheck disable=SC2016
    ann_sh '
        for i in {1..50}; do loopmount attach --print-path '"$iso"' >where.$i 2>why.$i & done
        for job in $(jobs -p); do wait $job || echo "client $job: exit code $?"; done
        cat where.* | sort | uniq -c; cat why.*'
    expect_out "     50 $media/LOOP_ISO"
    ann loopmount list --json
    expect_equal "[1]" "$(json images)" "the images"
    detach_all
}

test_fifty_clients_with_different_images() {
    # shellcheck disable=SC2016
    ann_sh 'mkdir many; for i in {1..50}; do cp '"$images"'/squashfs.img many/$i.img; done'
    # shellcheck disable=SC2016
    ann_sh '
        for i in {1..50}; do loopmount attach --print-path many/$i.img >where.$i 2>why.$i & done
        for job in $(jobs -p); do wait $job || echo "client $job: exit code $?"; done
        cat where.* | sort | uniq | wc -l; cat why.*'
    expect_out 50
    ann_sh 'cat /run/media/ann/*/hello.txt | sort | uniq -c'
    expect_out "     50 hello from squashfs.img"
    # shellcheck disable=SC2016
    ann_sh '
        for i in {1..50}; do loopmount detach many/$i.img >where.$i 2>why.$i & done
        for job in $(jobs -p); do wait $job || echo "client $job: exit code $?"; done
        cat why.*'
    expect_out ""
    ann loopmount list
    expect_out ""
}

test_attach_and_detach_at_once() {
    # shellcheck disable=SC2016
    ann_sh '
        for i in {1..10}; do
            loopmount attach --print-path '"$iso"' >where.$i 2>why.$i &
            loopmount detach --all >/dev/null 2>>why.$i &
        done
        wait; loopmount detach --all; cat why.*'
    expect_equal "" "${out//*is detached again/}" "what was told"
    ann loopmount list
    expect_out ""
}

# They are killed evenly over the time that an attach takes.
test_killed_clients_leave_nothing() {
    local began took delay i killed=0
    # The first time more than an attach is waited for: the daemon starts, and everything is read from the disk.
    attach "$images/gpt-8.img"
    detach_all
    began=$EPOCHREALTIME
    attach "$images/gpt-8.img"
    took=$((${EPOCHREALTIME/[.,]/} - ${began/[.,]/}))
    detach_all
    ann mkfifo never
    for i in {1..20}; do
        printf -v delay '%d.%06d' $((took * i / 20 / 1000000)) $((took * i / 20 % 1000000))
        # shellcheck disable=SC2016
        ann_sh '
            loopmount attach '"$images"'/gpt-8.img >/dev/null 2>&1 &
            read -t '"$delay"' -r x <>never
            kill -KILL $!
            wait $!
            echo $?'
        [[ $out != 137 ]] || killed=$((killed + 1))
        detach_all
    done
    say "$killed of 20 were killed, within $((took / 1000)) ms"
    ((killed >= 5)) || fail "almost all of them had come to their end"
    ann loopmount list
    expect_out ""
}

test_same_labels_get_different_folders() {
    ann loopmount attach --print-path "$images/gpt-two-ext4.img"
    expect_equal 2 "$(sort -u <<<"$out" | wc -l)" "the number of folders"
    expect_hello "$media/SAME" "gpt-two-ext4.img volume 1"
    copy gpt-two-ext4.img
    ann loopmount attach --print-path --volume 1 "$copy"
    [[ $out == "$media/SAME"* && $out != "$media/SAME" ]] || fail "the third is not beside the others"
    detach_all
}

# check_label IMAGE FOLDER: where it is mounted, and that nothing broke.
check_label() {
    ann loopmount attach --print-path "$images/label-$1.img"
    [[ ${out%/*} == "$media" ]] || fail "it is mounted outside of $media"
    expect_equal "$media/$2" "$out" "where it is mounted"
    local dir=$out
    [[ $out != *[$'\n\e']* ]] || fail "there are control characters in the path"
    expect_hello "$dir" "label-$1.img"
    ann loopmount info "$dir"
    ann loopmount list
    [[ $out != *$'\e'* ]] || fail "there are control characters in the list"
    ann loopmount list --json
    json images.0.volumes.0.label >/dev/null
    ann umount "$dir"
    wait_until "the folder is gone" gone "$dir"
}

test_label_dotdot() { check_label dotdot _.._etc; }
test_label_newline() { check_label newline two_lines; }
test_label_percent() { check_label percent %n%s; }
test_label_invalid_utf8() { check_label invalid-utf8 bad__bytes; }
test_label_empty() { check_label empty label-empty.img; }
test_label_dot() { check_label dot label-dot.img; }
test_label_slash() { check_label slash label-slash.img; }
test_label_space_only() { check_label space-only label-space-only.img; }
test_label_unicode() { check_label unicode $'\u00dc\u00f1\u00ef'; }
test_label_control() { check_label control '_[31mred_[0m'; }

test_label_long() {
    ann loopmount attach --print-path "$images/label-long.img"
    local dir=$out
    [[ ${#dir} -gt 90 && ${#dir} -le 275 ]] || fail "the path has ${#dir} characters"
    expect_hello "$dir" label-long.img
    ann umount "$dir"
}

test_partition_names_that_are_hostile() {
    ann loopmount attach --print-path "$images/gpt-names.img"
    local line
    while read -r line; do
        [[ ${line%/*} == "$media" ]] || fail "it is mounted at $line"
        ann ls "$line"
    done <<<"$out"
    ann loopmount list --json
    json images.0.volumes.3.partition_name >/dev/null
    detach_all
}

# check_file_name NAME: of the image file, not of what is in it.
check_file_name() {
    ann cp "$images/squashfs.img" "./$1"
    ann loopmount attach --print-path "./$1"
    local dir=$out
    [[ ${dir%/*} == "$media" && $dir != *$'\n'* ]] || fail "it is mounted at '$dir'"
    expect_hello "$dir" squashfs.img
    ann loopmount list
    [[ $out != *$'\e'* && $(wc -l <<<"$out") -eq 2 ]] || fail "the list is broken"
    ann loopmount info "./$1"
    ann loopmount list --json
    json images.0.backing_file >/dev/null
    ann loopmount detach "./$1"
    fails 5 ann loopmount info "./$1"
}

test_file_name_with_spaces() { check_file_name "  two  spaces "; }
test_file_name_with_a_newline() { check_file_name $'two\nlines.img'; }
test_file_name_with_percent() { check_file_name "%n%s%%.img"; }
test_file_name_of_255_bytes() { check_file_name "$(printf 'x%.0s' {1..255})"; }
test_file_name_of_invalid_utf8() { check_file_name $'bad\xff\xfe.img'; }
test_file_name_with_escapes() { check_file_name $'\e[31mred.img'; }
test_file_name_like_an_option() { check_file_name "--json"; }
test_file_name_like_an_id() { check_file_name "1"; }
test_file_name_with_dollars() { check_file_name "\$(reboot)\`id\`'\"&;.img"; }
