/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Object paths: there and back, and none but the one spelling of each. */
#include <glib.h>

#include "bus/objects.h"

static void ignore(RegistryEvent event, Image *image, Volume *volume, void *userdata)
{
        (void)event, (void)image, (void)volume, (void)userdata;
}

static Image *add(Registry *registry, uint64_t id, unsigned number)
{
        Image *image = image_new();

        image->id = id;
        g_assert_cmpint(image_add_volume(image, volume_new(number)), ==, 0);
        g_assert_cmpint(registry_add(registry, image), ==, 0);
        return image;
}

static void test_paths(void)
{
        _cleanup_(registry_freep) Registry *registry = registry_new(ignore, NULL);
        Image *one = add(registry, 1, 0), *last = add(registry, UINT64_MAX, UINT32_MAX);
        char path[BUS_PATH_SIZE];

        bus_image_path(one, path);
        g_assert_cmpstr(path, ==, "/org/loopmount1/image/1");
        g_assert_true(bus_find_image(registry, path) == one);
        g_assert_null(bus_find_volume(registry, path));
        bus_volume_path(one->volumes[0], path);
        g_assert_cmpstr(path, ==, "/org/loopmount1/image/1/volume/0");
        g_assert_true(bus_find_volume(registry, path) == one->volumes[0]);
        g_assert_null(bus_find_image(registry, path));

        bus_image_path(last, path);
        g_assert_true(bus_find_image(registry, path) == last);
        bus_volume_path(last->volumes[0], path);
        g_assert_cmpstr(path, ==, "/org/loopmount1/image/18446744073709551615/volume/4294967295");
        g_assert_true(bus_find_volume(registry, path) == last->volumes[0]);
}

static void test_no_such(void)
{
        static const char *const paths[] = {
                "/",
                "/org/loopmount1",
                "/org/loopmount1/image",
                "/org/loopmount1/image/",
                "/org/loopmount1/image/2",
                "/org/loopmount1/image/01",
                "/org/loopmount1/image/+1",
                "/org/loopmount1/image/0x1",
                "/org/loopmount1/image/1x",
                "/org/loopmount1/image/1/",
                "/org/loopmount1/image/1/volume",
                "/org/loopmount1/image/1/volume/",
                "/org/loopmount1/image/1/volume/1",
                "/org/loopmount1/image/1/volume/00",
                "/org/loopmount1/image/1/volume/0/0",
                "/org/loopmount1/image/1/volume/4294967296",
                "/org/loopmount1/image/1/volumes/0",
                "/org/loopmount1/image//volume/0",
                "/org/loopmount1/image/18446744073709551617",
                "/org/loopmount1/image/18446744073709551617/volume/0",
                "/org/loopmount1/image/100000000000000000000000000000000000000000000001",
                "/org/loopmount1/images/1",
                "/org/loopmount2/image/1",
        };
        _cleanup_(registry_freep) Registry *registry = registry_new(ignore, NULL);

        add(registry, 1, 0);
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                g_test_message("%s", paths[i]);
                g_assert_null(bus_find_image(registry, paths[i]));
                g_assert_null(bus_find_volume(registry, paths[i]));
        }
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/bus-objects/paths", test_paths);
        g_test_add_func("/bus-objects/no-such", test_no_such);
        return g_test_run();
}
