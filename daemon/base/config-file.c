/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The syntax of systemd.syntax(7) and the folders of systemd's own configuration
 * files, so that an administrator need not learn another set of rules.
 *
 * An own parser, because libeconf 0.5.1 (Debian 12) reads two folders where
 * there are four here, and does not tell in which line a value stood, which is
 * what one who has mistyped it needs to hear.
 *
 * Reads local files and nothing else; a pipe among them stops nobody. Each file
 * is opened once, and what was opened is what is checked.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/config-file.h"
#include "base/text.h"

#define FILE_BYTES_MAX INT64_C(1048576)
#define WHITESPACE " \t\r\n"

typedef struct Reader {
        ConfigFileAssign assign;
        ConfigFileComplaint complain;
        void *userdata;
        const char *file;
        unsigned line;
        char *section;       /* NULL before the first header, and behind a bad one */
        bool in_bad_section; /* that was complained of already */
} Reader;

static char *strip(char *s)
{
        size_t length;

        s += strspn(s, WHITESPACE);
        for (length = strlen(s); length > 0 && strchr(WHITESPACE, s[length - 1]); length--)
                ;
        s[length] = '\0';
        return s;
}

static void complain(const Reader *reader, unsigned line, const char *message)
{
        if (reader->complain)
                reader->complain(reader->file, line, message, reader->userdata);
}

static void complain_errno(const Reader *reader, int error)
{
        _cleanup_free_ char *message = text_printf("Cannot be read: %s", strerror(error));

        complain(reader, 0, message ? message : "Cannot be read");
}

/* What is passed on may end up in a log or a message. */
static bool is_clean(const char *line)
{
        uint32_t c;

        for (size_t left = strlen(line), n; left > 0; line += n, left -= n) {
                n = text_decode(line, left, &c);
                if (n == 0 || (text_is_control(c) && c != '\t'))
                        return false;
        }
        return true;
}

static int enter_section(Reader *reader, char *line)
{
        char *end = line + strlen(line) - 1;

        free(TAKE_PTR(reader->section));
        reader->in_bad_section = *end != ']';
        if (reader->in_bad_section) {
                complain(reader, reader->line, "Section header without \"]\", ignoring the section");
                return 0;
        }

        reader->section = strndup(line + 1, (size_t)(end - line - 1));
        if (!reader->section)
                return -ENOMEM;
        return reader->assign(reader->file, reader->line, reader->section, NULL, NULL, reader->userdata);
}

/* @line: with its continuations, without white space around it, not empty and not a comment. */
static int parse_line(Reader *reader, char *line)
{
        char *value;

        if (!is_clean(line)) {
                complain(reader, reader->line, "Line with control characters or invalid UTF-8, ignoring it");
                return 0;
        }
        if (*line == '[')
                return enter_section(reader, line);
        if (!reader->section) {
                if (!reader->in_bad_section)
                        complain(reader, reader->line, "Line outside of a section, ignoring it");
                return 0;
        }

        value = strchr(line, '=');
        if (!value || value == line) {
                complain(reader, reader->line, "Neither a section header nor KEY=VALUE, ignoring the line");
                return 0;
        }
        *value++ = '\0';
        return reader->assign(reader->file, reader->line, reader->section, strip(line), strip(value), reader->userdata);
}

static int append_text(char **text, const char *more)
{
        char *longer = text_printf("%s%s", strempty(*text), more);

        if (!longer)
                return -ENOMEM;
        free(*text);
        *text = longer;
        return 0;
}

/* Joins lines that end in a backslash (a space takes its place, comments in between go) and parses each result. */
static int parse_stream(Reader *reader, FILE *f)
{
        _cleanup_free_ char *buffer = NULL, *joined = NULL;
        unsigned number = 0;
        size_t allocated = 0;
        ssize_t n;
        int r;

        while ((n = getline(&buffer, &allocated, f)) >= 0) {
                char *line;
                bool more;

                number++;
                if (!joined)
                        reader->line = number;
                if (strlen(buffer) != (size_t)n) {
                        complain(reader, number, "Line with a NUL byte, ignoring the rest of the file");
                        break;
                }
                line = strip(buffer);
                if (*line == '#' || *line == ';' || (*line == '\0' && !joined))
                        continue;

                more = *line && line[strlen(line) - 1] == '\\';
                if (more)
                        line[strlen(line) - 1] = ' ';
                r = append_text(&joined, line);
                if (r < 0)
                        return r;
                if (more)
                        continue;

                r = *strip(joined) ? parse_line(reader, strip(joined)) : 0;
                free(TAKE_PTR(joined));
                if (r < 0)
                        return r;
        }
        return joined && *strip(joined) ? parse_line(reader, strip(joined)) : 0;
}

