/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of "[Section]" and "Key=Value" lines, found and read by systemd's rules:
 * what they mean is the caller's.
 */
#pragma once

#include "base/macro.h"

/*
 * What one assignment stands for; also called with @key NULL for each section
 * header. 0: taken, or complained of by the callee; -errno ends the reading.
 */
typedef int (*ConfigFileAssign)(const char *file, unsigned line, const char *section, const char *key,
                                const char *value, void *userdata);

/* Called for each thing that was wrong; @line is 0 for what concerns the whole file (or folder). */
typedef void (*ConfigFileComplaint)(const char *file, unsigned line, const char *message, void *userdata);

/*
 * Reads @name and the drop-ins in the folder @name.d (what ends in ".conf" there)
 * below each of @folders, of which the most important one is the first and NULL
 * the last: the first main file found, then all drop-ins sorted by name, one
 * hiding those of the same name in less important folders. A link to /dev/null
 * or an empty file hides without saying anything itself.
 * Gives what @assign gave, or -ENOMEM; what is wrong with a file is no error.
 */
int config_file_read(const char *const *folders, const char *name, ConfigFileAssign assign,
                     ConfigFileComplaint complain, void *userdata);
