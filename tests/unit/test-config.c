/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <glib.h>
#include <sys/stat.h>

#include "mechanism/config.h"

typedef struct Fixture {
        char *top;
        char *folders[4 + 1]; /* TOP/etc, TOP/run ...: the most important one first */
        GString *complaints;  /* "NAME:LINE\n" each */
        GString *messages;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
        static const char *const names[] = { "etc", "run", "usr/local/lib", "usr/lib" };

        (void)data;
        f->top = g_dir_make_tmp("loopmount-XXXXXX", NULL);
        g_assert_nonnull(f->top);
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                f->folders[i] = g_build_filename(f->top, names[i], NULL);
        f->complaints = g_string_new("");
        f->messages = g_string_new("");
}

static void tear_down(Fixture *f, gconstpointer data)
{
        g_autofree char *command = g_strdup_printf("rm -rf '%s'", f->top);

        (void)data;
        g_assert_cmpint(system(command), ==, 0);
        g_free(f->top);
        for (size_t i = 0; f->folders[i]; i++)
                g_free(f->folders[i]);
        g_string_free(f->complaints, TRUE);
        g_string_free(f->messages, TRUE);
}

static char *make_path(const Fixture *f, const char *name)
{
        g_autofree char *path = g_build_filename(f->top, name, NULL), *folder = g_path_get_dirname(path);

        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
        return g_steal_pointer(&path);
}

static void write_bytes(const Fixture *f, const char *name, const char *text, ssize_t n)
{
        g_autofree char *path = make_path(f, name);

        g_assert_true(g_file_set_contents(path, text, n, NULL));
}

static void write_text(const Fixture *f, const char *name, const char *text)
{
        write_bytes(f, name, text, -1);
}

static void write_link(const Fixture *f, const char *name, const char *target)
{
        g_autofree char *path = make_path(f, name);

        g_assert_cmpint(symlink(target, path), ==, 0);
}

static void note(const char *file, unsigned line, const char *message, void *userdata)
{
        Fixture *f = userdata;

        g_assert_true(g_str_has_prefix(file, f->top));
        g_assert_true(g_utf8_validate(message, -1, NULL));
        g_string_append_printf(f->complaints, "%s:%u\n", file + strlen(f->top) + 1, line);
        g_string_append_printf(f->messages, "%s\n", message);
}

static Config *load(Fixture *f)
{
        Config *config = NULL;

        g_string_truncate(f->complaints, 0);
        g_string_truncate(f->messages, 0);
        g_assert_cmpint(config_load((const char *const *)f->folders, note, f, &config), ==, 0);
        g_assert_nonnull(config);
        return config;
}

static void assert_list(char *const *list, const char *wanted)
{
        g_autofree char *text = g_strjoinv(" ", (char **)list);

        g_assert_cmpstr(text, ==, wanted);
}

static void assert_defaults(const Config *config)
{
        g_assert_cmpuint(config->max_images_per_user, ==, 64);
        g_assert_cmpuint(config->max_requests_per_user, ==, 64);
        g_assert_cmpuint(config->max_volumes_per_image, ==, 128);
        g_assert_cmpuint(config->job_timeout_usec, ==, 30 * USEC_PER_SEC);
        g_assert_cmpuint(config->idle_timeout_usec, ==, 30 * USEC_PER_SEC);
        g_assert_cmpstr(config->root, ==, "/run/media");
        assert_list(config->filesystems, "iso9660 udf vfat exfat ntfs ext2 ext3 ext4 squashfs erofs xfs btrfs f2fs");
        g_assert_true(config->allow_writable);
        g_assert_true(config->allow_exec);
        g_assert_cmpuint(config->n_per_type, ==, 0);
}

static void test_none(Fixture *f, gconstpointer data)
{
        _cleanup_(config_freep) Config *config = load(f);

        (void)data;
        assert_defaults(config);
        g_assert_cmpstr(f->complaints->str, ==, "");
        g_assert_true(config_allows_filesystem(config, "ext4"));
        g_assert_false(config_allows_filesystem(config, "nfs"));
        g_assert_null(config_filesystem_options(config, "ext4"));
}

