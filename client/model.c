/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images and volumes, read from the bus.
 *
 * Two tables say which properties there are; reading, freeing, comparing and
 * (in output.c) printing go by them, so that a new property is one line here.
 * Objects may come in any order: a volume that comes before its image creates
 * it, by the image's part of its own path.
 *
 * Nothing is trusted to be complete: a property that did not come stays NULL
 * or 0, and a property that is not in the table is skipped, because a newer
 * daemon may have more.
 */
#include "model.h"

#include "errors.h"
#include "i18n.h"

#define ROW(type, member, property, key, label, signature, look)                                                       \
        { property, key, label, signature, offsetof(type, member), look }
#define IMAGE(...) ROW(Image, __VA_ARGS__)
#define VOLUME(...) ROW(Volume, __VA_ARGS__)

const Field image_fields[] = {
        IMAGE(id, "Id", "id", N_("Id"), "s", FIELD_PLAIN),
        IMAGE(name, "Name", "name", N_("Name"), "s", FIELD_PLAIN),
        IMAGE(backing_file, "BackingFile", "backing_file", N_("File"), "s", FIELD_PLAIN),
        IMAGE(device, "Device", "device", N_("Device"), "s", FIELD_PLAIN),
        IMAGE(device_number, "DeviceNumber", NULL, NULL, "t", FIELD_PLAIN),
        IMAGE(disk_sequence, "DiskSequence", "disk_sequence", N_("Disk sequence"), "t", FIELD_PLAIN),
        IMAGE(offset, "Offset", "offset", N_("Offset"), "t", FIELD_BYTES),
        IMAGE(size, "Size", "size", N_("Size"), "t", FIELD_BYTES),
        IMAGE(sector_size, "SectorSize", "sector_size", N_("Sector size"), "u", FIELD_PLAIN),
        IMAGE(read_only, "ReadOnly", "read_only", N_("Read-only"), "b", FIELD_PLAIN),
        IMAGE(direct_io, "DirectIO", "direct_io", N_("Direct I/O"), "b", FIELD_PLAIN),
        IMAGE(auto_detach, "AutoDetach", "auto_detach", N_("Auto-detach"), "b", FIELD_PLAIN),
        IMAGE(session_bound, "SessionBound", "session_bound", N_("Session-bound"), "b", FIELD_PLAIN),
        IMAGE(on_access, "OnAccess", "on_access", N_("On access"), "b", FIELD_PLAIN),
        IMAGE(idle_timeout, "IdleTimeout", "idle_timeout_usec", NULL, "t", FIELD_PLAIN),
        IMAGE(owner_uid, "OwnerUID", "owner_uid", N_("Owner"), "u", FIELD_USER),
        IMAGE(partition_table, "PartitionTable", "partition_table", N_("Partition table"), "s", FIELD_PLAIN),
        IMAGE(state, "State", "state", N_("State"), "s", FIELD_PLAIN),
        IMAGE(attached_at, "AttachedAt", "attached_at_usec", N_("Attached at"), "t", FIELD_TIME),
        { 0 },
};

const Field volume_fields[] = {
        VOLUME(number, "Number", "number", N_("Volume"), "u", FIELD_PLAIN),
        VOLUME(device, "Device", "device", N_("Device"), "s", FIELD_PLAIN),
        VOLUME(offset, "Offset", "offset", N_("Offset"), "t", FIELD_BYTES),
        VOLUME(size, "Size", "size", N_("Size"), "t", FIELD_BYTES),
        VOLUME(usage, "Usage", "usage", N_("Usage"), "s", FIELD_PLAIN),
        VOLUME(type, "Type", "type", N_("Type"), "s", FIELD_PLAIN),
        VOLUME(version, "Version", "version", N_("Version"), "s", FIELD_PLAIN),
        VOLUME(label, "Label", "label", N_("Label"), "s", FIELD_PLAIN),
        VOLUME(uuid, "UUID", "uuid", N_("UUID"), "s", FIELD_PLAIN),
        VOLUME(partition_type, "PartitionType", "partition_type", N_("Partition type"), "s", FIELD_PLAIN),
        VOLUME(partition_name, "PartitionName", "partition_name", N_("Partition name"), "s", FIELD_PLAIN),
        VOLUME(partition_uuid, "PartitionUUID", "partition_uuid", N_("Partition UUID"), "s", FIELD_PLAIN),
        VOLUME(mount_points, "MountPoints", "mount_points", N_("Mounted at"), "as", FIELD_PLAIN),
        VOLUME(waiting, "Waiting", "waiting", N_("Waiting"), "b", FIELD_PLAIN),
        VOLUME(read_only, "ReadOnly", "read_only", N_("Read-only"), "b", FIELD_PLAIN),
        VOLUME(obstacle, "Obstacle", "obstacle", N_("Obstacle"), "s", FIELD_PLAIN),
        { 0 },
};

