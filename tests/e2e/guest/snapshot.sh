# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What is there (tools/snapshot.c), and how it is taken away if it should not be.

reports=/run/loopmount-sanitizers

# Takes away by force what a test has left.
clean_up_by_force() {
    local user dir
    for user in ann bob adm1; do
        pkill --signal KILL --uid "$user" --exact 'loopmount|pkttyagent|busctl|sleep|cat|squashfuse|tail' || true
    done
    rm -rf /etc/loopmount.conf.d
    systemctl stop loopmountd.service || true
    while read -r dir; do
        umount --lazy "$(printf %b "$dir")" || true
    done < <(findmnt --raw --noheadings --output TARGET,SOURCE |
        awk '$1 ~ "^/run/media/" || $2 ~ "^/dev/loop" || $1 ~ "^/home/" { print $1 }' | tac)
    losetup --detach-all || true
    rm -rf "${reports:?}"/* /run/media/*/* /run/loopmount/{images,devices}/* || true
    : >/run/mount/utab
    systemctl reset-failed loopmountd.service 2>/dev/null || true
} >/dev/null 2>&1
