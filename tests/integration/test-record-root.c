/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Records as files, as root: what is there after something has failed. */
#include <glib.h>
#include <glib/gstdio.h>

#include "base/paths.h"
#include "model/record.h"

#define ID 900001U

static void on_registry_event(RegistryEvent event, Image *image, Volume *volume, void *userdata)
{
        (void)event, (void)image, (void)volume, (void)userdata;
}

static Image *make_image(void)
{
        Image *image = image_new();

        image->id = image->diskseq = ID;
        image->devnum = 1792;
        image->state = IMAGE_ATTACHING;
        return image;
}

static void assert_recorded(ImageState state)
{
        _cleanup_(image_freep) Image *image = NULL;

        g_assert_cmpint(record_read(ID, &image), ==, 0);
        g_assert_cmpint(image->state, ==, state);
}

/* A daemon that dies now must not take over what is about to be taken away. */
static void test_publish(void)
{
        _cleanup_(registry_freep) Registry *registry = registry_new(on_registry_event, NULL);
        _cleanup_(image_freep) Image *second = make_image();
        Image *first = make_image();

        g_assert_cmpint(g_mkdir_with_parents(RUN_IMAGES_DIR, 0700), ==, 0);
        g_assert_cmpint(record_write(first), ==, 0);
        assert_recorded(IMAGE_ATTACHING);
        g_assert_cmpint(record_publish(registry, first), ==, 0);
        assert_recorded(IMAGE_ATTACHED);
        g_assert_cmpint(record_publish(registry, second), ==, -EEXIST);
        g_assert_cmpint(second->state, ==, IMAGE_ATTACHING);
        assert_recorded(IMAGE_ATTACHING);
        record_remove(ID);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/record-root/publish", test_publish);
        return g_test_run();
}
