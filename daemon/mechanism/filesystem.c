/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What may be mounted, and how. One table row per type; a user's option list is
 * hostile text and gets through only word by word, as the row permits.
 *
 * What an option must fulfil to be open to every user: it changes how his own
 * image is read or written and nothing else. So there is no errors=panic, nothing
 * that names a second device (ext4 journal_path=, xfs logdev=, btrfs device=,
 * erofs device=), nothing that sizes kernel memory or threads, nothing that
 * turns off the checks a hostile image has to pass. Where a driver is known to
 * do harm with an option it is the administrator's to give.
 *
 * What a default must fulfil besides: every kernel since 6.1 knows it, because
 * one unknown option fails the mount.
 *
 * Pure: no system calls, nothing that blocks.
 */
#include <sys/mount.h>

#include "base/text.h"
#include "mechanism/filesystem.h"

#ifndef MOUNT_ATTR_NOSYMFOLLOW /* Linux 5.14 */
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

struct FilesystemType {
        const char *name;
        const char *driver; /* NULL: the same */
        const char *defaults;
        const char *read_only_defaults; /* added where the mount is read-only */
        const FilesystemRule *rules;
        FilesystemTier tier;
        bool read_only;
        bool opens_devices; /* unless it has the options of @read_only_defaults */
        bool registers_devices;
};

typedef enum Source {
        SOURCE_DEFAULT,
        SOURCE_CONFIGURED,
        SOURCE_REQUESTED,
} Source;

/* The state of one filesystem_options() call. */
typedef struct Builder {
        const FilesystemType *type;
        const FilesystemRequest *request;
        FilesystemOptions options;
        bool noexec_configured;
} Builder;

/* clang-format off */
#define FLAG(n) { .name = n }
#define FLAG_READ_ONLY(n) { .name = n, .needs_read_only = true }
#define FLAG_SINCE(n, version) { .name = n, .since = version }
#define ADMINISTRATOR_FLAG(n) { .name = n, .administrator_only = true }
#define OCTAL(n) { .name = n, .value = FILESYSTEM_VALUE_OCTAL }
#define NUMBER(n, min, max, text) \
        { .name = n, .value = FILESYSTEM_VALUE_NUMBER, .minimum = min, .maximum = max, .example = text }
#define WORD(n, list) { .name = n, .value = FILESYSTEM_VALUE_WORD, .words = list }
#define WORD_OR_NONE(n, list) \
        { .name = n, .value = FILESYSTEM_VALUE_WORD, .words = list, .value_may_be_missing = true }
#define CHARSET(n) { .name = n, .value = FILESYSTEM_VALUE_CHARSET, .example = "utf8" }
#define UID { .name = "uid", .value = FILESYSTEM_VALUE_UID }
#define GID { .name = "gid", .value = FILESYSTEM_VALUE_GID }
#define END { .name = NULL }
/* clang-format on */

/*
 * The kernel's default masks are the umask of whoever mounts, so defaults name
 * one: a daemon started in another way must not mount in another way. Others
 * are kept out by the folder above the mount point.
 */
#define FAT_DEFAULTS "uid=$UID,gid=$GID,umask=0022,"
#define FAT_RULES UID, GID, OCTAL("umask"), OCTAL("dmask"), OCTAL("fmask")

/* time_offset= (minutes, signed) is left out: tz=UTC is what people need of it. */
static const FilesystemRule vfat_rules[] = {
        FAT_RULES,
        OCTAL("allow_utime"),
        WORD("shortname", "lower win95 winnt mixed"),
        WORD_OR_NONE("utf8", "1 0 true false yes no"),
        CHARSET("iocharset"),
        { .name = "codepage", .value = FILESYSTEM_VALUE_CODEPAGE, .example = "437" },
        WORD("check", "relaxed normal strict"),
        WORD("tz", "UTC"),
        WORD("errors", "remount-ro continue"),
        FLAG("flush"),
        FLAG("quiet"),
        FLAG("showexec"),
        FLAG("sys_immutable"),
        FLAG("rodir"),
        FLAG("usefree"),
        FLAG("discard"),
        FLAG("dos1xfloppy"),
        END,
};

static const FilesystemRule exfat_rules[] = {
        FAT_RULES,
        OCTAL("allow_utime"),
        CHARSET("iocharset"),
        WORD("errors", "remount-ro continue"),
        FLAG("discard"),
        FLAG("keep_last_dots"),
        FLAG("sys_tz"),
        FLAG_SINCE("zero_size_dir", 0x0608),
        END,
};

