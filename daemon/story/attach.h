/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The story of attaching a file: from an open descriptor to mounted file systems. */
#pragma once

#include "mechanism/loop.h"
#include "story/mounting.h"
#include "story/story.h"

typedef struct AttachRequest {
        int parcel;         /* the file (see parcel.h); owned */
        sd_event *event;    /* for closing it; not owned */
        char *backing_file; /* raw bytes, for display and names */
        bool read_only;
        bool partition_scan;
        bool mount;
        bool settle;
        bool hold;            /* what is mounted for it is unmounted when the caller lets go */
        bool on_access;       /* a volume is mounted when it is entered, not before */
        uint64_t idle_usec;   /* ... and unmounted when it was not used for so long; 0: never */
        int auto_detach;      /* < 0: if something was mounted */
        int session_bound;    /* < 0: if the caller is in a session */
        uint64_t offset;      /* bytes */
        uint64_t size;        /* bytes; 0: to the end */
        uint32_t sector_size; /* bytes; 0: to be found out */
        LoopDirectIO direct_io;
        MountWish wish;
        uint32_t *volumes; /* to mount; none: all that can be */
        size_t n_volumes;
} AttachRequest;

void attach_request_done(AttachRequest *request);

/* Takes the contents of @request over, also on failure. As story_start(). *ret: valid until @done was called. */
int attach_start(Service *service, const Caller *caller, AttachRequest *request, StoryDone done, void *userdata,
                 Story **ret);

/* In @done, without a failure: the image. */
const Image *attach_get_image(const Story *story);

/*
 * The same: the mount points of the volumes that were asked for, in the order in which they were named; if none was
 * named, of all that are mounted, by number. NULL past the end.
 */
const char *attach_nth_mount_point(const Story *story, size_t n);
