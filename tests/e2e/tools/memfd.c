/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memfd [--sealed] FILE COMMAND...: runs COMMAND with a memory file in descriptor
 * 3 that holds what FILE does, open for reading and writing; --sealed: that
 * nobody can change any more.
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
        bool sealed = argc > 1 && strcmp(argv[1], "--sealed") == 0;
        struct stat st;
        int source, fd;

        argv += sealed;
        argc -= sealed;
        if (argc < 3)
                errx(2, "usage: memfd [--sealed] FILE COMMAND...");
        source = open(argv[1], O_RDONLY | O_CLOEXEC);
        if (source < 0 || fstat(source, &st) < 0)
                err(1, "%s", argv[1]);
        fd = memfd_create("image", MFD_ALLOW_SEALING | MFD_CLOEXEC);
        if (fd < 0)
                err(1, "memfd_create");
        for (ssize_t left = st.st_size, n; left > 0; left -= n)
                if ((n = sendfile(fd, source, NULL, (size_t)left)) <= 0)
                        err(1, "sendfile");
        if (sealed && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                err(1, "seal");
        if (fd != 3 && dup2(fd, 3) < 0)
                err(1, "dup2");
        if (fcntl(3, F_SETFD, 0) < 0)
                err(1, "fcntl");
        execvp(argv[2], argv + 2);
        err(127, "%s", argv[2]);
}
