/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>
#include <glib/gstdio.h>

#include "errors.h"
#include "options.h"
#include "suggest.h"

/* Parses the words of @line; the words outlive the settings, which point into them. */
static char **words;

static int parse(const char *line, Settings *ret)
{
        g_auto(GStrv) wanted = g_strsplit(line, " ", -1);
        size_t n = g_strv_length(wanted);

        g_strfreev(words);
        words = g_new0(char *, n + 2);
        words[0] = g_strdup("loopmount");
        for (size_t i = 0; i < n; i++)
                words[i + 1] = g_strdup(wanted[i]);
        return options_parse((int)n + 1, words, ret);
}

static void assert_refused(const char *line)
{
        _cleanup_(settings_clear) Settings settings = { 0 };

        g_test_message("%s", line);
        g_assert_cmpint(parse(line, &settings), ==, STATUS_USAGE);
}

static void test_attach(void)
{
        _cleanup_(settings_clear) Settings s = { 0 };

        g_assert_cmpint(parse("attach -w a.img --offset 1M --size=2KB -t ext4 --sector-size 4096 -o ro,noatime --name "
                              "x --direct-io=no --keep --settle --no-partition-scan --print-path b.img",
                              &s),
                        ==, STATUS_OK);
        g_assert_cmpstr(s.verb->name, ==, "attach");
        g_assert_cmpuint(s.n_operands, ==, 2);
        g_assert_cmpstr(s.operands[0], ==, "a.img");
        g_assert_cmpstr(s.operands[1], ==, "b.img");
        g_assert_true(s.writable && s.keep && s.settle && s.no_partition_scan && s.print_path);
        g_assert_false(s.no_mount || s.json || s.no_ask_password);
        g_assert_cmpuint(s.offset, ==, 1024 * 1024);
        g_assert_cmpuint(s.size, ==, 2000);
        g_assert_cmpuint(s.sector_size, ==, 4096);
        g_assert_cmpstr(s.type, ==, "ext4");
        g_assert_cmpstr(s.mount_options, ==, "ro,noatime");
        g_assert_cmpstr(s.name, ==, "x");
        g_assert_cmpstr(s.direct_io, ==, "no");
}

static void test_defaults(void)
{
        _cleanup_(settings_clear) Settings s = { 0 };

        g_assert_cmpint(parse("attach a", &s), ==, STATUS_OK);
        g_assert_false(s.writable || s.keep || s.settle || s.no_partition_scan || s.print_path || s.no_mount);
        g_assert_cmpuint(s.n_volumes, ==, 0);
        g_assert_null(s.direct_io);
        g_assert_null(s.type);
}

static void test_volumes(void)
{
        _cleanup_(settings_clear) Settings s = { 0 };

        g_assert_cmpint(parse("attach --volume 1,2 a --volume=0", &s), ==, STATUS_OK);
        g_assert_cmpuint(s.n_volumes, ==, 3);
        g_assert_cmpuint(s.volumes[0], ==, 1);
        g_assert_cmpuint(s.volumes[1], ==, 2);
        g_assert_cmpuint(s.volumes[2], ==, 0);

        assert_refused("attach a --volume 1,,2");
        assert_refused("attach a --volume 1,");
        assert_refused("attach a --volume -1");
        assert_refused("attach a --volume x");
        assert_refused("attach a --volume 4294967296");
}

static void test_mount_options(void)
{
        static const struct {
                const char *line, *options;
        } cases[] = {
                { "attach -o noexec -o noatime a", "noexec,noatime" },
                { "attach -o noexec,ro a --options=noatime", "noexec,ro,noatime" },
                { "mount -onoexec 3 -onoatime -o sync", "noexec,noatime,sync" },
                { "with -o noexec a --options noatime -- ls -o x", "noexec,noatime" },
                { "automount -o noexec -o noatime enable a", "noexec,noatime" },
                { "attach --options= -o noatime a", "noatime" },
                { "attach a", NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                _cleanup_(settings_clear) Settings s = { 0 };

                g_test_message("%s", cases[i].line);
                g_assert_cmpint(parse(cases[i].line, &s), ==, STATUS_OK);
                g_assert_cmpstr(s.mount_options, ==, cases[i].options);
        }
}

/* Only one value of these can be used: that the other one is dropped would be a surprise. */
static void test_twice(void)
{
        static const char *const values[] = { "offset=512",     "size=1M", "sector-size=512", "type=ext4",
                                              "direct-io=auto", "name=x",  "idle-timeout=3" };
        _cleanup_(settings_clear) Settings flags = { 0 };

        for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
                _cleanup_(settings_clear) Settings once = { 0 };
                g_autofree char *line = g_strdup_printf("attach --%s a", values[i]);
                g_autofree char *twice = g_strdup_printf("attach --%s a --%s", values[i], values[i]);

                g_assert_cmpint(parse(line, &once), ==, STATUS_OK);
                assert_refused(twice);
        }
        assert_refused("mount -t ext4 3 --type=xfs");
        g_assert_cmpint(parse("attach -w -w a --keep --keep", &flags), ==, STATUS_OK);
}

