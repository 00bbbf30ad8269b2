/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs as any user: what belongs to whoever runs the tests stands for root's.
 * What only root can try is in tests/integration/test-mount-point-root.c.
 */
#include <fcntl.h>
#include <glib.h>
#include <sys/acl.h>
#include <sys/stat.h>

#include <acl/libacl.h>

#include "mechanism/mount-point.h"

#define OTHER_UID 12345U

typedef struct Fixture {
        char *folder;
        char *root; /* FOLDER/media, not there yet */
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
        (void)data;
        umask(022);
        f->folder = g_dir_make_tmp("loopmount-XXXXXX", NULL);
        g_assert_nonnull(f->folder);
        f->root = g_build_filename(f->folder, "media", NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
        g_autofree char *command = g_strdup_printf("rm -rf '%s'", f->folder);

        (void)data;
        g_assert_cmpint(system(command), ==, 0);
        g_free(f->folder);
        g_free(f->root);
}

static void assert_name(const char *bytes, const char *wanted)
{
        _cleanup_free_ char *name = NULL;

        g_assert_cmpint(mount_point_sanitise(bytes, &name), ==, 0);
        g_assert_cmpstr(name, ==, wanted);
}

static void assert_no_name(const char *bytes)
{
        char *name = (char *)"untouched";

        g_assert_cmpint(mount_point_sanitise(bytes, &name), ==, -EINVAL);
        g_assert_cmpstr(name, ==, "untouched");
}

static void test_sanitise_plain(void)
{
        assert_name("Debian 12", "Debian 12");
        assert_name("a.b", "a.b");
        assert_name("_", "_");
        assert_name("%n%s", "%n%s");
        assert_name("\xc3\x84rger \xf0\x9f\x92\xbf", "\xc3\x84rger \xf0\x9f\x92\xbf");
        assert_name("a--b-", "a--b-");
        assert_name("C:\\x", "C:\\x");
}

static void test_sanitise_hostile(void)
{
        assert_name("../../etc", "_.._etc");
        assert_name("/etc/passwd", "_etc_passwd");
        assert_name("a/../b", "a_.._b");
        assert_name(".hidden", "hidden");
        assert_name("...x", "x");
        assert_name(". .x", "x");
        assert_name("-rf", "_rf");
        assert_name(" -rf", "_rf");
        assert_name("\x1b[2Jx", "_[2Jx");
        assert_name("a\nb\tc", "a_b_c");
        assert_name("a\x7f", "a_");
        assert_name("exe.\xe2\x80\xaegpj", "exe._gpj"); /* right-to-left override */
        assert_name("\xe2\x81\xa6x", "_x");
        assert_name("\xef\xbb\xbfx", "_x"); /* byte order mark */
        assert_name("a\xc0\xaf.", "a__.");  /* overlong "/" */
        assert_name("a\xff\xfe"
                    "b",
                    "a__b");
        assert_name("a\xed\xa0\x80z", "a___z");
        assert_name("a\xe2\x82", "a__"); /* cut off */
}

static void test_sanitise_space(void)
{
        assert_name("  a b  ", "a b");
        assert_name("\xc2\xa0 a \xe3\x80\x80", "a"); /* no-break, ideographic */
        assert_name("a\xe2\x80\x8b", "a");           /* zero width */
}

static void test_sanitise_nothing(void)
{
        assert_no_name("");
        assert_no_name(".");
        assert_no_name("..");
        assert_no_name("...");
        assert_no_name("   ");
        assert_no_name(" . ");
        assert_no_name("/");
        assert_no_name("///");
        assert_no_name("\x01\x02");
        assert_no_name("\xff\xff");
        assert_no_name("\xe2\x80\xae");
        assert_no_name("\xc2\xa0");
        assert_no_name("-");
}

static void test_sanitise_long(void)
{
        g_autofree char *ascii = g_strnfill(300, 'a'), *wide = g_malloc0(301), *spaces = NULL;
        _cleanup_free_ char *name = NULL, *wide_name = NULL, *spaces_name = NULL;

        g_assert_cmpint(mount_point_sanitise(ascii, &name), ==, 0);
        g_assert_cmpuint(strlen(name), ==, 200);

        for (size_t i = 0; i < 100; i++)
                memcpy(wide + 3 * i, "\xe2\x82\xac", 3);
        g_assert_cmpint(mount_point_sanitise(wide, &wide_name), ==, 0);
        g_assert_cmpuint(strlen(wide_name), ==, 198); /* not in the middle of a character */
        g_assert_true(g_utf8_validate(wide_name, -1, NULL));

        /* The cut must not leave white space at the end. */
        memset(ascii + 150, ' ', 100);
        g_assert_cmpint(mount_point_sanitise(ascii, &spaces_name), ==, 0);
        g_assert_cmpuint(strlen(spaces_name), ==, 150);

        spaces = g_strnfill(300, ' ');
        assert_no_name(spaces);
}

static void assert_mode(const char *path, mode_t mode)
{
        struct stat st;

        g_assert_cmpint(lstat(path, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 07777, ==, mode);
        g_assert_true(S_ISDIR(st.st_mode));
        g_assert_cmpuint(st.st_uid, ==, geteuid());
}

/* The ACL of @path in short form: "u::rwx,u:12345:r-x,...". */
static char *acl_of(const char *path)
{
        acl_t acl = acl_get_file(path, ACL_TYPE_ACCESS);
        char *text, *copy;

        g_assert_nonnull(acl);
        text = acl_to_any_text(acl, NULL, ',', TEXT_ABBREVIATE | TEXT_NUMERIC_IDS);
        copy = g_strdup(text);
        acl_free(text);
        acl_free(acl);
        return copy;
}

static void set_acl(const char *path, const char *text)
{
        acl_t acl = acl_from_text(text);

        g_assert_nonnull(acl);
        g_assert_cmpint(acl_set_file(path, ACL_TYPE_ACCESS, acl), ==, 0);
        acl_free(acl);
}

static int open_user(const Fixture *f, const char *user)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;

        return mount_point_open_user(f->root, user, OTHER_UID, &path, &fd);
}

static void test_open_makes(Fixture *f, gconstpointer data)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;
        g_autofree char *acl = NULL, *wanted = g_build_filename(f->root, "ann", NULL);

        (void)data;
        g_assert_cmpint(mount_point_open_user(f->root, "ann", OTHER_UID, &path, &fd), ==, 0);
        g_assert_cmpstr(path, ==, wanted);
        g_assert_cmpint(fcntl(fd, F_GETFL) & O_PATH, ==, O_PATH);
        g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
        assert_mode(f->root, 0755);
        assert_mode(path, 0750);
        acl = acl_of(path);
        g_assert_cmpstr(acl, ==, "u::rwx,u:12345:r-x,g::---,m::r-x,o::---");
        g_assert_cmpint(open_user(f, "ann"), ==, 0); /* again */
}