static void test_all(Fixture *f, gconstpointer data)
{
        _cleanup_(config_freep) Config *config = NULL;

        (void)data;
        write_text(f, "etc/loopmount.conf",
                   "# comment\n; another\n\n[Limits]\nMaxImagesPerUser=1\n  MaxRequestsPerUser =  2  \n"
                   "MaxVolumesPerImage=3\nJobTimeoutSec=1min 30s\nIdleTimeoutSec=0\r\n"
                   "[Mount]\nRoot=//srv///images/\nFileSystems=ext4 vfat\nFileSystems=\txfs   ext4\n"
                   "AllowWritable=no\nAllowExec=Off\n"
                   "[FileSystem vfat]\nOptions=uid=$UID,flush\nOptions=quiet\n[X-Other]\nAnything=1\n"
                   "[FileSystem vfat]\nOptions=showexec");
        config = load(f);
        g_assert_cmpstr(f->messages->str, ==, "");
        g_assert_cmpuint(config->max_images_per_user, ==, 1);
        g_assert_cmpuint(config->max_requests_per_user, ==, 2);
        g_assert_cmpuint(config->max_volumes_per_image, ==, 3);
        g_assert_cmpuint(config->job_timeout_usec, ==, 90 * USEC_PER_SEC);
        g_assert_cmpuint(config->idle_timeout_usec, ==, 0);
        g_assert_cmpstr(config->root, ==, "/srv/images");
        assert_list(config->filesystems, "ext4 vfat xfs");
        g_assert_false(config_allows_filesystem(config, "ntfs"));
        g_assert_false(config->allow_writable);
        g_assert_false(config->allow_exec);
        g_assert_cmpstr(config_filesystem_options(config, "vfat"), ==, "uid=$UID,flush,quiet,showexec");
        g_assert_null(config_filesystem_options(config, "ext4"));
}

/* The first main file alone; all drop-ins, by name, over it. */
static void test_folders(Fixture *f, gconstpointer data)
{
        _cleanup_(config_freep) Config *config = NULL;

        (void)data;
        write_text(f, "usr/lib/loopmount.conf", "[Limits]\nMaxImagesPerUser=9\nMaxRequestsPerUser=9\n");
        write_text(f, "run/loopmount.conf", "[Limits]\nMaxImagesPerUser=5\n");
        write_text(f, "etc/loopmount.conf.d/20.conf", "[Limits]\nMaxVolumesPerImage=20\n");
        write_text(f, "usr/local/lib/loopmount.conf.d/30.conf",
                   "[Limits]\nMaxVolumesPerImage=30\n[Mount]\nFileSystems=xfs\n");
        write_text(f, "usr/lib/loopmount.conf.d/10.conf",
                   "[Limits]\nMaxVolumesPerImage=10\n[Mount]\nFileSystems=ext4\n");
        write_text(f, "run/loopmount.conf.d/20.conf", "[Limits]\nMaxImagesPerUser=77\n"); /* hidden by etc's */
        write_text(f, "etc/loopmount.conf.d/.hidden.conf", "[Limits]\nMaxVolumesPerImage=99\n");
        write_text(f, "etc/loopmount.conf.d/99.conf.bak", "[Limits]\nMaxVolumesPerImage=99\n");
        write_text(f, "etc/loopmount.conf.d/99.conf~", "[Limits]\nMaxVolumesPerImage=99\n");
        write_text(f, "etc/loopmount.conf.d/99.conf/x.conf", "[Limits]\nMaxVolumesPerImage=99\n");
        config = load(f);
        g_assert_cmpstr(f->messages->str, ==, "");
        g_assert_cmpuint(config->max_images_per_user, ==, 5);
        g_assert_cmpuint(config->max_requests_per_user, ==, 64);
        g_assert_cmpuint(config->max_volumes_per_image, ==, 30);
        assert_list(config->filesystems, "ext4 xfs");
}

