/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The model: images, their volumes, and the registry that holds them. It knows
 * what is attached and mounted, not how that came about and not who shows it.
 * All text in it is valid UTF-8 and printable; the hostile bytes stay behind.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

typedef struct Image Image;
typedef struct Volume Volume;
typedef struct Registry Registry;

typedef enum ImageState {
        IMAGE_ATTACHING, /* not published yet: its attach is under way, or was when the daemon died */
        IMAGE_ATTACHED,
        IMAGE_DETACHING, /* cleared, but somebody holds the device */
        IMAGE_STUCK,     /* the kernel does not give an answer */
} ImageState;

struct Volume {
        Image *image;
        unsigned number;     /* 0: the whole image; else the partition's number */
        dev_t devnum;        /* 0: it has no device */
        uint64_t offset;     /* in the image, bytes */
        uint64_t size;       /* bytes */
        uint32_t block_size; /* while it is attached: the file system's, bytes; 0: unknown */
        char *usage;
        char *type;
        char *version;
        char *label;
        char *uuid;
        char *partition_type;
        char *partition_name;
        char *partition_uuid;
        char *name;         /* for its mount point, if the caller has no wish */
        char *obstacle;     /* why it is not or cannot be mounted; "" if nothing is in the way */
        char *mount_point;  /* NULL: not mounted */
        uint64_t mount_id;  /* as statx(2) numbers mounts; 0: mount_point is made, but nothing mounted there yet */
        uint64_t known_id;  /* the one of mount_id and trigger_id of which unique_id is; see watch.c */
        uint64_t unique_id; /* as listmount(2) numbers mounts; 0: not known */
        bool mounted_read_only;
        char *superblock; /* the driver and the options of its last mount; NULL: it was not mounted yet */
        char *held_by;    /* it is unmounted when these bus names, separated by spaces, have let go; NULL: it stays */
        int trigger_fd;   /* it is mounted when mount_point is entered (see trigger.h); -1: it is not */
        uint64_t trigger_id; /* the trigger's mount, below the volume's; 0: there is none */
        bool is_new;         /* of a story that is under way: not shown yet */
        bool is_changed;     /* ... that has changed it, and has not told yet */
};

struct Image {
        uint64_t id; /* = diskseq: the kernel never gives one out twice between two boots */
        unsigned loop_number;
        dev_t devnum;
        uint64_t diskseq;
        int fd;               /* the loop device; -1 if others hold it (its mounts, or whoever keeps a detached one) */
        bool stored;          /* the service manager has a copy of fd */
        uint64_t quiet_until; /* uevents up to this sequence number tell nothing new */
        dev_t file_device;
        ino_t file_inode;
        uint64_t file_mount_id; /* where it was opened, as statx(2) numbers mounts: not given out again while it is
                                   attached */
        uid_t file_owner;       /* st_uid of the file when it was attached: they may detach the image, too */
        uint64_t offset;
        uint64_t size;
        uint64_t size_limit; /* bytes; 0: it reaches to the end of the file, also when that grows */
        uint32_t sector_size;
        bool read_only;
        bool direct_io;
        bool auto_detach;
        bool on_access;            /* its volumes are mounted when they are entered, */
        uint64_t idle_usec;        /* ... and unmounted when they were not used for so long; 0: never */
        char *wished_type;         /* ... as this type, NULL: what it is, */
        char *wished_options;      /* ... with these options */
        bool hardened_only;        /* ... if the driver needs no ACTION_MOUNT_UNHARDENED: nobody was asked for that */
        bool session_bound;        /* it goes with the last session of its owner */
        bool left_behind_told;     /* ... in the journal */
        uint64_t left_behind_usec; /* CLOCK_MONOTONIC: since when it is in use though he has left; 0: it is not */
        bool partition_scan;
        bool registered; /* a driver that registers devices (see filesystem.h) may know its devices */
        uid_t owner;
        gid_t owner_gid;
        char *owner_name;
        char *name;
        char *backing_file;
        char *table;
        ImageState state;
        uint64_t attached_at_usec; /* CLOCK_REALTIME */
        Volume **volumes;          /* by number */
        size_t n_volumes;
};