static void test_open_keeps(Fixture *f, gconstpointer data)
{
        g_autofree char *path = g_build_filename(f->root, "ann", NULL), *acl = NULL, *mixed = NULL, *second = NULL;

        (void)data;
        g_assert_cmpint(g_mkdir_with_parents(path, 0755), ==, 0);
        g_assert_cmpint(open_user(f, "ann"), ==, 0);
        assert_mode(path, 0755); /* everybody may enter: nothing to add */
        acl = acl_of(path);
        g_assert_cmpstr(acl, ==, "u::rwx,g::r-x,o::r-x");

        /* What others were given stays, and what a mask held back stays held back. */
        set_acl(path, "u::rwx,u:777:rwx,u:12345:---,g::rwx,m::r-x,o::---");
        g_assert_cmpint(open_user(f, "ann"), ==, 0);
        mixed = acl_of(path);
        g_assert_cmpstr(mixed, ==, "u::rwx,u:777:rwx,u:12345:r-x,g::rwx,m::r-x,o::---");
        assert_mode(path, 0750);

        /* A crash between mkdir and the ACL leaves 0700. */
        set_acl(path, "u::rwx,g::---,o::---");
        g_assert_cmpint(open_user(f, "ann"), ==, 0);
        second = acl_of(path);
        g_assert_cmpstr(second, ==, "u::rwx,u:12345:r-x,g::---,m::r-x,o::---");
}

