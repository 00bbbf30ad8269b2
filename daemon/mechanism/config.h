/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loopmount.conf and its drop-ins, read once at start. A bad line is reported
 * with file and line, and its default stays.
 */
#pragma once

#include "base/macro.h"

typedef struct ConfigFilesystem {
        char *type;    /* as libblkid calls it */
        char *options; /* Options=: added for every mount of the type; NULL if unset */
} ConfigFilesystem;

typedef struct Config {
        /* [Limits] */
        unsigned max_images_per_user;   /* MaxImagesPerUser= */
        unsigned max_requests_per_user; /* MaxRequestsPerUser= */
        unsigned max_volumes_per_image; /* MaxVolumesPerImage= */
        uint64_t job_timeout_usec;      /* JobTimeoutSec=: for a child that binds, probes, mounts or unmounts */
        uint64_t idle_timeout_usec;     /* IdleTimeoutSec=: leave after this long with nothing to do; 0: never */
        /* [Mount] */
        char *root;          /* Root=: absolute, normalised, not "/"; mount points are ROOT/USER/NAME */
        char **filesystems;  /* FileSystems=: space-separated types that may be mounted; NULL-terminated */
        bool allow_writable; /* AllowWritable= */
        bool allow_exec;     /* AllowExec=: false mounts everything noexec */
        /* [FileSystem TYPE] */
        ConfigFilesystem *per_type;
        size_t n_per_type;
} Config;

/* Called for each thing that was wrong; @line is 0 for what concerns the whole file (or folder). */
typedef void (*ConfigComplaint)(const char *file, unsigned line, const char *message, void *userdata);

/*
 * Reads loopmount.conf and loopmount.conf.d/ below each of @folders, the most
 * important one first ({"/etc", "/run", "/usr/local/lib", "/usr/lib", NULL}), by
 * systemd's rules: the first main file found, then all drop-ins sorted by name,
 * one hiding those of the same name in less important folders, a link to
 * /dev/null or an empty file hiding them altogether. An empty value takes back
 * what was assigned before it: the default is in force again. Repeated
 * FileSystems= and Options= add up. -ENOMEM.
 */
int config_load(const char *const *folders, ConfigComplaint complain, void *userdata, Config **ret);

Config *config_free(Config *config);
DEFINE_CLEANUP(Config *, config_free)

bool config_allows_filesystem(const Config *config, const char *type);

/* Options= of [FileSystem TYPE], NULL if there is none. */
const char *config_filesystem_options(const Config *config, const char *type);
