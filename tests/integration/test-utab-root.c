/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Our lines in utab, and libmount's: each understands the other's and leaves them
 * alone. In the harness's own /run.
 */
#include <glib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mechanism/utab.h"

#define UTAB "/run/mount/utab"
#define OURS "/run/test-utab/my disk\\040\tof\n\303\244"
#define THEIRS "/run/test-utab/theirs"
#define OUR_DISK "our disk"
#define THEIR_DISK "their disk"
#define OUR_TRIGGER "our trigger"

static void run(const char *const *argv)
{
        g_autoptr(GError) error = NULL;
        int status;

        g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, &error);
        g_assert_no_error(error);
        g_spawn_check_wait_status(status, &error);
        g_assert_no_error(error);
}

static char *read_utab(void)
{
        char *text;

        return g_file_get_contents(UTAB, &text, NULL, NULL) ? text : g_strdup("");
}

/* What mount(8) says of the mount with that source, by libmount. */
static char *read_options(const char *source)
{
        const char *const argv[] = { "mount", "-t", "tmpfs", NULL };
        g_autoptr(GError) error = NULL;
        g_autofree char *output = NULL;
        char **line;

        g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &output, NULL, NULL, &error);
        g_assert_no_error(error);
        g_auto(GStrv) lines = g_strsplit(output, "\n", -1);
        for (line = lines; *line && !g_str_has_prefix(*line, source); line++)
                ;
        g_assert_nonnull(*line);
        return g_strdup(strrchr(*line, '('));
}

static void assert_helper(const char *source, const char *helper)
{
        g_autofree char *options = read_options(source);
        g_autofree char *wanted = g_strdup_printf("uhelper=%s)", helper ? helper : "");

        if (helper)
                g_assert_true(g_str_has_suffix(options, wanted));
        else
                g_assert_null(strstr(options, "uhelper="));
}

static void assert_hidden(const char *source, bool hidden)
{
        g_autofree char *options = read_options(source);

        g_assert_cmpint(g_str_has_suffix(options, ",x-gvfs-hide)"), ==, hidden);
}

static void set_up(void)
{
        g_assert_cmpint(mkdir("/run/test-utab", 0755), ==, 0);
        g_assert_cmpint(mkdir(OURS, 0755), ==, 0);
        g_assert_cmpint(mkdir(THEIRS, 0755), ==, 0);
        g_assert_cmpint(mount(OUR_DISK, OURS, "tmpfs", 0, NULL), ==, 0);
}

static void tear_down(void)
{
        g_autofree char *left = read_utab();

        g_assert_cmpstr(left, ==, "");
        g_assert_false(g_file_test(UTAB ".loopmount", G_FILE_TEST_EXISTS));
        g_assert_cmpint(umount2(OURS, 0), ==, 0);
        rmdir(OURS);
        rmdir(THEIRS);
        rmdir("/run/test-utab");
}

static void mount_theirs(void)
{
        run((const char *const[]){ "mount", "-t", "tmpfs", "-o", "uhelper=theirs", THEIR_DISK, THEIRS, NULL });
}

static void unmount_theirs(void)
{
        run((const char *const[]){ "umount", THEIRS, NULL });
}

static void test_understood(void)
{
        set_up();
        g_assert_cmpint(utab_add_volume(OUR_DISK, OURS), ==, 0);
        assert_helper(OUR_DISK, UTAB_UMOUNT_HELPER);
        g_assert_cmpint(utab_remove_volume(OURS), ==, 0);
        assert_helper(OUR_DISK, NULL);
        tear_down();
}

static void test_side_by_side(void)
{
        set_up();
        mount_theirs();
        g_assert_cmpint(utab_add_volume(OUR_DISK, OURS), ==, 0);
        assert_helper(THEIR_DISK, "theirs");
        assert_helper(OUR_DISK, UTAB_UMOUNT_HELPER);
        /* libmount writes anew what we have written. */
        unmount_theirs();
        mount_theirs();
        assert_helper(OUR_DISK, UTAB_UMOUNT_HELPER);
        g_assert_cmpint(utab_remove_volume(OURS), ==, 0);
        assert_helper(OUR_DISK, NULL);
        assert_helper(THEIR_DISK, "theirs");
        unmount_theirs();
        tear_down();
}

