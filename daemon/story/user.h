/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A shared step: the name and the primary group of a story's owner. */
#pragma once

#include "story/story.h"

typedef struct User {
        uid_t uid;
        gid_t gid;
        char *name; /* the number, for a uid that has no name */
} User;

UserCache *user_cache_new(void);
UserCache *user_cache_free(UserCache *cache);

/* Makes user_find() know story->owner. */
int story_look_up_user(Story *story);

/* NULL if it was not looked up. */
const User *user_find(const Service *service, uid_t uid);
