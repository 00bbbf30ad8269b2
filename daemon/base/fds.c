/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* close_range(2) for each gap between the descriptors that are kept. */
#include "base/fds.h"

static int compare(const void *a, const void *b)
{
        int x = *(const int *)a, y = *(const int *)b;

        return (x > y) - (x < y);
}

int fds_close_all_but(unsigned first, const int *keep, size_t n_keep)
{
        int sorted[FDS_KEEP_MAX] = { 0 };

        if (n_keep > FDS_KEEP_MAX)
                return -E2BIG;
        if (n_keep > 0)
                memcpy(sorted, keep, n_keep * sizeof(int));
        qsort(sorted, n_keep, sizeof(int), compare);
        for (size_t i = 0; i < n_keep; i++) {
                if (sorted[i] < (int)first)
                        continue;
                if (sorted[i] > (int)first && close_range(first, (unsigned)sorted[i] - 1, 0) < 0)
                        return -errno;
                first = (unsigned)sorted[i] + 1;
        }
        return close_range(first, ~0U, 0) < 0 ? -errno : 0;
}
