/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What automounts have in the user's folder for units, below ~/.config: a link for each that
 * is enabled, which the service manager makes, and the drop-in files, which are ours.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "automount.h"
#include "base/text.h"

#define DROP_IN "50-loopmount.conf"
#define WANTS "default.target.wants"

static char *unit_folder(void)
{
        const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

        if (config && config[0] == '/')
                return text_printf("%s/systemd/user", config);
        return home ? text_printf("%s/.config/systemd/user", home) : NULL;
}

static char *drop_in_path(const char *unit)
{
        _cleanup_free_ char *folder = unit_folder();

        return folder ? text_printf("%s/%s.d/" DROP_IN, folder, unit) : NULL;
}

/* ---- Drop-ins ---- */

static int make_folders(char *path)
{
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = 0;
                if (mkdir(path, 0755) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        return 0;
}

/* With its folder, unless there is another one of the user's own. */
static void remove_drop_in(char *path)
{
        (void)unlink(path);
        *strrchr(path, '/') = 0;
        (void)rmdir(path);
}

static int write_file(const char *path, const char *text)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        if (fd < 0)
                return -errno;
        return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : errno_or_else(ENOSPC);
}

/* Aside first: one that there is stays as it is if the disk is full. */
static int replace_drop_in(char *path, const char *text)
{
        _cleanup_free_ char *aside = text_printf("%s.new", path);
        int r = aside ? make_folders(path) : -ENOMEM;

        if (r >= 0)
                r = write_file(aside, text);
        if (r >= 0 && rename(aside, path) < 0)
                r = -errno;
        if (r < 0 && aside)
                remove_drop_in(aside);
        return r;
}

int automount_drop_in_write(const char *unit, const char *text)
{
        _cleanup_free_ char *path = drop_in_path(unit);

        if (!path)
                return -ENOMEM;
        if (text)
                return replace_drop_in(path, text);
        remove_drop_in(path);
        return 0;
}

int automount_drop_in_read(const char *unit, char **ret)
{
        _cleanup_free_ char *path = drop_in_path(unit), *text = NULL;
        size_t size = 0;
        FILE *f;

        if (!path)
                return -ENOMEM;
        f = fopen(path, "re");
        if (!f)
                return errno == ENOENT ? 0 : -errno;
        errno = 0;
        if (getdelim(&text, &size, 0, f) >= 0)
                *ret = TAKE_PTR(text);
        fclose(f);
        return *ret ? 0 : errno_or_else(ENODATA);
}

/* ---- Links ---- */

bool automount_is_enabled(const char *unit)
{
        _cleanup_free_ char *folder = unit_folder(),
                            *link = folder ? text_printf("%s/" WANTS "/%s", folder, unit) : NULL;

        return link && faccessat(AT_FDCWD, link, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

static int is_automount(const struct dirent *entry)
{
        size_t n = strlen(entry->d_name);

        return n > strlen(AUTOMOUNT_PREFIX AUTOMOUNT_SUFFIX) &&
               strncmp(entry->d_name, AUTOMOUNT_PREFIX, strlen(AUTOMOUNT_PREFIX)) == 0 &&
               streq(entry->d_name + n - strlen(AUTOMOUNT_SUFFIX), AUTOMOUNT_SUFFIX);
}

char **automount_find_enabled(void)
{
        _cleanup_free_ char *folder = unit_folder(), *wants = folder ? text_printf("%s/" WANTS, folder) : NULL;
        struct dirent **entries = NULL;
        int n = wants ? scandir(wants, &entries, is_automount, alphasort) : -1;
        char **units = calloc((size_t)MAX(n, 0) + 1, sizeof(char *));

        for (int i = 0; i < n; i++) {
                if (units)
                        units[i] = strdup(entries[i]->d_name);
                free(entries[i]);
        }
        free(entries);
        return units;
}