static void test_order(void)
{
        _cleanup_(settings_clear) Settings before = { 0 }, ended = { 0 };

        g_assert_cmpint(parse("--json list --all-users", &before), ==, STATUS_OK);
        g_assert_true(before.json && before.all_users);
        g_assert_cmpuint(before.n_operands, ==, 0);

        g_assert_cmpint(parse("detach -- -w --all", &ended), ==, STATUS_OK);
        g_assert_cmpuint(ended.n_operands, ==, 2);
        g_assert_cmpstr(ended.operands[0], ==, "-w");
        g_assert_cmpstr(ended.operands[1], ==, "--all");
        g_assert_false(ended.all || ended.force);
}

static void test_force(void)
{
        _cleanup_(settings_clear) Settings one = { 0 }, all = { 0 };

        g_assert_cmpint(parse("detach a --force", &one), ==, STATUS_OK);
        g_assert_true(one.force && !one.all);
        g_assert_cmpint(parse("detach --force --all", &all), ==, STATUS_OK);
        g_assert_true(all.force && all.all);
}

static void test_with(void)
{
        _cleanup_(settings_clear) Settings s = { 0 };

        g_assert_cmpint(parse("with --settle a.img -w -- ls --json -- -l", &s), ==, STATUS_OK);
        g_assert_true(s.settle && s.writable);
        g_assert_false(s.json);
        g_assert_cmpuint(s.n_operands, ==, 1);
        g_assert_cmpstr(s.operands[0], ==, "a.img");
        g_assert_cmpstr(s.command[0], ==, "ls");
        g_assert_cmpstr(s.command[1], ==, "--json");
        g_assert_cmpstr(s.command[2], ==, "--");
        g_assert_cmpstr(s.command[3], ==, "-l");
        g_assert_null(s.command[4]);

        assert_refused("with a.img");
        assert_refused("with a.img --");
        assert_refused("with a.img ls");
        assert_refused("with -- ls");
        assert_refused("with a.img b.img -- ls");
        assert_refused("with --keep a.img -- ls");
        assert_refused("-- with a.img -- ls");
}

