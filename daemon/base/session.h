/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is logged in, as logind writes it below /run/systemd: no bus and no user's
 * file is asked, so nothing here blocks. Without logind nobody is.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/*
 * Whether @uid has a session that has not ended, local or remote, active or not.
 * Those of cron and of the user's service manager do not count, nor do those that
 * are logged out of and have left processes behind. -errno: nobody can tell, for
 * want of memory, for example.
 */
int session_is_any(uid_t uid);

/*
 * The same for what @uid does with process @pid: what belongs to a service of the
 * system, or to cron, is in no session, though the user may have one. What nobody
 * can tell is in none.
 */
bool session_is_behind(pid_t pid, uid_t uid);
