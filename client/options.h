/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line: verbs, options, and the help texts made from both. */
#pragma once

#include "base/macro.h"

enum {
        VERB_ATTACH = 1 << 0,
        VERB_DETACH = 1 << 1,
        VERB_LIST = 1 << 2,
        VERB_INFO = 1 << 3,
        VERB_MOUNT = 1 << 4,
        VERB_UNMOUNT = 1 << 5,
        VERB_RESCAN = 1 << 6,
        VERB_MONITOR = 1 << 7,
        VERB_WITH = 1 << 8,
        VERB_OPEN = 1 << 9,
        VERB_HELP = 1 << 10,
        VERB_AUTOMOUNT = 1 << 11,
        VERB_ALL = (1 << 12) - 1,
};

typedef struct Settings Settings;

typedef struct Verb {
        unsigned bit;
        const char *name;
        const char *operands;
        const char *summary;
        const char *details;
        size_t min_operands, max_operands;
        int (*run)(const Settings *settings); /* gives an exit code */
} Verb;

/* What the options say. Strings belong to the command line, unless they are said to be owned. */
struct Settings {
        const Verb *verb;
        char **operands; /* without the verb */
        size_t n_operands;
        char **all_operands; /* owns the array */
        char **given;        /* the options, each as one word: "--name=x", "--writable"; owned */
        size_t n_given;
        char **command; /* of "with": what follows the --; NULL without -- */
        bool help, version;
        bool json, print_path, no_ask_password, all, all_users, force, notify, targets;

        /* of the image */
        bool writable, read_only, no_mount, no_partition_scan, keep, settle, on_access, has_idle_timeout;
        uint64_t offset, size;
        uint64_t idle_timeout; /* seconds */
        uint32_t sector_size;
        const char *direct_io;

        /* of mounting */
        uint32_t *volumes;
        size_t n_volumes;
        const char *type, *name;
        char *mount_options; /* of all -o, joined by commas; owned */
};

/* Ends with a verb without a name; in verbs.c. */
extern const Verb verbs[];

/* NULL: there is none. Other tools' names for a verb are understood, too. */
const Verb *verb_find(const char *name);

/* Says that there is no verb @name, and which one may be meant. Returns an exit code. */
int verb_complain(const char *name);

/*
 * Reads the command line; prints what is wrong with it. Gives an exit code.
 * Operands may stand before, between and after the options.
 */
int options_parse(int argc, char **argv, Settings *ret);
void settings_clear(Settings *settings);

/* Reads "1" or "1,2,5" and appends to the list. -errno. */
int options_parse_volumes(const char *s, uint32_t **volumes, size_t *n_volumes);

void options_print_help(const Verb *verb_or_null);
