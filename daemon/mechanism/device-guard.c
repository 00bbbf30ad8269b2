/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a file system's driver opens while it mounts is up to the bytes of the
 * image: ext4 takes the number of its journal's device from the superblock. The
 * root directory of the process and the rights of the node do not matter for that,
 * but the kernel asks the device programs of the process' control group
 * (blkdev_get_by_dev(), devcgroup_check_permission()).
 *
 * The daemon attaches such a program to its own control group. It lets everybody
 * pass but processes with a *pass*: these reach the one block device that a map
 * names for their pass. A pass is the real group id of the process: access to files
 * goes by the effective one. Only drivers of file systems without owners look at the
 * real one, where no gid= is given to them; filesystem.c always gives one.
 * Of what a device program of Linux 6.1 can learn about a process, only this
 * differs between two children of the daemon in one control group. A control group
 * for each child would do, too, but a process needs milliseconds to move into one,
 * and somebody has to remove it.
 *
 * The upper half of a pass is the guard's tag, at random and with the highest bit
 * set, so that no pass is the id of a real group; the lower half counts. A program
 * judges only the passes of its own tag: in one control group there may be several,
 * of other daemons and of one that died while a child of it was stuck in the kernel.
 *
 * The program is attached by a link: it goes with the link's last descriptor, and
 * leaves nothing behind. A guarded process holds one, so that it stays guarded
 * when the daemon dies while the process is stuck in the kernel.
 *
 * Character devices are let through: the service's unit lists those that may be
 * opened, and no driver here takes the number of one from an image.
 */
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "mechanism/device-guard.h"

#define TAG_BIT 0x80000000U
#define TAG_SHIFT 16U
#define COUNT_MAX 0xfffeU /* all ones would be no group id at all */
/* As setresgid(2) is told to leave one as it is. */
#define NO_ID ((gid_t) - 1)
/* As many processes can be guarded at a time. */
#define PASSES_MAX 4096U

/* What the map holds for a pass: numbers as a device program sees them. */
typedef struct PassDevice {
        uint32_t major_number, minor_number;
} PassDevice;

static int guard_map = -1, guard_link = -1;
static gid_t guard_tag, guard_count;

static int bpf(enum bpf_cmd command, union bpf_attr *attributes)
{
        int r = (int)syscall(SYS_bpf, command, attributes, sizeof(*attributes));

        return r < 0 ? -errno : r;
}

/* ---- The program ---- */

/* clang-format off */
#define INSTRUCTION(c, d, s, o, i) { .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) }
#define LOAD(to, from, offset) INSTRUCTION(BPF_LDX | BPF_MEM | BPF_W, to, from, (short)(offset), 0)
#define STORE(to, offset, from) INSTRUCTION(BPF_STX | BPF_MEM | BPF_W, to, from, offset, 0)
#define COPY(to, from) INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define SET(to, value) INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)
#define COMPUTE(operation, to, value) INSTRUCTION(BPF_ALU64 | (operation) | BPF_K, to, 0, 0, value)
#define JUMP_IF(condition, a, value, skip) INSTRUCTION(BPF_JMP | (condition) | BPF_K, a, 0, skip, value)
#define JUMP_IF_DIFFERENT(a, b, skip) INSTRUCTION(BPF_JMP | BPF_JNE | BPF_X, a, b, skip, 0)
#define JUMP(skip) INSTRUCTION(BPF_JMP | BPF_JA, 0, 0, skip, 0)
#define CALL(function) INSTRUCTION(BPF_JMP | BPF_CALL, 0, 0, 0, function)
#define LOAD_MAP(to, fd) INSTRUCTION(BPF_LD | BPF_IMM | BPF_DW, to, BPF_PSEUDO_MAP_FD, 0, fd), { 0 }
#define EXIT INSTRUCTION(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
/* clang-format on */

/* Returns the program's descriptor. The last argument of a jump is how many instructions it skips. */
static int load_program(int map, gid_t tag)
{
        enum { R0 = 0, R1 = 1, R2 = 2, R3 = 3, R4 = 4, R6 = 6, STACK = 10 }; /* R0 to R5 do not outlive a call */
        const struct bpf_insn program[] = {
                COPY(R6, R1), /* struct bpf_cgroup_dev_ctx */
                /* No block device, or no pass of this guard: permitted. */
                LOAD(R2, R6, offsetof(struct bpf_cgroup_dev_ctx, access_type)),
                COMPUTE(BPF_AND, R2, 0xffff),
                JUMP_IF(BPF_JNE, R2, BPF_DEVCG_DEV_BLOCK, 18),
                CALL(BPF_FUNC_get_current_uid_gid),
                COMPUTE(BPF_RSH, R0, 32),
                COPY(R1, R0),
                COMPUTE(BPF_RSH, R1, TAG_SHIFT),
                JUMP_IF(BPF_JNE, R1, (int)(tag >> TAG_SHIFT), 13),
                /* The device of this pass. */
                STORE(STACK, -4, R0),
                LOAD_MAP(R1, map),
                COPY(R2, STACK),
                COMPUTE(BPF_ADD, R2, -4),
                CALL(BPF_FUNC_map_lookup_elem),
                JUMP_IF(BPF_JEQ, R0, 0, 8),
                LOAD(R3, R0, offsetof(PassDevice, major_number)),
                LOAD(R4, R6, offsetof(struct bpf_cgroup_dev_ctx, major)),
                JUMP_IF_DIFFERENT(R3, R4, 5),
                LOAD(R3, R0, offsetof(PassDevice, minor_number)),
                LOAD(R4, R6, offsetof(struct bpf_cgroup_dev_ctx, minor)),
                JUMP_IF_DIFFERENT(R3, R4, 2),
                SET(R0, 1),
                EXIT,
                SET(R0, 0),
                EXIT,
        };
        union bpf_attr attributes = {
                .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                .insns = (uintptr_t)program,
                .insn_cnt = ELEMENTSOF(program),
                .license = (uintptr_t)"LGPL-2.1-or-later",
                .prog_name = "loopmount_guard",
        };

        return bpf(BPF_PROG_LOAD, &attributes);
}

