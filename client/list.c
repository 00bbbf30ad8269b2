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
#include "i18n.h"
#include "output.h"
#include "target.h"
#include "verbs.h"

/* The first mount point; what is being taken away, or cannot be, has a state in its place. */
static int add_place(Table *table, const Image *image, const Volume *volume)
{
        const char *mount_point = volume && volume->mount_points ? volume->mount_points[0] : NULL;
        bool going = (!volume || volume->number == 0) && !mount_point && !streq(strempty(image->state), "attached");
        _cleanup_free_ char *waiting =
                mount_point && volume->waiting ? text_printf(_("%s (waiting)"), mount_point) : NULL;
        int r = table_add(table, going ? image->state : waiting ? waiting : mount_point);

        if (r >= 0 && going)
                table_color(table, streq(strempty(image->state), "stuck") ? COLOR_RED : COLOR_YELLOW);
        return r;
}

/* Type, label, size, mode and the first mount point; @volume is NULL for an image without one of its own. */
static int add_details(Table *table, const Image *image, const Volume *volume)
{
        const char *type = volume ? volume->type : image->partition_table;
        bool read_only = volume ? volume->read_only : image->read_only;
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
        r = table_add(table, read_only ? "ro" : "rw");
        if (r < 0)
                return r;
        if (!read_only)
                table_color(table, COLOR_YELLOW);
        return add_place(table, image, volume);
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

static int print_table(const Model *model)
{
        static const char *const heading[] = {
                "ID", "IMAGE", "DEVICE", "TYPE", "LABEL", "SIZE", "MODE", "MOUNT POINT"
        };
        /* The image's name, the label and the mount point may be of any length. */
        _cleanup_table_ Table table = { .n_columns = ELEMENTSOF(heading), .may_shrink = 1 << 1 | 1 << 4 | 1 << 7 };
        size_t n_images = model->n_images;
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(heading) && r >= 0; i++)
                r = table_add(&table, heading[i]);
        for (const Image *image = model->images; image && r >= 0; image = image->next)
                r = add_image(&table, image);
        if (r < 0)
                return error_print(STATUS_FAILED, NULL, "%s", strerror(-r));

        if (n_images == 0) {
                fputs(_("No images attached.\n"), stderr);
                return STATUS_OK;
        }
        table_print(&table, stdout, output_has_colors(), output_columns(STDOUT_FILENO));
        if (isatty(STDOUT_FILENO))
                printf(ngettext("\n%zu image attached.\n", "\n%zu images attached.\n", n_images), n_images);
        return STATUS_OK;
}

static void print_target(const char *target)
{
        if (!isempty(target))
                puts(target);
}

/* For scripts, and above all for the shells' completion. */
static void print_targets(const Model *model)
{
        for (const Image *image = model->images; image; image = image->next) {
                print_target(image->id);
                print_target(image->backing_file);
                print_target(image->device);
                for (const Volume *v = image->volumes; v; v = v->next) {
                        if (v->number > 0)
                                print_target(v->device);
                        for (char **m = v->mount_points; m && *m; m++)
                                print_target(*m);
                }
        }
}

static void print_json(const Model *model, const Settings *settings)
{
        Json json = { .f = stdout };

        json_open(&json, NULL, '{');
        json_open(&json, "images", '[');
        for (const Image *image = model->images; image; image = image->next)
                if (settings->all_users || image->owner_uid == getuid())
                        output_json_image(&json, NULL, image);
        json_close(&json, ']');
        json_end(&json);
}

/* JSON has all there is to know. */
static int list_json(Connection *connection, const Settings *settings)
{
        _cleanup_model_ Model model = { 0 };
        int status = model_load(connection, &model);

        if (status == STATUS_OK)
                print_json(&model, settings);
        return status;
}

static int list(Connection *connection, const Settings *settings)
{
        _cleanup_model_ Model model = { 0 };
        const uid_t uid = getuid();
        int status;

        status = model_list(connection, &(ModelFilter){ .owner = settings->all_users ? NULL : &uid }, &model);
        if (status != STATUS_OK)
                return status;
        if (!settings->targets)
                return print_table(&model);
        print_targets(&model);
        return STATUS_OK;
}

int verb_list(const Settings *settings)
{
        _cleanup_connection_ Connection connection = { 0 };
        int status = connection_open(&connection, false);

        if (status != STATUS_OK)
                return status;
        return settings->json && !settings->targets ? list_json(&connection, settings) : list(&connection, settings);
}

/* The values are aligned; further lines of a list stand below the first. What is empty is left out. */
static void print_fields(const Field *fields, const void *object, int indent)
{
        for (const Field *f = fields; f->property; f++) {
                _cleanup_free_ char *value = f->label ? output_value(f, object) : NULL;
                const char *label = f->label ? _(f->label) : NULL;

                if (isempty(value))
                        continue;
                for (char *rest = value, *line; (line = strsep(&rest, "\n")); label = "")
                        printf("%*s%s%s%*s %s\n", indent, "", label, *label ? ":" : " ",
                               MAX(15 - (int)output_width(label), 0), "", line);
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

static int info_target(Connection *connection, const Settings *settings, const char *argument, bool *separate)
{
        _cleanup_target_ Target target = { 0 };
        _cleanup_model_ Model all = { 0 };
        int status;

        status = target_resolve(connection, argument, &target);
        if (status == STATUS_OK)
                status = model_load(connection, &all);
        for (const Image *brief = target.model.images; status == STATUS_OK && brief; brief = brief->next) {
                const Image *image = model_find_image(&all, brief->path);

                if (!image)
                        return error_print(STATUS_NOT_FOUND, argument, _("is not attached"));
                if (settings->json) {
                        output_json_document(stdout, image);
                        continue;
                }
                fputs(*separate ? "\n" : "", stdout);
                *separate = true;
                print_info(image);
        }
        return status;
}

int verb_info(const Settings *settings)
{
        _cleanup_connection_ Connection connection = { 0 };
        bool separate = false;
        int first;

        first = connection_open(&connection, false);
        if (first != STATUS_OK)
                return first;

        for (size_t i = 0; i < settings->n_operands; i++) {
                int status = info_target(&connection, settings, settings->operands[i], &separate);
                if (first == STATUS_OK)
                        first = status;
        }
        return first;
}
