/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the child that unmounts and releases is told by releasing.c, and what it answers. */
#pragma once

#include "mechanism/job.h"
#include "story/story.h"

#define RELEASE_DETAIL_SIZE 1024U

/* Behind it the items, with the path behind each, and the numbers of the devices. */
typedef struct ReleaseOrder {
        unsigned loop_number;
        dev_t devnum;
        uint64_t diskseq;
        bool read_only;
        bool release, lazy,
                forced;      /* without release only unmounted; what is busy, too; and nobody waits for its end */
        bool registered;     /* a driver's registry may know its devices */
        bool on_access;      /* there are triggers below the mounts */
        uint64_t grace_usec; /* how long others may hold the device, and closes may take */
        uid_t caller;        /* who is told of those who hold it */
        size_t n_items, n_devices;
} ReleaseOrder;

typedef struct ReleaseOrderItem {
        uint64_t mount_id; /* 0: of a mount that was not finished: what is on top there, if it is of this image */
        unsigned number;   /* the volume's */
        bool read_only;
        bool armed; /* its trigger stays, unless the image goes */
        uint64_t trigger_id;
} ReleaseOrderItem;

typedef struct ReleaseAnswer {
        _Alignas(uint64_t) int error; /* and of what is behind it */
        Stage stage;
        int write_back; /* 0, or why not all is in the file; the rest went well nevertheless */
        char detail[RELEASE_DETAIL_SIZE];
        /* Behind it: a ReleaseResult for each item. */
} ReleaseAnswer;

typedef struct ReleaseResult {
        bool unmounted;
        bool disarmed;     /* its trigger is gone, too */
        uint64_t mount_id; /* may be another one than before, of a mount that was put back */
} ReleaseResult;

/* A JobWork. Its one descriptor, if any, is the daemon's of the loop device. */
int releasing_work(int channel, const JobOrder *message);