/*
 * "force" writes to a volume that Windows left unclean; "showmeta" lets $MFT and
 * its like be written as files. Only those spellings are here that stayed when
 * the driver dropped its "no" forms.
 */
static const FilesystemRule ntfs_rules[] = {
        FAT_RULES,
        CHARSET("iocharset"),
        FLAG("nohidden"),
        FLAG("sys_immutable"),
        FLAG("discard"),
        FLAG("sparse"),
        FLAG("prealloc"),
        FLAG_SINCE("windows_names", 0x0602),
        FLAG_SINCE("hide_dot_files", 0x0602),
        ADMINISTRATOR_FLAG("force"),
        ADMINISTRATOR_FLAG("showmeta"),
        END,
};

/* session= asks the drive for its table of contents, and an image has no drive. */
static const FilesystemRule iso9660_rules[] = {
        UID,
        GID,
        OCTAL("mode"),
        OCTAL("dmode"),
        CHARSET("iocharset"),
        FLAG("norock"),
        FLAG("nojoliet"),
        FLAG("overriderockperm"),
        FLAG("hide"),
        FLAG("showassoc"),
        FLAG("cruft"),
        WORD("map", "normal off acorn"),
        WORD("check", "relaxed strict"),
        WORD("block", "2048 1024 512"),
        NUMBER("sbsector", 0, UINT32_MAX / 16, "0"), /* the driver counts in an int, and shifts that */
        END,
};

static const FilesystemRule udf_rules[] = {
        UID,
        GID,
        OCTAL("umask"),
        OCTAL("mode"),
        OCTAL("dmode"),
        CHARSET("iocharset"),
        WORD("bs", "2048 512 1024 4096"),
        FLAG("unhide"),
        FLAG("noadinicb"),
        FLAG("adinicb"),
        FLAG("shortad"),
        FLAG("longad"),
        END,
};

/*
 * sb= counts in units of 1 KiB; 1 is where the first superblock is. noacl went
 * from the driver. data= and commit= fail a mount that has noload.
 */
/* clang-format off */
#define EXT_RULES \
        WORD("errors", "remount-ro"), FLAG("acl"), NUMBER("sb", 1, UINT32_MAX, "1")
#define EXT_JOURNAL_RULES \
        FLAG_READ_ONLY("noload"), FLAG_READ_ONLY("norecovery"), FLAG("discard"), FLAG("nodiscard"), \
        { .name = "data", \
          .value = FILESYSTEM_VALUE_WORD, \
          .words = "ordered writeback journal", \
          .needs_writable = true }, \
        { .name = "commit", \
          .value = FILESYSTEM_VALUE_NUMBER, \
          .minimum = 1, \
          .maximum = 300, \
          .example = "10", \
          .needs_writable = true }
/* clang-format on */

static const FilesystemRule ext2_rules[] = { EXT_RULES, END };
static const FilesystemRule ext3_rules[] = { EXT_RULES, EXT_JOURNAL_RULES, END };
static const FilesystemRule ext4_rules[] = { EXT_RULES, EXT_JOURNAL_RULES, FLAG("delalloc"), FLAG("nodelalloc"), END };

static const FilesystemRule squashfs_rules[] = { WORD("errors", "continue"), END };

static const FilesystemRule erofs_rules[] = {
        FLAG("user_xattr"),
        FLAG("nouser_xattr"),
        FLAG("acl"),
        FLAG("noacl"),
        WORD("cache_strategy", "disabled readahead readaround"),
        END,
};

static const FilesystemRule xfs_rules[] = {
        FLAG("nouuid"),  FLAG_READ_ONLY("norecovery"),
        FLAG("inode32"), FLAG("inode64"),
        FLAG("discard"), FLAG("nodiscard"),
        FLAG("largeio"), FLAG("nolargeio"),
        FLAG("wsync"),   END,
};

