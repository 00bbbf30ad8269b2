/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From (stage, errno) to the D-Bus errors of the contract. */
#pragma once

#include <systemd/sd-bus.h>

#include "story/story.h"

#define ERROR_PREFIX "org.loopmount1.Error."

/* The error's name; *ret_sentence: what it means, to be followed by the failure's own words. */
const char *error_name(Stage stage, int error, const char **ret_sentence);

/* Replies to @message: sentence, words, and "(stage: ERRNO)". */
int error_reply(sd_bus_message *message, const Failure *failure);

/* The same for a request that has not become a story. */
int error_reply_early(sd_bus_message *message, int error);

/* Replies with InvalidArgs. @format: words that name the argument. */
int error_reply_invalid(sd_bus_message *message, const char *format, ...) _printf_(2, 3);
