/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The model: the order of volumes and images, who is found, what observers are told and when. */
#include <glib.h>

#include "model/image.h"

/* ---- Volumes ---- */

static Volume *add_volume(Image *image, unsigned number)
{
        Volume *volume = volume_new(number);

        g_assert_cmpint(image_add_volume(image, volume), ==, 0);
        g_assert_true(volume->image == image);
        return volume;
}

static void assert_numbers(const Image *image, const unsigned *numbers, size_t n_numbers)
{
        size_t n = 0;
        Volume *volume;

        g_assert_cmpuint(image->n_volumes, ==, n_numbers);
        IMAGE_FOREACH_VOLUME (volume, image)
                g_assert_cmpuint(volume->number, ==, numbers[n++]);
        g_assert_cmpuint(n, ==, n_numbers);
}

static void test_volumes(void)
{
        _cleanup_(image_freep) Image *image = image_new();
        Volume *volume;

        g_assert_cmpint(image->fd, ==, -1);
        assert_numbers(image, (unsigned[]){ 0 }, 0);
        g_assert_null(image_find_volume(image, 0));
        add_volume(image, 5);
        volume = add_volume(image, 1);
        add_volume(image, 128);
        add_volume(image, 0);
        assert_numbers(image, (unsigned[]){ 0, 1, 5, 128 }, 4);
        g_assert_true(image_find_volume(image, 1) == volume);
        g_assert_null(image_find_volume(image, 2));

        g_assert_cmpint(image_add_volume(image, volume_new(5)), ==, -EEXIST);
        assert_numbers(image, (unsigned[]){ 0, 1, 5, 128 }, 4);
        image_remove_volume(image, volume);
        assert_numbers(image, (unsigned[]){ 0, 5, 128 }, 3);
        image_remove_volume(image, image_find_volume(image, 128));
        image_remove_volume(image, image_find_volume(image, 0));
        assert_numbers(image, (unsigned[]){ 5 }, 1);
}

static bool overlaps(uint64_t offset, uint64_t size, uint64_t other_offset, uint64_t other_size, uint64_t granularity)
{
        _cleanup_(image_freep) Image *image = image_new(), *other = image_new();
        bool answer;

        image->offset = offset;
        image->size_limit = size;
        other->offset = other_offset;
        other->size_limit = other_size;
        answer = image_overlaps(image, other_offset, other_size, granularity);
        g_assert_true(image_overlaps(other, offset, size, granularity) == answer);
        return answer;
}

static void test_overlaps(void)
{
        g_assert_true(overlaps(0, 0, 0, 0, 1));
        g_assert_true(overlaps(0, 1024, 512, 512, 1));
        g_assert_true(overlaps(512, 1, 0, 1024, 1));
        g_assert_false(overlaps(0, 1024, 1024, 512, 1));
        g_assert_true(overlaps(0, 1025, 1024, 512, 1));
        /* Without a size it reaches to the end, wherever that will be. */
        g_assert_true(overlaps(0, 0, INT64_MAX, 512, 1));
        g_assert_false(overlaps(0, 512, 512, 0, 1));
        g_assert_true(overlaps(UINT64_MAX - 1, 512, 0, 0, 4096));
        /* Bytes in the same page. */
        g_assert_false(overlaps(0, 4096, 4096, 0, 4096));
        g_assert_true(overlaps(0, 4608, 4608, 0, 4096));
        g_assert_false(overlaps(0, 4608, 4608, 0, 1));
}

static void test_nodes(void)
{
        _cleanup_(image_freep) Image *image = image_new();
        Volume *whole = add_volume(image, 0), *partition = add_volume(image, 12);
        char node[32];

        image->loop_number = UINT32_MAX;
        image_node(image, node);
        g_assert_cmpstr(node, ==, "/dev/loop4294967295");
        image->loop_number = 7;
        volume_node(whole, node);
        g_assert_cmpstr(node, ==, "/dev/loop7");
        volume_node(partition, node);
        g_assert_cmpstr(node, ==, "");
        partition->devnum = 1;
        volume_node(partition, node);
        g_assert_cmpstr(node, ==, "/dev/loop7p12");
}

