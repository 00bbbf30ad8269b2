/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the daemon keeps its run-time state; the udev rules and tmpfiles name the same places. */
#pragma once

#define RUN_DIR "/run/loopmount"
/* One record for each image: what a restarted daemon needs to know of it. */
#define RUN_IMAGES_DIR RUN_DIR "/images"
/* One empty file loopN for each loop device of ours: what the udev rules go by. */
#define RUN_DEVICES_DIR RUN_DIR "/devices"
