/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <sys/mount.h>

#include "mechanism/filesystem.h"

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

#define ALWAYS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

static const FilesystemRequest reading = { .read_only = true, .allow_exec = true, .uid = 1000, .gid = 1001 };
static const FilesystemRequest writing = { .read_only = false, .allow_exec = true, .uid = 1000, .gid = 1001 };

/* What comes out, as "key=value,key": "" also if it fails. */
static int build(const char *type, const FilesystemRequest *request, FilesystemOptions *ret, char **ret_text,
                 char **ret_offender)
{
        GString *text = g_string_new("");
        int r;

        *ret = (FilesystemOptions){ 0 };
        r = filesystem_options(filesystem_find(type), request, ret, ret_offender);
        for (size_t i = 0; i < ret->n_items; i++)
                g_string_append_printf(text, "%s%s%s%s", i > 0 ? "," : "", ret->items[i].key,
                                       ret->items[i].value ? "=" : "", strempty(ret->items[i].value));
        *ret_text = g_string_free(text, FALSE);
        return r;
}

static void assert_options(const char *type, FilesystemRequest request, const char *configured, const char *requested,
                           const char *wanted, uint64_t attributes)
{
        g_autofree char *text = NULL, *offender = NULL;
        FilesystemOptions options;

        request.configured = configured;
        request.requested = requested;
        g_assert_cmpint(build(type, &request, &options, &text, &offender), ==, 0);
        g_assert_cmpstr(text, ==, wanted);
        g_assert_cmphex(options.attributes, ==, attributes);
        g_assert_true(options.read_only == !!(attributes & MOUNT_ATTR_RDONLY));
        g_assert_null(offender);
        filesystem_options_done(&options);
        g_assert_cmpuint(options.n_items, ==, 0);
}

static void assert_refused(const char *type, FilesystemRequest request, const char *configured, const char *requested,
                           int error, const char *wanted_offender)
{
        g_autofree char *text = NULL, *offender = NULL, *shown = g_strescape(strempty(requested), NULL);
        FilesystemOptions options;

        request.configured = configured;
        request.requested = requested;
        g_test_message("%s: %s / %.60s", type, strempty(configured), shown);
        g_assert_cmpint(build(type, &request, &options, &text, &offender), ==, error);
        g_assert_cmpstr(offender, ==, wanted_offender);
        g_assert_null(options.items);
}

static void test_table(void)
{
        const FilesystemType *type;
        size_t n;

        for (n = 0; (type = filesystem_nth(n)); n++) {
                const FilesystemRule *rule;

                g_assert_true(filesystem_find(filesystem_name(type)) == type);
                for (size_t i = 0; (rule = filesystem_rule_nth(type, i)); i++) {
                        g_test_message("%s %s", filesystem_name(type), rule->name);
                        /* What a test tries, and what checks a value, must be there. */
                        if (rule->value == FILESYSTEM_VALUE_WORD)
                                g_assert_true(!isempty(rule->words));
                        if (rule->value == FILESYSTEM_VALUE_NUMBER)
                                g_assert_true(rule->maximum > rule->minimum);
                        if (rule->value == FILESYSTEM_VALUE_NUMBER || rule->value == FILESYSTEM_VALUE_CHARSET ||
                            rule->value == FILESYSTEM_VALUE_CODEPAGE || rule->value == FILESYSTEM_VALUE_PATH)
                                g_assert_nonnull(rule->example);
                        g_assert_false(rule->needs_read_only && rule->needs_writable);
                }
        }
        g_assert_cmpuint(n, ==, 13);
        g_assert_null(filesystem_nth(n + 1));
        g_assert_null(filesystem_nth(SIZE_MAX));
}

