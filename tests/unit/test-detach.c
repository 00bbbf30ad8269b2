/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Detaching all of a user's images while there is no memory: what was not even begun is told of. */
#include <glib.h>

#include "story/detach.h"

/* The linker puts it in place of calloc(3) in the daemon's code. */
static unsigned n_left = UINT_MAX;
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
        if (n_left == 0)
                return NULL;
        n_left--;
        return __real_calloc(n, size);
}

static void on_registry_event(RegistryEvent event, Image *image, Volume *volume, void *userdata)
{
        (void)event, (void)image, (void)volume, (void)userdata;
}

static void on_story_ended(void *userdata)
{
        (void)userdata;
}

static void on_done(Story *story, const Failure *failure, void *userdata)
{
        (void)story;
        *(int *)userdata = failure ? failure->error : 0;
        if (failure)
                g_assert_cmpstr(failure->detail, ==, "disk.img could not be tried");
}

static void add_image(Registry *registry)
{
        Image *image = image_new();

        image->id = image->diskseq = 1;
        image->name = strdup("disk.img");
        image->owner = 1000;
        image->state = IMAGE_ATTACHED;
        g_assert_cmpint(registry_add(registry, image), ==, 0);
}

static void test_no_memory(void)
{
        _cleanup_(registry_freep) Registry *registry = registry_new(on_registry_event, NULL);
        Service service = { .registry = registry, .on_story_ended = on_story_ended };
        Caller caller = { .uid = 1000 };
        int error = 1;
        Story *story;

        add_image(registry);
        /* For the story of all, and not for that of the one image. */
        n_left = 1;
        g_assert_cmpint(detach_all_start(&service, &caller, false, on_done, &error, &story), ==, 0);
        n_left = UINT_MAX;
        g_assert_cmpint(error, ==, -ENOMEM);
        g_assert_cmpuint(registry_count(registry), ==, 1);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/detach/no-memory", test_no_memory);
        return g_test_run();
}
