/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of errors: each name of the contract comes up where it should, and
 * no other name ever does; and what a reply looks like when it arrives.
 */
#include <glib.h>

#include "bus-pair.h"
#include "bus/errors.h"

/* The contract. WrongPassphrase belongs to unlocking, which is not there yet. */
static const char *const names[] = {
        "NotAuthorized",
        "InvalidImage",
        "UnsupportedFilesystem",
        "OptionNotPermitted",
        "Busy",
        "AlreadyAttached",
        "AlreadyMounted",
        "NotMounted",
        "LimitExceeded",
        "Timeout",
        "Cancelled",
        "Failed",
        "InvalidArgs",
};

static void test_names(void)
{
        static const struct {
                Stage stage;
                int error;
                const char *name;
        } cases[] = {
                { STAGE_LIMITS, -EDQUOT, "LimitExceeded" },
                { STAGE_AUTHORISE, -EACCES, "NotAuthorized" },
                { STAGE_AUTHORISE, -EKEYREJECTED, "NotAuthorized" },
                { STAGE_AUTHORISE, -ESRCH, "NotAuthorized" },
                { STAGE_AUTHORISE, -ENOMSG, "Failed" },
                { STAGE_AUTHORISE, -ENOMEM, "Failed" },
                { STAGE_PROBE, -ENODATA, "InvalidImage" },
                { STAGE_PROBE, -EMEDIUMTYPE, "InvalidImage" },
                { STAGE_PROBE, -EACCES, "InvalidImage" },
                { STAGE_PROBE, -ENOTUNIQ, "InvalidImage" },
                { STAGE_PROBE, -EBADMSG, "InvalidImage" },
                { STAGE_PROBE, -ECHILD, "InvalidImage" },
                { STAGE_PROBE, -EIO, "InvalidImage" },
                { STAGE_PROBE, -ERANGE, "InvalidArgs" },
                { STAGE_PROBE, -EDQUOT, "LimitExceeded" },
                { STAGE_PROBE, -ETIMEDOUT, "Timeout" },
                { STAGE_LOCK, -EEXIST, "AlreadyAttached" },
                { STAGE_LOCK, -ECANCELED, "Cancelled" },
                { STAGE_PLAN, -ENODATA, "InvalidImage" },
                { STAGE_PLAN, -EINVAL, "InvalidArgs" },
                { STAGE_PLAN, -EPROTONOSUPPORT, "UnsupportedFilesystem" },
                { STAGE_PLAN, -ENOENT, "InvalidArgs" },
                { STAGE_PLAN, -EPERM, "OptionNotPermitted" },
                { STAGE_PLAN, -EROFS, "OptionNotPermitted" },
                { STAGE_MOUNT, -EROFS, "OptionNotPermitted" },
                { STAGE_MOUNT, -EACCES, "OptionNotPermitted" }, /* how the kernel says it of a UDF */
                { STAGE_PLAN, -EALREADY, "AlreadyMounted" },
                { STAGE_PLAN, -EDQUOT, "LimitExceeded" },
                { STAGE_BIND, -ENODATA, "InvalidImage" },
                { STAGE_BIND, -EUSERS, "Busy" },
                { STAGE_BIND, -EOPNOTSUPP, "Failed" },
                { STAGE_BIND, -EIO, "Failed" },
                { STAGE_MOUNT, -ENODEV, "UnsupportedFilesystem" },
                { STAGE_MOUNT, -EOPNOTSUPP, "UnsupportedFilesystem" },
                { STAGE_MOUNT, -EINVAL, "InvalidImage" },
                { STAGE_MOUNT, -EUCLEAN, "InvalidImage" },
                { STAGE_MOUNT, -EIO, "InvalidImage" },
                { STAGE_MOUNT, -ENOMEM, "Failed" },
                { STAGE_UNMOUNT, -EBUSY, "Busy" },
                { STAGE_UNMOUNT, -EINVAL, "NotMounted" },
                { STAGE_UNMOUNT, -EIO, "Failed" },
                { STAGE_RELEASE, -EBUSY, "Busy" },
                { STAGE_RELEASE, -EIO, "Failed" },
                { STAGE_RELEASE, -ETIMEDOUT, "Timeout" },
                { STAGE_COMMIT, -ENOSPC, "Failed" },
                { STAGE_REQUEST, -ENOMEM, "Failed" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                g_assert_cmpstr(error_name(cases[i].stage, cases[i].error, NULL), ==, cases[i].name);
}

static size_t find_name(const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (streq(names[i], name))
                        return i;
        g_error("%s is not in the contract", name);
}

/* Every errno at every stage: a name of the contract with something to say, and each name somewhere. */
static void test_complete(void)
{
        bool seen[ELEMENTSOF(names)] = { 0 };

        for (Stage stage = 0; stage < STAGE_MAX_; stage++)
                for (int error = 1; error <= 4096; error++) {
                        const char *sentence = NULL;

                        seen[find_name(error_name(stage, -error, &sentence))] = true;
                        g_assert_true(g_ascii_isupper(sentence[0]));
                        g_assert_false(g_str_has_suffix(sentence, "."));
                }
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                g_test_message("%s", names[i]);
                g_assert_true(seen[i]);
        }
}

/* Said of every stage, also where a row of its own comes later. */
static void test_everywhere(void)
{
        for (Stage stage = 0; stage < STAGE_MAX_; stage++) {
                g_assert_cmpstr(error_name(stage, -ECANCELED, NULL), ==, "Cancelled");
                g_assert_cmpstr(error_name(stage, -ETIMEDOUT, NULL), ==, "Timeout");
        }
}

/* ---- Replies ---- */

static const Failure *failure; /* what the server replies with; NULL: as to invalid arguments */
static const char *complaint;

static int on_call(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        (void)userdata, (void)error;
        g_assert_cmpint(failure ? error_reply(message, failure)
                                : error_reply_invalid(message, "Option \"%s\"", complaint),
                        >=, 0);
        return 1;
}

static int on_reply(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        const sd_bus_error *reply = sd_bus_message_get_error(message);

        (void)error;
        g_assert_nonnull(reply);
        *(char **)userdata = g_strdup_printf("%s|%s", reply->name, reply->message);
        return 0;
}

static char *call(BusPair *pair)
{
        char *text = NULL;

        g_assert_cmpint(sd_bus_call_method_async(pair->client, NULL, NULL, "/x", "x.y", "Z", on_reply, &text, NULL), >=,
                        0);
        bus_pair_turn(pair);
        return text;
}

/* The table's name and sentence, and @words behind them. */
static void assert_reply(BusPair *pair, const Failure *failed, const char *words)
{
        const char *sentence, *name = error_name(failed->stage, failed->error, &sentence);
        g_autofree char *wanted = g_strdup_printf("org.loopmount1.Error.%s|%s%s", name, sentence, words), *text = NULL;

        failure = failed;
        text = call(pair);
        g_assert_cmpstr(text, ==, wanted);
}

static void test_replies(void)
{
        Failure bare = { .stage = STAGE_LOCK, .error = -EEXIST };
        Failure worded = { STAGE_UNMOUNT, -EBUSY, (char *)"it is in use by vim (pid 3)" };
        Failure hostile = { STAGE_PLAN, -EPERM, (char *)"the option \"%s%n\\xff\" is not permitted" };
        Failure unknown = { STAGE_BIND, -4000, NULL };
        g_autofree char *invalid = NULL;
        BusPair pair;

        bus_pair_open(&pair);
        g_assert_cmpint(sd_bus_add_object(pair.server, NULL, "/x", on_call, NULL), >=, 0);
        assert_reply(&pair, &bare, " (lock: EEXIST)");
        assert_reply(&pair, &worded, ": it is in use by vim (pid 3) (unmount: EBUSY)");
        assert_reply(&pair, &hostile, ": the option \"%s%n\\xff\" is not permitted (plan: EPERM)");
        assert_reply(&pair, &unknown, " (bind: unknown)");
        failure = NULL;
        complaint = "%s%n";
        invalid = call(&pair);
        g_assert_cmpstr(invalid, ==, "org.loopmount1.Error.InvalidArgs|Option \"%s%n\"");
        bus_pair_close(&pair);
}

int main(int argc, char *argv[])
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/bus-errors/names", test_names);
        g_test_add_func("/bus-errors/complete", test_complete);
        g_test_add_func("/bus-errors/everywhere", test_everywhere);
        g_test_add_func("/bus-errors/replies", test_replies);
        return g_test_run();
}