static void test_masks(Fixture *f, gconstpointer data)
{
        _cleanup_(config_freep) Config *config = NULL, *again = NULL;

        (void)data;
        write_text(f, "usr/lib/loopmount.conf", "[Limits]\nMaxImagesPerUser=9\n");
        write_text(f, "usr/lib/loopmount.conf.d/10.conf", "[Limits]\nMaxRequestsPerUser=9\n");
        write_text(f, "usr/lib/loopmount.conf.d/20.conf", "[Limits]\nMaxVolumesPerImage=9\n");
        write_text(f, "usr/lib/loopmount.conf.d/30.conf", "[Mount]\nAllowExec=no\n");
        config = load(f);
        g_assert_cmpuint(config->max_images_per_user, ==, 9);
        g_assert_cmpuint(config->max_requests_per_user, ==, 9);
        g_assert_cmpuint(config->max_volumes_per_image, ==, 9);

        write_link(f, "etc/loopmount.conf", "/dev/null");
        write_link(f, "etc/loopmount.conf.d/10.conf", "/dev/null");
        write_text(f, "run/loopmount.conf.d/20.conf", "");
        write_link(f, "etc/loopmount.conf.d/30.conf", "nowhere"); /* hides nothing */
        again = load(f);
        g_assert_cmpstr(f->messages->str, ==, "");
        g_assert_cmpuint(again->max_images_per_user, ==, 64);
        g_assert_cmpuint(again->max_requests_per_user, ==, 64);
        g_assert_cmpuint(again->max_volumes_per_image, ==, 128);
        g_assert_false(again->allow_exec);
}

static void test_reset(Fixture *f, gconstpointer data)
{
        _cleanup_(config_freep) Config *config = NULL;

        (void)data;
        write_text(f, "usr/lib/loopmount.conf",
                   "[Limits]\nMaxImagesPerUser=9\nJobTimeoutSec=9\n[Mount]\nRoot=/a\nAllowExec=no\nFileSystems=nfs\n"
                   "[FileSystem ext4]\nOptions=noatime\n[FileSystem xfs]\nOptions=a\n");
        write_text(f, "etc/loopmount.conf.d/a.conf",
                   "[Limits]\nMaxImagesPerUser=\nJobTimeoutSec=\n[Mount]\nRoot=\nAllowExec=\nFileSystems=\n"
                   "[FileSystem ext4]\nOptions=\n[FileSystem xfs]\nOptions=\nOptions=b\n");
        config = load(f);
        g_assert_cmpstr(f->messages->str, ==, "");
        g_assert_null(config_filesystem_options(config, "ext4"));
        g_assert_cmpstr(config_filesystem_options(config, "xfs"), ==, "b");
        config->n_per_type = 0;
        assert_defaults(config);
        config->n_per_type = 2;
}