static void test_mounted(void)
{
        _cleanup_(image_freep) Image *image = image_new();
        Volume *one = add_volume(image, 1), *two = add_volume(image, 2);

        one->mount_point = strdup("/run/media/ann/one");
        g_assert_false(volume_is_mounted(one)); /* made, but nothing is there yet */
        one->mount_id = 5;
        g_assert_true(volume_is_mounted(one));
        g_assert_cmpuint(image_count_mounted(image), ==, 1);
        two->mount_id = 6;
        g_assert_false(volume_is_mounted(two));
        g_assert_cmpuint(image_count_mounted(image), ==, 1);
}

static void test_states(void)
{
        g_assert_cmpstr(image_state_to_string(IMAGE_ATTACHING), ==, "attaching");
        g_assert_cmpstr(image_state_to_string(IMAGE_ATTACHED), ==, "attached");
        g_assert_cmpstr(image_state_to_string(IMAGE_DETACHING), ==, "detaching");
        g_assert_cmpstr(image_state_to_string(IMAGE_STUCK), ==, "stuck");
}

static void test_null(void)
{
        g_assert_null(image_free(NULL));
        g_assert_null(volume_free(NULL));
        g_assert_null(registry_free(NULL));
}

/* ---- The registry ---- */

/* What the observer was told, as "added 5 (2 there)". */
typedef struct Log {
        Registry *registry;
        GString *text;
} Log;

static void on_event(RegistryEvent event, Image *image, Volume *volume, void *userdata)
{
        static const char *const names[] = {
                [REGISTRY_IMAGE_ADDED] = "added",
                [REGISTRY_IMAGE_CHANGED] = "changed",
                [REGISTRY_IMAGE_REMOVED] = "removed",
                [REGISTRY_VOLUME_ADDED] = "volume added",
                [REGISTRY_VOLUME_CHANGED] = "volume changed",
                [REGISTRY_VOLUME_REMOVED] = "volume removed",
        };
        Log *log = userdata;

        g_string_append_printf(log->text, "%s%s %u", log->text->len > 0 ? ", " : "", names[event], (unsigned)image->id);
        if (volume)
                g_string_append_printf(log->text, ".%u", volume->number);
        g_string_append_printf(log->text, " (%zu)", registry_count(log->registry));
}

static void assert_log(Log *log, const char *text)
{
        g_assert_cmpstr(log->text->str, ==, text);
        g_string_truncate(log->text, 0);
}

static Image *add(Registry *registry, uint64_t id, unsigned loop_number, uid_t owner)
{
        Image *image = image_new();

        image->id = id;
        image->loop_number = loop_number;
        image->owner = owner;
        g_assert_cmpint(registry_add(registry, image), ==, 0);
        return image;
}

static void assert_ids(const Registry *registry, const uint64_t *ids, size_t n_ids)
{
        g_assert_cmpuint(registry_count(registry), ==, n_ids);
        for (size_t i = 0; i < n_ids; i++)
                g_assert_cmpuint(registry_nth(registry, i)->id, ==, ids[i]);
        g_assert_null(registry_nth(registry, n_ids));
        g_assert_null(registry_nth(registry, SIZE_MAX));
}

/* @owners, in any order, and no others. */
static void assert_owners(const Registry *registry, const uid_t *owners, size_t n_owners)
{
        g_assert_cmpuint(registry_count_owners(registry), ==, n_owners);
        for (size_t i = 0; i < n_owners; i++) {
                size_t n_found = 0;

                for (size_t j = 0; j < n_owners; j++)
                        n_found += registry_nth_owner(registry, j) == owners[i];
                g_assert_cmpuint(n_found, ==, 1);
        }
}

