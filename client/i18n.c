/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Only characters and messages follow the user's locale: numbers and times are
 * printed as they are documented.
 */
#include "i18n.h"

#include <locale.h>

void i18n_start(void)
{
        setlocale(LC_CTYPE, "");
        setlocale(LC_MESSAGES, "");
        bindtextdomain("loopmount", LOCALEDIR);
        textdomain("loopmount");
}