static int parse_file(Reader *reader, int fd)
{
        _cleanup_fclose_ FILE *f = NULL;
        struct stat st;

        f = fdopen(fd, "r");
        if (!f) {
                safe_close(fd);
                return -ENOMEM;
        }
        if (fstat(fd, &st) < 0) {
                complain_errno(reader, errno);
                return 0;
        }
        if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)) /* a link to /dev/null */
                return 0;
        if (!S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX) {
                complain(reader, 0, "Not a regular file of at most 1 MiB, ignoring it");
                return 0;
        }
        return parse_stream(reader, f);
}

/* Parses the file @name of the most important folder that has it. */
static int parse_first(Reader *reader, const char *const *folders, const char *name)
{
        for (; *folders; folders++) {
                _cleanup_free_ char *path = text_printf("%s/%s", *folders, name);
                int fd, r = 0;

                if (!path)
                        return -ENOMEM;

                /* O_NONBLOCK: opening a pipe would wait for its writer */
                fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
                if (fd < 0 && errno == ENOENT)
                        continue;

                reader->file = path;
                if (fd < 0)
                        complain_errno(reader, errno);
                else
                        r = parse_file(reader, fd);

                reader->file = NULL;
                reader->in_bad_section = false;
                free(TAKE_PTR(reader->section));
                return r;
        }
        return 0;
}

static void name_list_free(char **names)
{
        for (char **name = names; *name; name++)
                free(*name);
        free(names);
}
typedef char **NameList;
DEFINE_CLEANUP(NameList, name_list_free)

/* Adds @name unless it is there already. */
static int add_name(NameList *names, size_t *n_names, const char *name)
{
        NameList longer;

        for (size_t i = 0; i < *n_names; i++)
                if (streq((*names)[i], name))
                        return 0;

        longer = reallocarray(*names, *n_names + 2, sizeof(char *));
        if (!longer)
                return -ENOMEM;
        *names = longer;
        longer[*n_names] = strdup(name);
        longer[*n_names + 1] = NULL;
        return longer[(*n_names)++] ? 0 : -ENOMEM;
}

static bool is_drop_in(int folder_fd, const char *name)
{
        static const char suffix[] = ".conf";
        size_t length = strlen(name);
        struct stat st;

        if (*name == '.' || length <= strlen(suffix) || !streq(name + length - strlen(suffix), suffix))
                return false;
        return fstatat(folder_fd, name, &st, 0) >= 0 && !S_ISDIR(st.st_mode);
}

static void closedirp(DIR **dir)
{
        if (*dir)
                closedir(*dir);
}

static int collect_drop_ins(Reader *reader, const char *path, NameList *names, size_t *n_names)
{
        _cleanup_(closedirp) DIR *dir = opendir(path);
        struct dirent *entry;
        int r = 0;

        if (!dir) {
                reader->file = path;
                if (errno != ENOENT)
                        complain_errno(reader, errno);
                reader->file = NULL;
                return 0;
        }

        while (r >= 0 && (entry = readdir(dir)))
                if (is_drop_in(dirfd(dir), entry->d_name))
                        r = add_name(names, n_names, entry->d_name);
        return r;
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

int config_file_read(const char *const *folders, const char *name, ConfigFileAssign assign,
                     ConfigFileComplaint complaint, void *userdata)
{
        Reader reader = { .assign = assign, .complain = complaint, .userdata = userdata };
        _cleanup_(name_list_freep) NameList names = NULL;
        size_t n_names = 0;
        int r;

        r = parse_first(&reader, folders, name);
        for (const char *const *folder = folders; r >= 0 && *folder; folder++) {
                _cleanup_free_ char *path = text_printf("%s/%s.d", *folder, name);

                r = path ? collect_drop_ins(&reader, path, &names, &n_names) : -ENOMEM;
        }
        if (r >= 0 && n_names > 0)
                qsort(names, n_names, sizeof(char *), compare_names);

        for (size_t i = 0; r >= 0 && i < n_names; i++) {
                _cleanup_free_ char *drop_in = text_printf("%s.d/%s", name, names[i]);

                r = drop_in ? parse_first(&reader, folders, drop_in) : -ENOMEM;
        }
        return MIN(r, 0);
}
