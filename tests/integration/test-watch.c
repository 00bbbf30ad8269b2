/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What wakes the daemon: mounts of others cost it next to nothing, and still no
 * unmount of ours by somebody else is missed. Wake-ups are counted, not timed: a
 * wake-up is a voluntary context switch.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "lib/fuse-file.h"
#include "lib/ground.h"

#define FLOOD 250U
/* It lets changes of mounts pass for 100 ms behind one, which takes two wake-ups: into it, and out of it. */
#define REST_USEC (G_USEC_PER_SEC / 10)
#define WAKE_UPS_PER_REST 2

static guint64 count_wake_ups(pid_t daemon)
{
        static const char name[] = "voluntary_ctxt_switches:";
        g_autofree char *path = g_strdup_printf("/proc/%d/status", daemon), *status = NULL;
        const char *found;

        g_assert_true(g_file_get_contents(path, &status, NULL, NULL));
        found = strstr(status, name);
        if (!found)
                g_error("%s has no %s", path, name);
        return g_ascii_strtoull(found + strlen(name), NULL, 10);
}

static gboolean on_time(gpointer userdata)
{
        *(bool *)userdata = true;
        return G_SOURCE_REMOVE;
}

/* Longer than it rests. */
static void let_it_rest(void)
{
        bool late = false;

        g_timeout_add(4 * REST_USEC / 1000, on_time, &late);
        test_wait_flag(&late, "the daemon to have rested");
}

/* Its workers wait for more to do for a while. */
static bool has_no_children(gpointer userdata)
{
        return !test_has_children(*(pid_t *)userdata);
}

/* Until it neither rests nor has anything to do. */
static guint64 wait_until_idle(pid_t daemon)
{
        guint64 before, after;

        test_wait_quiet(has_no_children, &daemon, "the daemon's children to end");
        after = count_wake_ups(daemon);

        do {
                before = after;
                let_it_rest();
                after = count_wake_ups(daemon);
        } while (after != before);
        return after;
}

/* Mounts and unmounts something that is nobody's, over and over. */
static void flood(const char *folder, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                g_assert_cmpint(mount("tmpfs", folder, "tmpfs", 0, "size=4k"), ==, 0);
                g_assert_cmpint(umount2(folder, 0), ==, 0);
        }
}

static void unmount(const char *mount_point)
{
        g_assert_cmpint(umount2(mount_point, UMOUNT_NOFOLLOW), ==, 0);
}

typedef struct Fixture {
        TestGround ground;
        char *file;
        char *folder;
} Fixture;

static void set_up(Fixture *f, gconstpointer configuration)
{
        test_ground_set_up(&f->ground, configuration);
        f->file = test_image_squashfs("file.img", TEST_ANN);
        f->folder = test_folder("foreign");
}

static void tear_down(Fixture *f, gconstpointer configuration)
{
        unlink(f->file);
        g_free(f->file);
        rmdir(f->folder);
        g_free(f->folder);
        test_ground_tear_down(&f->ground, configuration);
}

static char *attach(Fixture *f, char **ret_mount_point)
{
        g_auto(GStrv) mount_points = NULL;
        char *image = test_attach_path(f->ground.ann, f->file, NULL, &mount_points);

        *ret_mount_point = g_strdup(mount_points[0]);
        return image;
}

/* ---- While nothing is mounted, nothing wakes it. ---- */

static void test_nothing_mounted(Fixture *f, gconstpointer userdata)
{
        g_autofree char *mount_point = NULL, *image = attach(f, &mount_point);
        guint64 before;

        (void)userdata;
        test_detach(f->ground.ann, image);
        before = wait_until_idle(f->ground.daemon->pid);
        flood(f->folder, FLOOD);
        g_assert_cmpuint(wait_until_idle(f->ground.daemon->pid), ==, before);
}

/* ---- A flood of others' mounts is two wake-ups in each rest, not one for each mount. ---- */

static void test_flood(Fixture *f, gconstpointer userdata)
{
        g_autofree char *mount_point = NULL, *image = attach(f, &mount_point);
        guint64 before, after;
        gint64 began, taken;

        (void)userdata;
        before = wait_until_idle(f->ground.daemon->pid);
        began = g_get_monotonic_time();
        flood(f->folder, FLOOD);
        taken = g_get_monotonic_time() - began;
        after = wait_until_idle(f->ground.daemon->pid);
        /* Two rests more: one that has begun at the end, and the one in which it looks what that was. */
        g_assert_cmpuint(after - before, <=, ((guint64)(taken / REST_USEC) + 2) * WAKE_UPS_PER_REST);
        test_detach(f->ground.ann, image);
}

/* ---- Nothing is missed: in the middle of a flood, behind it, and while it rests. ---- */

static void test_in_flood(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        for (unsigned i = 0; i < 8; i++) {
                g_autofree char *mount_point = NULL, *image = attach(f, &mount_point);

                if (i % 2)
                        let_it_rest();
                flood(f->folder, i * 20);
                unmount(mount_point);
                flood(f->folder, i / 4 * 20);
                test_signals_wait_removed(f->ground.signals, image, IMAGE);
                test_signals_clear(f->ground.signals);
        }
}

/* ---- A story of somebody else's hangs: what it has nothing to do with is seen all the same. ---- */

