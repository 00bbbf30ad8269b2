/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The makers of file systems fill the images from a folder, so nothing is
 * mounted for it.
 */
#include "lib/image.h"

#include <fcntl.h>
#include <linux/blkpg.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "lib/snapshot.h"
#include "lib/wait.h"

#define MIB (UINT64_C(1024) * 1024)
#define PARTITION_SIZE (2 * MIB)

static void check(int result, const char *what, const char *path)
{
        if (result < 0)
                g_error("%s %s: %s", what, path, g_strerror(errno));
}

static void run_argv(const char *const *argv)
{
        g_autofree char *out = NULL, *err = NULL;
        int status = test_run_as(TEST_ROOT, argv, &out, &err);
        if (status != 0)
                g_error("%s: exit status %d\n%s%s", argv[0], status, out, err);
}

void test_run(const char *program, ...)
{
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        va_list arguments;
        const char *argument;

        g_ptr_array_add(argv, (gpointer)program);
        va_start(arguments, program);
        while ((argument = va_arg(arguments, const char *)))
                g_ptr_array_add(argv, (gpointer)argument);
        va_end(arguments);
        g_ptr_array_add(argv, NULL);
        run_argv((const char *const *)argv->pdata);
}

/* ---- files ---- */

char *test_path(const char *name)
{
        return g_build_filename(g_getenv("LOOPMOUNT_TEST_DIR"), name, NULL);
}

char *test_folder(const char *name)
{
        char *path = test_path(name);
        check(mkdir(path, 0777), "mkdir", path);
        check(chmod(path, 0777), "chmod", path);
        return path;
}

void test_image_resize(const char *path, uint64_t size)
{
        check(truncate(path, (off_t)size), "truncate", path);
}

static char *give_to(char *path, uid_t owner)
{
        check(chown(path, owner, (gid_t)owner), "chown", path);
        check(chmod(path, 0600), "chmod", path);
        return path;
}

char *test_image_bytes(const char *name, const void *bytes, size_t n_bytes, uid_t owner)
{
        g_autoptr(GError) error = NULL;
        char *path = test_path(name);

        g_file_set_contents(path, bytes, (gssize)n_bytes, &error);
        g_assert_no_error(error);
        return give_to(path, owner);
}

char *test_image_empty(const char *name, uint64_t size, uid_t owner)
{
        char *path = test_image_bytes(name, "", 0, owner);
        test_image_resize(path, size);
        return path;
}

char *test_image_checksum(const char *path)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *bytes = NULL;
        gsize size;

        g_file_get_contents(path, &bytes, &size, &error);
        g_assert_no_error(error);
        return g_compute_checksum_for_data(G_CHECKSUM_SHA256, (guchar *)bytes, size);
}

