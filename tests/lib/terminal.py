# SPDX-License-Identifier: LGPL-2.1-or-later
"""A terminal with an interactive program in it, and somebody who types."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time

SECONDS = 60


class Terminal:
    def __init__(self, command, columns=100, environment=None, errors=None):
        """errors: a descriptor for standard error, where that is not to be the terminal."""
        self.shown = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(environment or {})
            if errors is not None:
                os.dup2(errors, 2)
            # Not before the terminal has its size.
            os.kill(os.getpid(), signal.SIGSTOP)
            os.execvp(command[0], command)
        os.waitpid(self.pid, os.WUNTRACED)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        os.kill(self.pid, signal.SIGCONT)

    def type(self, text):
        os.write(self.fd, text.encode())

    def read(self, seconds):
        """Takes what comes; False when it has ended."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            piece = b""
        self.shown += piece
        return bool(piece)

    def wait_for(self, condition, what):
        end = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > end or not self.read(0.02):
                raise AssertionError(f"{what} did not come; the terminal shows {self.shown!r}")

    def wait_for_text(self, text):
        self.wait_for(lambda: text.encode() in self.shown, repr(text))

    def end(self):
        """Waits until it ends by itself; gives all that it has shown, and its exit status."""
        end = time.monotonic() + SECONDS
        while self.read(0.1):
            if time.monotonic() > end:
                raise AssertionError(f"it does not end; the terminal shows {self.shown!r}")
        return self.shown.decode(), self.close()

    def kill(self):
        """With all that it has started there: pkttyagent may outlive a terminal that is hung up."""
        os.killpg(self.pid, signal.SIGKILL)
        self.close()

    def close(self):
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