static void test_bad_values(Fixture *f, gconstpointer data)
{
        static const struct {
                unsigned line; /* that is complained of: a section's header is, not what follows it */
                const char *text;
        } cases[] = {
                { 2, "[Limits]\nMaxImagesPerUser=0" },
                { 2, "[Limits]\nMaxImagesPerUser=-1" },
                { 2, "[Limits]\nMaxImagesPerUser=65537" },
                { 2, "[Limits]\nMaxImagesPerUser=18446744073709551617" },
                { 2, "[Limits]\nMaxImagesPerUser=1 2" },
                { 2, "[Limits]\nMaxImagesPerUser=0x10" },
                { 2, "[Limits]\nMaxVolumesPerImage=4097" },
                { 2, "[Limits]\nJobTimeoutSec=infinity" },
                { 2, "[Limits]\nJobTimeoutSec=0" },
                { 2, "[Limits]\nJobTimeoutSec=999ms" },
                { 2, "[Limits]\nJobTimeoutSec=25h" },
                { 2, "[Limits]\nJobTimeoutSec=1.5s" },
                { 2, "[Limits]\nJobTimeoutSec=-1s" },
                { 2, "[Limits]\nJobTimeoutSec=s" },
                { 2, "[Limits]\nJobTimeoutSec=30 fortnights" },
                { 2, "[Limits]\nJobTimeoutSec=18446744073709551615h" },
                { 2, "[Limits]\nIdleTimeoutSec=18446744073709551615s 1s" },
                { 2, "[Limits]\nmaximagesperuser=1" },
                { 2, "[Limits]\nAllowExec=no" },
                { 2, "[Limits]\nRoot=/x" },
                { 2, "[Limits]\njust text" },
                { 2, "[Limits]\n=1" },
                { 2, "[Mount]\nRoot=relative" },
                { 2, "[Mount]\nRoot=/" },
                { 2, "[Mount]\nRoot=///" },
                { 2, "[Mount]\nRoot=/a/../b" },
                { 2, "[Mount]\nRoot=/a/./b" },
                { 2, "[Mount]\nAllowExec=maybe" },
                { 2, "[Mount]\nAllowExec=2" },
                { 2, "[Mount]\nFileSystems=/x" },
                { 2, "[Mount]\nFileSystems=a\"b" },
                { 2, "[Mount]\nOptions=ro" },
                { 2, "[FileSystem ext4]\nOptions=ro, noatime" },
                { 2, "[FileSystem ext4]\nFoo=bar" },
                { 1, "[Nonsense]\nA=1\nB=2" },
                { 1, "[FileSystem]\nOptions=ro" },
                { 1, "[FileSystem ]\nOptions=ro" },
                { 1, "[FileSystem a b]\nOptions=ro" },
                { 1, "[]\nA=1" },
                { 1, "[Limits\nMaxImagesPerUser=1" },
                { 1, "MaxImagesPerUser=1" },
                { 2, "[Limits]\nMax\x1bImages=1" },
                { 2, "[Limits]\nMaxImagesPerUser=\xff" },
                { 2, "[Mount]\nRoot=/a\xe2\x80\xae"
                     "b" },
        };

        (void)data;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                g_autofree char *wanted = g_strdup_printf("etc/loopmount.conf:%u\n", cases[i].line);
                g_autofree char *shown = g_strescape(cases[i].text, NULL);
                _cleanup_(config_freep) Config *config = NULL;

                write_text(f, "etc/loopmount.conf", cases[i].text);
                config = load(f);
                g_test_message("%s -> %s", shown, f->messages->str);
                g_assert_cmpstr(f->complaints->str, ==, wanted);
                assert_defaults(config);
        }
}

/* What is right in a file with a wrong line counts. */
static void test_goes_on(Fixture *f, gconstpointer data)
{
        _cleanup_(config_freep) Config *config = NULL;

        (void)data;
        write_text(f, "etc/loopmount.conf",
                   "[Limits]\nMaxImagesPerUser=x\nMaxRequestsPerUser=2\n[Bad]\nFoo=1\n[Mount]\nFileSystems=ext4 a/b "
                   "xfs\n");
        write_text(f, "etc/loopmount.conf.d/x.conf", "Lost=1\n[Mount]\nAllowExec=no\n");
        config = load(f);
        g_assert_cmpstr(f->complaints->str, ==,
                        "etc/loopmount.conf:2\netc/loopmount.conf:4\netc/loopmount.conf:7\n"
                        "etc/loopmount.conf.d/x.conf:1\n");
        g_assert_nonnull(strstr(f->messages->str, "MaxImagesPerUser=x: not a number from 1 to 65536"));
        g_assert_nonnull(strstr(f->messages->str, "\"a/b\""));
        g_assert_cmpuint(config->max_images_per_user, ==, 64);
        g_assert_cmpuint(config->max_requests_per_user, ==, 2);
        assert_list(config->filesystems, "ext4 xfs");
        g_assert_false(config->allow_exec);
}

static void test_continuation(Fixture *f, gconstpointer data)
{
        _cleanup_(config_freep) Config *config = NULL;

        (void)data;
        write_text(f, "etc/loopmount.conf",
                   "[Mount]\nFileSystems=ext4 \\\n# in between\n  xfs \\\n  "
                   "vfat\nAllowExec=\\\nperhaps\nAllowWritable=no\\");
        config = load(f);
        assert_list(config->filesystems, "ext4 xfs vfat");
        g_assert_cmpstr(f->complaints->str, ==, "etc/loopmount.conf:6\n"); /* where it begins */
        g_assert_false(config->allow_writable);
        g_assert_true(config->allow_exec);
}

