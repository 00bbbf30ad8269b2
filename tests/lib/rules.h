/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may do what, as the administrator of a machine with the real polkitd says it. */
#pragma once

#include "lib/base.h"

/* Puts a rules file with the given JavaScript in place of the last one, and waits until polkitd has read it. */
void test_rules_set(const char *javascript);

/* Ann, bob and carol may attach and mount file systems of all types without a password, but not others' images. */
void test_rules_set_usual(void);