static void test_find(void)
{
        g_assert_null(filesystem_find(""));
        g_assert_null(filesystem_find("auto"));
        g_assert_null(filesystem_find("nfs"));
        g_assert_null(filesystem_find("EXT4"));
        g_assert_null(filesystem_find("ntfs3"));
        g_assert_null(filesystem_find("crypto_LUKS"));
        g_assert_cmpstr(filesystem_driver(filesystem_find("ntfs")), ==, "ntfs3");
        g_assert_cmpstr(filesystem_driver(filesystem_find("vfat")), ==, "vfat");
        g_assert_true(filesystem_is_read_only(filesystem_find("iso9660")));
        g_assert_true(filesystem_is_read_only(filesystem_find("squashfs")));
        g_assert_false(filesystem_is_read_only(filesystem_find("udf")));
}

static bool has_rule(const FilesystemType *type, const char *name)
{
        const FilesystemRule *rule;

        for (size_t i = 0; (rule = filesystem_rule_nth(type, i)); i++)
                if (streq(rule->name, name))
                        return true;
        return false;
}

/* No image and no user can have the host panic, and every default passes the checks of its own row. */
static void test_defaults(void)
{
        const FilesystemType *type;

        for (size_t n = 0; (type = filesystem_nth(n)); n++)
                for (int write = 0; write < 2; write++) {
                        g_autofree char *text = NULL, *offender = NULL;
                        FilesystemOptions options;

                        g_assert_cmpint(
                                build(filesystem_name(type), write ? &writing : &reading, &options, &text, &offender),
                                ==, 0);
                        g_assert_true((options.attributes & ALWAYS) == ALWAYS);
                        g_assert_null(strstr(text, "panic"));
                        g_assert_null(strchr(text, '$'));
                        filesystem_options_done(&options);
                        assert_refused(filesystem_name(type), write ? writing : reading, NULL, "errors=panic",
                                       has_rule(type, "errors") ? -EINVAL : -EPERM, "errors=panic");
                }
}