static void test_open_refuses(Fixture *f, gconstpointer data)
{
        g_autofree char *path = g_build_filename(f->root, "ann", NULL), *target = NULL, *dotted = NULL;
        _cleanup_free_ char *unused = NULL;
        int fd = -2;

        (void)data;
        for (const char *const *user = (const char *const[]){ "", ".", "..", "a/b", "/", "../x", NULL }; *user; user++)
                g_assert_cmpint(open_user(f, *user), ==, -EINVAL);
        g_assert_false(g_file_test(f->root, G_FILE_TEST_EXISTS));

        g_assert_cmpint(mount_point_open_user("media", "ann", OTHER_UID, &unused, &fd), ==, -EINVAL);
        dotted = g_strconcat(f->folder, "/x/../media", NULL);
        g_assert_cmpint(mount_point_open_user(dotted, "ann", OTHER_UID, &unused, &fd), ==, -EINVAL);
        g_assert_cmpint(fd, ==, -2);
        g_assert_null(unused);

        /* A folder that others can write to, in whatever way. */
        g_assert_cmpint(g_mkdir_with_parents(path, 0755), ==, 0);
        g_assert_cmpint(chmod(path, 0770), ==, 0);
        g_assert_cmpint(open_user(f, "ann"), ==, -EPERM);
        g_assert_cmpint(chmod(path, 01777), ==, 0);
        g_assert_cmpint(open_user(f, "ann"), ==, -EPERM);
        g_assert_cmpint(chmod(path, 0700), ==, 0);
        set_acl(path, "u::rwx,u:777:rwx,g::---,m::rwx,o::---");
        g_assert_cmpint(open_user(f, "ann"), ==, -EPERM);
        g_assert_cmpint(rmdir(path), ==, 0);

        /* What is no folder, and what leads to one. */
        g_assert_true(g_file_set_contents(path, "", 0, NULL));
        g_assert_cmpint(open_user(f, "ann"), ==, -EPERM);
        g_assert_cmpint(unlink(path), ==, 0);
        target = g_build_filename(f->folder, "target", NULL);
        g_assert_cmpint(mkdir(target, 0755), ==, 0);
        g_assert_cmpint(symlink(target, path), ==, 0);
        g_assert_cmpint(open_user(f, "ann"), ==, -EPERM);
        g_assert_cmpint(unlink(path), ==, 0);
        g_assert_cmpint(symlink("nowhere", path), ==, 0);
        g_assert_cmpint(open_user(f, "ann"), ==, -EPERM);
}

/* The same holds further up. */
static void test_open_refuses_root(Fixture *f, gconstpointer data)
{
        g_autofree char *real = g_build_filename(f->folder, "real", NULL);

        (void)data;
        g_assert_cmpint(mkdir(real, 0755), ==, 0);
        g_assert_cmpint(symlink("real", f->root), ==, 0);
        g_assert_cmpint(open_user(f, "ann"), ==, -EPERM);
        g_assert_cmpint(unlink(f->root), ==, 0);

        g_assert_cmpint(chmod(f->folder, 0777), ==, 0);
        g_assert_cmpint(open_user(f, "ann"), ==, -EPERM);
        g_assert_cmpint(chmod(f->folder, 01777), ==, 0); /* as /tmp is */
        g_assert_cmpint(open_user(f, "ann"), ==, 0);
}

static bool is_in_list(const char *name, const void *userdata)
{
        return g_strv_contains(userdata, name);
}

static const char *const none[] = { NULL };

