/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From what a probe found to the model's volumes: harmless text, names for mount
 * points, and what stands in the way of mounting each. Pure.
 */
#pragma once

#include "mechanism/config.h"
#include "mechanism/probe.h"
#include "model/image.h"

/* @file_name: the backing file's, raw bytes; for names where there is no label. -ENOMEM. */
int volume_from_probe(const ProbeVolume *probed, const char *file_name, Volume **ret);

/* Fills image->volumes, table, size, sector_size and name; the image has no volumes yet. -ENOMEM. */
int image_from_probe(Image *image, const ProbeSummary *summary, const ProbeVolume *probed, const char *file_name);

/* Says for each volume what is in the way of mounting it. -ENOMEM. */
int image_find_obstacles(Image *image, const Config *config);

/*
 * Whether most of what will be written to the image comes in pieces that are
 * smaller than the blocks of nearly every file system that the image's file may be on.
 */
bool image_writes_small_blocks(const Image *image);

/*
 * Whether the kernel shall look for partitions in the image: not where something has it as a whole and there are no
 * partitions beside it, and not where its owner does not want it.
 */
bool image_needs_partition_scan(const Image *image);

/* Whether what the volume holds, or that it holds nothing, is the same as in @other. */
bool volume_equals(const Volume *volume, const Volume *other);

/* Exchanges what the two volumes hold, but not their places. */
void volume_take_contents(Volume *volume, Volume *other);

/* It is not known any more what the volume holds. Its name stays, for a mount point. */
void volume_clear_contents(Volume *volume);