static char **strv_free(char **strings)
{
        for (char **s = strings; s && *s; s++)
                free(*s);
        free(strings);
        return NULL;
}

static size_t field_size(const Field *field)
{
        switch (field->signature[0]) {
        case 't':
                return sizeof(uint64_t);
        case 'u':
                return sizeof(uint32_t);
        case 'b':
                return sizeof(int);
        default:
                return sizeof(void *);
        }
}

static bool strv_equal(char **a, char **b)
{
        size_t i = 0;

        for (; a && a[i] && b && b[i]; i++)
                if (!streq(a[i], b[i]))
                        return false;
        return !(a && a[i]) && !(b && b[i]);
}

bool field_equal(const Field *field, const void *a, const void *b)
{
        const void *x = field_pointer(field, a), *y = field_pointer(field, b);

        switch (field->signature[0]) {
        case 's':
                return streq(strempty(*(char *const *)x), strempty(*(char *const *)y));
        case 'a':
                return strv_equal(*(char **const *)x, *(char **const *)y);
        default:
                return memcmp(x, y, field_size(field)) == 0;
        }
}

void field_swap(const Field *field, void *a, void *b)
{
        void *x = field_pointer(field, a), *y = field_pointer(field, b);
        uint64_t kept;

        memcpy(&kept, x, field_size(field));
        memcpy(x, y, field_size(field));
        memcpy(y, &kept, field_size(field));
}

static void fields_clear(const Field *fields, void *object)
{
        for (const Field *f = fields; f->property; f++)
                if (streq(f->signature, "s")) {
                        free(*(char **)field_pointer(f, object));
                        *(char **)field_pointer(f, object) = NULL;
                } else if (streq(f->signature, "as"))
                        *(char ***)field_pointer(f, object) = strv_free(*(char ***)field_pointer(f, object));
}

