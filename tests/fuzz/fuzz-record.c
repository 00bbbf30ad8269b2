/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Records of images: whatever can be read gives the same record again when it is written. */
#include "fuzz.h"
#include "model/record.h"

static void check_text(const char *text)
{
        CHECK(!text || !strchr(text, '\n'));
}

static void check_image(const Image *image)
{
        Volume *volume;
        unsigned last = 0;

        CHECK(image->id != 0 && image->id == image->diskseq && image->devnum != 0);
        check_text(image->owner_name);
        check_text(image->name);
        check_text(image->backing_file);
        check_text(image->table);
        IMAGE_FOREACH_VOLUME (volume, image) {
                CHECK(volume->image == image && volume->number <= INT32_MAX);
                CHECK(volume_i == 0 || volume->number > last);
                CHECK(image_find_volume(image, volume->number) == volume);
                check_text(volume->label);
                check_text(volume->mount_point);
                last = volume->number;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(image_freep) Image *image = NULL, *again = NULL;
        _cleanup_free_ char *text = NULL, *same = NULL;
        size_t text_size, same_size;

        if (record_parse((const char *)data, size, &image) < 0) {
                CHECK(!image);
                return 0;
        }
        check_image(image);
        CHECK(record_format(image, &text, &text_size) == 0);
        CHECK(record_parse(text, text_size, &again) == 0);
        check_image(again);
        CHECK(record_format(again, &same, &same_size) == 0);
        CHECK(text_size == same_size && memcmp(text, same, text_size) == 0);
        return 0;
}
