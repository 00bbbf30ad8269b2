/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a restarted daemon needs to know of an image, in a file of its own below
 * RUN_IMAGES_DIR. RUN_DIR is a tmpfs: nothing here blocks, and nothing outlives
 * the boot that the device numbers belong to.
 */
#pragma once

#include "model/image.h"

/* Replaces the image's record, at once or not at all. Write it before what it tells of is made. */
int record_write(const Image *image);

/* Makes it attached, on record and in @registry, which takes it over. On failure all is as it was. */
int record_publish(Registry *registry, Image *image);

void record_remove(uint64_t id);

/* -EBADMSG: the record makes no sense; -ENOENT. */
int record_read(uint64_t id, Image **ret);

/*
 * Reads only which loop device the record is about, if the whole of it cannot be read: *ret_number is N of /dev/loopN,
 * and its disk sequence number is @id. Keys and values of other versions do not matter. -EBADMSG; -ENOENT.
 */
int record_read_device(uint64_t id, unsigned *ret_number);

/* The same from and to text, for tests. */
int record_parse(const char *text, size_t size, Image **ret);
int record_parse_device(const char *text, size_t size, unsigned *ret_number);
int record_format(const Image *image, char **ret_text, size_t *ret_size);

/* All ids that have a record. To be freed. */
int record_list(uint64_t **ret_ids, size_t *ret_n);
