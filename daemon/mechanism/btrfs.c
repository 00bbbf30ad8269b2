/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's btrfs keeps a registry of devices, by the UUIDs in their superblocks
 * (device_list_add() in fs/btrfs/volumes.c). Each mount adds an entry, which stays if
 * the mount fails, and stays after an unmount if the file system has several devices.
 * An image with the UUIDs of somebody's file system and a higher generation replaces
 * the entry of the real device. The next mount of that file system then opens the
 * registered name.
 *
 * Two things make this harmless:
 *
 * - The driver never learns a name that a later device could have (see mounting.c), so
 *   that an entry that stays leads nowhere.
 * - After each failed mount and each unmount the entries are removed. The entries that
 *   they have replaced are not restored by the kernel: udev is told of a change of the
 *   devices that it knows as btrfs, and its rules (64-btrfs.rules) register them again.
 *
 * BTRFS_IOC_FORGET_DEV takes a path, and the kernel compares the device number only.
 * The node is made for it, since the device's own node may be gone.
 */
#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <systemd/sd-device.h>

#include "mechanism/btrfs.h"

/* The node may be there without the module, which is loaded when somebody opens it. */
#define CONTROL_NODE "/dev/btrfs-control"
#define CONTROL_DEVICE "/sys/class/misc/btrfs-control"
/* One folder for each file system that is mounted. */
#define MOUNTED_DIR "/sys/fs/btrfs"
#define NODE "device"

static bool is_loaded(void)
{
        return access(CONTROL_DEVICE, F_OK) == 0;
}

static void enumerator_unrefp(sd_device_enumerator **enumerator)
{
        sd_device_enumerator_unref(*enumerator);
}

static bool is_mounted(const char *uuid)
{
        char path[128];

        return snprintf(path, sizeof(path), MOUNTED_DIR "/%s", uuid) < (int)sizeof(path) && access(path, F_OK) == 0;
}

void btrfs_announce_others(void)
{
        _cleanup_(enumerator_unrefp) sd_device_enumerator *enumerator = NULL;
        const char *uuid;

        if (!is_loaded() || sd_device_enumerator_new(&enumerator) < 0 ||
            sd_device_enumerator_add_match_subsystem(enumerator, "block", true) < 0 ||
            sd_device_enumerator_add_match_property(enumerator, "ID_FS_TYPE", "btrfs") < 0)
                return;
        for (sd_device *device = sd_device_enumerator_get_device_first(enumerator); device;
             device = sd_device_enumerator_get_device_next(enumerator))
                if (sd_device_get_property_value(device, "ID_FS_UUID", &uuid) < 0 || !is_mounted(uuid))
                        (void)sd_device_trigger(device, SD_DEVICE_CHANGE);
}

/* The kernel does not tell reliably whether there was an entry (Linux 6.18). */
static void forget(int control, int folder, dev_t device)
{
        struct btrfs_ioctl_vol_args arguments = { 0 };

        if (mknodat(folder, NODE, S_IFBLK | 0600, device) < 0)
                return;
        snprintf(arguments.name, sizeof(arguments.name), "/proc/self/fd/%d/" NODE, folder);
        (void)ioctl(control, BTRFS_IOC_FORGET_DEV, &arguments);
        (void)unlinkat(folder, NODE, 0);
}

void btrfs_forget(int folder, const dev_t *devices, size_t n_devices)
{
        _cleanup_close_ int control = -1;

        if (!is_loaded())
                return;
        control = open(CONTROL_NODE, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
        for (size_t i = 0; control >= 0 && i < n_devices; i++)
                if (devices[i] != 0)
                        forget(control, folder, devices[i]);
}
