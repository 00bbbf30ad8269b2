# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Completion for fish. Verbs, options and operands are read from what "loopmount
# help" says, so that they are those of the loopmount that is installed.

function __loopmount_verbs
    loopmount help 2>/dev/null | string replace --filter --regex '^  ([a-z]+)(?: .*?)? {2,}(\S.*)$|^  ([a-z]+) (.*)$' '$1$3\t$2$4'
end

# The options of a verb, or all of them; those that want a value with a "=".
function __loopmount_options
    for line in (loopmount help $argv 2>/dev/null)
        set -l part (string match --regex --groups-only '^  (-.|  )[, ] (--[a-z-]+=?)\S* +(.*)$' -- $line)
        or continue
        string match --quiet -- '-*' $part[1]; and printf '%s\t%s\n' $part[1] $part[3]
        printf '%s\t%s\n' $part[2] $part[3]
    end
end

# The images of automounts; where they are in this folder, and that is how they are named, by the end of their paths.
function __loopmount_enabled
    set -l images (loopmount automount list --targets 2>/dev/null)
    if string match --quiet --regex '^[^/]' -- (commandline --current-token)
        string replace --regex -- '^'(string escape --style=regex -- $PWD/) '' $images
    else
        printf '%s\n' $images
    end
end

# What the help calls a value, or an operand.
function __loopmount_values
    switch $argv[1]
        case 'TARGET*'
            set -l all_users
            test (id -u) -eq 0; and set all_users --all-users
            loopmount list --targets $all_users 2>/dev/null
            __fish_complete_path (commandline --current-token)
        case 'IMAGE*'
            __fish_complete_path (commandline --current-token)
        case ENABLED
            __loopmount_enabled
        case VERB
            __loopmount_verbs
        case BYTES
            printf '%s\n' 512 1024 2048 4096
        case TYPE
            busctl get-property org.loopmount1 /org/loopmount1 org.loopmount1.Manager FilesystemTypes 2>/dev/null |
                string split ' ' | string match --regex --groups-only '^"(.*)"$'
        case '*|*'
            string split '|' -- $argv[1]
    end
end

function __loopmount_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l help (loopmount help 2>/dev/null)
    set -l verb
    set -l action
    set -l wants
    set -l n_operands -1
    for word in $words[2..]
        if test -n "$wants"
            set wants
        else if test "$word" = --; and test "$verb" = with
            __fish_complete_subcommand --fcs-skip=(contains --index -- -- $words)
            return
        else if string match --quiet --regex '^--[a-z-]+$' -- $word
            set wants (string match --regex --groups-only -- " $word=(\S+)" $help)[1]
        else if string match --quiet --regex '^-\w$' -- $word
            set wants (string match --regex --groups-only -- "^  $word, --[a-z-]+=(\S+)" $help)[1]
        else if not string match --quiet -- '-*' $word
            test -n "$verb"; or set verb $word
            set n_operands (math $n_operands + 1)
            test $n_operands -ne 1; or set action $word
        end
    end

    set -l named (string match --regex --groups-only -- '^(--[a-z-]+=)' $current)
    if test -n "$wants"
        __loopmount_values $wants
    else if test -n "$named"
        set wants (string match --regex --groups-only -- " $named(\S+)" $help)[1]
        and printf "$named%s\n" (__loopmount_values $wants)
    else if string match --quiet -- '-*' $current
        __loopmount_options $verb
    else if test -z "$verb"
        __loopmount_verbs
    else
        # "Usage: loopmount VERB [OPTION...] OPERAND..."
        set -l operands (loopmount help $verb 2>/dev/null | string match --regex --groups-only ' \[OPTION\.\.\.\] (.*)$' | string split ' ')
        set -l i (math min $n_operands + 1, (count $operands))
        switch $verb-$action
            case automount-disable automount-status
                set operands[$i] ENABLED
            case automount-list
                return
        end
        test $i -gt 0; and __loopmount_values (string trim --chars '[]' -- $operands[$i])
    end
end

complete --command loopmount --no-files --arguments '(__loopmount_complete)'
