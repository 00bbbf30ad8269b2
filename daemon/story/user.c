/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Users are looked up in a child, since the user database may be a slow server;
 * once for each as long as the daemon runs, which is not long: it leaves when
 * there is nothing to look after.
 */
#include <pwd.h>

#include "base/text.h"
#include "story/user.h"

#define NAME_SIZE_MAX 256U

struct UserCache {
        User *users;
        size_t n_users;
};

typedef struct UserAnswer {
        gid_t gid;
        char name[NAME_SIZE_MAX];
} UserAnswer;

UserCache *user_cache_new(void)
{
        return calloc(1, sizeof(UserCache));
}

UserCache *user_cache_free(UserCache *cache)
{
        if (!cache)
                return NULL;
        for (size_t i = 0; i < cache->n_users; i++)
                free(cache->users[i].name);
        free(cache->users);
        free(cache);
        return NULL;
}

const User *user_find(const Service *service, uid_t uid)
{
        const UserCache *cache = service->users;

        for (size_t i = 0; i < cache->n_users; i++)
                if (cache->users[i].uid == uid)
                        return &cache->users[i];
        return NULL;
}

static int run_look_up(int channel, const JobOrder *order)
{
        struct passwd *entry = NULL;
        UserAnswer answer = { 0 };
        uid_t uid;

        if (order->size != sizeof(uid))
                return -EBADMSG;
        memcpy(&uid, order->data, sizeof(uid));
        answer.gid = uid;
        /* One of several databases may have failed for a moment, which getpwuid(3) does not tell from "not found". */
        for (unsigned i = 0; !entry && i < 2; i++) {
                errno = 0;
                entry = getpwuid(uid);
        }
        /* getpwuid(3) lists these for "not found" */
        if (!entry && errno != 0 && errno != ENOENT && errno != ESRCH && errno != EBADF && errno != EPERM)
                return -errno;
        if (entry)
                answer.gid = entry->pw_gid;
        if (entry && strlen(entry->pw_name) < NAME_SIZE_MAX)
                strcpy(answer.name, entry->pw_name);
        else
                snprintf(answer.name, sizeof(answer.name), "%u", uid);
        return job_answer(channel, &answer, sizeof(answer), NULL, 0);
}

static int cache_add(UserCache *cache, uid_t uid, const UserAnswer *answer)
{
        User *grown = reallocarray(cache->users, cache->n_users + 1, sizeof(User));
        char *name;

        if (!grown)
                return -ENOMEM;
        cache->users = grown;
        name = text_escape(answer->name, strnlen(answer->name, sizeof(answer->name)));
        if (!name)
                return -ENOMEM;
        grown[cache->n_users++] = (User){ .uid = uid, .gid = answer->gid, .name = name };
        return 0;
}

static void on_looked_up(int error, JobAnswer *answer, void *userdata)
{
        Story *story = userdata;

        story->job = NULL;
        if (error >= 0 && answer->size != sizeof(UserAnswer))
                error = -EBADMSG;
        if (error >= 0 && !user_find(story->service, story->owner))
                error = cache_add(story->service->users, story->owner, answer->data);
        story_resume(story, error);
}

int story_look_up_user(Story *story)
{
        JobSpec spec = {
                .name = "user",
                .work = run_look_up,
                .order = &story->owner,
                .order_size = sizeof(story->owner),
                .timeout_usec = story->service->config->job_timeout_usec,
        };

        return user_find(story->service, story->owner) ? 0 : story_run_job(story, &spec, on_looked_up);
}
