/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The service manager's store of descriptors, as a daemon has it whose NOTIFY_SOCKET is this. */
#pragma once

#include "lib/daemon.h"

typedef struct TestStore TestStore;

/* Daemons that are started from now on have it. */
TestStore *test_store_new(void);
TestStore *test_store_free(TestStore *store);

/* Starts a daemon again, and gives it what those before have put into the store. */
TestDaemon *test_store_start_daemon(TestStore *store);

/* How many there are in it. */
unsigned test_store_count(TestStore *store);
