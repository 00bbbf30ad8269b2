/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The distance of two words: Damerau and Levenshtein's, where no piece is edited twice. */
#include "suggest.h"

#define WORD_SIZE_MAX 24U

static size_t min_of_three(size_t a, size_t b, size_t c)
{
        size_t least = MIN(a, b);

        return MIN(least, c);
}

/* Both are at most WORD_SIZE_MAX long. */
static size_t count_mistakes(const char *a, size_t a_size, const char *b, size_t b_size)
{
        size_t cost[WORD_SIZE_MAX + 1][WORD_SIZE_MAX + 1];

        for (size_t i = 0; i <= a_size; i++)
                cost[i][0] = i;
        for (size_t j = 0; j <= b_size; j++)
                cost[0][j] = j;
        for (size_t i = 1; i <= a_size; i++)
                for (size_t j = 1; j <= b_size; j++) {
                        size_t same = a[i - 1] == b[j - 1] ? 0 : 1;

                        cost[i][j] = min_of_three(cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + same);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                cost[i][j] = MIN(cost[i][j], cost[i - 2][j - 2] + 1);
                }
        return cost[a_size][b_size];
}

void suggest_consider(Suggestion *suggestion, const char *typed, size_t typed_size, const char *known)
{
        size_t known_size = strlen(known), mistakes;

        if (typed_size <= SUGGEST_MISTAKES_MAX || typed_size > WORD_SIZE_MAX || known_size > WORD_SIZE_MAX)
                return;
        mistakes = count_mistakes(typed, typed_size, known, known_size);
        if (mistakes > SUGGEST_MISTAKES_MAX || (suggestion->word && mistakes >= suggestion->mistakes))
                return;
        suggestion->word = known;
        suggestion->mistakes = mistakes;
}