static int make_map(void)
{
        union bpf_attr attributes = {
                .map_type = BPF_MAP_TYPE_HASH,
                .key_size = sizeof(gid_t),
                .value_size = sizeof(PassDevice),
                .max_entries = PASSES_MAX,
                .map_flags = BPF_F_NO_PREALLOC,
                .map_name = "loopmount_guard",
        };

        return bpf(BPF_MAP_CREATE, &attributes);
}

/* ---- Where it is attached ---- */

/* The line "0::PATH" of /proc/self/cgroup, see cgroups(7). */
static int read_own_path(char **ret)
{
        _cleanup_fclose_ FILE *f = fopen("/proc/self/cgroup", "re");
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0;
        ssize_t n;

        if (!f)
                return -errno;
        while ((n = getline(&line, &allocated, f)) > 0) {
                if (strncmp(line, "0::/", 4) != 0)
                        continue;
                line[strcspn(line, "\n")] = 0;
                *ret = strdup(line + 3);
                return *ret ? 0 : -ENOMEM;
        }
        return -ENOENT;
}

/* The unified hierarchy is at one of two places: see file-hierarchy(7) and systemd's CGROUP_DELEGATION.md. */
static int open_own_group(void)
{
        static const char *const places[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
        _cleanup_free_ char *path = NULL;
        int r = read_own_path(&path);

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(places); i++) {
                _cleanup_close_ int root = open(places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                struct statfs stfs;
                int fd;

                if (root < 0 || fstatfs(root, &stfs) < 0 || stfs.f_type != CGROUP2_SUPER_MAGIC)
                        continue;
                fd = openat(root, path[1] ? path + 1 : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                return fd < 0 ? -errno : fd;
        }
        return r < 0 ? r : -EOPNOTSUPP;
}

static int attach(int program, int group)
{
        union bpf_attr attributes = {
                .link_create.prog_fd = (uint32_t)program,
                .link_create.target_fd = (uint32_t)group,
                .link_create.attach_type = BPF_CGROUP_DEVICE,
        };

        return bpf(BPF_LINK_CREATE, &attributes);
}

static int set_up(void)
{
        _cleanup_close_ int group = open_own_group(), map = -1, program = -1;
        gid_t tag;
        int link;

        if (group < 0)
                return group;
        if (getrandom(&tag, sizeof(tag), GRND_NONBLOCK) != sizeof(tag))
                return -EAGAIN;
        tag = TAG_BIT | (tag >> TAG_SHIFT << TAG_SHIFT);
        map = make_map();
        if (map < 0)
                return map;
        program = load_program(map, tag);
        if (program < 0)
                return program;
        link = attach(program, group);
        if (link < 0)
                return link;
        guard_link = link;
        guard_map = TAKE_FD(map);
        guard_tag = tag;
        guard_count = 0;
        return 0;
}

bool device_guard_available(void)
{
        return guard_link >= 0 || set_up() >= 0;
}

/* ---- Passes ---- */

static int permit(int map, gid_t pass, dev_t device)
{
        PassDevice value = { major(device), minor(device) };
        union bpf_attr attributes = {
                .map_fd = (uint32_t)map,
                .key = (uintptr_t)&pass,
                .value = (uintptr_t)&value,
        };

        return bpf(BPF_MAP_UPDATE_ELEM, &attributes);
}

gid_t device_guard_new_pass(void)
{
        /* No pass is given out twice. Those who have one of the old guard have its descriptors, too. */
        if (guard_count == COUNT_MAX) {
                guard_link = safe_close(guard_link);
                guard_map = safe_close(guard_map);
                guard_count = 0;
        }
        return device_guard_available() ? guard_tag | ++guard_count : 0;
}

void device_guard_drop_pass(gid_t pass)
{
        union bpf_attr attributes = { .map_fd = (uint32_t)guard_map, .key = (uintptr_t)&pass };

        if (pass)
                (void)TRY_TWICE(bpf(BPF_MAP_DELETE_ELEM, &attributes));
}

void device_guard_get_fds(int ret_fds[static DEVICE_GUARD_FDS])
{
        ret_fds[0] = guard_map;
        ret_fds[1] = guard_link;
}

/* ---- In the guarded process ---- */

/* Tries the device next to @device, which the service's unit permits just as well. */
static int check_refusal(dev_t device)
{
        if (mknod("/refused", S_IFBLK | 0600, makedev(major(device), minor(device) ^ 1)) == 0)
                return -ENOTRECOVERABLE;
        return errno == EPERM ? 0 : -errno;
}

int device_guard_enter(const int fds[static DEVICE_GUARD_FDS], gid_t pass, dev_t device)
{
        int r = permit(fds[0], pass, device);

        if (r < 0)
                return r;
        if (setresgid(pass, NO_ID, NO_ID) < 0)
                return -errno;
        return check_refusal(device);
}

int device_guard_leave(void)
{
        return setresgid(getegid(), NO_ID, NO_ID) < 0 ? -errno : 0;
}
