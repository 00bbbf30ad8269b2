/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

#include "target.h"

static void assert_kind(const char *argument, mode_t mode, TargetKind wanted, const char *wanted_id)
{
        struct stat st = { .st_mode = mode };
        const char *id = NULL;

        g_assert_cmpint(target_classify(argument, mode ? &st : NULL, &id), ==, wanted);
        g_assert_cmpstr(id, ==, wanted_id);
}

static void test_classify(void)
{
        assert_kind("a.iso", S_IFREG, TARGET_FILE, NULL);
        assert_kind("/run/media/ann/A", S_IFDIR, TARGET_MOUNT_POINT, NULL);
        assert_kind("/dev/loop3", S_IFBLK, TARGET_DEVICE, NULL);
        assert_kind("/dev/null", S_IFCHR, TARGET_NOTHING, NULL);
        assert_kind("fifo", S_IFIFO, TARGET_NOTHING, NULL);
        assert_kind("a.iso", 0, TARGET_ID, "a.iso");
        assert_kind("./a.iso", 0, TARGET_MISSING, NULL);
        assert_kind("", 0, TARGET_MISSING, NULL);
}

/* A file may have the name of an id, and wins; id: says otherwise. */
static void test_classify_id(void)
{
        assert_kind("12", 0, TARGET_ID, "12");
        assert_kind("12", S_IFREG, TARGET_FILE, NULL);
        assert_kind("12", S_IFDIR, TARGET_MOUNT_POINT, NULL);
        assert_kind("id:12", 0, TARGET_ID, "12");
        assert_kind("id:12", S_IFREG, TARGET_ID, "12");
        assert_kind("./id:12", S_IFREG, TARGET_FILE, NULL);
        assert_kind("id:", 0, TARGET_ID, "");
}

/* Objects come in any order, a volume before its image too, and end up in that of their numbers. */
static void test_model_order(void)
{
        static const char *const paths[] = { "/org/loopmount1/image/10/volume/2", "/org/loopmount1/image/9",
                                             "/org/loopmount1/image/10", "/org/loopmount1/image/10/volume/10" };
        _cleanup_model_ Model model = { 0 };
        Image *image;

        for (size_t i = 0; i < ELEMENTSOF(paths); i++)
                if (strstr(paths[i], "/volume/"))
                        g_assert_nonnull(model_provide_volume(&model, paths[i]));
                else
                        g_assert_nonnull(model_provide_image(&model, paths[i]));

        g_assert_cmpstr(model.images->path, ==, "/org/loopmount1/image/9");
        image = model.images->next;
        g_assert_cmpstr(image->path, ==, "/org/loopmount1/image/10");
        g_assert_null(image->next);
        g_assert_cmpstr(image->volumes->path, ==, paths[0]);
        g_assert_cmpstr(image->volumes->next->path, ==, paths[3]);
        g_assert_true(model_find_volume(&model, paths[3])->image == image);
        g_assert_null(model_provide_volume(&model, "/org/loopmount1/image/10"));

        model_remove_volume(image->volumes);
        g_assert_null(model_find_volume(&model, paths[0]));
        model_remove_image(&model, image);
        g_assert_null(model_find_image(&model, "/org/loopmount1/image/10"));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/client/target/classify", test_classify);
        g_test_add_func("/client/target/classify-id", test_classify_id);
        g_test_add_func("/client/model/order", test_model_order);
        return g_test_run();
}
