/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The few idioms that every file here uses: clean-up by scope, ownership
 * transfer and -errno. They behave as their namesakes in systemd do, so that
 * a reader who knows one code base can read the other.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _sentinel_ __attribute__((sentinel))

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))
#ifndef MIN /* GLib, in tests, has them too */
#define MIN(a, b)                                                                                                      \
        ({                                                                                                             \
                __typeof__(a) a_ = (a);                                                                                \
                __typeof__(b) b_ = (b);                                                                                \
                a_ < b_ ? a_ : b_;                                                                                     \
        })
#define MAX(a, b)                                                                                                      \
        ({                                                                                                             \
                __typeof__(a) a_ = (a);                                                                                \
                __typeof__(b) b_ = (b);                                                                                \
                a_ > b_ ? a_ : b_;                                                                                     \
        })
#endif

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)

#define container_of(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

/* Marks a text that others translate: the client by gettext, polkit for the daemon. */
#define N_(text) text

/* Hands an owned pointer (or fd) on, so that the clean-up of the scope leaves it alone. */
#define TAKE_PTR(p)                                                                                                    \
        ({                                                                                                             \
                __typeof__(p) taken_ = (p);                                                                            \
                (p) = NULL;                                                                                            \
                taken_;                                                                                                \
        })
#define TAKE_FD(fd)                                                                                                    \
        ({                                                                                                             \
                int taken_ = (fd);                                                                                     \
                (fd) = -1;                                                                                             \
                taken_;                                                                                                \
        })

/*
 * For what takes something away, or has nobody to tell that it failed: what fails for want of memory or descriptors,
 * or since it was interrupted, works the next time.
 */
#define TRY_TWICE(call)                                                                                                \
        ({                                                                                                             \
                int tried_ = (call);                                                                                   \
                tried_ < 0 ? (call) : tried_;                                                                          \
        })

/* Defines cleanup_NAMEp(), for _cleanup_(), from a destructor that takes NULL. */
#define DEFINE_CLEANUP(type, destroy)                                                                                  \
        static inline void destroy##p(type *p)                                                                         \
        {                                                                                                              \
                if (*p)                                                                                                \
                        destroy(*p);                                                                                   \
        }

static inline void freep(void *p)
{
        free(*(void **)p);
}

/* Closes @fd unless it is negative, keeping errno; gives -1, to be stored in its place. */
static inline int safe_close(int fd)
{
        if (fd >= 0) {
                int saved = errno;
                close(fd);
                errno = saved;
        }
        return -1;
}

static inline void closep(int *fd)
{
        safe_close(*fd);
}

static inline void fclosep(FILE **f)
{
        if (*f)
                fclose(*f);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)
#define _cleanup_fclose_ _cleanup_(fclosep)

static inline bool streq(const char *a, const char *b)
{
        return strcmp(a, b) == 0;
}

static inline const char *strempty(const char *s)
{
        return s ? s : "";
}

static inline bool isempty(const char *s)
{
        return !s || !*s;
}

/* -errno of the call that just failed, never 0. */
static inline int errno_or_else(int fallback)
{
        return errno > 0 ? -errno : -fallback;
}
