/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the child that mounts is told by mounting.c, and what it answers. */
#pragma once

#include "mechanism/job.h"
#include "mechanism/mount.h"

#define MOUNT_NODE_SIZE 64U

/* Behind it: the folder; each item, and behind that its texts: driver, name, and key and value of its options. */
typedef struct MountOrder {
        unsigned loop_number;
        dev_t devnum;
        uint64_t diskseq;
        gid_t pass; /* 0: without the guard of device-guard.h; else the order has its descriptors */
        bool chosen;
        size_t n_items;
} MountOrder;

typedef struct MountOrderItem {
        unsigned number; /* the volume's, and what else is known of it */
        dev_t devnum;
        uint64_t offset, size;
        char node[MOUNT_NODE_SIZE]; /* the name under which the driver gets it */
        bool read_only;
        bool may_share; /* its last mount had the same driver and options */
        bool registers; /* the driver keeps the name */
        uint64_t attributes;
        size_t n_options;
} MountOrderItem;

/* The answer: one for each item. */
typedef struct MountResult {
        int error;
        uint64_t mount_id;
        char message[MOUNT_MESSAGE_SIZE];
} MountResult;

/* A JobWork. */
int mounting_work(int channel, const JobOrder *message);
