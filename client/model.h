/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's images and volumes as plain structs: all there is, as
 * GetManagedObjects tells it, or in brief those that are wanted, by ListImages.
 */
#pragma once

#include <sys/stat.h>

#include "connection.h"

typedef struct Volume Volume;
typedef struct Image Image;

struct Volume {
        Volume *next; /* by number */
        char *path;
        Image *image;
        uint32_t number;
        char *device;
        uint64_t offset, size;
        char *usage, *type, *version, *label, *uuid;
        char *partition_type, *partition_name, *partition_uuid;
        char **mount_points;
        int waiting; /* to be entered: not mounted yet */
        int read_only;
        char *obstacle;
};

struct Image {
        Image *next; /* by id */
        char *path;
        Volume *volumes;
        char *id, *name, *backing_file, *device;
        uint64_t device_number, disk_sequence, offset, size;
        uint32_t sector_size;
        int read_only, direct_io, auto_detach, session_bound, on_access;
        uint64_t idle_timeout;
        uint32_t owner_uid;
        char *partition_table, *state;
        uint64_t attached_at;
};

typedef struct Model {
        Image *images;  /* by id */
        Image **sorted; /* the same, to search in */
        size_t n_images;
} Model;

/* Which images are wanted: those of which all is true that is given. */
typedef struct ModelFilter {
        const char *id, *mount_point;
        const struct stat *file;
        dev_t device; /* that of the image or of a partition; 0: any */
        const uid_t *owner;
} ModelFilter;

/* How a value is shown to people. */
typedef enum FieldLook {
        FIELD_PLAIN,
        FIELD_BYTES,
        FIELD_TIME,
        FIELD_USER,
} FieldLook;

/*
 * A property: its name on the bus, in JSON and for people, and its place in the
 * struct. All that reads, prints or compares objects goes by these tables,
 * which end with a row without a name.
 */
typedef struct Field {
        const char *property;  /* as in dbus/ */
        const char *key;       /* in JSON; NULL: not shown */
        const char *label;     /* for people */
        const char *signature; /* s, t, u, b or as */
        size_t offset;
        FieldLook look;
} Field;

extern const Field image_fields[];
extern const Field volume_fields[];

static inline void *field_pointer(const Field *field, const void *object)
{
        return (char *)object + field->offset;
}

/* Whether two objects of the same kind have the same value there. */
bool field_equal(const Field *field, const void *a, const void *b);
/* Exchanges the values: the way to move one from an object to another. */
void field_swap(const Field *field, void *a, void *b);
/* Reads an a{sv}; sets in @ret_seen, if not NULL, the bit of each row that was there. -errno. */
int fields_read(const Field *fields, void *object, sd_bus_message *m, uint32_t *ret_seen);

/*
 * Asks the daemon for some images, and for what ListImages tells of them: the
 * rest of the fields is empty. -errno, with @error set if the daemon or the bus
 * has said it.
 */
int model_query(Connection *connection, const ModelFilter *filter, sd_bus_error *error, Model *ret);
/* The same; prints what goes wrong. Gives an exit code. */
int model_list(Connection *connection, const ModelFilter *filter, Model *ret);
#define LISTED_VOLUME "ustsssbasbs"
#define LISTED_IMAGE "osstbussa(" LISTED_VOLUME ")"
/* Reads the reply to ListImages into an empty model. -errno. */
int model_read_list(Model *model, sd_bus_message *reply);

/* Asks the daemon for everything; prints what goes wrong. Gives an exit code. */
int model_load(Connection *connection, Model *ret);
/* Reads the reply to GetManagedObjects into an empty model. -errno. */
int model_read(Model *model, sd_bus_message *reply);
/* Reads the a{sa{sv}} of the object at @path into the model, which then has that object. -errno. */
int model_read_object(Model *model, const char *path, sd_bus_message *m);
void model_clear(Model *model);

Image *model_find_image(const Model *model, const char *path);
Volume *model_find_volume(const Model *model, const char *path);
Volume *image_find_volume(const Image *image, uint32_t number);
/* The id in the path of an image. */
const char *model_id_of(const char *image_path);
/* What an image is called where there is little room: the last part of its file's path. */
const char *image_file_name(const Image *image);

/* Finds the object, or makes an empty one. NULL: out of memory, or no path of a volume. */
Image *model_provide_image(Model *model, const char *path);
Volume *model_provide_volume(Model *model, const char *path);
void model_remove_image(Model *model, Image *image);
void model_remove_volume(Volume *volume);
/* Frees what is in the struct, not the struct. */
void volume_clear(Volume *volume);
void image_clear(Image *image);

#define _cleanup_model_ _cleanup_(model_clear)