static const FilesystemRule btrfs_rules[] = {
        { .name = "compress",
          .value = FILESYSTEM_VALUE_WORD,
          .words = "zstd zlib lzo no none",
          .maximum = 15,
          .value_may_be_missing = true },
        { .name = "compress-force",
          .value = FILESYSTEM_VALUE_WORD,
          .words = "zstd zlib lzo no none",
          .maximum = 15,
          .value_may_be_missing = true },
        { .name = "subvol", .value = FILESYSTEM_VALUE_PATH, .example = "/" },
        NUMBER("subvolid", 0, UINT64_MAX, "5"),
        { .name = "rescue",
          .value = FILESYSTEM_VALUE_WORD,
          .words = "nologreplay", /* no "a:b" either: 6.8 took it out */
          .needs_read_only = true },
        WORD_OR_NONE("discard", "async sync"),
        FLAG("nodiscard"),
        FLAG("acl"),
        FLAG("noacl"),
        FLAG("datacow"),
        FLAG("nodatacow"),
        FLAG("autodefrag"),
        FLAG("noautodefrag"),
        FLAG("flushoncommit"),
        FLAG("skip_balance"),
        FLAG("user_subvol_rm_allowed"),
        NUMBER("commit", 1, 300, "5"),
        ADMINISTRATOR_FLAG("degraded"),
        END,
};

static const FilesystemRule f2fs_rules[] = {
        FLAG_READ_ONLY("norecovery"),
        FLAG_READ_ONLY("disable_roll_forward"),
        FLAG("discard"),
        FLAG("nodiscard"),
        FLAG("acl"),
        FLAG("noacl"),
        WORD("background_gc", "on off sync"),
        END,
};

/*
 * errors=remount-ro: what else happens is up to the image's superblock, and that
 * may say panic (ext2 ... ext4). nouuid: xfs otherwise refuses a second copy of
 * an image that is mounted already. iocharset: without it a kernel takes the one
 * it was built with.
 *
 * ntfs3 has no option against replaying its log; on a read-only mount it leaves
 * the log alone. An ext2 image goes to "ext2", which the ext4 driver answers to
 * where there is no other.
 */
static const FilesystemType types[] = {
        { .name = "iso9660",
          .tier = FILESYSTEM_TIER_SIMPLE,
          .defaults = "uid=$UID,gid=$GID,iocharset=utf8,mode=0400,dmode=0500",
          .rules = iso9660_rules,
          .read_only = true },
        { .name = "udf",
          .tier = FILESYSTEM_TIER_SIMPLE,
          .defaults = "uid=$UID,gid=$GID,iocharset=utf8",
          .rules = udf_rules },
        { .name = "vfat",
          .tier = FILESYSTEM_TIER_SIMPLE,
          .defaults = FAT_DEFAULTS "shortname=mixed,utf8=1,showexec,flush,errors=remount-ro",
          .rules = vfat_rules },
        { .name = "exfat",
          .tier = FILESYSTEM_TIER_SIMPLE,
          .defaults = FAT_DEFAULTS "iocharset=utf8,errors=remount-ro",
          .rules = exfat_rules },
        { .name = "ntfs",
          .tier = FILESYSTEM_TIER_UNHARDENED,
          .driver = "ntfs3",
          .defaults = FAT_DEFAULTS "iocharset=utf8",
          .rules = ntfs_rules },
        { .name = "ext2",
          .tier = FILESYSTEM_TIER_TESTED,
          .defaults = "errors=remount-ro",
          .rules = ext2_rules,
          .opens_devices = true },
        { .name = "ext3",
          .tier = FILESYSTEM_TIER_TESTED,
          .defaults = "errors=remount-ro",
          .read_only_defaults = "noload",
          .rules = ext3_rules,
          .opens_devices = true },
        { .name = "ext4",
          .tier = FILESYSTEM_TIER_TESTED,
          .defaults = "errors=remount-ro",
          .read_only_defaults = "noload",
          .rules = ext4_rules,
          .opens_devices = true },
        { .name = "squashfs", .tier = FILESYSTEM_TIER_SIMPLE, .rules = squashfs_rules, .read_only = true },
        { .name = "erofs", .tier = FILESYSTEM_TIER_SIMPLE, .rules = erofs_rules, .read_only = true },
        { .name = "xfs",
          .tier = FILESYSTEM_TIER_UNHARDENED,
          .defaults = "nouuid",
          .read_only_defaults = "norecovery",
          .rules = xfs_rules },
        /* not "norecovery", which 6.8 did not know */
        { .name = "btrfs",
          .tier = FILESYSTEM_TIER_UNHARDENED,
          .read_only_defaults = "rescue=nologreplay",
          .rules = btrfs_rules,
          .registers_devices = true },
        { .name = "f2fs", .tier = FILESYSTEM_TIER_UNHARDENED, .read_only_defaults = "norecovery", .rules = f2fs_rules },
};