static void test_registry(void)
{
        g_autoptr(GString) text = g_string_new(NULL);
        Log log = { .text = text };
        _cleanup_(registry_freep) Registry *registry = log.registry = registry_new(on_event, &log);
        _cleanup_(image_freep) Image *again = image_new();
        Image *seven, *three;

        assert_ids(registry, NULL, 0);
        g_assert_null(registry_find(registry, 0));
        seven = add(registry, 7, 0, 1000);
        three = add(registry, 3, 4, 1001);
        add(registry, UINT64_MAX, 2, 1000);
        add(registry, 5, 9, 1000);
        assert_ids(registry, (uint64_t[]){ 3, 5, 7, UINT64_MAX }, 4);
        assert_log(&log, "added 7 (1), added 3 (2), added 4294967295 (3), added 5 (4)");

        /* Not taken over: it is freed here. */
        again->id = 5;
        g_assert_cmpint(registry_add(registry, again), ==, -EEXIST);
        assert_log(&log, "");

        g_assert_true(registry_find(registry, 7) == seven);
        g_assert_true(registry_find(registry, 3) == three);
        g_assert_null(registry_find(registry, 0));
        g_assert_null(registry_find(registry, 4));
        g_assert_null(registry_find(registry, 8));
        g_assert_true(registry_find_by_loop(registry, 0) == seven);
        g_assert_true(registry_find_by_loop(registry, 4) == three);
        g_assert_null(registry_find_by_loop(registry, 1));
        g_assert_cmpuint(registry_count_of(registry, 1000), ==, 3);
        g_assert_cmpuint(registry_count_of(registry, 1001), ==, 1);
        g_assert_cmpuint(registry_count_of(registry, 0), ==, 0);
        assert_owners(registry, (uid_t[]){ 1000, 1001 }, 2);

        registry_remove(registry, seven);
        assert_log(&log, "removed 7 (4)"); /* it is still there then */
        g_assert_null(registry_find(registry, 7));
        registry_remove(registry, three);
        assert_ids(registry, (uint64_t[]){ 5, UINT64_MAX }, 2);
        g_assert_cmpuint(registry_count_of(registry, 1000), ==, 2);
        g_assert_cmpuint(registry_count_of(registry, 1001), ==, 0);
        assert_owners(registry, (uid_t[]){ 1000 }, 1);
        assert_log(&log, "removed 3 (3)");
}

static void assert_let_go(Volume *volume, const char *name, bool last, const char *left)
{
        g_assert_cmpint(volume_let_go(volume, name), ==, last);
        g_assert_cmpstr(volume->held_by, ==, left);
}

static void test_holders(void)
{
        _cleanup_(volume_freep) Volume *volume = volume_new(1);

        g_assert_false(volume_is_held_by(volume, ":1.5"));
        assert_let_go(volume, ":1.5", false, NULL);
        g_assert_cmpint(volume_hold(volume, ":1.5"), ==, 0);
        g_assert_cmpint(volume_hold(volume, ":1.55"), ==, 0);
        g_assert_cmpint(volume_hold(volume, ":1.5"), ==, 0);
        g_assert_cmpint(volume_hold(volume, ":1.6"), ==, 0);
        g_assert_cmpstr(volume->held_by, ==, ":1.5 :1.55 :1.6");
        assert_let_go(volume, ":1", false, ":1.5 :1.55 :1.6");
        assert_let_go(volume, ":1.55", false, ":1.5 :1.6");
        assert_let_go(volume, ":1.5", false, ":1.6");
        assert_let_go(volume, ":1.5", false, ":1.6");
        assert_let_go(volume, ":1.6", true, NULL);
}

static void test_events(void)
{
        g_autoptr(GString) text = g_string_new(NULL);
        Log log = { .text = text };
        _cleanup_(registry_freep) Registry *registry = log.registry = registry_new(on_event, &log);
        Image *image = add(registry, 1, 0, 0);
        Volume *volume = add_volume(image, 2);

        registry_notify(registry, REGISTRY_IMAGE_CHANGED, image, NULL);
        registry_notify(registry, REGISTRY_VOLUME_ADDED, image, volume);
        registry_notify(registry, REGISTRY_VOLUME_CHANGED, image, volume);
        registry_notify(registry, REGISTRY_VOLUME_REMOVED, image, volume);
        assert_log(&log,
                   "added 1 (1), changed 1 (1), volume added 1.2 (1), volume changed 1.2 (1), volume removed 1.2 (1)");
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/image/holders", test_holders);
        g_test_add_func("/image/volumes", test_volumes);
        g_test_add_func("/image/overlaps", test_overlaps);
        g_test_add_func("/image/nodes", test_nodes);
        g_test_add_func("/image/mounted", test_mounted);
        g_test_add_func("/image/states", test_states);
        g_test_add_func("/image/null", test_null);
        g_test_add_func("/image/registry", test_registry);
        g_test_add_func("/image/events", test_events);
        return g_test_run();
}
