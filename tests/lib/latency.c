/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lib/latency.h"

#include <fcntl.h>
#include <unistd.h>

#include "lib/ground.h"

#define LOOKS 21
#define ATTACHES 11

/*
 * What other work on the machine may add to a median that was taken a moment later, and how often to measure again,
 * for that work comes and goes. A daemon that waits for what hangs is late each time.
 */
#define SLACK_USEC (INT64_C(25) * 1000)
#define ROUNDS 20

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

/* Sorts them, gives the median, and "MEDIAN/WORST ms". */
static gint64 sum_up(gint64 *times, size_t n, char **ret_text)
{
        qsort(times, n, sizeof(*times), compare);
        gint64 median = times[n / 2], worst = times[n - 1];

        g_assert_cmpint(worst, <, TEST_LATENCY_MAX_USEC);
        *ret_text = g_strdup_printf("%.1f/%.1f ms", (double)median / 1000, (double)worst / 1000);
        return median;
}

static TestLatency measure(GDBusConnection *bob, int fd, const char *when)
{
        g_autofree char *looking = NULL, *attaching = NULL;
        gint64 looks[LOOKS], attaches[ATTACHES];
        TestLatency medians;

        for (size_t i = 0; i < LOOKS; i++)
                looks[i] = look(bob);
        for (size_t i = 0; i < ATTACHES; i++)
                attaches[i] = attach(bob, fd);
        medians.look = sum_up(looks, LOOKS, &looking);
        medians.attach = sum_up(attaches, ATTACHES, &attaching);
        g_test_message("median/worst of others %s: GetManagedObjects %s, Attach %s", when, looking, attaching);
        return medians;
}

static bool is_below(const TestLatency *medians, const TestLatency *limit)
{
        return medians->look < limit->look && medians->attach < limit->attach;
}

/* Measures until both are below @limit, or ROUNDS times; gives the medians of the last round. */
static TestLatency measure_until(GDBusConnection *bob, const TestLatency *limit, const char *when)
{
        g_autofree char *file = test_image_ext4("bystander.img", "BYSTANDER", test_bus_uid(bob));
        _cleanup_close_ int fd = test_open_as(test_bus_uid(bob), file, O_RDONLY);
        TestLatency medians;
        unsigned round = 0;

        do
                medians = measure(bob, fd, when);
        while (!is_below(&medians, limit) && ++round < ROUNDS);
        unlink(file);
        return medians;
}

TestLatency test_latency(GDBusConnection *bob, const char *when)
{
        return measure_until(bob, &(TestLatency){ G_MAXINT64, G_MAXINT64 }, when);
}

void test_latency_assert(GDBusConnection *bob, const TestLatency *usual, const char *when)
{
        TestLatency limit = { 2 * usual->look + SLACK_USEC, 2 * usual->attach + SLACK_USEC };
        TestLatency medians = measure_until(bob, &limit, when);

        if (!is_below(&medians, &limit))
                g_error("others notice it %s: their medians may be %.1f and %.1f ms", when, (double)limit.look / 1000,
                        (double)limit.attach / 1000);
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