const FilesystemType *filesystem_nth(size_t n)
{
        return n < ELEMENTSOF(types) ? types + n : NULL;
}

const FilesystemType *filesystem_find(const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if (streq(types[i].name, name))
                        return types + i;
        return NULL;
}

const char *filesystem_name(const FilesystemType *type)
{
        return type->name;
}

const char *filesystem_driver(const FilesystemType *type)
{
        return type->driver ? type->driver : type->name;
}

FilesystemTier filesystem_tier(const FilesystemType *type)
{
        return type->tier;
}

bool filesystem_opens_devices(const FilesystemType *type, bool read_only)
{
        return type->opens_devices && !(read_only && type->read_only_defaults);
}

bool filesystem_is_read_only(const FilesystemType *type)
{
        return type->read_only;
}

bool filesystem_registers_devices(const FilesystemType *type)
{
        return type->registers_devices;
}

const FilesystemRule *filesystem_rule_nth(const FilesystemType *type, size_t n)
{
        const FilesystemRule *rule = type->rules;

        for (; rule->name && n > 0; n--)
                rule++;
        return rule->name ? rule : NULL;
}

void filesystem_options_done(FilesystemOptions *options)
{
        for (size_t i = 0; i < options->n_items; i++) {
                free(options->items[i].key);
                free(options->items[i].value);
        }
        free(options->items);
        *options = (FilesystemOptions){ 0 };
}

static bool is_one_of(const char *word, size_t length, const char *words)
{
        for (const char *p = words; *p; p += strspn(p, " ")) {
                size_t n = strcspn(p, " ");

                if (n == length && memcmp(p, word, n) == 0)
                        return true;
                p += n;
        }
        return false;
}

static int check_word(const FilesystemRule *rule, const char *value)
{
        size_t length = strcspn(value, rule->maximum > 0 ? ":" : "");
        uint64_t number;

        if (!is_one_of(value, length, rule->words))
                return -EINVAL;
        if (value[length] == '\0')
                return 0;
        return text_parse_uint(value + length + 1, rule->maximum, &number) < 0 || number == 0 ? -EINVAL : 0;
}

static int check_octal(const char *value)
{
        size_t length = strspn(value, "01234567");

        if (length == 0 || value[length] != '\0' || length > 4)
                return -EINVAL;
        return length == 4 && *value != '0' ? -EINVAL : 0; /* no set-id and sticky bits */
}

static int check_number(const char *value, uint64_t minimum, uint64_t maximum)
{
        uint64_t number;

        if (text_parse_uint(value, maximum, &number) < 0 || number < minimum)
                return -EINVAL;
        return 0;
}

static int check_id(const char *value, uint32_t own, Source source)
{
        uint64_t number;

        if (text_parse_uint(value, UINT32_MAX - 1, &number) < 0) /* (uid_t)-1 is nobody at all */
                return -EINVAL;
        return source == SOURCE_REQUESTED && number != own ? -EPERM : 0;
}

/* The kernel loads the module nls_NAME: only those of fs/nls, which are tables and nothing else. */
static int check_charset(const char *value)
{
        static const char charsets[] = "utf8 ascii big5 euc-jp euc-kr gb2312 koi8-r koi8-u sjis tis-620 "
                                       "cp437 cp737 cp775 cp850 cp852 cp855 cp857 cp860 cp861 cp862 cp863 cp864 "
                                       "cp865 cp866 cp869 cp874 cp932 cp936 cp949 cp950 cp1250 cp1251 cp1255 "
                                       "iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 "
                                       "iso8859-8 iso8859-9 iso8859-13 iso8859-14 iso8859-15";

        return is_one_of(value, strlen(value), charsets) ? 0 : -EINVAL;
}

static int check_codepage(const char *value)
{
        char charset[8];

        return snprintf(charset, sizeof(charset), "cp%s", value) < (int)sizeof(charset) ? check_charset(charset)
                                                                                        : -EINVAL;
}

static int check_path(const char *value)
{
        if (*value == '\0')
                return -EINVAL;

        for (const char *p = value; *p; p += strspn(p, "/")) {
                size_t n = strcspn(p, "/");

                if (n == 2 && p[0] == '.' && p[1] == '.')
                        return -EINVAL;
                for (const char *end = p + n; p < end; p++)
                        if ((unsigned char)*p < 0x20 || *p == 0x7f)
                                return -EINVAL;
        }
        return 0;
}