static void test_beside_story(Fixture *f, gconstpointer userdata)
{
        g_autofree char *mount_point = NULL, *image = attach(f, &mount_point);
        g_autofree char *other = test_image_squashfs("other.img", TEST_BOB);
        TestFuseFile *fuse = test_fuse_file_start("fuse", other, TEST_BOB, true);
        g_autoptr(TestCall) call = NULL;
        const char *stuck;
        int fd;

        (void)userdata;
        fd = test_open_as(TEST_BOB, test_fuse_file_path(fuse), O_RDONLY);
        test_fuse_file_silence(fuse, 0);
        call = test_attach_start(f->ground.bob, fd, NULL);
        test_wait_quiet(test_fuse_file_has_stuck, fuse, "the probe to be stuck");
        unmount(mount_point);
        test_signals_wait_removed(f->ground.signals, image, IMAGE);
        g_assert_false(call->done);
        test_fuse_file_resume(fuse);
        test_call_wait(call);
        test_assert_succeeded(call);
        g_variant_get_child(call->reply, 0, "&o", &stuck);
        test_detach(f->ground.bob, stuck);
        close(fd);
        test_fuse_file_stop(fuse);
        unlink(other);
}

static uint64_t mount_id_of(const char *path)
{
        struct statx stx;

        g_assert_cmpint(statx(AT_FDCWD, path, 0, STATX_MNT_ID, &stx), ==, 0);
        return stx.stx_mnt_id;
}

/* The kernel gives out the smallest number that is free; which one that is others have a say in. */
static unsigned mount_until_it_has(uint64_t id, const char *folder)
{
        for (unsigned n = 1; n <= FLOOD; n++) {
                g_assert_cmpint(mount("tmpfs", folder, "tmpfs", 0, "size=4k"), ==, 0);
                if (mount_id_of(folder) == id)
                        return n;
        }
        g_error("no mount gets the number %" PRIu64 " again", id);
}

/* What is mounted next has the number of what was unmounted before, and is not taken for it. */
static void try_number_of_another(Fixture *f, bool looked_at_before)
{
        g_autofree char *mount_point = NULL, *image = attach(f, &mount_point);
        uint64_t id = mount_id_of(mount_point);

        if (looked_at_before) {
                let_it_rest();
                flood(f->folder, 1);
                let_it_rest();
        }
        g_assert_cmpint(kill(f->ground.daemon->pid, SIGSTOP), ==, 0);
        g_assert_cmpint(umount2(mount_point, 0), ==, 0);
        unsigned n = mount_until_it_has(id, f->folder);
        g_assert_cmpint(kill(f->ground.daemon->pid, SIGCONT), ==, 0);
        test_signals_wait_removed(f->ground.signals, image, IMAGE);
        while (n-- > 0)
                g_assert_cmpint(umount2(f->folder, 0), ==, 0);
        test_signals_clear(f->ground.signals);
}

static void test_number_of_another(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        try_number_of_another(f, false);
        try_number_of_another(f, true);
}

/* ---- A request that comes before the daemon has seen an unmount looks by itself. ---- */

/* Attaches and mounts again, and checks that what is answered is so. */
static void attach_after_unmount(Fixture *f, bool keep)
{
        const char *options = keep ? "{'auto-detach': <false>}" : NULL;
        g_auto(GStrv) before = NULL, after = NULL;
        g_autofree char *first = test_attach_path(f->ground.ann, f->file, options, &before);

        unmount(before[0]);
        g_autofree char *second = test_attach_path(f->ground.ann, f->file, options, &after);
        test_assert_hello(TEST_ANN, after[0]);
        g_assert_cmpint(streq(first, second), ==, keep);
        test_detach(f->ground.ann, second);
}

static void test_attach_after_unmount(Fixture *f, gconstpointer userdata)
{
        (void)userdata;
        for (unsigned i = 0; i < 8; i++)
                attach_after_unmount(f, i % 2);
        g_assert_cmpuint(test_count_loops(), ==, 0);
}

/* A conflict with what is about to go by itself is none. */
static void test_conflict_after_unmount(Fixture *f, gconstpointer userdata)
{
        g_autofree char *file = test_image_ext4("writable.img", "LABEL", TEST_ANN);

        (void)userdata;
        for (unsigned i = 0; i < 4; i++) {
                g_auto(GStrv) before = NULL, after = NULL;

                g_free(test_attach_path(f->ground.ann, file, "{'read-only': <false>}", &before));
                unmount(before[0]);
                g_autofree char *image = test_attach_path(f->ground.ann, file, NULL, &after);
                test_assert_hello(TEST_ANN, after[0]);
                test_detach(f->ground.ann, image);
        }
        unlink(file);
}

static void test_mount_after_unmount(Fixture *f, gconstpointer userdata)
{
        g_autofree char *image = test_attach_path(f->ground.ann, f->file, "{'mount': <false>}", NULL);
        g_autofree char *volume = test_volume_path(image, 0);

        (void)userdata;
        for (unsigned i = 0; i < 8; i++) {
                g_autoptr(TestCall) call = test_simple_call(f->ground.ann, volume, VOLUME, "Mount");
                const char *mount_point;

                test_assert_succeeded(call);
                g_variant_get(call->reply, "(&s)", &mount_point);
                test_assert_hello(TEST_ANN, mount_point);
                unmount(mount_point);
        }
        test_detach(f->ground.ann, image);
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        ADD("/watch/nothing-mounted", test_nothing_mounted);
        ADD("/watch/flood", test_flood);
        ADD("/watch/in-flood", test_in_flood);
        ADD("/watch/beside-story", test_beside_story);
        ADD("/watch/number-of-another", test_number_of_another);
        ADD("/watch/then-attach", test_attach_after_unmount);
        ADD("/watch/then-conflict", test_conflict_after_unmount);
        ADD("/watch/then-mount", test_mount_after_unmount);
        return g_test_run();
}
