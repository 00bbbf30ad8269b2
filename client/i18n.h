/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages in the user's language, by gettext: _("...") is the text to print, N_("...") only marks one that
 * stands in a table. What other programs read (JSON, paths, the names in "list") is never translated.
 */
#pragma once

#include <libintl.h>

#include "base/macro.h"

#define _(text) gettext(text)

/* To be called first. Without a language set no catalogue is ever opened. */
void i18n_start(void);
