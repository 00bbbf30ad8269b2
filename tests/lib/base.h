/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GLib and the daemon's idioms in one file: both define MIN and MAX. */
#pragma once

#include <gio/gio.h>

#undef MIN
#undef MAX
#include "base/macro.h"