Image *image_new(void);
Image *image_free(Image *image);
DEFINE_CLEANUP(Image *, image_free)

Volume *volume_new(unsigned number);
Volume *volume_free(Volume *volume);
DEFINE_CLEANUP(Volume *, volume_free)

#define IMAGE_FOREACH_VOLUME(volume, image)                                                                            \
        for (size_t volume##_i = 0;                                                                                    \
             volume##_i < (image)->n_volumes && ((volume) = (image)->volumes[volume##_i], true); volume##_i++)

/* Takes @volume over, also on failure (-ENOMEM, -EEXIST). */
int image_add_volume(Image *image, Volume *volume);
void image_remove_volume(Image *image, Volume *volume);
Volume *image_find_volume(const Image *image, unsigned number);

/*
 * Whether the part of the file that @image is bound to and the one of @size bytes (0: to the end of the file) from
 * @offset have bytes in common, counted in units of @granularity bytes.
 */
bool image_overlaps(const Image *image, uint64_t offset, uint64_t size, uint64_t granularity);

/* "/dev/loop3" and "/dev/loop3p1"; "" if it has no device. */
void image_node(const Image *image, char node[static 32]);
void volume_node(const Volume *volume, char node[static 32]);

bool volume_is_mounted(const Volume *volume);
size_t image_count_mounted(const Image *image);

/* Whether it is mounted when it is entered; and whether it is not mounted now, but would be. */
bool volume_is_armed(const Volume *volume);
bool volume_is_waiting(const Volume *volume);

/* For whom a volume is mounted. -ENOMEM. */
bool volume_is_held_by(const Volume *volume, const char *name);
int volume_hold(Volume *volume, const char *name);
/* Returns true if nobody holds it any more: it is to be unmounted. */
bool volume_let_go(Volume *volume, const char *name);

/* Those with a mount point that can be used: mounted or waiting. */
size_t image_count_usable(const Image *image);

/* Whoever enters it, or waits for it, gets an error; the trigger itself, if it is there still, is only a mount now. */
void volume_disarm(Volume *volume);

const char *image_state_to_string(ImageState state);

/* ---- The registry ---- */

/* What has changed, for those who show it. Called with the model as it is after the change (removals: before). */
typedef enum RegistryEvent {
        REGISTRY_IMAGE_ADDED, /* with its volumes: for them no events of their own come */
        REGISTRY_IMAGE_CHANGED,
        REGISTRY_IMAGE_REMOVED,
        REGISTRY_VOLUME_ADDED,
        REGISTRY_VOLUME_CHANGED,
        REGISTRY_VOLUME_REMOVED,
} RegistryEvent;
typedef void (*RegistryObserver)(RegistryEvent event, Image *image, Volume *volume, void *userdata);

Registry *registry_new(RegistryObserver observer, void *userdata);
Registry *registry_free(Registry *registry);
DEFINE_CLEANUP(Registry *, registry_free)

/* Takes @image over (not on failure) and tells the observer. -EEXIST, -ENOMEM. */
int registry_add(Registry *registry, Image *image);
/* Tells the observer and frees @image. */
void registry_remove(Registry *registry, Image *image);
void registry_notify(Registry *registry, RegistryEvent event, Image *image, Volume *volume);

Image *registry_find(const Registry *registry, uint64_t id);
Image *registry_find_by_loop(const Registry *registry, unsigned loop_number);
size_t registry_count(const Registry *registry);
size_t registry_count_of(const Registry *registry, uid_t owner);
/* Returns true if @name holds a volume of any image; with NULL: if anybody does. */
bool registry_is_held_by(const Registry *registry, const char *name);
/* Those who have images, in no order. */
size_t registry_count_owners(const Registry *registry);
uid_t registry_nth_owner(const Registry *registry, size_t n);
/* NULL behind the last. */
Image *registry_nth(const Registry *registry, size_t n);
