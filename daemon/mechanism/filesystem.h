/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file systems that may be mounted and what may be asked of each: pure
 * tables, no system calls. Nothing outside this table is ever given to the
 * kernel.
 */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

/* The longest list of options that is read at all. */
#define FILESYSTEM_OPTIONS_BYTES_MAX 4096U

/* One option as fsconfig(2) takes it: a flag if @value is NULL. */
typedef struct FilesystemOption {
        char *key;
        char *value;
} FilesystemOption;

typedef struct FilesystemOptions {
        FilesystemOption *items; /* in the order in which the kernel is to get them; never "ro" or "rw" */
        size_t n_items;
        uint64_t attributes; /* MOUNT_ATTR_*: of the mount, not of the file system; nosuid and nodev always */
        bool read_only;      /* what comes of the request, the type and "ro"; MOUNT_ATTR_RDONLY is then set too */
} FilesystemOptions;

void filesystem_options_done(FilesystemOptions *options);

typedef struct FilesystemType FilesystemType;

/* The type that libblkid calls @name ("vfat", "iso9660", "ntfs" ...); NULL if it is not in the table. */
const FilesystemType *filesystem_find(const char *name);

/* The n-th type of the table, NULL behind the last; for listing. */
const FilesystemType *filesystem_nth(size_t n);

/* As libblkid calls it. */
const char *filesystem_name(const FilesystemType *type);

/* As fsopen(2) wants it ("ntfs3" for "ntfs"). */
const char *filesystem_driver(const FilesystemType *type);

/*
 * How much the driver can be trusted with an image that was made to attack, or that its owner changes while it is
 * mounted; docs/security.md says why. A driver of the last tier is used with a permission of its own only.
 */
typedef enum FilesystemTier {
        FILESYSTEM_TIER_SIMPLE = 1, /* made for media that are passed on, or read-only */
        FILESYSTEM_TIER_TESTED,     /* large, and widely tested with damaged images */
        FILESYSTEM_TIER_UNHARDENED, /* its maintainers do not promise to withstand hostile images */
} FilesystemTier;

FilesystemTier filesystem_tier(const FilesystemType *type);

/*
 * Whether the driver opens another device if the image says so: the journal of ext3 and ext4, and of what is mounted as
 * ext2 but has one all the same. Read-only mounts of ext3 and ext4 load no journal.
 */
bool filesystem_opens_devices(const FilesystemType *type, bool read_only);

/* A file system that can only be read (iso9660, squashfs, erofs). */
bool filesystem_is_read_only(const FilesystemType *type);

/* The driver keeps a registry of devices by name that outlives mounts (btrfs; see btrfs.h). */
bool filesystem_registers_devices(const FilesystemType *type);

/* What an option takes behind its "=". */
typedef enum FilesystemValue {
        FILESYSTEM_VALUE_NONE,
        FILESYSTEM_VALUE_UID,      /* a number; of a user: only the own one */
        FILESYSTEM_VALUE_GID,      /* likewise */
        FILESYSTEM_VALUE_OCTAL,    /* up to 0777 */
        FILESYSTEM_VALUE_NUMBER,   /* @minimum ... @maximum */
        FILESYSTEM_VALUE_WORD,     /* one of @words; with a @maximum also "WORD:NUMBER" */
        FILESYSTEM_VALUE_CHARSET,  /* the name of a character set that the kernel has */
        FILESYSTEM_VALUE_CODEPAGE, /* the number of one: 437 for cp437 */
        FILESYSTEM_VALUE_PATH,     /* a path inside the file system, without ".." */
} FilesystemValue;

/* An option that a type knows. */
typedef struct FilesystemRule {
        const char *name;
        FilesystemValue value;
        const char *words; /* separated by spaces */
        uint64_t minimum, maximum;
        const char *example;           /* a value for tests, where the first word or @minimum does not do */
        uint16_t since;                /* 0xMMmm: the kernel that brought it, if that is after 6.1 */
        bool value_may_be_missing : 1; /* "utf8" is as good as "utf8=1" */
        bool administrator_only : 1;
        bool needs_read_only : 1; /* refused where the file system is written to */
        bool needs_writable : 1;  /* refused where it is not; ext4 takes no data= with noload */
} FilesystemRule;

/* The n-th option that @type knows, NULL behind the last; for listing, and for a test that tries them all. */
const FilesystemRule *filesystem_rule_nth(const FilesystemType *type, size_t n);

typedef struct FilesystemRequest {
        bool read_only;
        bool allow_exec;        /* false: noexec, and "exec" is refused */
        uid_t uid;              /* whose mount it is */
        gid_t gid;              /* his primary group */
        const char *configured; /* the administrator's options for the type, comma-separated or NULL */
        const char *requested;  /* the user's, or NULL */
} FilesystemRequest;

/*
 * Puts together the options for one mount: the type's defaults, those of the
 * administrator (anything that the type knows), then those of the user (only
 * permitted ones with permitted values). A later one replaces an earlier one of
 * the same name. $UID and $GID in defaults and @configured stand for @uid and
 * @gid. Empty items are skipped; quotes have no meaning.
 *
 * For every type there are noatime, relatime, nodiratime, noexec, exec,
 * nosymfollow (Linux 5.14), sync, dirsync, ro and rw; nosuid and nodev, which
 * are always set, are accepted and do nothing. "ro" of the user makes the mount
 * read-only; of the administrator it refuses to mount the type otherwise, since
 * nobody who asked for writing shall silently get reading. "rw" where the mount
 * is read-only, "exec" against configuration, "suid" and "dev" are refused.
 *
 * A read-only mount of a type with a journal gets noload/norecovery, so that
 * looking does not change the image.
 *
 * -EPERM: option not permitted, -EINVAL: bad value, or a list that is too long;
 * *ret_offender then holds the option as it was written (to be freed), or NULL.
 */
int filesystem_options(const FilesystemType *type, const FilesystemRequest *request, FilesystemOptions *ret,
                       char **ret_offender);