int test_image_memfd(const char *path, bool sealed)
{
        _cleanup_close_ int source = open(path, O_RDONLY | O_CLOEXEC);
        int fd = memfd_create(test_run_token(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
        struct stat st;

        check(source, "open", path);
        check(fd, "memfd_create", path);
        check(fstat(source, &st), "stat", path);
        for (off_t left = st.st_size; left > 0;) {
                ssize_t n = sendfile(fd, source, NULL, (size_t)left);
                check(n > 0 ? 0 : -1, "sendfile", path);
                left -= n;
        }
        if (sealed)
                check(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), "seal", path);
        return fd;
}

/* ---- file systems ---- */

/* A folder with the file "hello", made once. */
static const char *contents(void)
{
        static char *folder;
        if (!folder) {
                g_autoptr(GError) error = NULL;
                folder = test_folder("contents");
                g_autofree char *file = g_build_filename(folder, "hello", NULL);
                g_file_set_contents(file, TEST_HELLO, -1, &error);
                g_assert_no_error(error);
                check(chmod(file, 0644), "chmod", file);
                check(chmod(folder, 0755), "chmod", folder);
        }
        return folder;
}

static void make_ext4(const char *path, const char *label, uint64_t offset, uint64_t size)
{
        /* No lazy initialisation: nothing must write to the image later by itself. */
        g_autofree char *extended =
                g_strdup_printf("offset=%" G_GUINT64_FORMAT ",lazy_itable_init=0,root_owner=0:0", offset);
        g_autofree char *kib = g_strdup_printf("%" G_GUINT64_FORMAT "k", size / 1024);

        test_run("mke2fs", "-q", "-F", "-t", "ext4", "-E", extended, "-O", "^has_journal", "-L", label ? label : "",
                 "-d", contents(), path, kib, NULL);
}

char *test_image_ext4(const char *name, const char *label, uid_t owner)
{
        g_autofree char *path = test_image_empty(name, PARTITION_SIZE, owner);
        make_ext4(path, label, 0, PARTITION_SIZE);
        return g_steal_pointer(&path);
}

char *test_image_squashfs(const char *name, uid_t owner)
{
        char *path = test_path(name);
        test_run("mksquashfs", contents(), path, "-quiet", "-no-progress", "-noappend", "-all-root", NULL);
        return give_to(path, owner);
}

char *test_image_erofs(const char *name, uid_t owner)
{
        char *path = test_path(name);
        test_run("mkfs.erofs", path, contents(), NULL);
        return give_to(path, owner);
}

char *test_image_xfs(const char *name, const char *label, uid_t owner)
{
        g_autofree char *prototype = test_path("xfs-prototype");
        g_autofree char *text = g_strdup_printf("/\n0 0\nd--755 0 0\nhello ---644 0 0 %s/hello\n$\n", contents());
        g_autoptr(GError) error = NULL;

        g_file_set_contents(prototype, text, -1, &error);
        g_assert_no_error(error);
        /* mkfs.xfs insists on 300 MiB; most of it stays a hole. */
        char *path = test_image_empty(name, 300 * MIB, owner);
        test_run("mkfs.xfs", "-q", "-f", "-L", label ? label : "", "-p", prototype, path, NULL);
        return path;
}

char *test_image_btrfs(const char *name, const char *label, uid_t owner)
{
        char *path = test_image_empty(name, 128 * MIB, owner);
        test_run("mkfs.btrfs", "-q", "-f", "-L", label ? label : "", "--rootdir", contents(), path, NULL);
        return path;
}

char *test_image_partitioned(const char *name, const char *table, const char *const *labels, uid_t owner)
{
        unsigned n = g_strv_length((char **)labels);
        char *path = test_image_empty(name, (n + 2) * PARTITION_SIZE, owner);
        g_autoptr(GString) script = g_string_new(NULL);

        g_string_append_printf(script, "label: %s\n", table);
        for (unsigned i = 0; i < n; i++)
                g_string_append_printf(script, "start=%" G_GUINT64_FORMAT ", size=%" G_GUINT64_FORMAT ", type=L\n",
                                       (i + 1) * PARTITION_SIZE / 512, PARTITION_SIZE / 512);
        g_autofree char *command =
                g_strdup_printf("sfdisk --quiet --no-reread --no-tell-kernel '%s' <<'END'\n%sEND\n", path, script->str);
        test_run("sh", "-c", command, NULL);
        for (unsigned i = 0; i < n; i++)
                make_ext4(path, labels[i], (i + 1) * PARTITION_SIZE, PARTITION_SIZE);
        return path;
}

typedef struct Change {
        int disk;
        struct blkpg_ioctl_arg arg;
} Change;

static bool is_changed(gpointer userdata)
{
        Change *change = userdata;

        if (ioctl(change->disk, BLKPG, &change->arg) == 0)
                return true;
        g_assert_cmpint(errno, ==, EBUSY);
        return false;
}

void test_change_partition(const char *disk, int operation, struct blkpg_partition *partition)
{
        Change change = {
                .disk = test_open_as(TEST_ROOT, disk, O_RDONLY),
                .arg = { .op = operation, .datalen = sizeof(*partition), .data = partition },
        };

        test_wait_quiet(is_changed, &change, "a partition to be free");
        close(change.disk);
}
