/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all targets have in common. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/macro.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An invariant; assert() may be compiled out. */
#define CHECK(expression)                                                                                              \
        do {                                                                                                           \
                if (!(expression)) {                                                                                   \
                        fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #expression);                     \
                        abort();                                                                                       \
                }                                                                                                      \
        } while (0)