/* @value is NULL for an option without "=". */
static int check_value(const Builder *b, const FilesystemRule *rule, const char *value, Source source)
{
        if (!value)
                return rule->value == FILESYSTEM_VALUE_NONE || rule->value_may_be_missing ? 0 : -EINVAL;

        switch (rule->value) {
        case FILESYSTEM_VALUE_NONE:
                return -EINVAL;
        case FILESYSTEM_VALUE_UID:
                return check_id(value, b->request->uid, source);
        case FILESYSTEM_VALUE_GID:
                return check_id(value, b->request->gid, source);
        case FILESYSTEM_VALUE_OCTAL:
                return check_octal(value);
        case FILESYSTEM_VALUE_NUMBER:
                return check_number(value, rule->minimum, rule->maximum);
        case FILESYSTEM_VALUE_WORD:
                return check_word(rule, value);
        case FILESYSTEM_VALUE_CHARSET:
                return check_charset(value);
        case FILESYSTEM_VALUE_CODEPAGE:
                return check_codepage(value);
        case FILESYSTEM_VALUE_PATH:
                return check_path(value);
        }
        return -EINVAL;
}

/*
 * Puts the option behind all others, without what was said under its name before:
 * order matters, since umask= overrides an earlier fmask=. Takes both strings.
 */
static int append(FilesystemOptions *options, char *key, char *value)
{
        _cleanup_free_ char *owned_key = key, *owned_value = value;
        FilesystemOption *items;

        if (!key)
                return -ENOMEM;

        for (size_t i = 0; i < options->n_items; i++)
                if (streq(options->items[i].key, key)) {
                        free(options->items[i].key);
                        free(options->items[i].value);
                        memmove(options->items + i, options->items + i + 1,
                                (options->n_items - i - 1) * sizeof(FilesystemOption));
                        options->n_items--;
                        break;
                }

        items = reallocarray(options->items, options->n_items + 1, sizeof(FilesystemOption));
        if (!items)
                return -ENOMEM;
        options->items = items;
        items[options->n_items++] = (FilesystemOption){ TAKE_PTR(owned_key), TAKE_PTR(owned_value) };
        return 0;
}

