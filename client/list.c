/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * list and info: what is attached, in brief and in full.
 *
 * The list has a line for each image, with what is on the whole of it, and one
 * for each partition below; "volume N" there is the number that --volume takes.
 */
#include <inttypes.h>

#include "base/text.h"
#include "errors.h"
#include "output.h"
#include "target.h"
#include "verbs.h"

static bool is_shown(const Image *image, const Settings *settings)
{
        return settings->all_users || image->owner_uid == getuid();
}

/* Type, label, size, mode and the first mount point; @volume is NULL for an image without one of its own. */
static int add_details(Table *table, const Image *image, const Volume *volume)
{
        const char *type = volume ? volume->type : image->partition_table;
        const char *mount_point = volume && volume->mount_points ? volume->mount_points[0] : NULL;
        char size[16];
        int r;

        r = table_add(table, type);
        if (r < 0)
                return r;
        r = table_add(table, volume ? volume->label : NULL);
        if (r < 0)
                return r;
        r = table_add(table, text_format_size(volume ? volume->size : image->size, size));
        if (r < 0)
                return r;
        r = table_add(table, (volume ? volume->read_only : image->read_only) ? "ro" : "rw");
        if (r < 0)
                return r;
        return table_add(table, mount_point);
}

static int add_volume(Table *table, const Image *image, const Volume *volume)
{
        char name[32];
        int r;

        snprintf(name, sizeof(name), "  volume %" PRIu32, volume->number);
        r = table_add_blank(table);
        if (r < 0)
                return r;
        r = table_add(table, name);
        if (r < 0)
                return r;
        r = table_add(table, volume->device);
        if (r < 0)
                return r;
        return add_details(table, image, volume);
}

static int add_image(Table *table, const Image *image)
{
        int r;

        r = table_add(table, image->id);
        if (r < 0)
                return r;
        r = table_add(table, image_file_name(image));
        if (r < 0)
                return r;
        r = table_add(table, image->device);
        if (r < 0)
                return r;
        r = add_details(table, image, image_find_volume(image, 0));
        for (const Volume *v = image->volumes; v && r >= 0; v = v->next)
                if (v->number > 0)
                        r = add_volume(table, image, v);
        return r;
}

static int print_table(const Model *model, const Settings *settings)
{
        static const char *const heading[] = {
                "ID", "IMAGE", "DEVICE", "TYPE", "LABEL", "SIZE", "MODE", "MOUNT POINT"
        };
        _cleanup_table_ Table table = { .n_columns = ELEMENTSOF(heading) };
        size_t n_images = 0;
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(heading) && r >= 0; i++)
                r = table_add(&table, heading[i]);
        for (const Image *image = model->images; image && r >= 0; image = image->next)
                if (is_shown(image, settings)) {
                        r = add_image(&table, image);
                        n_images++;
                }
        if (r < 0)
                return error_print(STATUS_FAILED, NULL, "%s", strerror(-r));

        if (n_images == 0) {
                fputs("No images attached.\n", stderr);
                return STATUS_OK;
        }
        table_print(&table, stdout, output_has_colors());
        if (isatty(STDOUT_FILENO))
                printf("\n%zu image%s attached.\n", n_images, n_images == 1 ? "" : "s");
        return STATUS_OK;
}

static void print_json(const Model *model, const Settings *settings)
{
        struct json_object *document = json_object_new_object(), *images = json_object_new_array();

        for (const Image *image = model->images; image; image = image->next)
                if (is_shown(image, settings))
                        json_object_array_add(images, output_json_image(image));
        json_object_object_add(document, "images", images);
        output_print_json(document);
}

int verb_list(const Settings *settings)
{
        _cleanup_connection_ Connection connection = { 0 };
        _cleanup_model_ Model model = { 0 };
        int status;

        status = connection_open(&connection, false);
        if (status == STATUS_OK)
                status = model_load(&connection, &model);
        if (status != STATUS_OK)
                return status;
        if (!settings->json)
                return print_table(&model, settings);
        print_json(&model, settings);
        return STATUS_OK;
}

/* The values are aligned; further lines of a list stand below the first. What is empty is left out. */
static void print_fields(const Field *fields, const void *object, int indent)
{
        for (const Field *f = fields; f->property; f++) {
                _cleanup_free_ char *value = f->label ? output_value(f, object) : NULL;
                const char *label = f->label;

                if (isempty(value))
                        continue;
                for (char *rest = value, *line; (line = strsep(&rest, "\n")); label = "")
                        printf("%*s%s%s%*s %s\n", indent, "", label, *label ? ":" : " ",
                               MAX(15 - (int)strlen(label), 0), "", line);
        }
}

static void print_info(const Image *image)
{
        print_fields(image_fields, image, 0);
        for (const Volume *v = image->volumes; v; v = v->next) {
                puts("");
                print_fields(volume_fields, v, 2);
        }
}

static int info_target(Connection *connection, const Model *model, const Settings *settings, const char *argument,
                       bool *separate)
{
        _cleanup_target_ Target target = { 0 };
        int status;

        status = target_resolve(connection, model, argument, &target);
        for (size_t i = 0; i < target.n_images; i++) {
                if (settings->json) {
                        output_print_json(output_json_document(target.images[i]));
                        continue;
                }
                fputs(*separate ? "\n" : "", stdout);
                *separate = true;
                print_info(target.images[i]);
        }
        return status;
}

int verb_info(const Settings *settings)
{
        _cleanup_connection_ Connection connection = { 0 };
        _cleanup_model_ Model model = { 0 };
        bool separate = false;
        int first;

        first = connection_open(&connection, false);
        if (first == STATUS_OK)
                first = model_load(&connection, &model);
        if (first != STATUS_OK)
                return first;

        for (size_t i = 0; i < settings->n_operands; i++) {
                int status = info_target(&connection, &model, settings, settings->operands[i], &separate);
                if (first == STATUS_OK)
                        first = status;
        }
        return first;
}
