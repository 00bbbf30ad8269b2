/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the lines of loopmount.conf mean; base/config-file.c finds and reads them.
 * A table says what each key is; a bad value is complained of and changes
 * nothing. An empty one brings the default back, as if nothing had been said.
 *
 * Invariant: whatever is wrong with the files, config_load() gives a usable
 * configuration. Reads local files only.
 */
#include <stdarg.h>
#include <strings.h>

#include "base/config-file.h"
#include "base/text.h"
#include "mechanism/config.h"

#define WHITESPACE " \t"
#define USEC_PER_HOUR (UINT64_C(3600) * USEC_PER_SEC)

static const char *const default_filesystems[] = { "iso9660", "udf",      "vfat",  "exfat", "ntfs",  "ext2", "ext3",
                                                   "ext4",    "squashfs", "erofs", "xfs",   "btrfs", "f2fs", NULL };

/* The configuration that is being put together, and the line that it is at. */
typedef struct Parser {
        Config *config;
        ConfigComplaint complain;
        void *userdata;
        const char *file;
        unsigned line;
} Parser;

typedef struct Setting {
        const char *section;
        const char *key;
        int (*assign)(Parser *parser, const struct Setting *setting, void *value, const char *text);
        size_t offset; /* of the value in Config */
        uint64_t preset, minimum, maximum;
} Setting;

static void complain(const Parser *parser, const char *format, ...) _printf_(2, 3);
static void complain(const Parser *parser, const char *format, ...)
{
        _cleanup_free_ char *message = NULL;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&message, format, arguments) < 0)
                message = NULL;
        va_end(arguments);

        if (parser->complain)
                parser->complain(parser->file, parser->line, message ? message : "Out of memory", parser->userdata);
}

/* The value parsers: -EINVAL with a complaint already made, or -ENOMEM. An empty @text means the default. */

static int refuse(const Parser *parser, const char *key, const char *text, const char *reason)
{
        complain(parser, "%s=%s: %s, ignoring it", key, text, reason);
        return -EINVAL;
}

static int assign_unsigned(Parser *parser, const Setting *setting, void *value, const char *text)
{
        uint64_t number = setting->preset;

        if (*text && (text_parse_uint(text, setting->maximum, &number) < 0 || number < setting->minimum)) {
                char wanted[80];

                snprintf(wanted, sizeof(wanted), "not a number from %u to %u", (unsigned)setting->minimum,
                         (unsigned)setting->maximum);
                return refuse(parser, setting->key, text, wanted);
        }
        *(unsigned *)value = (unsigned)number;
        return 0;
}

static int assign_bool(Parser *parser, const Setting *setting, void *value, const char *text)
{
        static const char *const yes[] = { "1", "yes", "y", "true", "t", "on" };
        static const char *const no[] = { "0", "no", "n", "false", "f", "off" };

        if (*text == '\0') {
                *(bool *)value = setting->preset;
                return 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(yes); i++)
                if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
                        *(bool *)value = strcasecmp(text, yes[i]) == 0;
                        return 0;
                }
        return refuse(parser, setting->key, text, "neither yes nor no");
}

static int parse_time_unit(const char *name, size_t length, uint64_t *ret_usec)
{
        static const struct {
                const char *name;
                uint64_t usec;
        } units[] = {
                { "", USEC_PER_SEC },
                { "s", USEC_PER_SEC },
                { "sec", USEC_PER_SEC },
                { "second", USEC_PER_SEC },
                { "seconds", USEC_PER_SEC },
                { "ms", USEC_PER_MSEC },
                { "msec", USEC_PER_MSEC },
                { "m", 60 * USEC_PER_SEC },
                { "min", 60 * USEC_PER_SEC },
                { "minute", 60 * USEC_PER_SEC },
                { "minutes", 60 * USEC_PER_SEC },
                { "h", USEC_PER_HOUR },
                { "hr", USEC_PER_HOUR },
                { "hour", USEC_PER_HOUR },
                { "hours", USEC_PER_HOUR },
        };

        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (strlen(units[i].name) == length && memcmp(units[i].name, name, length) == 0) {
                        *ret_usec = units[i].usec;
                        return 0;
                }
        return -EINVAL;
}

/* "30", "30s", "1min 30s": whole numbers with a unit each, added up. */
static int parse_time(const char *text, uint64_t *ret_usec)
{
        uint64_t total = 0;

        for (const char *p = text; *p; p += strspn(p, WHITESPACE)) {
                size_t digits = strspn(p, "0123456789"), letters;
                _cleanup_free_ char *number = strndup(p, digits);
                uint64_t count, unit;

                if (!number)
                        return -ENOMEM;
                p += digits + strspn(p + digits, " \t");
                letters = strcspn(p, WHITESPACE "0123456789");
                if (text_parse_uint(number, UINT64_MAX, &count) < 0 || parse_time_unit(p, letters, &unit) < 0 ||
                    __builtin_mul_overflow(count, unit, &count) || __builtin_add_overflow(total, count, &total))
                        return -EINVAL;
                p += letters;
        }
        *ret_usec = total;
        return 0;
}

