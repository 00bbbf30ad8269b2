/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lib/seed.h"

GRand *test_rand_new(guint32 usual)
{
        const char *text = g_getenv("LOOPMOUNT_TEST_SEED");
        guint32 seed = text ? (guint32)g_ascii_strtoull(text, NULL, 10) : usual;

        g_test_message("LOOPMOUNT_TEST_SEED=%u", seed);
        return g_rand_new_with_seed(seed);
}