static void test_choose(Fixture *f, gconstpointer data)
{
        static const char *const reserved[] = { "X", "X 3", NULL };
        _cleanup_free_ char *path = NULL, *first = NULL, *second = NULL;
        g_autofree char *file = NULL;
        _cleanup_close_ int fd = -1;

        (void)data;
        g_assert_cmpint(mount_point_open_user(f->root, "ann", OTHER_UID, &path, &fd), ==, 0);
        g_assert_cmpint(mount_point_choose(fd, "X", is_in_list, none, &first), ==, 0);
        g_assert_cmpstr(first, ==, "X");

        file = g_build_filename(path, "X 2", NULL);
        g_assert_cmpint(symlink("/nowhere", file), ==, 0); /* taken by something else */
        g_assert_cmpint(mount_point_choose(fd, "X", is_in_list, reserved, &second), ==, 0);
        g_assert_cmpstr(second, ==, "X 4");
}

static void test_make(Fixture *f, gconstpointer data)
{
        _cleanup_free_ char *path = NULL;
        g_autofree char *made = NULL;
        _cleanup_close_ int fd = -1;

        (void)data;
        g_assert_cmpint(mount_point_open_user(f->root, "ann", OTHER_UID, &path, &fd), ==, 0);
        g_assert_cmpint(mount_point_make(fd, "X"), ==, 0);
        made = g_build_filename(path, "X", NULL);
        assert_mode(made, 0700);
        g_assert_cmpint(mount_point_make(fd, "X"), ==, -EEXIST);
}

static void test_choose_and_make_refuse(Fixture *f, gconstpointer data)
{
        g_autofree char *too_long = g_strnfill(256, 'a');
        _cleanup_free_ char *path = NULL, *name = NULL;
        _cleanup_close_ int fd = -1;

        (void)data;
        g_assert_cmpint(mount_point_open_user(f->root, "ann", OTHER_UID, &path, &fd), ==, 0);
        for (const char *const *bad = (const char *const[]){ "", ".", "..", "a/b", "../x", NULL }; *bad; bad++) {
                g_assert_cmpint(mount_point_choose(fd, *bad, is_in_list, none, &name), ==, -EINVAL);
                g_assert_cmpint(mount_point_make(fd, *bad), ==, -EINVAL);
        }
        g_assert_cmpint(mount_point_choose(fd, too_long, is_in_list, none, &name), ==, -ENAMETOOLONG);
        g_assert_null(name);

        g_assert_cmpint(rmdir(path), ==, 0);
        g_assert_cmpint(mount_point_make(fd, "X"), ==, -ENOENT);
}

static void test_choose_full(Fixture *f, gconstpointer data)
{
        _cleanup_free_ char *path = NULL, *last = NULL;
        _cleanup_close_ int fd = -1;

        (void)data;
        g_assert_cmpint(mount_point_open_user(f->root, "ann", OTHER_UID, &path, &fd), ==, 0);
        for (unsigned i = 1; i < 1000; i++) {
                _cleanup_free_ char *name = i == 1 ? strdup("X") : g_strdup_printf("X %u", i);

                g_assert_cmpint(mount_point_make(fd, name), ==, 0);
        }
        g_assert_cmpint(mount_point_choose(fd, "X", is_in_list, none, &last), ==, 0);
        g_assert_cmpstr(last, ==, "X 1000");
        g_assert_cmpint(mount_point_make(fd, last), ==, 0);
        free(TAKE_PTR(last));
        g_assert_cmpint(mount_point_choose(fd, "X", is_in_list, none, &last), ==, -EEXIST);
}