static int assign_time(Parser *parser, const Setting *setting, void *value, const char *text)
{
        uint64_t usec = setting->preset;

        if (*text) {
                int r = parse_time(text, &usec);

                if (r == -ENOMEM)
                        return r;
                if (r < 0 || usec < setting->minimum || usec > setting->maximum)
                        return refuse(parser, setting->key, text,
                                      setting->minimum > 0 ? "not a time from 1s to 24h" : "not a time of up to 24h");
        }
        *(uint64_t *)value = usec;
        return 0;
}

/* A copy without doubled and trailing slashes; NULL in *ret if it is no such path. */
static int normalise_path(const char *path, char **ret)
{
        _cleanup_free_ char *normalised = malloc(strlen(path) + 2);
        char *out = normalised;

        if (!normalised)
                return -ENOMEM;
        *ret = NULL;
        if (*path != '/')
                return 0;

        for (const char *p = path + strspn(path, "/"); *p; p += strspn(p, "/")) {
                size_t n = strcspn(p, "/");

                if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.') || n > 255)
                        return 0;
                *out++ = '/';
                out = mempcpy(out, p, n);
                p += n;
        }
        *out = '\0';
        if (out > normalised && strlen(normalised) < 1024)
                *ret = TAKE_PTR(normalised);
        return 0;
}

static int assign_path(Parser *parser, const Setting *setting, void *value, const char *text)
{
        char *path;
        int r;

        r = normalise_path(*text ? text : "/run/media", &path);
        if (r < 0)
                return r;
        if (!path)
                return refuse(parser, setting->key, text, "not an absolute path of a folder, without \"..\"");

        free(*(char **)value);
        *(char **)value = path;
        return 0;
}

static char **list_free(char **list)
{
        for (char **p = list; p && *p; p++)
                free(*p);
        free(list);
        return NULL;
}

static bool list_has(char *const *list, const char *word)
{
        for (; list && *list; list++)
                if (streq(*list, word))
                        return true;
        return false;
}

static int list_append(char ***list, const char *word, size_t length)
{
        _cleanup_free_ char *copy = strndup(word, length);
        char **longer;
        size_t n = 0;

        if (!copy)
                return -ENOMEM;
        if (list_has(*list, copy))
                return 0;

        while (*list && (*list)[n])
                n++;
        longer = reallocarray(*list, n + 2, sizeof(char *));
        if (!longer)
                return -ENOMEM;
        longer[n] = TAKE_PTR(copy);
        longer[n + 1] = NULL;
        *list = longer;
        return 0;
}

static bool is_type_name(const char *name, size_t length)
{
        size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

        return length > 0 && n >= length && length < 64;
}

/* The default is put in place at the end, where nothing was assigned: so the first assignment does not add to it. */
static int assign_types(Parser *parser, const Setting *setting, void *value, const char *text)
{
        char ***list = value;

        if (*text == '\0')
                *list = list_free(*list);

        for (const char *p = text; *p; p += strspn(p, WHITESPACE)) {
                size_t n = strcspn(p, WHITESPACE);
                int r;

                if (is_type_name(p, n)) {
                        r = list_append(list, p, n);
                        if (r < 0)
                                return r;
                } else
                        complain(parser, "%s=: \"%.*s\" is not the name of a file system type, ignoring it",
                                 setting->key, (int)n, p);
                p += n;
        }
        return 0;
}

#define LIMITS(key, member, preset, maximum)                                                                           \
        { "Limits", key, assign_unsigned, offsetof(Config, member), preset, 1, maximum }
#define TIME(key, member, minimum)                                                                                     \
        { "Limits", key, assign_time, offsetof(Config, member), 30 * USEC_PER_SEC, minimum, 24 * USEC_PER_HOUR }
#define SWITCH(key, member, preset) { "Mount", key, assign_bool, offsetof(Config, member), preset, 0, 0 }

static const Setting settings[] = {
        LIMITS("MaxImagesPerUser", max_images_per_user, 64, 65536),
        LIMITS("MaxRequestsPerUser", max_requests_per_user, 64, 65536),
        LIMITS("MaxVolumesPerImage", max_volumes_per_image, 128, 128),
        TIME("JobTimeoutSec", job_timeout_usec, USEC_PER_SEC),
        TIME("IdleTimeoutSec", idle_timeout_usec, 0),
        { "Mount", "Root", assign_path, offsetof(Config, root), 0, 0, 0 },
        { "Mount", "FileSystems", assign_types, offsetof(Config, filesystems), 0, 0, 0 },
        SWITCH("AllowWritable", allow_writable, true),
        SWITCH("AllowExec", allow_exec, true),
};

