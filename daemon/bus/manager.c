/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * org.loopmount1.Manager. A method decodes its message completely and checks all
 * that can be checked without touching the file; then the story has the frozen
 * request, and the message is not read again.
 */
#include <fcntl.h>

#include "base/closer.h"
#include "bus/errors.h"
#include "bus/objects.h"
#include "bus/options.h"
#include "bus/request.h"
#include "mechanism/filesystem.h"
#include "mechanism/parcel.h"
#include "story/attach.h"
#include "story/detach.h"
#include "story/find.h"

/* What open(2) flags a file may have; O_APPEND would move each write to the end, O_PATH is no open file. */
#define FILE_FLAGS_ACCEPTED                                                                                            \
        (O_ACCMODE | O_NONBLOCK | O_LARGEFILE | O_CLOEXEC | O_DIRECT | O_NOATIME | O_NOFOLLOW | O_SYNC | O_DSYNC |     \
         O_TMPFILE)

/* How long a volume that is mounted on access stays mounted when nobody uses it. */
#define IDLE_USEC_DEFAULT (300 * USEC_PER_SEC)
#define IDLE_USEC_MAX (INT32_MAX * USEC_PER_SEC)

/* As fcntl(2) has it in the kernel; glibc's is 0 where off_t has 64 bits anyway. */
#define KERNEL_O_LARGEFILE 0100000

/* ---- The file in a message ---- */

typedef struct File {
        int parcel;
        ParcelLabel label;
} File;

/*
 * Takes the file out of the message: the gate has put a parcel in its place.
 * -EDQUOT: the caller has too many requests under way; -EUSERS: too many files that hang.
 */
static int take_file(Service *service, sd_bus_message *message, File *ret)
{
        int fd, r = sd_bus_message_read_basic(message, 'h', &fd);

        if (r < 0)
                return r;
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        r = parcel_read_label(fd, &ret->label);
        if (r >= 0)
                r = ret->label.error;
        if (r >= 0 && request_is_surplus(message))
                r = -EDQUOT;
        if (r < 0)
                closer_close(service->event, fd);
        else
                ret->parcel = fd;
        return r;
}

/* ---- Attach: the message ---- */

static int complain(char **ret_complaint, const char *text)
{
        *ret_complaint = strdup(text);
        return *ret_complaint ? -EINVAL : -ENOMEM;
}

static int check_flags(int flags, char **ret_complaint)
{
        if (flags < 0)
                return complain(ret_complaint, "Argument \"file\": it is no open file");
        if (flags & O_PATH)
                return complain(ret_complaint, "Argument \"file\": it was opened with O_PATH");
        if ((flags & O_ACCMODE) == O_WRONLY)
                return complain(ret_complaint,
                                "Argument \"file\": it was opened for writing only; open it for reading, or for both");
        if (flags & O_APPEND)
                return complain(ret_complaint, "Argument \"file\": it was opened with O_APPEND");
        if (flags & ~(FILE_FLAGS_ACCEPTED | KERNEL_O_LARGEFILE))
                return complain(ret_complaint, "Argument \"file\": it was opened with flags that are not known here");
        return 0;
}