/* Who only knows other tools. */
static void test_guesses(void)
{
        static const struct {
                const char *line, *verb;
        } cases[] = {
                { "umount a", "unmount" },
                { "eject a", "detach" },
                { "ls", "list" },
                { "status --json", "list" },
                { "./no-such.img", "attach" },
                { "/ --no-mount", "attach" },
                { "-r /", "attach" },
                { "attach a --writeable", "attach" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(settings_clear) Settings s = { 0 };

                g_test_message("%s", cases[i].line);
                g_assert_cmpint(parse(cases[i].line, &s), ==, STATUS_OK);
                g_assert_cmpstr(s.verb->name, ==, cases[i].verb);
        }
}

/* A file in this folder needs no slash, unless it has the name of a verb. */
static void test_file_in_place_of_verb(void)
{
        g_autofree char *folder = g_dir_make_tmp("loopmount-test-XXXXXX", NULL);
        g_autofree char *old = g_get_current_dir();
        _cleanup_(settings_clear) Settings file = { 0 }, verb = { 0 };

        g_assert_cmpint(g_chdir(folder), ==, 0);
        g_assert_true(g_file_set_contents("disk.img", "", 0, NULL));
        g_assert_true(g_file_set_contents("list", "", 0, NULL));
        g_assert_cmpint(parse("-w disk.img list", &file), ==, STATUS_OK);
        g_assert_cmpstr(file.verb->name, ==, "attach");
        g_assert_true(file.writable);
        g_assert_cmpuint(file.n_operands, ==, 2);
        g_assert_cmpstr(file.operands[0], ==, "disk.img");
        g_assert_cmpint(parse("list", &verb), ==, STATUS_OK);
        g_assert_cmpstr(verb.verb->name, ==, "list");
        assert_refused("disk.imgs");
        g_unlink("disk.img");
        g_unlink("list");
        g_assert_cmpint(g_chdir(old), ==, 0);
        g_rmdir(folder);
}

static void test_read_only_and_all(void)
{
        _cleanup_(settings_clear) Settings reading = { 0 }, all = { 0 }, detached = { 0 };

        g_assert_cmpint(parse("attach --read-only a", &reading), ==, STATUS_OK);
        g_assert_true(reading.read_only && !reading.writable);
        assert_refused("attach -r -w a");
        assert_refused("list -r");
        g_assert_cmpint(parse("list -a", &all), ==, STATUS_OK);
        g_assert_true(all.all_users);
        g_assert_cmpint(parse("detach -a", &detached), ==, STATUS_OK);
        g_assert_true(detached.all);
}

static const char *suggest(const char *typed)
{
        Suggestion suggestion = { 0 };

        for (const Verb *v = verbs; v->name; v++)
                suggest_consider(&suggestion, typed, strlen(typed), v->name);
        return suggestion.word;
}

static void test_suggestions(void)
{
        g_assert_cmpstr(suggest("attahc"), ==, "attach");
        g_assert_cmpstr(suggest("atach"), ==, "attach");
        g_assert_cmpstr(suggest("dettach"), ==, "detach");
        g_assert_cmpstr(suggest("mout"), ==, "mount");
        g_assert_cmpstr(suggest("lst"), ==, "list");
        g_assert_null(suggest("frobnicate"));
        g_assert_null(suggest("ab"));
        g_assert_null(suggest(""));
        g_assert_null(suggest("a-word-that-is-longer-than-any-word-here"));
}

static void test_refused(void)
{
        assert_refused("frobnicate");
        assert_refused("--frobnicate list");
        assert_refused("list --frobnicate=3");
        assert_refused("-x list");
        assert_refused("list -wx");
        assert_refused("list -w");
        assert_refused("detach a --json");
        assert_refused("unmount a --force");
        assert_refused("list --json=3");
        assert_refused("list a");
        assert_refused("attach");
        assert_refused("attach a --offset");
        assert_refused("attach a --offset 12q");
        assert_refused("attach a --size -1");
        assert_refused("attach a --size 99999999999E");
        assert_refused("attach a --sector-size 512K");
        assert_refused("attach a --direct-io maybe");
        assert_refused("detach");
        assert_refused("detach --all a");
        assert_refused("mount a b");
        assert_refused("--json");
}

static void test_help(void)
{
        _cleanup_(settings_clear) Settings whole = { 0 }, version = { 0 };

        g_assert_cmpint(parse("--help", &whole), ==, STATUS_OK);
        g_assert_true(whole.help);
        g_assert_null(whole.verb);

        for (const Verb *v = verbs; v->name; v++) {
                _cleanup_(settings_clear) Settings s = { 0 };
                g_autofree char *line = g_strdup_printf("%s -h", v->name);

                g_assert_cmpint(parse(line, &s), ==, STATUS_OK);
                g_assert_true(s.help);
                g_assert_true(s.verb == v);
        }

        g_assert_cmpint(parse("-V", &version), ==, STATUS_OK);
        g_assert_true(version.version);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/client/options/attach", test_attach);
        g_test_add_func("/client/options/defaults", test_defaults);
        g_test_add_func("/client/options/volumes", test_volumes);
        g_test_add_func("/client/options/mount-options", test_mount_options);
        g_test_add_func("/client/options/twice", test_twice);
        g_test_add_func("/client/options/order", test_order);
        g_test_add_func("/client/options/force", test_force);
        g_test_add_func("/client/options/with", test_with);
        g_test_add_func("/client/options/guesses", test_guesses);
        g_test_add_func("/client/options/file-in-place-of-verb", test_file_in_place_of_verb);
        g_test_add_func("/client/options/read-only-and-all", test_read_only_and_all);
        g_test_add_func("/client/options/suggestions", test_suggestions);
        g_test_add_func("/client/options/refused", test_refused);
        g_test_add_func("/client/options/help", test_help);
        return g_test_run();
}
