/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* "Did you mean": the known word that is closest to a mistyped one. */
#pragma once

#include "base/macro.h"

/* A word with more mistakes is another word. */
#define SUGGEST_MISTAKES_MAX 2U

typedef struct Suggestion {
        const char *word; /* the closest one so far; NULL: none is close */
        size_t mistakes;
} Suggestion;

/*
 * Makes @known the suggestion for @typed (its first @typed_size bytes) if it is closer than the one before. A mistake
 * is a letter too many, too few or wrong, or two neighbours in the wrong order. A word of two letters is close to
 * nothing.
 */
void suggest_consider(Suggestion *suggestion, const char *typed, size_t typed_size, const char *known);