static int check_writable(const File *file, char **ret_complaint)
{
        if ((file->label.flags & O_ACCMODE) != O_RDWR)
                return complain(ret_complaint, "Option \"read-only\": the file is open for reading only, so it "
                                               "cannot be attached writable");
        if (file->label.seals >= 0 && file->label.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
                return complain(ret_complaint, "Option \"read-only\": the file is sealed against writing");
        return 0;
}

static int check_numbers(const AttachRequest *request, char **ret_complaint)
{
        uint32_t sector_size = request->sector_size;

        if (sector_size != 0 && sector_size != 512 && sector_size != 1024 && sector_size != 2048 && sector_size != 4096)
                return complain(ret_complaint, "Option \"sector-size\": it has to be 512, 1024, 2048 or 4096");
        if (request->offset > INT64_MAX)
                return complain(ret_complaint, "Option \"offset\": it is too large");
        if (request->offset % (sector_size ? sector_size : 512) != 0)
                return complain(ret_complaint, "Option \"offset\": it has to be a multiple of the sector size");
        if (request->size > INT64_MAX - request->offset)
                return complain(ret_complaint, "Option \"size\": it is too large");
        if (request->size != 0 && request->size < (sector_size ? sector_size : 512))
                return complain(ret_complaint, "Option \"size\": it is smaller than one sector");
        return 0;
}

static int parse_direct_io(const char *text, LoopDirectIO *ret, char **ret_complaint)
{
        if (!text || streq(text, "auto"))
                *ret = LOOP_DIRECT_IO_AUTO;
        else if (streq(text, "yes"))
                *ret = LOOP_DIRECT_IO_YES;
        else if (streq(text, "no"))
                *ret = LOOP_DIRECT_IO_NO;
        else
                return complain(ret_complaint, "Option \"direct-io\": it has to be auto, yes or no");
        return 0;
}

static int check_mount(const AttachRequest *request, char **ret_complaint)
{
        if (request->mount)
                return 0;
        if (request->n_volumes > 0 || request->wish.filesystem_type || request->wish.options || request->wish.name)
                return complain(ret_complaint, "Option \"mount\": it is false, but another option says how to mount");
        return 0;
}

static int check_access(const AttachRequest *request, bool idle_given, char **ret_complaint)
{
        if (request->on_access && !request->mount)
                return complain(ret_complaint, "Option \"on-access\": nothing is to be mounted");
        if (request->hold && (request->on_access || !request->mount))
                return complain(ret_complaint, "Option \"hold\": it is for volumes that are mounted now");
        if (idle_given && !request->on_access)
                return complain(ret_complaint, "Option \"idle-timeout\": it is for on-access only");
        if (request->idle_usec > IDLE_USEC_MAX)
                return complain(ret_complaint, "Option \"idle-timeout\": it is too large");
        return 0;
}

static int read_attach_options(sd_bus_message *message, AttachRequest *request, char **ret_complaint)
{
        _cleanup_free_ char *direct_io = NULL;
        OptionArray volumes = { 0 };
        bool auto_detach = false, auto_detach_given = false, session_bound = false, session_bound_given = false,
             idle_given = false;
        const OptionRule rules[] = {
                { "read-only", "b", &request->read_only, NULL },
                { "offset", "t", &request->offset, NULL },
                { "size", "t", &request->size, NULL },
                { "sector-size", "u", &request->sector_size, NULL },
                { "partition-scan", "b", &request->partition_scan, NULL },
                { "mount", "b", &request->mount, NULL },
                { "volumes", "au", &volumes, NULL },
                { "filesystem-type", "s", &request->wish.filesystem_type, NULL },
                { "mount-options", "s", &request->wish.options, NULL },
                { "name", "s", &request->wish.name, NULL },
                { "settle", "b", &request->settle, NULL },
                { "on-access", "b", &request->on_access, NULL },
                { "idle-timeout", "t", &request->idle_usec, &idle_given },
                { "direct-io", "s", &direct_io, NULL },
                { "auto-detach", "b", &auto_detach, &auto_detach_given },
                { "session-bound", "b", &session_bound, &session_bound_given },
                { "hold", "b", &request->hold, NULL },
        };
        int r = options_read(message, rules, ELEMENTSOF(rules), ret_complaint);

        request->auto_detach = auto_detach_given ? auto_detach : -1;
        request->session_bound = session_bound_given ? session_bound : -1;
        request->volumes = volumes.items;
        request->n_volumes = volumes.n_items;
        if (r >= 0)
                r = parse_direct_io(direct_io, &request->direct_io, ret_complaint);
        if (r >= 0)
                r = check_numbers(request, ret_complaint);
        if (r >= 0)
                r = check_mount(request, ret_complaint);
        if (r >= 0)
                r = check_access(request, idle_given, ret_complaint);
        return r;
}

/* -EINVAL: *ret_complaint says what is wrong. */
static int read_attach(Service *service, sd_bus_message *message, AttachRequest *request, char **ret_complaint)
{
        File file;
        int r = take_file(service, message, &file);

        if (r < 0)
                return r;
        request->event = service->event;
        request->parcel = file.parcel;
        request->backing_file = strdup(file.label.path);
        r = request->backing_file ? check_flags(file.label.flags, ret_complaint) : -ENOMEM;
        if (r >= 0)
                r = read_attach_options(message, request, ret_complaint);
        if (r >= 0 && !request->read_only)
                r = check_writable(&file, ret_complaint);
        return r;
}

/* ---- Attach: the reply ---- */

static int reply_attach(sd_bus_message *message, const Story *story)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const Image *image = attach_get_image(story);
        const char *mount_point;
        char path[BUS_PATH_SIZE];
        int r = sd_bus_message_new_method_return(message, &reply);

        bus_image_path(image, path);
        if (r >= 0)
                r = sd_bus_message_append_basic(reply, 'o', path);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "s");
        for (size_t i = 0; r >= 0 && (mount_point = attach_nth_mount_point(story, i)); i++)
                r = sd_bus_message_append_basic(reply, 's', mount_point);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int method_attach(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        Service *service = userdata;
        _cleanup_(attach_request_done) AttachRequest attach = {
                .parcel = -1,
                .read_only = true,
                .partition_scan = true,
                .mount = true,
                .idle_usec = IDLE_USEC_DEFAULT,
        };
        _cleanup_(request_freep) Request *request = NULL;
        _cleanup_free_ char *complaint = NULL;
        int r = read_attach(service, message, &attach, &complaint);

        (void)error;
        if (r == -EDQUOT || r == -EUSERS)
                return request_refuse(message, r);
        if (r == -EINVAL && complaint)
                return error_reply_invalid(message, "%s", complaint);
        if (r >= 0)
                r = request_new(message, reply_attach, &request);
        if (r < 0)
                return error_reply_early(message, r);
        r = attach_start(service, request_get_caller(request), &attach, request_done, request, request_story(request));
        return request_started(TAKE_PTR(request), r);
}

