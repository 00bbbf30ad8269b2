/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each verb does. All give an exit code, and have said why if it is not 0. */
#pragma once

#include "options.h"

int verb_attach(const Settings *settings);
int verb_automount(const Settings *settings);
int verb_detach(const Settings *settings);
int verb_info(const Settings *settings);
int verb_list(const Settings *settings);
int verb_monitor(const Settings *settings);
int verb_mount(const Settings *settings);
int verb_open(const Settings *settings);
int verb_rescan(const Settings *settings);
int verb_unmount(const Settings *settings);
int verb_with(const Settings *settings);
int verb_help(const Settings *settings);
