/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of settings: a zero byte ends the main file and begins a drop-in. Whatever
 * is in them, the configuration can be used.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/text.h"
#include "fuzz.h"
#include "mechanism/config.h"

static char folder[] = "/dev/shm/fuzz-config.XXXXXX";
static char main_path[64], drop_in_folder[64], drop_in_path[64];

static void remove_files(void)
{
        (void)unlink(main_path);
        (void)unlink(drop_in_path);
        (void)rmdir(drop_in_folder);
        (void)rmdir(folder);
}

static void make_folders(void)
{
        CHECK(mkdtemp(folder));
        snprintf(main_path, sizeof(main_path), "%s/loopmount.conf", folder);
        snprintf(drop_in_folder, sizeof(drop_in_folder), "%s/loopmount.conf.d", folder);
        snprintf(drop_in_path, sizeof(drop_in_path), "%s/a.conf", drop_in_folder);
        CHECK(mkdir(drop_in_folder, 0700) == 0);
        CHECK(atexit(remove_files) == 0);
}

static void write_file(const char *path, const uint8_t *data, size_t size)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
}

/* They go to the journal. */
static void check_complaint(const char *file, unsigned line, const char *message, void *userdata)
{
        size_t *n = userdata;

        (void)line;
        CHECK(file && message && *message);
        for (size_t left = strlen(message), length; left > 0; message += length, left -= length) {
                uint32_t c;

                length = text_decode(message, left, &c);
                CHECK(length > 0 && (!text_is_control(c) || c == '\t'));
        }
        (*n)++;
}

static void check_limits(const Config *config)
{
        CHECK(config->max_images_per_user >= 1 && config->max_images_per_user <= 65536);
        CHECK(config->max_requests_per_user >= 1 && config->max_requests_per_user <= 65536);
        CHECK(config->max_volumes_per_image >= 1 && config->max_volumes_per_image <= 128);
        CHECK(config->job_timeout_usec >= USEC_PER_SEC && config->job_timeout_usec <= 24 * 3600 * USEC_PER_SEC);
        CHECK(config->idle_timeout_usec <= 24 * 3600 * USEC_PER_SEC);
}

static void check_root(const char *root)
{
        CHECK(root && root[0] == '/' && root[1] && root[strlen(root) - 1] != '/');
        CHECK(!strstr(root, "//") && !strstr(root, "/./") && !strstr(root, "/../"));
        CHECK(strlen(root) < 3 || !streq(root + strlen(root) - 3, "/.."));
        CHECK(!streq(root + strlen(root) - 2, "/."));
}

/* It may be one that nobody knows. */
static void check_type(const char *type)
{
        CHECK(*type && strlen(type) < 64 && !strpbrk(type, " \t/=[]\\\""));
}

static void check_config(const Config *config)
{
        check_limits(config);
        check_root(config->root);
        CHECK(config->filesystems);
        for (char **type = config->filesystems; *type; type++) {
                check_type(*type);
                CHECK(config_allows_filesystem(config, *type));
        }
        for (size_t i = 0; i < config->n_per_type; i++) {
                const char *options = config->per_type[i].options;

                check_type(config->per_type[i].type);
                CHECK(!options || (*options && !strpbrk(options, " \t\r\n")));
                for (size_t j = 0; j < i; j++)
                        CHECK(!streq(config->per_type[i].type, config->per_type[j].type));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *const folders[] = { folder, NULL };
        const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
        _cleanup_(config_freep) Config *config = NULL;
        size_t n_complaints = 0, main_size = end ? (size_t)(end - data) : size;

        if (!main_path[0])
                make_folders();
        write_file(main_path, data, main_size);
        write_file(drop_in_path, end ? end + 1 : NULL, end ? size - main_size - 1 : 0);
        CHECK(config_load(folders, check_complaint, &n_complaints, &config) == 0);
        check_config(config);
        return 0;
}