/* A volume is mounted on top of its trigger: two mounts at one place, and each has a line of its own. */
static void test_trigger(void)
{
        set_up();
        g_assert_cmpint(umount2(OURS, 0), ==, 0);
        g_assert_cmpint(utab_add_trigger(OUR_TRIGGER, OURS), ==, 0);
        g_assert_cmpint(mount(OUR_TRIGGER, OURS, "tmpfs", 0, NULL), ==, 0);
        assert_hidden(OUR_TRIGGER, true);
        for (unsigned i = 0; i < 2; i++) {
                g_assert_cmpint(mount(OUR_DISK, OURS, "tmpfs", 0, NULL), ==, 0);
                assert_hidden(OUR_DISK, false);
                g_assert_cmpint(utab_add_volume(OUR_DISK, OURS), ==, 0);
                assert_helper(OUR_DISK, UTAB_UMOUNT_HELPER);
                assert_hidden(OUR_DISK, false);
                assert_helper(OUR_TRIGGER, NULL);
                assert_hidden(OUR_TRIGGER, true);
                /* The second time it is libmount that takes the line away: of what it unmounts. */
                if (i == 0)
                        g_assert_cmpint(umount2(OURS, 0), ==, 0);
                else
                        run((const char *const[]){ "umount", "-i", OURS, NULL });
                g_assert_cmpint(utab_remove_volume(OURS), ==, 0);
                assert_hidden(OUR_TRIGGER, true);
        }
        g_assert_cmpint(utab_remove_trigger(OURS), ==, 0);
        assert_hidden(OUR_TRIGGER, false);
        tear_down();
}

/* A path is the whole of a value, not a part of it. */
static void test_similar(void)
{
        set_up();
        g_assert_cmpint(utab_add_volume(OUR_DISK, OURS " 2"), ==, 0);
        g_assert_cmpint(utab_add_volume("TARGET=" OURS, OURS "/in"), ==, 0);
        g_autofree char *before = read_utab();
        g_assert_cmpint(utab_add_volume(OUR_DISK, OURS), ==, 0);
        g_assert_cmpint(utab_add_volume(OUR_DISK, OURS), ==, 0);
        g_assert_cmpint(utab_remove_volume(OURS), ==, 0);
        g_assert_cmpint(utab_remove_volume("/run/test-utab/other"), ==, 0);
        g_autofree char *after = read_utab();
        g_assert_cmpstr(after, ==, before);
        g_assert_cmpint(utab_remove_volume(OURS " 2"), ==, 0);
        g_assert_cmpint(utab_remove_volume(OURS "/in"), ==, 0);
        tear_down();
}

/* Many writers at a time: each one's line is there, and then it is not. */
static void test_concurrent(void)
{
        enum { WRITERS = 8, LINES = 25 };
        int status;

        set_up();
        for (unsigned i = 0; i < WRITERS; i++) {
                pid_t pid = fork();

                g_assert_cmpint(pid, >=, 0);
                if (pid > 0)
                        continue;
                for (unsigned j = 0; j < LINES; j++) {
                        g_autofree char *path = g_strdup_printf("/run/test-utab/%u/%u", i, j);
                        g_autofree char *target = g_strdup_printf("TARGET=%s ", path);
                        g_assert_cmpint(utab_add_volume(OUR_DISK, path), ==, 0);
                        g_autofree char *text = read_utab();
                        g_assert_nonnull(strstr(text, target));
                        g_assert_cmpint(utab_remove_volume(path), ==, 0);
                }
                _exit(0);
        }
        for (unsigned i = 0; i < WRITERS; i++) {
                g_assert_cmpint(wait(&status), >, 0);
                g_assert_cmpint(status, ==, 0);
        }
        tear_down();
}

/* What cannot be read is not taken for empty. */
static void test_unreadable(void)
{
        set_up();
        g_assert_cmpint(unlink(UTAB), ==, 0);
        g_assert_cmpint(mkdir(UTAB, 0755), ==, 0);
        g_assert_cmpint(utab_add_volume(OUR_DISK, OURS), <, 0);
        g_assert_cmpint(utab_remove_volume(OURS), <, 0);
        g_assert_cmpint(rmdir(UTAB), ==, 0);
        g_assert_cmpint(utab_remove_volume(OURS), ==, 0);
        g_assert_cmpint(utab_add_volume(OUR_DISK, OURS), ==, 0);
        g_assert_cmpint(utab_remove_volume(OURS), ==, 0);
        tear_down();
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/utab/understood", test_understood);
        g_test_add_func("/utab/side-by-side", test_side_by_side);
        g_test_add_func("/utab/trigger", test_trigger);
        g_test_add_func("/utab/similar", test_similar);
        g_test_add_func("/utab/concurrent", test_concurrent);
        g_test_add_func("/utab/unreadable", test_unreadable);
        return g_test_run();
}