/* 1: @key was one of the options that are the same for all types; 0: it was not. */
static int apply_generic(Builder *b, const char *key, Source source)
{
        static const struct {
                const char *name;
                uint64_t clear, set;
        } attributes[] = {
                { "noatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME },
                { "relatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME },
                { "atime", MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME },
                { "strictatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_STRICTATIME },
                { "nodiratime", 0, MOUNT_ATTR_NODIRATIME },
                { "diratime", MOUNT_ATTR_NODIRATIME, 0 },
                { "nosymfollow", 0, MOUNT_ATTR_NOSYMFOLLOW },
                { "symfollow", MOUNT_ATTR_NOSYMFOLLOW, 0 },
                { "noexec", 0, MOUNT_ATTR_NOEXEC },
                { "exec", MOUNT_ATTR_NOEXEC, 0 },
                { "nosuid", 0, 0 },
                { "nodev", 0, 0 },
                { "ro", 0, 0 }, /* seen to by the caller */
                { "rw", 0, 0 },
                /* What people write for mount(8) and fstab(5). "user" has the effects that it has there. */
                { "user", 0, MOUNT_ATTR_NOEXEC },
                { "users", 0, MOUNT_ATTR_NOEXEC },
                { "nouser", 0, 0 },
                { "defaults", 0, 0 },
                { "auto", 0, 0 },
                { "noauto", 0, 0 },
                { "nofail", 0, 0 },
                { "loop", 0, 0 },
        };
        static const char super_block_flags[] = "sync async dirsync lazytime nolazytime";
        int r;

        if (is_one_of(key, strlen(key), super_block_flags)) {
                r = append(&b->options, strdup(key), NULL);
                return r < 0 ? r : 1;
        }

        for (size_t i = 0; i < ELEMENTSOF(attributes); i++)
                if (streq(attributes[i].name, key)) {
                        if (streq(key, "exec") && (!b->request->allow_exec || b->noexec_configured))
                                return -EPERM;
                        if (streq(key, "noexec") && source == SOURCE_CONFIGURED)
                                b->noexec_configured = true;
                        if (streq(key, "rw") && b->options.read_only)
                                return -EPERM;
                        if (streq(key, "ro") && !b->options.read_only) /* only the administrator's can get here */
                                return -EPERM;
                        b->options.attributes = (b->options.attributes & ~attributes[i].clear) | attributes[i].set;
                        return 1;
                }
        return 0;
}

static const FilesystemRule *find_rule(const FilesystemType *type, const char *name)
{
        for (const FilesystemRule *rule = type->rules; rule->name; rule++)
                if (streq(rule->name, name))
                        return rule;
        return NULL;
}

/* The value as the kernel gets it. */
static char *translate(const Builder *b, const FilesystemRule *rule, const char *value, Source source)
{
        if (source != SOURCE_REQUESTED && streq(value, "$UID"))
                return text_printf("%u", (unsigned)b->request->uid);
        if (source != SOURCE_REQUESTED && streq(value, "$GID"))
                return text_printf("%u", (unsigned)b->request->gid);
        if (rule->value == FILESYSTEM_VALUE_OCTAL && *value >= '1' && *value <= '7')
                return text_printf("0%s", value); /* isofs takes mode=444 for a decimal number */
        return strdup(value);
}

static int apply_option(Builder *b, const char *key, const char *value, Source source)
{
        _cleanup_free_ char *translated = NULL;
        const FilesystemRule *rule;
        int r;

        if (!value) {
                r = apply_generic(b, key, source);
                if (r != 0)
                        return MIN(r, 0);
        }

        rule = find_rule(b->type, key);
        if (!rule)
                return -EPERM;
        if (source == SOURCE_REQUESTED && rule->administrator_only)
                return -EPERM;
        if (b->options.read_only ? rule->needs_writable : rule->needs_read_only)
                return -EPERM;

        if (value) {
                translated = translate(b, rule, value, source);
                if (!translated)
                        return -ENOMEM;
        }
        r = check_value(b, rule, translated, source);
        if (r < 0)
                return r;
        return append(&b->options, strdup(key), TAKE_PTR(translated));
}

static int apply_list(Builder *b, const char *list, Source source, char **ret_offender)
{
        for (const char *p = strempty(list); *p;) {
                _cleanup_free_ char *item = strndup(p, strcspn(p, ",")), *key = NULL;
                int r;

                if (!item)
                        return -ENOMEM;
                p += strlen(item);
                p += *p == ',';
                if (*item == '\0')
                        continue;

                key = strndup(item, strcspn(item, "="));
                if (!key)
                        return -ENOMEM;
                r = apply_option(b, key, item[strlen(key)] == '=' ? item + strlen(key) + 1 : NULL, source);
                if (r < 0) {
                        if (r != -ENOMEM)
                                *ret_offender = TAKE_PTR(item);
                        return r;
                }
        }
        return 0;
}

static bool is_too_long(const char *list)
{
        return list && strnlen(list, FILESYSTEM_OPTIONS_BYTES_MAX + 1) > FILESYSTEM_OPTIONS_BYTES_MAX;
}

int filesystem_options(const FilesystemType *type, const FilesystemRequest *request, FilesystemOptions *ret,
                       char **ret_offender)
{
        _cleanup_free_ char *offender = NULL;
        Builder b = { .type = type, .request = request };
        int r;

        *ret_offender = NULL;
        if (is_too_long(request->configured) || is_too_long(request->requested))
                return -EINVAL;

        b.options.read_only =
                request->read_only || type->read_only || text_list_has(strempty(request->requested), ',', "ro");
        b.options.attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        if (b.options.read_only)
                b.options.attributes |= MOUNT_ATTR_RDONLY;
        if (!request->allow_exec)
                b.options.attributes |= MOUNT_ATTR_NOEXEC;

        r = apply_list(&b, type->defaults, SOURCE_DEFAULT, &offender);
        if (r >= 0 && b.options.read_only)
                r = apply_list(&b, type->read_only_defaults, SOURCE_DEFAULT, &offender);
        if (r >= 0)
                r = apply_list(&b, request->configured, SOURCE_CONFIGURED, &offender);
        if (r >= 0)
                r = apply_list(&b, request->requested, SOURCE_REQUESTED, &offender);
        if (r < 0) {
                filesystem_options_done(&b.options);
                *ret_offender = TAKE_PTR(offender);
                return r;
        }

        *ret = b.options;
        return 0;
}
