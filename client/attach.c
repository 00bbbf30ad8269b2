/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attach: opens image files and hands them to the daemon.
 *
 * The descriptor is the permission: it is opened here, as the user, for reading
 * or for writing, and the daemon takes what it gets. Only options that were
 * given are sent, so that the defaults are the daemon's alone. A file that is
 * no image is refused before it is opened, because to open a device can
 * have effects.
 *
 * If the user interrupts a call, the daemon undoes it, or has done it before it
 * was told (see connection.c). What is done is printed, so that nothing is attached
 * that nobody knows of; then the signal has its usual effect.
 */
#include "attach.h"

#include <fcntl.h>
#include <inttypes.h>

#include "errors.h"
#include "i18n.h"
#include "interrupt.h"
#include "output.h"
#include "verbs.h"

void attached_clear(Attached *attached)
{
        free(attached->path);
        for (char **m = attached->mount_points; m && *m; m++)
                free(*m);
        free(attached->mount_points);
}

static int check_file(const char *name)
{
        struct stat st;

        if (stat(name, &st) < 0)
                return error_print(errno == ENOENT || errno == ENOTDIR ? STATUS_NOT_FOUND : STATUS_FAILED, name, "%s",
                                   strerror(errno));
        if (S_ISDIR(st.st_mode))
                return error_print(STATUS_BAD_IMAGE, name, _("is a directory, not an image file"));
        if (S_ISBLK(st.st_mode))
                return error_print(STATUS_BAD_IMAGE, name, _("is a device, not an image file; mount it as it is"));
        if (!S_ISREG(st.st_mode))
                return error_print(STATUS_BAD_IMAGE, name, _("is not a regular file"));
        return STATUS_OK;
}

int attach_open(const char *name, bool writable, int *ret_fd)
{
        int fd, status;

        status = check_file(name);
        if (status != STATUS_OK)
                return status;
        fd = open(name, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && writable && (errno == EACCES || errno == EPERM || errno == EROFS))
                return error_print(STATUS_FAILED, name,
                                   _("cannot be opened for writing: %s; "
                                     "it can be attached without --writable"),
                                   strerror(errno));
        if (fd < 0)
                return error_print(STATUS_FAILED, name, "%s", strerror(errno));
        *ret_fd = fd;
        return STATUS_OK;
}

static int append_string(sd_bus_message *m, const char *key, const char *value)
{
        return value ? sd_bus_message_append(m, "{sv}", key, "s", value) : 0;
}

static int append_bool(sd_bus_message *m, bool given, const char *key, bool value)
{
        return given ? sd_bus_message_append(m, "{sv}", key, "b", (int)value) : 0;
}

static int append_size(sd_bus_message *m, const char *key, uint64_t value)
{
        return value > 0 ? sd_bus_message_append(m, "{sv}", key, "t", value) : 0;
}

static int append_volumes(sd_bus_message *m, const Settings *settings)
{
        int r;

        if (settings->n_volumes == 0)
                return 0;
        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r < 0)
                return r;
        r = sd_bus_message_append_basic(m, 's', "volumes");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'v', "au");
        if (r < 0)
                return r;
        r = sd_bus_message_append_array(m, 'u', settings->volumes, settings->n_volumes * sizeof(uint32_t));
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;
        return sd_bus_message_close_container(m);
}

int attach_append_mount_options(sd_bus_message *m, const Settings *settings)
{
        int r;

        r = append_string(m, "filesystem-type", settings->type);
        if (r < 0)
                return r;
        r = append_string(m, "mount-options", settings->mount_options);
        if (r < 0)
                return r;
        return append_string(m, "name", settings->name);
}

static int append_image_options(sd_bus_message *m, const Settings *settings)
{
        int r;

        r = append_bool(m, settings->writable, "read-only", false);
        if (r < 0)
                return r;
        r = append_size(m, "offset", settings->offset);
        if (r < 0)
                return r;
        r = append_size(m, "size", settings->size);
        if (r < 0)
                return r;
        if (settings->sector_size > 0) {
                r = sd_bus_message_append(m, "{sv}", "sector-size", "u", settings->sector_size);
                if (r < 0)
                        return r;
        }
        r = append_bool(m, settings->no_partition_scan, "partition-scan", false);
        if (r < 0)
                return r;
        r = append_bool(m, settings->no_mount, "mount", false);
        if (r < 0)
                return r;
        r = append_bool(m, settings->keep, "auto-detach", false);
        if (r < 0)
                return r;
        r = append_bool(m, settings->keep, "session-bound", false);
        if (r < 0)
                return r;
        r = append_bool(m, settings->settle, "settle", true);
        if (r < 0)
                return r;
        r = append_bool(m, settings->on_access, "on-access", true);
        if (r < 0)
                return r;
        r = append_bool(m, settings->verb->bit == VERB_WITH, "hold", true);
        if (r < 0)
                return r;
        if (settings->has_idle_timeout) {
                r = sd_bus_message_append(m, "{sv}", "idle-timeout", "t", settings->idle_timeout * USEC_PER_SEC);
                if (r < 0)
                        return r;
        }
        return append_string(m, "direct-io", settings->direct_io);
}