static void test_hostile_files(Fixture *f, gconstpointer data)
{
        g_autofree char *fifo = make_path(f, "etc/loopmount.conf"), *big = g_strnfill(2 * 1024 * 1024, '#');
        _cleanup_(config_freep) Config *config = NULL, *second = NULL, *third = NULL;

        (void)data;
        g_assert_cmpint(mkfifo(fifo, 0600), ==, 0); /* must not wait for a writer */
        write_text(f, "etc/loopmount.conf.d/a.conf", big);
        write_bytes(f, "etc/loopmount.conf.d/b.conf", "[Limits]\nMaxImagesPerUser=1\nA\0=\nMaxImagesPerUser=2\n", 49);
        write_link(f, "etc/loopmount.conf.d/c.conf", "c.conf"); /* a loop */
        write_link(f, "etc/loopmount.conf.d/d.conf", "/dev/zero");
        config = load(f);
        g_assert_cmpstr(f->complaints->str, ==,
                        "etc/loopmount.conf:0\netc/loopmount.conf.d/a.conf:0\netc/loopmount.conf.d/b.conf:3\n"
                        "etc/loopmount.conf.d/d.conf:0\n");
        g_assert_cmpuint(config->max_images_per_user, ==, 1);

        /* A folder in place of the file, a file in place of the folder. */
        g_assert_cmpint(unlink(fifo), ==, 0);
        g_assert_cmpint(mkdir(fifo, 0755), ==, 0);
        write_text(f, "usr/lib/loopmount.conf.d", "[Limits]\nMaxImagesPerUser=9\n");
        second = load(f);
        g_assert_nonnull(strstr(f->complaints->str, "etc/loopmount.conf:0\n"));
        g_assert_nonnull(strstr(f->complaints->str, "usr/lib/loopmount.conf.d:0\n"));
        g_assert_cmpuint(second->max_images_per_user, ==, 1);

        g_assert_cmpint(config_load((const char *const[]){ NULL }, NULL, NULL, &third), ==, 0);
        assert_defaults(third);
}

/* Any bytes at all: nothing may crash, loop or be believed out of bounds. */
static void test_random(Fixture *f, gconstpointer data)
{
        static const char *const pieces[] = { "[Limits]", "[Mount]",     "[FileSystem ext4]",
                                              "\n",       "=",           "\\\n",
                                              "#",        ";",           "MaxImagesPerUser",
                                              "Options",  "FileSystems", "JobTimeoutSec",
                                              "9",        "s ",          "[",
                                              "]",        "\xc3",        "\xa4",
                                              " ",        "Root",        "/",
                                              "..",       "\x01",        "\r\n",
                                              "," };

        (void)data;
        for (unsigned round = 0; round < 300; round++) {
                g_autoptr(GString) text = g_string_new("");
                _cleanup_(config_freep) Config *config = NULL;

                for (int i = 0; i < 60; i++)
                        g_string_append(text, pieces[g_test_rand_int_range(0, ELEMENTSOF(pieces))]);
                write_bytes(f, "etc/loopmount.conf", text->str, (ssize_t)text->len);
                config = load(f);
                g_assert_cmpuint(config->max_images_per_user, >=, 1);
                g_assert_cmpuint(config->job_timeout_usec, >=, USEC_PER_SEC);
                g_assert_true(*config->root == '/' && config->root[1]);
        }
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add("/config/none", Fixture, NULL, set_up, test_none, tear_down);
        g_test_add("/config/all", Fixture, NULL, set_up, test_all, tear_down);
        g_test_add("/config/folders", Fixture, NULL, set_up, test_folders, tear_down);
        g_test_add("/config/masks", Fixture, NULL, set_up, test_masks, tear_down);
        g_test_add("/config/reset", Fixture, NULL, set_up, test_reset, tear_down);
        g_test_add("/config/bad-values", Fixture, NULL, set_up, test_bad_values, tear_down);
        g_test_add("/config/goes-on", Fixture, NULL, set_up, test_goes_on, tear_down);
        g_test_add("/config/continuation", Fixture, NULL, set_up, test_continuation, tear_down);
        g_test_add("/config/hostile-files", Fixture, NULL, set_up, test_hostile_files, tear_down);
        g_test_add("/config/random", Fixture, NULL, set_up, test_random, tear_down);
        return g_test_run();
}