/* ---- FindByFile ---- */

static int reply_find(sd_bus_message *message, const Story *story)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const Image *image;
        int r = sd_bus_message_new_method_return(message, &reply);

        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "o");
        for (size_t i = 0; r >= 0 && (image = registry_nth(story->service->registry, i)); i++) {
                char path[BUS_PATH_SIZE];

                if (!find_matches(story, image))
                        continue;
                bus_image_path(image, path);
                r = sd_bus_message_append_basic(reply, 'o', path);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int method_find_by_file(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        Service *service = userdata;
        _cleanup_(request_freep) Request *request = NULL;
        File file;
        int r = take_file(service, message, &file);

        (void)error;
        if (r == -EDQUOT || r == -EUSERS)
                return request_refuse(message, r);
        if (r < 0)
                return error_reply_early(message, r);
        r = request_new(message, reply_find, &request);
        if (r < 0) {
                closer_close(service->event, file.parcel);
                return error_reply_early(message, r);
        }
        r = find_start(service, request_get_caller(request), file.parcel, request_done, request,
                       request_story(request));
        return request_started(TAKE_PTR(request), r);
}

/* ---- DetachAll ---- */

static int method_detach_all(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        bool force = false;
        const OptionRule rules[] = {
                { "force", "b", &force, NULL },
        };
        _cleanup_(request_freep) Request *request = NULL;
        int r = request_new_with_options(message, rules, ELEMENTSOF(rules), NULL, &request);

        (void)error;
        if (!request)
                return r;
        r = detach_all_start(userdata, request_get_caller(request), force, request_done, request,
                             request_story(request));
        return request_started(TAKE_PTR(request), r);
}

/* ---- Release ---- */

static int method_release(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        _cleanup_(request_freep) Request *request = NULL;
        const Caller *caller;
        int r = request_new_with_options(message, NULL, 0, NULL, &request);

        (void)error;
        if (!request)
                return r;
        request_cancel_others(message);
        caller = request_get_caller(request);
        r = release_start(userdata, caller, caller->sender, request_done, request, request_story(request));
        return request_started(TAKE_PTR(request), r);
}

/* ---- Properties ---- */

static int property_get_filesystem_types(sd_bus *bus, const char *path, const char *interface, const char *property,
                                         sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const Config *config = ((Service *)userdata)->config;
        const FilesystemType *type;
        int r = sd_bus_message_open_container(reply, 'a', "s");

        (void)bus, (void)path, (void)interface, (void)property, (void)error;
        for (size_t i = 0; r >= 0 && (type = filesystem_nth(i)); i++)
                if (config_allows_filesystem(config, filesystem_name(type)))
                        r = sd_bus_message_append_basic(reply, 's', filesystem_name(type));
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int property_get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        (void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)error;
        return sd_bus_message_append_basic(reply, 's', LOOPMOUNT_VERSION);
}

static int property_get_limit(sd_bus *bus, const char *path, const char *interface, const char *property,
                              sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const Config *config = ((Service *)userdata)->config;
        uint32_t value =
                streq(property, "MaxImagesPerUser") ? config->max_images_per_user : config->max_requests_per_user;

        (void)bus, (void)path, (void)interface, (void)error;
        return sd_bus_message_append_basic(reply, 'u', &value);
}

const sd_bus_vtable bus_manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Attach", SD_BUS_ARGS("h", file, "a{sv}", options),
                                SD_BUS_RESULT("o", image, "as", mount_points), method_attach,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("FindByFile", SD_BUS_ARGS("h", file), SD_BUS_RESULT("ao", images), method_find_by_file,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListImages", SD_BUS_ARGS("a{sv}", filter),
                                SD_BUS_RESULT("a(osstbussa(ustsssbasbs))", images), bus_list_images,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DetachAll", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_detach_all,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_release,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Version", "s", property_get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("FilesystemTypes", "as", property_get_filesystem_types, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("MaxImagesPerUser", "u", property_get_limit, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("MaxRequestsPerUser", "u", property_get_limit, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};
