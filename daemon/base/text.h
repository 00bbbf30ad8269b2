/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hostile bytes made harmless, and sizes read from people. Pure functions;
 * the daemon and the client both use them.
 */
#pragma once

#include "base/macro.h"

/*
 * The length of the UTF-8 character that @bytes begin with, 0 if it is none:
 * overlong forms, surrogates, what is over U+10FFFF and the noncharacters (which
 * sd-bus refuses in a string) are none. @ret may be NULL.
 */
size_t text_decode(const char *bytes, size_t n_bytes, uint32_t *ret_character);

/*
 * Characters that change how the text around them looks instead of being seen:
 * C0 and C1 controls, DEL, line and paragraph separators, the byte order mark
 * and the bidirectional controls (U+202E makes "gpj.exe" out of "exe.jpg").
 */
bool text_is_control(uint32_t character);

/*
 * Gives a copy of @bytes that is valid UTF-8 without control characters: every
 * other byte, and the backslash, becomes \xNN. For what is shown (D-Bus
 * properties, messages), not for file names. NULL when out of memory.
 */
char *text_escape(const char *bytes, size_t n_bytes);

/*
 * The absolute @path as a part of a unit's name, as systemd-escape(1) does it with --path; the path has to be without
 * "//", "." and "..". -ENAMETOOLONG: it does not fit.
 */
int text_escape_unit(const char *path, char *buffer, size_t size);

/*
 * Reads a number of bytes: digits and a suffix of K M G T P E (powers of 1024),
 * KiB ... EiB (the same) or KB ... EB (powers of 1000), B or none; the first
 * letter may be small. Or a suffix of s: sectors of 512 bytes, as fdisk(8) and
 * parted(8) count them. Or hexadecimal digits after 0x, without a suffix.
 * -EINVAL: no such thing; -ERANGE: over UINT64_MAX.
 */
int text_parse_size(const char *s, uint64_t *ret_bytes);

/* A decimal number without sign, white space or leading zeros up to @max. -EINVAL, -ERANGE. */
int text_parse_uint(const char *s, uint64_t max, uint64_t *ret);

/* Whether @item is one of the items of @list, which are separated by @separator. */
bool text_list_has(const char *list, char separator, const char *item);

/* asprintf() that gives the string; NULL when out of memory. */
char *text_printf(const char *format, ...) _printf_(1, 2);

/* "4.0K", "1.5G": as ls -h shows @bytes (rounded up); written to @buffer, which is given back. */
char *text_format_size(uint64_t bytes, char buffer[static 16]);
