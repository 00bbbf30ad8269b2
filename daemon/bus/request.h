/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A method call that is waiting for its story to end. */
#pragma once

#include <systemd/sd-bus.h>

#include "bus/options.h"
#include "story/story.h"

typedef struct Request Request;

/* Replies to a call whose story went well; NULL: an empty reply. */
typedef int (*RequestReply)(sd_bus_message *message, const Story *story);

/* @message is kept until the reply. -errno as of asking the bus who the sender is. */
int request_new(sd_bus_message *message, RequestReply reply, Request **ret);

/*
 * The same for a call that brings options and nothing else, which are read first.
 * If *ret is NULL, it has replied; its result is to be returned from the handler.
 */
int request_new_with_options(sd_bus_message *message, const OptionRule *rules, size_t n_rules, RequestReply reply,
                             Request **ret);

Request *request_free(Request *request);
DEFINE_CLEANUP(Request *, request_free)

const Caller *request_get_caller(const Request *request);

/* For the story that serves it: where to put it, its callback and userdata. */
Story **request_story(Request *request);
void request_done(Story *story, const Failure *failure, void *userdata);

/*
 * Behind the story's start, which gave @r: on failure replies, and frees the
 * request. To be returned from the method's handler.
 */
int request_started(Request *request, int r);

/*
 * For a message that would cost more to take in than to refuse: whether its sender
 * is known to have as many requests under way as he may. Asks nobody.
 */
bool request_is_surplus(sd_bus_message *message);

/* Cancels all other calls that the sender of @message has under way. */
void request_cancel_others(sd_bus_message *message);

/*
 * At start: the callers that hold volumes may have left while no daemon was there. Lets go for those, and hears of the
 * rest. -errno.
 */
int request_find_holders(Service *service);

/* Refuses a call before there is a request. */
int request_refuse(sd_bus_message *message, int error);

/* The service that a handler's vtable was registered with. */
Service *request_service(sd_bus_message *message);
