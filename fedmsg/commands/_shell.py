# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a user's shell command once for a message, which it gets as data and never as a part of the command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

from fedmsg import encoding
from fedmsg.exceptions import RefusedAtStart

__all__ = ["Shell"]

_BASH = "/bin/bash"
# The system takes no more than 128 KiB in a variable.
_LONGEST = 16 * 1024
# A variable can't hold the first; the others have no encoding.
_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")


class Shell:
    """Runs one command at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: int | None = None
        self._closed = False

    @staticmethod
    def check() -> None:
        """See that commands can be run.

        Raises:
            RefusedAtStart: There is no bash.
        """
        if not os.access(_BASH, os.X_OK):
            raise RefusedAtStart(f"{_BASH} is needed to run commands, and is not there: install bash")

    def run(self, command: str, envelope: Mapping[str, Any]) -> int | None:
        """Run the command for a message and wait for its end.

        Args:
            command: What bash is to run.
            envelope: The message: JSON on the command's standard input. Its topic and id are
                in the environment as ``FEDMSG_TOPIC`` and ``FEDMSG_MSG_ID``.

        Returns:
            Its status, or minus the number of the signal that ended it; None when it was not
            run because `close` came first.

        Raises:
            OSError: It can't be started.
        """
        environment = dict(os.environb)
        for name in ("topic", "msg_id"):
            environment[b"FEDMSG_" + name.upper().encode()] = _fitting(envelope.get(name))
        # A file, since the writer to a pipe waits for a command that doesn't read.
        with os.fdopen(os.memfd_create("message"), "w+b") as stdin, self._lock:
            if self._closed:
                return None
            stdin.write(encoding.dumps(envelope).encode())
            stdin.seek(0)
            # A session of its own: Ctrl-C at a terminal is for us, and whatever it starts can be ended.
            process = subprocess.Popen([_BASH, "-c", command], stdin=stdin, env=environment, start_new_session=True)
            self._running = process.pid
        # Looked at without taking it: until then no other process can get its number.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._running = None
            return process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the command that runs and to what it has started."""
        with self._lock:
            if self._running is not None:
                os.killpg(self._running, number)

    def close(self) -> None:
        """Run no more commands; ask the one that runs to end."""
        with self._lock:
            self._closed = True
        self.signal(signal.SIGTERM)


def _fitting(value: object) -> bytes:
    """Return what a variable can hold of a text from a stranger."""
    text = value[:_LONGEST] if isinstance(value, str) else ""
    possible = _IMPOSSIBLE.sub(lambda match: ascii(match[0])[1:-1], text).encode()
    # No character is cut in the middle.
    return possible[:_LONGEST].decode(errors="ignore").encode()
