/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lib/latency.h"

#include <fcntl.h>
#include <unistd.h>

#include "lib/ground.h"

#define LOOKS 21
#define ATTACHES 5

static int compare(gconstpointer a, gconstpointer b)
{
        gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;

        return (x > y) - (x < y);
}

static gint64 look(GDBusConnection *bob)
{
        gint64 began = g_get_monotonic_time();
        g_variant_unref(test_call_ok(bob, ROOT_PATH, DBUS_OBJECT_MANAGER, "GetManagedObjects", NULL));

        return g_get_monotonic_time() - began;
}

static gint64 attach(GDBusConnection *bob, int fd)
{
        gint64 began = g_get_monotonic_time();
        g_autoptr(TestCall) call = test_attach(bob, fd, NULL);
        gint64 taken = g_get_monotonic_time() - began;
        const char *image;

        test_assert_succeeded(call);
        g_variant_get_child(call->reply, 0, "&o", &image);
        test_detach(bob, image);
        return taken;
}

/* Sorts them, and gives "MEDIAN/WORST ms". */
static char *sum_up(gint64 *times, size_t n)
{
        qsort(times, n, sizeof(*times), compare);
        gint64 median = times[n / 2], worst = times[n - 1];

        g_assert_cmpint(worst, <, TEST_LATENCY_MAX_USEC);
        return g_strdup_printf("%.1f/%.1f ms", (double)median / 1000, (double)worst / 1000);
}

void test_latency(GDBusConnection *bob, const char *when)
{
        g_autofree char *file = test_image_ext4("bystander.img", "BYSTANDER", test_bus_uid(bob));
        _cleanup_close_ int fd = test_open_as(test_bus_uid(bob), file, O_RDONLY);
        gint64 looks[LOOKS], attaches[ATTACHES];

        for (size_t i = 0; i < LOOKS; i++)
                looks[i] = look(bob);
        for (size_t i = 0; i < ATTACHES; i++)
                attaches[i] = attach(bob, fd);
        g_autofree char *looking = sum_up(looks, LOOKS);
        g_autofree char *attaching = sum_up(attaches, ATTACHES);
        g_test_message("median/worst of others %s: GetManagedObjects %s, Attach %s", when, looking, attaching);
        unlink(file);
}

static guint64 read_kib(const char *status, const char *name)
{
        const char *found = strstr(status, name);

        if (!found)
                g_error("/proc has no %s", name);
        return g_ascii_strtoull(found + strlen(name), NULL, 10);
}

guint64 test_memory(pid_t daemon, bool reset, guint64 *ret_peak)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/status", daemon);
        g_autofree char *clear = g_strdup_printf("/proc/%d/clear_refs", daemon);
        g_autofree char *status = NULL;

        g_assert_true(g_file_get_contents(path, &status, NULL, NULL));
        if (ret_peak)
                *ret_peak = read_kib(status, "VmHWM:");
        /* "5" resets the peak. */
        if (reset)
                g_assert_cmpint(test_write_as(TEST_ROOT, clear, "5"), ==, 0);
        return read_kib(status, "VmRSS:");
}

void test_memory_print(const char *what, guint64 before, guint64 peak, guint64 after)
{
        g_test_message("memory of the daemon, %s: %" G_GUINT64_FORMAT " KiB before, %" G_GUINT64_FORMAT
                       " at most, %" G_GUINT64_FORMAT " after",
                       what, before, peak, after);
}