static void test_journals(void)
{
        assert_options("ext4", reading, NULL, NULL, "errors=remount-ro,noload", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("ext3", reading, NULL, NULL, "errors=remount-ro,noload", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("ext2", reading, NULL, NULL, "errors=remount-ro", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("xfs", reading, NULL, NULL, "nouuid,norecovery", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("btrfs", reading, NULL, NULL, "rescue=nologreplay", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("f2fs", reading, NULL, NULL, "norecovery", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("ext4", writing, NULL, NULL, "errors=remount-ro", ALWAYS);
        assert_options("xfs", writing, NULL, NULL, "nouuid", ALWAYS);
        /* To ask for reading is to get all of it. */
        assert_options("ext4", writing, NULL, "ro", "errors=remount-ro,noload", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_refused("ext4", writing, NULL, "noload", -EPERM, "noload");
        assert_refused("ext4", reading, NULL, "data=ordered", -EPERM, "data=ordered");
        assert_options("ext4", writing, NULL, "data=journal", "errors=remount-ro,data=journal", ALWAYS);
}

/* What is written for mount(8) out of habit means here what it means there. */
static void test_generic(void)
{
        static const struct {
                const char *options, *data;
                uint64_t attributes;
        } cases[] = {
                { "defaults,auto,noauto,nofail,loop,nouser", "", 0 },
                { "user", "", MOUNT_ATTR_NOEXEC },
                { "users", "", MOUNT_ATTR_NOEXEC },
                { "noatime", "", MOUNT_ATTR_NOATIME },
                { "noatime,atime", "", MOUNT_ATTR_RELATIME },
                { "noatime,strictatime", "", MOUNT_ATTR_STRICTATIME },
                { "nodiratime", "", MOUNT_ATTR_NODIRATIME },
                { "nodiratime,diratime", "", 0 },
                { "nosymfollow,symfollow", "", 0 },
                { "sync,async", "sync,async", 0 },
                { "lazytime", "lazytime", 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                assert_options("squashfs", reading, NULL, cases[i].options, cases[i].data,
                               ALWAYS | MOUNT_ATTR_RDONLY | cases[i].attributes);
}

static void test_read_only(void)
{
        assert_options("vfat", reading, NULL, "ro",
                       "uid=1000,gid=1001,umask=0022,shortname=mixed,utf8=1,showexec,flush,errors=remount-ro",
                       ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("squashfs", writing, NULL, NULL, "", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_refused("squashfs", writing, NULL, "rw", -EPERM, "rw");
        assert_refused("vfat", reading, NULL, "rw", -EPERM, "rw");
        assert_refused("vfat", writing, NULL, "ro,rw", -EPERM, "rw");
        assert_refused("vfat", writing, NULL, "rw,ro", -EPERM, "rw");
        assert_options("ext2", writing, NULL, "rw", "errors=remount-ro", ALWAYS);
        /* The administrator's "ro" must not turn a wish to write into silent reading. */
        assert_refused("ext2", writing, "ro", NULL, -EPERM, "ro");
        assert_options("ext2", reading, "ro", NULL, "errors=remount-ro", ALWAYS | MOUNT_ATTR_RDONLY);
}

static void test_attributes(void)
{
        FilesystemRequest strict = writing;

        assert_options("erofs", reading, NULL, "noatime,nodiratime,nosymfollow,noexec,nosuid,nodev", "",
                       ALWAYS | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME | MOUNT_ATTR_NODIRATIME |
                               MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR_NOEXEC);
        assert_options("ext2", writing, "noatime", "relatime", "errors=remount-ro", ALWAYS);
        assert_options("ext2", writing, NULL, "noexec,exec", "errors=remount-ro", ALWAYS);
        assert_options("ext2", writing, NULL, "sync,dirsync,sync", "errors=remount-ro,dirsync,sync", ALWAYS);

        assert_refused("ext2", writing, "noexec", "exec", -EPERM, "exec");
        assert_options("ext2", writing, "noexec", NULL, "errors=remount-ro", ALWAYS | MOUNT_ATTR_NOEXEC);
        strict.allow_exec = false;
        assert_refused("ext2", strict, NULL, "exec", -EPERM, "exec");
        assert_options("ext2", strict, NULL, "noexec", "errors=remount-ro", ALWAYS | MOUNT_ATTR_NOEXEC);
}

static void test_never(void)
{
        static const char *const never[] = {
                "suid",
                "dev",
                "suid=1",
                "nosuid=0",
                "nodev=",
                "exec=1",
                "bind",
                "remount",
                "context=x",
                "x-foo",
                "loop=/dev/loop3",
                "owner",
                "defaults=",
                "_netdev",
                "uhelper=evil",
                "source=/dev/sda",
                "fstype=ext4",
                "mand",
                "journal_dev=8",
                "journal_path=/x",
                "usrjquota=x",
                "dax",
                "degraded",
                "device=/dev/sda",
                "logdev=/dev/sda",
                "domain_id=x",
                "noblock_validity",
                "test_dummy_encryption",
                "Ro",
                " ro",
                "no load",
                "=",
                "=ro",
                "%n",
                "\x1b[2J",
                "\xff",
        };
        const FilesystemType *type;

        for (size_t n = 0; (type = filesystem_nth(n)); n++)
                for (size_t i = 0; i < ELEMENTSOF(never); i++)
                        assert_refused(filesystem_name(type), reading, NULL, never[i], -EPERM, never[i]);
}

static void test_ids(void)
{
        assert_options("udf", writing, NULL, "uid=1000,gid=1001", "iocharset=utf8,uid=1000,gid=1001", ALWAYS);
        assert_refused("udf", writing, NULL, "uid=0", -EPERM, "uid=0");
        assert_refused("udf", writing, NULL, "gid=0", -EPERM, "gid=0");
        assert_refused("udf", writing, NULL, "gid=1000", -EPERM, "gid=1000");
        assert_refused("udf", writing, NULL, "uid=forget", -EINVAL, "uid=forget");
        assert_refused("udf", writing, NULL, "uid=-1", -EINVAL, "uid=-1");
        assert_refused("udf", writing, NULL, "uid=4294967295", -EINVAL, "uid=4294967295");
        assert_refused("udf", writing, NULL, "uid=4294968296", -EINVAL, "uid=4294968296"); /* 2^32 + 1000 */
        assert_refused("udf", writing, NULL, "uid", -EINVAL, "uid");
        assert_refused("udf", writing, NULL, "uid=", -EINVAL, "uid=");
        assert_refused("udf", writing, NULL, "uid=$UID", -EINVAL, "uid=$UID");
        assert_refused("ext4", writing, NULL, "uid=1000", -EPERM, "uid=1000");
        /* The administrator may give files to whomever. */
        assert_options("udf", writing, "uid=0,gid=$GID", NULL, "iocharset=utf8,uid=0,gid=1001", ALWAYS);
}

static void test_values(void)
{
        static const struct {
                const char *type, *option;
                int r;
        } cases[] = {
                { "vfat", "umask=077", 0 },
                { "vfat", "umask=0077", 0 },
                { "vfat", "umask=0", 0 },
                { "vfat", "umask=1777", -EINVAL },
                { "vfat", "umask=00077", -EINVAL },
                { "vfat", "umask=8", -EINVAL },
                { "vfat", "umask=", -EINVAL },
                { "vfat", "umask", -EINVAL },
                { "vfat", "umask=-1", -EINVAL },
                { "vfat", "flush=1", -EINVAL },
                { "vfat", "flush=", -EINVAL },
                { "vfat", "utf8", 0 },
                { "vfat", "utf8=0", 0 },
                { "vfat", "utf8=", -EINVAL },
                { "vfat", "utf8=2", -EINVAL },
                { "vfat", "shortname=mixed", 0 },
                { "vfat", "shortname=mix", -EINVAL },
                { "vfat", "shortname=mixed ", -EINVAL },
                { "vfat", "shortname=win95 winnt", -EINVAL },
                { "vfat", "shortname", -EINVAL },
                { "vfat", "tz=UTC", 0 },
                { "vfat", "codepage=850", 0 },
                { "vfat", "codepage=0850", -EINVAL },
                { "vfat", "codepage=436", -EINVAL },
                { "vfat", "codepage=99999999999999999999", -EINVAL },
                { "vfat", "iocharset=iso8859-15", 0 },
                { "vfat", "codepage=1255", 0 },
                { "vfat", "codepage=438", -EINVAL },
                { "vfat", "codepage=", -EINVAL },
                { "vfat", "iocharset=nosuch", -EINVAL },
                { "vfat", "iocharset=utf8 ascii", -EINVAL },
                { "exfat", "iocharset=koi8", -EINVAL },
                { "vfat", "iocharset=", -EINVAL },
                { "vfat", "iocharset=../x", -EINVAL },
                { "vfat", "iocharset=UTF8", -EINVAL },
                { "vfat", "iocharset=a_b", -EINVAL },
                { "vfat", "iocharset=a\nb", -EINVAL },
                { "vfat", "iocharset=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", -EINVAL },
                { "iso9660", "mode=2555", -EINVAL },
                { "iso9660", "sbsector=4294967295", -EINVAL },
                { "iso9660", "session=1", -EPERM },
                { "ntfs", "force", -EPERM },
                { "ntfs", "windows_names", 0 },
                { "ext4", "commit=0", -EINVAL },
                { "ext4", "commit=301", -EINVAL },
                { "ext4", "commit=300", 0 },
                { "ext4", "sb=0", -EINVAL },
                { "ext4", "sb=32768", 0 },
                { "ext4", "errors=continue", -EINVAL },
                { "ext4", "errors=panic", -EINVAL },
                { "squashfs", "errors=continue", 0 },
                { "btrfs", "compress", 0 },
                { "btrfs", "compress=zstd", 0 },
                { "btrfs", "compress=zstd:3", 0 },
                { "btrfs", "compress=zstd:0", -EINVAL },
                { "btrfs", "compress=zstd:16", -EINVAL },
                { "btrfs", "compress=zstd:", -EINVAL },
                { "btrfs", "compress=zstd:3:3", -EINVAL },
                { "btrfs", "compress=zst", -EINVAL },
                { "btrfs", "compress=:3", -EINVAL },
                { "btrfs", "subvol=home/ann", 0 },
                { "btrfs", "subvol=/@home", 0 },
                { "btrfs", "subvol=/..b", 0 },
                { "btrfs", "subvol=", -EINVAL },
                { "btrfs", "subvol=..", -EINVAL },
                { "btrfs", "subvol=a/../b", -EINVAL },
                { "btrfs", "subvol=a/..", -EINVAL },
                { "btrfs", "subvol=a\nb", -EINVAL },
                { "btrfs", "subvolid=256", 0 },
                { "btrfs", "subvolid=18446744073709551616", -EINVAL },
                { "btrfs", "rescue=nologreplay", -EPERM }, /* while writing */
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                FilesystemRequest request = writing;
                g_autofree char *text = NULL, *offender = NULL;
                FilesystemOptions options;

                request.requested = cases[i].option;
                g_test_message("%s %s", cases[i].type, cases[i].option);
                g_assert_cmpint(build(cases[i].type, &request, &options, &text, &offender), ==, cases[i].r);
                g_assert_cmpstr(offender, ==, cases[i].r < 0 ? cases[i].option : NULL);
                filesystem_options_done(&options);
        }
}

static void test_order(void)
{
        /* umask= undoes an fmask= before it, so a replaced option moves to where it was said last. */
        assert_options("exfat", writing, "fmask=0111", "umask=077,fmask=0133",
                       "uid=1000,gid=1001,iocharset=utf8,errors=remount-ro,umask=077,fmask=0133", ALWAYS);
        assert_options("iso9660", reading, "mode=0444", "mode=0440,mode=0400",
                       "uid=1000,gid=1001,iocharset=utf8,dmode=0500,mode=0400", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("vfat", writing, "shortname=lower", "utf8",
                       "uid=1000,gid=1001,umask=0022,showexec,flush,errors=remount-ro,shortname=lower,utf8", ALWAYS);
}

/* isofs reads modes with the base that their first digit tells. */
static void test_octal(void)
{
        assert_options("iso9660", reading, "dmode=555", "mode=444",
                       "uid=1000,gid=1001,iocharset=utf8,dmode=0555,mode=0444", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("udf", writing, NULL, "umask=0,mode=07", "uid=1000,gid=1001,iocharset=utf8,umask=0,mode=07",
                       ALWAYS);
}

static void test_lists(void)
{
        g_autofree char *longest = g_strnfill(FILESYSTEM_OPTIONS_BYTES_MAX, ','), *over = NULL, *name = NULL;

        assert_options("erofs", reading, "", ",,acl,,,user_xattr,", "acl,user_xattr", ALWAYS | MOUNT_ATTR_RDONLY);
        assert_options("erofs", reading, longest, longest, "", ALWAYS | MOUNT_ATTR_RDONLY);
        over = g_strconcat(longest, ",", NULL);
        assert_refused("erofs", reading, NULL, over, -EINVAL, NULL);
        assert_refused("erofs", reading, over, NULL, -EINVAL, NULL);
        name = g_strnfill(300, 'a');
        assert_refused("erofs", reading, NULL, name, -EPERM, name);
        assert_refused("btrfs", reading, NULL, "subvol=\"a,b\"", -EPERM, "b\"");
        /* The first one that is wrong is named. */
        assert_refused("erofs", reading, NULL, "acl,suid,dev", -EPERM, "suid");
}

static void test_administrator(void)
{
        assert_options("ntfs", writing, "force,showmeta", NULL,
                       "uid=1000,gid=1001,umask=0022,iocharset=utf8,force,showmeta", ALWAYS);
        assert_refused("ntfs", writing, "suid", NULL, -EPERM, "suid");
        assert_refused("ntfs", writing, "errors=panic", NULL, -EPERM, "errors=panic");
        assert_refused("btrfs", writing, "device=/dev/sda", NULL, -EPERM, "device=/dev/sda");
        assert_refused("vfat", writing, "umask=9", NULL, -EINVAL, "umask=9");
}

/* Without it xfs keeps a table of UUIDs, and whoever mounts one first keeps others out. */
static void test_xfs_has_no_table(void)
{
        const FilesystemType *type = filesystem_find("xfs");
        const FilesystemRule *rule;

        for (size_t i = 0; (rule = filesystem_rule_nth(type, i)); i++)
                for (unsigned variant = 0; variant < 4; variant++) {
                        FilesystemRequest request = variant & 1 ? writing : reading;
                        g_autofree char *text = NULL, *offender = NULL;
                        FilesystemOptions options;

                        if (request.read_only ? rule->needs_writable : rule->needs_read_only)
                                continue;
                        *(variant & 2 ? &request.configured : &request.requested) = rule->name;
                        g_assert_cmpint(build("xfs", &request, &options, &text, &offender), ==, 0);
                        g_auto(GStrv) items = g_strsplit(text, ",", 0);
                        g_assert_true(g_strv_contains((const char *const *)items, "nouuid"));
                        filesystem_options_done(&options);
                }
        assert_refused("xfs", writing, NULL, "uuid", -EPERM, "uuid");
        assert_refused("xfs", writing, "uuid", NULL, -EPERM, "uuid");
}

/* Without gid= a driver takes the real group of who mounts, which is a pass of the device guard. */
static void test_owners_are_given(void)
{
        const FilesystemType *type;
        unsigned n_found = 0;

        for (size_t i = 0; (type = filesystem_nth(i)); i++) {
                const FilesystemRule *rule;
                bool knows = false, given = false;

                for (size_t j = 0; (rule = filesystem_rule_nth(type, j)); j++)
                        knows |= streq(rule->name, "gid");
                _cleanup_(filesystem_options_done) FilesystemOptions options = { 0 };
                g_autofree char *offender = NULL;
                FilesystemRequest request = { .uid = 1000, .gid = 100 };

                g_assert_cmpint(filesystem_options(type, &request, &options, &offender), ==, 0);
                for (size_t j = 0; j < options.n_items; j++)
                        given |= streq(options.items[j].key, "gid") && streq(options.items[j].value, "100");
                g_assert_true(knows == given);
                n_found += given;
        }
        g_assert_cmpuint(n_found, >=, 5);
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/filesystem/table", test_table);
        g_test_add_func("/filesystem/find", test_find);
        g_test_add_func("/filesystem/defaults", test_defaults);
        g_test_add_func("/filesystem/generic", test_generic);
        g_test_add_func("/filesystem/journals", test_journals);
        g_test_add_func("/filesystem/read-only", test_read_only);
        g_test_add_func("/filesystem/attributes", test_attributes);
        g_test_add_func("/filesystem/never", test_never);
        g_test_add_func("/filesystem/ids", test_ids);
        g_test_add_func("/filesystem/values", test_values);
        g_test_add_func("/filesystem/order", test_order);
        g_test_add_func("/filesystem/octal", test_octal);
        g_test_add_func("/filesystem/lists", test_lists);
        g_test_add_func("/filesystem/administrator", test_administrator);
        g_test_add_func("/filesystem/xfs-has-no-table", test_xfs_has_no_table);
        g_test_add_func("/filesystem/owners-are-given", test_owners_are_given);
        return g_test_run();
}