static int read_value(const Field *field, void *object, sd_bus_message *m)
{
        void *place = field_pointer(field, object);
        int r;

        r = sd_bus_message_enter_container(m, 'v', field->signature);
        if (r < 0)
                return r;
        if (streq(field->signature, "as")) {
                char **strings = NULL;
                r = sd_bus_message_read_strv(m, &strings);
                if (r < 0)
                        return r;
                strv_free(*(char ***)place);
                *(char ***)place = strings;
        } else if (streq(field->signature, "s")) {
                const char *s;
                r = sd_bus_message_read_basic(m, 's', &s);
                if (r < 0)
                        return r;
                free(*(char **)place);
                *(char **)place = strdup(s);
                if (!*(char **)place)
                        return -ENOMEM;
        } else {
                r = sd_bus_message_read_basic(m, field->signature[0], place);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_exit_container(m);
}

int fields_read(const Field *fields, void *object, sd_bus_message *m, uint32_t *ret_seen)
{
        uint32_t seen = 0;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const Field *f = fields;
                const char *name;

                r = sd_bus_message_read_basic(m, 's', &name);
                if (r < 0)
                        return r;
                while (f->property && !streq(f->property, name))
                        f++;
                r = f->property ? read_value(f, object, m) : sd_bus_message_skip(m, "v");
                if (r < 0)
                        return r;
                if (f->property)
                        seen |= UINT32_C(1) << (f - fields);
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (ret_seen)
                *ret_seen = seen;
        return sd_bus_message_exit_container(m);
}

void volume_clear(Volume *volume)
{
        fields_clear(volume_fields, volume);
        free(volume->path);
}

void image_clear(Image *image)
{
        for (Volume *v = image->volumes, *next; v; v = next) {
                next = v->next;
                volume_clear(v);
                free(v);
        }
        fields_clear(image_fields, image);
        free(image->path);
}

static void image_free(Image *image)
{
        image_clear(image);
        free(image);
}

void model_clear(Model *model)
{
        for (size_t i = 0; i < model->n_images; i++)
                image_free(model->sorted[i]);
        free(model->sorted);
        *model = (Model){ 0 };
}

/* The first that is not before @path. strverscmp() puts /image/9 before /image/10. */
static size_t position_of(const Model *model, const char *path)
{
        size_t low = 0, high = model->n_images;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (strverscmp(model->sorted[middle]->path, path) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* What points to the image at @position: its predecessor in the list, or the list. */
static Image **link_to(Model *model, size_t position)
{
        return position > 0 ? &model->sorted[position - 1]->next : &model->images;
}

void model_remove_image(Model *model, Image *image)
{
        size_t position = position_of(model, image->path);

        *link_to(model, position) = image->next;
        model->n_images--;
        memmove(model->sorted + position, model->sorted + position + 1, (model->n_images - position) * sizeof(Image *));
        image_free(image);
}

void model_remove_volume(Volume *volume)
{
        for (Volume **p = &volume->image->volumes; *p; p = &(*p)->next)
                if (*p == volume) {
                        *p = volume->next;
                        volume_clear(volume);
                        free(volume);
                        return;
                }
}

Image *model_find_image(const Model *model, const char *path)
{
        size_t position = position_of(model, path);

        return position < model->n_images && streq(model->sorted[position]->path, path) ? model->sorted[position]
                                                                                        : NULL;
}

Volume *model_find_volume(const Model *model, const char *path)
{
        const char *end = strstr(path, "/volume/");
        _cleanup_free_ char *image_path = end ? strndup(path, end - path) : NULL;
        Image *image = image_path ? model_find_image(model, image_path) : NULL;

        for (Volume *volume = image ? image->volumes : NULL; volume; volume = volume->next)
                if (streq(volume->path, path))
                        return volume;
        return NULL;
}

Volume *image_find_volume(const Image *image, uint32_t number)
{
        for (Volume *volume = image->volumes; volume; volume = volume->next)
                if (volume->number == number)
                        return volume;
        return NULL;
}

const char *model_id_of(const char *image_path)
{
        return strrchr(image_path, '/') + 1;
}

const char *image_file_name(const Image *image)
{
        const char *path = strempty(image->backing_file), *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

static Image *insert_image(Model *model, size_t position, const char *path)
{
        Image **sorted = reallocarray(model->sorted, model->n_images + 1, sizeof(Image *)), *image;

        if (!sorted)
                return NULL;
        model->sorted = sorted;
        image = calloc(1, sizeof(Image));
        if (!image)
                return NULL;
        image->path = strdup(path);
        if (!image->path) {
                free(image);
                return NULL;
        }
        memmove(sorted + position + 1, sorted + position, (model->n_images - position) * sizeof(Image *));
        sorted[position] = image;
        model->n_images++;
        image->next = *link_to(model, position);
        *link_to(model, position) = image;
        return image;
}

Image *model_provide_image(Model *model, const char *path)
{
        size_t position = position_of(model, path);

        if (position < model->n_images && streq(model->sorted[position]->path, path))
                return model->sorted[position];
        return insert_image(model, position, path);
}

Volume *model_provide_volume(Model *model, const char *path)
{
        const char *end = strstr(path, "/volume/");
        _cleanup_free_ char *image_path = end ? strndup(path, end - path) : NULL;
        Image *image = image_path ? model_provide_image(model, image_path) : NULL;
        Volume **p, *volume;

        if (!image)
                return NULL;
        for (p = &image->volumes; *p && strverscmp((*p)->path, path) < 0; p = &(*p)->next)
                ;
        if (*p && streq((*p)->path, path))
                return *p;

        volume = calloc(1, sizeof(Volume));
        if (!volume)
                return NULL;
        volume->path = strdup(path);
        if (!volume->path) {
                free(volume);
                return NULL;
        }
        volume->image = image;
        volume->next = *p;
        *p = volume;
        return volume;
}

int model_read_object(Model *model, const char *path, sd_bus_message *m)
{
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                const char *interface;

                r = sd_bus_message_read_basic(m, 's', &interface);
                if (r < 0)
                        return r;
                if (streq(interface, IMAGE_INTERFACE)) {
                        Image *image = model_provide_image(model, path);
                        r = image ? fields_read(image_fields, image, m, NULL) : -ENOMEM;
                } else if (streq(interface, VOLUME_INTERFACE)) {
                        Volume *volume = model_provide_volume(model, path);
                        r = volume ? fields_read(volume_fields, volume, m, NULL) : -EBADMSG;
                } else
                        r = sd_bus_message_skip(m, "a{sv}");
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int model_read(Model *model, sd_bus_message *reply)
{
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "{oa{sa{sv}}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(reply, 'e', "oa{sa{sv}}")) > 0) {
                const char *path;

                r = sd_bus_message_read_basic(reply, 'o', &path);
                if (r < 0)
                        return r;
                r = model_read_object(model, path, reply);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

int model_load(Connection *connection, Model *ret)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_model_ Model model = { 0 };
        int r;

        r = sd_bus_call_method(connection->bus, BUS_NAME, ROOT_PATH, OBJECT_MANAGER_INTERFACE, "GetManagedObjects",
                               &error, &reply, NULL);
        if (r < 0)
                return error_print_bus(NULL, &error, r);
        r = model_read(&model, reply);
        if (r < 0)
                return error_print(STATUS_FAILED, NULL, _("the daemon's list of images cannot be read: %s"),
                                   strerror(-r));
        *ret = model;
        model = (Model){ 0 };
        return STATUS_OK;
}