static int append_attach(sd_bus_message *m, const Settings *settings, int fd)
{
        int r;

        r = sd_bus_message_append(m, "h", fd);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        r = append_image_options(m, settings);
        if (r < 0)
                return r;
        r = append_volumes(m, settings);
        if (r < 0)
                return r;
        r = attach_append_mount_options(m, settings);
        if (r < 0)
                return r;
        return sd_bus_message_close_container(m);
}

int attach_call(Connection *connection, const Settings *settings, int fd, sd_bus_error *error, Attached *ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        const char *path;
        int r;

        r = connection_new_call(connection, ROOT_PATH, MANAGER_INTERFACE, "Attach", &call);
        if (r < 0)
                return r;
        r = append_attach(call, settings, fd);
        if (r < 0)
                return r;
        r = connection_call(connection, call, error, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_read_basic(reply, 'o', &path);
        if (r < 0)
                return r;
        ret->path = strdup(path);
        if (!ret->path)
                return -ENOMEM;
        return sd_bus_message_read_strv(reply, &ret->mount_points);
}

void attach_print_obstacles(const Image *image, const char *name)
{
        for (const Volume *v = image->volumes; v; v = v->next)
                if (!(v->mount_points && *v->mount_points) && !isempty(v->obstacle))
                        error_print(STATUS_OK, name, _("volume %" PRIu32 " is not mounted: %s"), v->number,
                                    v->obstacle);
}

/* Returns the volume that is mounted at @mount_point, or NULL. */
static const Volume *find_volume(const Image *image, const char *mount_point)
{
        for (const Volume *v = image->volumes; v; v = v->next)
                for (char **m = v->mount_points; m && *m; m++)
                        if (streq(*m, mount_point))
                                return v;
        return NULL;
}

static bool is_anything_mounted(const Image *image)
{
        for (const Volume *v = image->volumes; v; v = v->next)
                if (v->mount_points && *v->mount_points)
                        return true;
        return false;
}

/* Of what is mounted only that which was asked for. */
static void print_image(const Image *image, const Settings *settings, const char *name, char **mount_points)
{
        for (char **m = mount_points; m && *m; m++) {
                const Volume *v = find_volume(image, *m);

                /* Somebody may have unmounted it since. */
                if (v)
                        printf("%s  (%s%s%s%s)\n", *m, strempty(v->type), isempty(v->type) ? "" : ", ",
                               v->read_only ? _("read-only") : _("writable"),
                               v->waiting ? _(", mounted when it is entered") : "");
        }
        if (!is_anything_mounted(image))
                printf(_("%s  (id %s, nothing is mounted)\n"), strempty(image->device), strempty(image->id));
        else if (settings->no_mount)
                printf("%s  (id %s)\n", strempty(image->device), strempty(image->id));
        fflush(stdout);
        /* Nobody wonders about what was not asked for. */
        if (!settings->no_mount && settings->n_volumes == 0)
                attach_print_obstacles(image, name);
}

static int print_attached(Connection *connection, const Settings *settings, const char *name, const Attached *attached)
{
        _cleanup_model_ Model model = { 0 };
        const Image *image = NULL;
        int status;

        if (!settings->print_path) {
                const ModelFilter filter = { .id = model_id_of(attached->path) };

                status = settings->json ? model_load(connection, &model) : model_list(connection, &filter, &model);
                if (status != STATUS_OK)
                        return status;
                image = model_find_image(&model, attached->path);
        }

        if (settings->print_path)
                for (char **m = attached->mount_points; m && *m; m++)
                        puts(*m);
        else if (!image)
                return error_print(STATUS_NOT_FOUND, name, _("was attached, and is detached again"));
        else if (settings->json)
                output_json_document(stdout, image);
        else
                print_image(image, settings, name, attached->mount_points);
        return STATUS_OK;
}

static int attach_one(Connection *connection, const Settings *settings, const char *name)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_attached_ Attached attached = { 0 };
        _cleanup_close_ int fd = -1;
        int r, status;

        status = attach_open(name, settings->writable, &fd);
        if (status != STATUS_OK)
                return status;
        if (!connection->bus) {
                status = connection_open(connection, !settings->no_ask_password);
                if (status != STATUS_OK)
                        return status;
        }
        connection_say(connection, _("Attaching %s"), name);
        interrupt_catch();
        r = attach_call(connection, settings, fd, &error, &attached);
        if (r < 0)
                return connection->cancelled ? STATUS_FAILED : error_print_bus(name, &error, r);
        return print_attached(connection, settings, name, &attached);
}

int verb_attach(const Settings *settings)
{
        _cleanup_connection_ Connection connection = { 0 };
        int first = STATUS_OK;

        for (size_t i = 0; i < settings->n_operands && !interrupt_signal(); i++) {
                int status = attach_one(&connection, settings, settings->operands[i]);
                if (first == STATUS_OK)
                        first = status;
        }
        interrupt_end();
        return first;
}
