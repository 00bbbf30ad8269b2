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

# The images of automounts; where they are in this folder, and that is how they are named, by the end of their paths.
_loopmount_enabled() {
    local image
    loopmount automount list --targets | while IFS= read -r image; do
        [[ -z $cur || $cur == /* ]] || image=${image#"$PWD/"}
        printf '%s\n' "$image"
    done
}

# $1: what the help calls a value, or an operand.
_loopmount_values() {
    case $1 in
        ENABLED) _loopmount_enabled ;;
        TARGET*) loopmount list --targets ${all_users:+"$all_users"} ;;
        VERB) _loopmount_verbs ;;
        BYTES) printf '%s\n' 512 1024 2048 4096 ;;
        TYPE) busctl get-property org.loopmount1 /org/loopmount1 org.loopmount1.Manager FilesystemTypes |
            tr ' ' '\n' | sed -n 's/^"\(.*\)"$/\1/p' ;;
        *\|*) tr '|' '\n' <<<"$1" ;;
    esac 2>/dev/null
}

# A word as the program would get it, in "plain".
_loopmount_plain() {
    case $1 in
        [\"\']*) plain=${1:1} ;;
        *) plain=${1//\\/} ;;
    esac
}

# To bash a ":" is a word of its own: puts together what is one to others, in "words".
_loopmount_join() {
    local rest=$COMP_LINE word last='' blanks
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        blanks=${rest%%[![:blank:]]*}
        rest=${rest#"$blanks"}
        rest=${rest#"$word"}
        if [[ -z $blanks && ${#words[@]} -gt 0 && ($word == :* || $last == :*) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        last=$word
    done
}

# Takes away what bash does not have in the word that it completes: all up to a ":".
_loopmount_cut() {
    local plain last=${COMP_WORDS[COMP_CWORD]}
    [[ $last != "${words[-1]}" ]] || return 0
    [[ $last != :* ]] || last=
    _loopmount_plain "$last"
    COMPREPLY=("${COMPREPLY[@]#"${cur%"$plain"}"}")
}

_loopmount() {
    local cur nl=$'\n' help word plain verb='' action='' wants='' n_operands=-1 all_users=''
    local -a operands words=()
    COMPREPLY=()
    _loopmount_join
    cur=${words[-1]}
    help=$nl$(loopmount help 2>/dev/null) || return 0
    [[ $EUID -ne 0 ]] || all_users=--all-users

    # In bash the "=" before a value is a word of its own.
    for word in "${words[@]:1:${#words[@]}-2}"; do
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
            [[ $n_operands -ne 1 ]] || action=$word
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
        case $verb-$action in
            automount-disable | automount-status) word=ENABLED ;;
            automount-list) return 0 ;;
        esac
        _loopmount_plain "$cur"
        cur=$plain
        _loopmount_offer < <(_loopmount_values "$word")
        [[ $word != IMAGE* && $word != TARGET* ]] ||
            mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -A file -- "$cur")
        [[ $word != IMAGE* && $word != TARGET* && $word != ENABLED ]] || compopt -o filenames
        _loopmount_cut
    fi
}

complete -F _loopmount loopmount
