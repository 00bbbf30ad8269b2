# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# debian.sh: a Debian of one suite, in a folder. Sourced by "build" and "userland".
#
# Where packages come from is read from the host's own apt configuration, so
# that mirrors, proxies and pinned snapshots of the host hold for it.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The host's apt targets, one "REPO_URI RELEASE COMPONENT ORIGIN" a line.
# Origins are known once "apt-get update" ran.
host_targets() {
    # shellcheck disable=SC2016 # apt expands these
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' \
        'Created-By: Packages' | sort -u
}

# The host's Debian sources with its suite replaced by $1.
host_sources_for() {
    local host uri release component origin target
    # shellcheck source=/dev/null
    host=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    host_targets | while read -r uri release component origin; do
        [[ $origin == Debian ]] || continue
        case $release in
            "$host" | stable | testing | unstable) target=$1 ;;
            "$host-updates" | stable-updates) target=$1-updates ;;
            "$host-security" | stable-security) target=$1-security ;;
            *) continue ;;
        esac
        [[ $1 == sid && $target != sid ]] && continue
        echo "deb [signed-by=$keyring] $uri $target $component"
    done | sort -u
}

sources_for() {
    local sources
    sources=${LOOPMOUNT_VM_SOURCES:-$(host_sources_for "$1")}
    if [[ -z $sources ]]; then
        apt-get --quiet=2 update || true
        sources=$(host_sources_for "$1")
    fi
    if [[ -z $sources ]]; then
        echo "the host's apt sources name no Debian archive of the host's own suite; put lines for sources.list in LOOPMOUNT_VM_SOURCES" >&2
        return 1
    fi
    echo "$sources"
}

# Proxies, time-outs and the like of the host's apt, for the new Debian's.
host_acquire_options() {
    apt-config dump --format '%F "%v";%n' Acquire | grep -E '^Acquire::(http|https|Check|Retries|ForceIPv)' |
        grep -v '""' || true
}

# make_debian SUITE DIR PACKAGES [OPTION...]: packages with commas between them,
# options of mmdebstrap.
make_debian() {
    local sources
    sources=$(sources_for "$1") || return
    INITRD=No mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include="$3" \
        --aptopt=<(host_acquire_options) --aptopt='APT::Install-Recommends "false"' "${@:4}" \
        "$1" "$2" - <<<"$sources"
}
