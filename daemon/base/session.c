/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/session.h"

#include <systemd/sd-login.h>

/* "user", and since systemd 256 "user-early" and the like; not "background", "manager", "greeter". */
static int is_person(const char *session)
{
        _cleanup_free_ char *class = NULL;
        int r = sd_session_get_class(session, &class);

        return r < 0 ? r : strncmp(class, "user", 4) == 0;
}

/* What is left of a session that is logged out of stays, "closing", as long as one of its processes does. */
static int is_going_on(const char *session)
{
        _cleanup_free_ char *state = NULL;
        int r = sd_session_get_state(session, &state);

        return r < 0 ? r : !streq(state, "closing");
}

int session_is_any(uid_t uid)
{
        char **sessions = NULL;
        int r = sd_uid_get_sessions(uid, -1, &sessions), found = 0;

        if (r < 0)
                return r == -ENODATA || r == -ENOENT ? 0 : r;
        for (char **session = sessions; session && *session; session++) {
                r = is_person(*session);
                if (r > 0)
                        r = is_going_on(*session);
                /* -ENXIO: it has gone meanwhile. */
                if (found <= 0 && r != 0 && r != -ENXIO)
                        found = r;
                free(*session);
        }
        free(sessions);
        return found;
}

bool session_is_behind(pid_t pid, uid_t uid)
{
        _cleanup_free_ char *session = NULL, *unit = NULL;
        uid_t owner;

        if (sd_pid_get_session(pid, &session) >= 0) {
                if (is_person(session) <= 0)
                        return false;
        } else if (sd_pid_get_owner_uid(pid, &owner) < 0 && sd_pid_get_unit(pid, &unit) >= 0)
                return false;
        return session_is_any(uid) > 0;
}
