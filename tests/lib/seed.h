/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chance that can be had again: the seed is printed, and LOOPMOUNT_TEST_SEED in the environment sets it. */
#pragma once

#include "lib/base.h"

/* @usual: without the variable. */
GRand *test_rand_new(guint32 usual);
