# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Completion for bash. Verbs, options and operands are read from what "loopmount
# help" says, so that they are those of the loopmount that is installed.
#
# Names of files and mount points may hold anything. Nothing here may have the
# shell read them once more: no eval, no "compgen -W".

# Offers those lines of the input that begin with what was typed.
_loopmount_offer() {
    local line
    while IFS= read -r line; do
        [[ $line != "$cur"* ]] || COMPREPLY+=("$line")
    done
}

_loopmount_verbs() {
    loopmount help | sed -nE 's/^  ([a-z]+)( .*)?$/\1/p'
}

# The options of a verb, or all of them; those that want a value with a "=".
_loopmount_options() {
    loopmount help ${1:+"$1"} 2>/dev/null | sed -nE 'h; s/^  (-.), .*/\1/p; g; s/^  (-.,|   ) (--[a-z-]+=?).*/\2/p'
}

# $1: what the help calls a value, or an operand.
_loopmount_values() {
    case $1 in
        TARGET*) loopmount list --targets ${all_users:+"$all_users"} ;;
        VERB) _loopmount_verbs ;;
        BYTES) printf '%s\n' 512 1024 2048 4096 ;;
        TYPE) busctl get-property org.loopmount1 /org/loopmount1 org.loopmount1.Manager FilesystemTypes |
            tr ' ' '\n' | sed -n 's/^"\(.*\)"$/\1/p' ;;
        *\|*) tr '|' '\n' <<<"$1" ;;
    esac 2>/dev/null
}

# The word under the cursor as the program would get it.
_loopmount_plain() {
    case $cur in
        [\"\']*) cur=${cur:1} ;;
        *) cur=${cur//\\/} ;;
    esac
}

_loopmount() {
    local cur=${COMP_WORDS[COMP_CWORD]} nl=$'\n' help word verb='' wants='' n_operands=-1 all_users=''
    local -a operands
    COMPREPLY=()
    help=$nl$(loopmount help 2>/dev/null) || return 0
    [[ $EUID -ne 0 ]] || all_users=--all-users

    # In bash the "=" before a value is a word of its own.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $word == = ]]; then
            continue
        elif [[ -n $wants ]]; then
            wants=
        elif [[ $word == -- && $verb == with ]]; then
            mapfile -t COMPREPLY < <(compgen -A command -A file -- "$cur")
            return 0
        elif [[ $word == --* && $help =~ " $word="([^ ]+) || $word == -? && $help =~ $nl"  $word, --"[a-z-]+=([^ ]+) ]]; then
            wants=${BASH_REMATCH[1]}
        elif [[ $word != -* ]]; then
            verb=${verb:-$word}
            n_operands=$((n_operands + 1))
        fi
    done
    [[ $cur != = ]] || cur=

    if [[ -n $wants ]]; then
        _loopmount_offer < <(_loopmount_values "$wants")
    elif [[ $cur == -* ]]; then
        _loopmount_offer < <(_loopmount_options "$verb")
        [[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace
    elif [[ -z $verb ]]; then
        _loopmount_offer < <(_loopmount_verbs)
    else
        # "Usage: loopmount VERB [OPTION...] OPERAND..."
        read -ra operands < <(loopmount help "$verb" 2>/dev/null)
        while [[ ${#operands[@]} -gt 0 && ${operands[0]} != '[OPTION...]' ]]; do
            operands=("${operands[@]:1}")
        done
        word=${operands[n_operands + 1]-${operands[*]: -1}}
        word=${word//[][]/}
        _loopmount_plain
        _loopmount_offer < <(_loopmount_values "$word")
        if [[ $word == IMAGE* || $word == TARGET* ]]; then
            compopt -o filenames
            mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -A file -- "$cur")
        fi
    fi
}

complete -F _loopmount loopmount
