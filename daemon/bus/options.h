/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading an a{sv} of options by a table; nothing in it is ignored. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

typedef struct OptionArray {
        uint32_t *items;
        size_t n_items;
} OptionArray;

typedef struct OptionRule {
        const char *key;
        const char *type; /* "b" to bool, "t" to uint64_t, "u" to uint32_t, "s" to char *, "au" to OptionArray */
        void *target;     /* keeps its default if the key is missing */
        bool *given;      /* if not NULL: whether the key is there */
} OptionRule;

/*
 * 0: all read. -EINVAL: *ret_complaint says which key and why (to be freed). What
 * has been put into the targets until then is to be freed by the caller.
 */
int options_read(sd_bus_message *message, const OptionRule *rules, size_t n_rules, char **ret_complaint);