static void test_remove(Fixture *f, gconstpointer data)
{
        _cleanup_free_ char *path = NULL;
        g_autofree char *first_path = NULL, *second_path = NULL, *file = NULL;
        _cleanup_close_ int fd = -1;

        (void)data;
        g_assert_cmpint(mount_point_open_user(f->root, "ann", OTHER_UID, &path, &fd), ==, 0);
        g_assert_cmpint(mount_point_make(fd, "X"), ==, 0);
        g_assert_cmpint(mount_point_make(fd, "Y"), ==, 0);
        first_path = g_build_filename(path, "X", NULL);
        second_path = g_build_filename(path, "Y", NULL);

        file = g_build_filename(first_path, "file", NULL);
        g_assert_true(g_file_set_contents(file, "", 0, NULL));
        g_assert_cmpint(mount_point_remove(first_path), ==, -ENOTEMPTY);
        g_assert_cmpint(unlink(file), ==, 0);

        g_assert_cmpint(mount_point_remove(first_path), ==, 0);
        g_assert_false(g_file_test(first_path, G_FILE_TEST_EXISTS));
        g_assert_true(g_file_test(second_path, G_FILE_TEST_IS_DIR));
        g_assert_cmpint(mount_point_remove(first_path), ==, 0); /* again */

        g_assert_cmpint(mount_point_remove(second_path), ==, 0);
        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
        g_assert_true(g_file_test(f->root, G_FILE_TEST_IS_DIR));
        g_assert_cmpint(mount_point_remove(second_path), ==, 0);
}

static void test_remove_refuses(Fixture *f, gconstpointer data)
{
        g_autofree char *user = g_build_filename(f->root, "ann", NULL), *link = NULL, *other = NULL, *inside = NULL;

        (void)data;
        for (const char *const *bad =
                     (const char *const[]){ "", "x", "/x", "/", "/x/..", "/a/b/", "/a/../b", "a/b/c", NULL };
             *bad; bad++)
                g_assert_cmpint(mount_point_remove(*bad), ==, -EINVAL);

        /* Neither the last step nor one before it is followed, if it is a link. */
        other = g_build_filename(f->folder, "other", "X", NULL);
        g_assert_cmpint(g_mkdir_with_parents(other, 0755), ==, 0);
        g_assert_cmpint(mkdir(f->root, 0755), ==, 0);
        g_assert_cmpint(symlink("../other", user), ==, 0);
        inside = g_build_filename(user, "X", NULL);
        g_assert_cmpint(mount_point_remove(inside), ==, -EPERM);
        g_assert_cmpint(unlink(user), ==, 0);
        g_assert_cmpint(mkdir(user, 0755), ==, 0);
        link = g_build_filename(user, "X", NULL);
        g_assert_cmpint(symlink(other, link), ==, 0);
        g_assert_cmpint(mount_point_remove(link), ==, -ENOTDIR);
        g_assert_true(g_file_test(other, G_FILE_TEST_IS_DIR));
        g_assert_true(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/mount-point/sanitise/plain", test_sanitise_plain);
        g_test_add_func("/mount-point/sanitise/hostile", test_sanitise_hostile);
        g_test_add_func("/mount-point/sanitise/space", test_sanitise_space);
        g_test_add_func("/mount-point/sanitise/nothing", test_sanitise_nothing);
        g_test_add_func("/mount-point/sanitise/long", test_sanitise_long);
        g_test_add("/mount-point/open/makes", Fixture, NULL, set_up, test_open_makes, tear_down);
        g_test_add("/mount-point/open/keeps", Fixture, NULL, set_up, test_open_keeps, tear_down);
        g_test_add("/mount-point/open/refuses", Fixture, NULL, set_up, test_open_refuses, tear_down);
        g_test_add("/mount-point/open/refuses-root", Fixture, NULL, set_up, test_open_refuses_root, tear_down);
        g_test_add("/mount-point/choose", Fixture, NULL, set_up, test_choose, tear_down);
        g_test_add("/mount-point/make", Fixture, NULL, set_up, test_make, tear_down);
        g_test_add("/mount-point/refuses", Fixture, NULL, set_up, test_choose_and_make_refuse, tear_down);
        g_test_add("/mount-point/choose/full", Fixture, NULL, set_up, test_choose_full, tear_down);
        g_test_add("/mount-point/remove", Fixture, NULL, set_up, test_remove, tear_down);
        g_test_add("/mount-point/remove/refuses", Fixture, NULL, set_up, test_remove_refuses, tear_down);
        return g_test_run();
}