static int assign_setting(Parser *parser, const char *section, const char *key, const char *text)
{
        for (size_t i = 0; i < ELEMENTSOF(settings); i++)
                if (streq(settings[i].section, section) && streq(settings[i].key, key))
                        return settings[i].assign(parser, settings + i, (char *)parser->config + settings[i].offset,
                                                  text);

        complain(parser, "Unknown key %s= in section [%s], ignoring it", key, section);
        return 0;
}

static int get_filesystem(Config *config, const char *type, ConfigFilesystem **ret)
{
        _cleanup_free_ char *copy = NULL;
        ConfigFilesystem *longer;

        for (size_t i = 0; i < config->n_per_type; i++)
                if (streq(config->per_type[i].type, type)) {
                        *ret = config->per_type + i;
                        return 0;
                }

        copy = strdup(type);
        longer = reallocarray(config->per_type, config->n_per_type + 1, sizeof(ConfigFilesystem));
        if (longer)
                config->per_type = longer;
        if (!longer || !copy)
                return -ENOMEM;

        *ret = longer + config->n_per_type++;
        **ret = (ConfigFilesystem){ .type = TAKE_PTR(copy) };
        return 0;
}

/* What is behind "FileSystem " in the name of a section, NULL if it is another section. */
static const char *section_type(const char *section)
{
        static const char prefix[] = "FileSystem ";
        const char *type;

        if (strncmp(section, prefix, strlen(prefix)) != 0)
                return NULL;
        type = section + strlen(prefix);
        return is_type_name(type, strlen(type)) ? type : NULL;
}

static int assign_options(Parser *parser, const char *type, const char *key, const char *text)
{
        ConfigFilesystem *filesystem;
        char *options = NULL;
        int r;

        if (!streq(key, "Options")) {
                complain(parser, "Unknown key %s= in section [FileSystem %s], ignoring it", key, type);
                return 0;
        }
        if (text[strcspn(text, WHITESPACE)] != '\0')
                return refuse(parser, key, text, "white space between options");

        r = get_filesystem(parser->config, type, &filesystem);
        if (r < 0)
                return r;
        if (*text) {
                options = text_printf("%s%s%s", strempty(filesystem->options), filesystem->options ? "," : "", text);
                if (!options)
                        return -ENOMEM;
        }
        free(filesystem->options);
        filesystem->options = options;
        return 0;
}

static bool is_known_section(const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(settings); i++)
                if (streq(settings[i].section, name))
                        return true;
        return section_type(name) != NULL;
}

static int on_line(const char *file, unsigned line, const char *section, const char *key, const char *value,
                   void *userdata)
{
        Parser *parser = userdata;
        const char *type = section_type(section);
        int r;

        parser->file = file;
        parser->line = line;

        if (!is_known_section(section)) {
                if (!key && strncmp(section, "X-", 2) != 0) /* by convention those are for others */
                        complain(parser, "Unknown section [%s], ignoring it", section);
                return 0;
        }
        if (!key)
                return 0;

        r = type ? assign_options(parser, type, key, value) : assign_setting(parser, section, key, value);
        return r == -EINVAL ? 0 : r;
}

static void on_complaint(const char *file, unsigned line, const char *message, void *userdata)
{
        Parser *parser = userdata;

        if (parser->complain)
                parser->complain(file, line, message, parser->userdata);
}

int config_load(const char *const *folders, ConfigComplaint complaint, void *userdata, Config **ret)
{
        _cleanup_(config_freep) Config *config = calloc(1, sizeof(Config));
        Parser parser = { .config = config, .complain = complaint, .userdata = userdata };
        int r = 0;

        if (!config)
                return -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(settings) && r >= 0; i++)
                r = settings[i].assign(&parser, settings + i, (char *)config + settings[i].offset, "");
        if (r >= 0)
                r = config_file_read(folders, "loopmount.conf", on_line, on_complaint, &parser);
        if (r < 0)
                return r;

        for (size_t i = 0, set = config->filesystems != NULL; !set && default_filesystems[i]; i++) {
                r = list_append(&config->filesystems, default_filesystems[i], strlen(default_filesystems[i]));
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(config);
        return 0;
}

Config *config_free(Config *config)
{
        if (!config)
                return NULL;

        for (size_t i = 0; i < config->n_per_type; i++) {
                free(config->per_type[i].type);
                free(config->per_type[i].options);
        }
        free(config->per_type);
        list_free(config->filesystems);
        free(config->root);
        free(config);
        return NULL;
}

bool config_allows_filesystem(const Config *config, const char *type)
{
        return list_has(config->filesystems, type);
}

const char *config_filesystem_options(const Config *config, const char *type)
{
        for (size_t i = 0; i < config->n_per_type; i++)
                if (streq(config->per_type[i].type, type))
                        return config->per_type[i].options;
        return NULL;
}
