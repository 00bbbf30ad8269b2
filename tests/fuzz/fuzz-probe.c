/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a probe that was taken over could answer. The input is either the answer
 * itself, or, so that what lies behind the first checks is reached, a recipe for
 * one: numbers and short texts in turn.
 */
#include "base/text.h"
#include "fuzz.h"
#include "mechanism/probe.h"
#include "model/record.h"
#include "story/volumes.h"

typedef struct Answer {
        ProbeSummary summary;
        ProbeVolume volumes[PROBE_VOLUMES_MAX];
} Answer;

typedef struct Input {
        const uint8_t *data;
        size_t size;
} Input;

static void take(Input *input, void *target, size_t size)
{
        size = MIN(size, input->size);
        if (size > 0)
                memcpy(target, input->data, size);
        input->data += size;
        input->size -= size;
}

static uint8_t take_byte(Input *input)
{
        uint8_t byte = 0;

        take(input, &byte, 1);
        return byte;
}

static void take_text(Input *input, char *text, size_t size)
{
        take(input, text, MIN(take_byte(input), size));
}

static void take_volume(Input *input, ProbeVolume *volume)
{
        volume->number = take_byte(input);
        if (take_byte(input) % 4 == 0)
                take(input, &volume->number, sizeof(volume->number));
        take(input, &volume->offset, take_byte(input) % 9);
        take(input, &volume->size, take_byte(input) % 9);
        volume->ambivalent = take_byte(input) % 2;
        volume->incomplete = take_byte(input) % 2;
        take_text(input, volume->usage, sizeof(volume->usage));
        take_text(input, volume->type, sizeof(volume->type));
        take_text(input, volume->version, sizeof(volume->version));
        take_text(input, volume->label, sizeof(volume->label));
        take_text(input, volume->uuid, sizeof(volume->uuid));
        take_text(input, volume->partition_type, sizeof(volume->partition_type));
        take_text(input, volume->partition_name, sizeof(volume->partition_name));
        take_text(input, volume->partition_uuid, sizeof(volume->partition_uuid));
}

static size_t cook(Input *input, Answer *answer)
{
        answer->summary.sector_size = 512U << take_byte(input) % 4;
        take(input, &answer->summary.size, take_byte(input) % 9);
        take_text(input, answer->summary.table, sizeof(answer->summary.table));
        while (input->size > 0 && answer->summary.n_volumes < PROBE_VOLUMES_MAX)
                take_volume(input, &answer->volumes[answer->summary.n_volumes++]);
        return sizeof(answer->summary) + answer->summary.n_volumes * sizeof(ProbeVolume);
}

static void check_text(const char *text)
{
        CHECK(text);
        for (size_t left = strlen(text), n; left > 0; text += n, left -= n) {
                uint32_t c;

                n = text_decode(text, left, &c);
                CHECK(n > 0 && !text_is_control(c));
        }
}

static void check_volume(const Image *image, const Volume *volume)
{
        CHECK(volume->size > 0 && volume->offset <= UINT64_MAX - volume->size);
        CHECK(volume->number > 0 || (volume->offset == 0 && volume->size == image->size));
        /* What reaches beyond the image is never mounted. */
        CHECK(*volume->obstacle || volume->offset + volume->size <= image->size);
        CHECK(*volume->name && !strchr(volume->name, '/') && *volume->name != '.' && strlen(volume->name) <= 200);
        check_text(volume->usage);
        check_text(volume->type);
        check_text(volume->version);
        check_text(volume->label);
        check_text(volume->uuid);
        check_text(volume->partition_type);
        check_text(volume->partition_name);
        check_text(volume->partition_uuid);
        check_text(volume->name);
        check_text(volume->obstacle);
}

/* A restarted daemon has to read what this one has written. */
static void check_record(Image *image)
{
        _cleanup_(image_freep) Image *again = NULL;
        _cleanup_free_ char *text = NULL, *same = NULL;
        size_t size, same_size;

        image->id = image->diskseq = image->devnum = 1;
        CHECK(record_format(image, &text, &size) == 0);
        CHECK(record_parse(text, size, &again) == 0);
        CHECK(record_format(again, &same, &same_size) == 0);
        CHECK(size == same_size && memcmp(text, same, size) == 0);
        CHECK(again->n_volumes == image->n_volumes);
}

static void check_image(const ProbeSummary *summary, const ProbeVolume *volumes)
{
        static const char *const nowhere[] = { NULL };
        static Config *config;
        _cleanup_(image_freep) Image *image = image_new();
        Volume *volume;

        if (!config)
                CHECK(config_load(nowhere, NULL, NULL, &config) == 0);
        CHECK(image && image_from_probe(image, summary, volumes, "file.img") == 0);
        CHECK(image->n_volumes == summary->n_volumes);
        CHECK(image_find_obstacles(image, config) == 0);
        check_text(image->name);
        check_text(image->table);
        IMAGE_FOREACH_VOLUME (volume, image)
                check_volume(image, volume);
        check_record(image);
}

static void check_answer(const void *answer, size_t size)
{
        _cleanup_free_ ProbeVolume *volumes = NULL;
        ProbeSummary summary;

        if (probe_parse(answer, size, &summary, &volumes) < 0) {
                CHECK(!volumes);
                return;
        }
        check_image(&summary, volumes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        Input input = { data, size };
        _cleanup_free_ Answer *answer = NULL;

        if (take_byte(&input) % 2 == 0) {
                check_answer(input.data, input.size);
                return 0;
        }
        answer = calloc(1, sizeof(*answer));
        CHECK(answer);
        size = cook(&input, answer);
        check_answer(answer, size);
        return 0;
}
