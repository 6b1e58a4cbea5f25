# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many subscribers an address had, remembered over a restart.

They come back one by one after a restart, each when it tries again. A forwarder that knows
how many there were can hold what arrives until they are back, instead of passing it on to
the first of them only. The number is in a small file in the folder that systemd keeps for
the service (``$RUNTIME_DIRECTORY``), or in ``state_directory``; without a folder nothing
is remembered.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from typing import Any

__all__ = ["Attendance"]

log = logging.getLogger("fedmsg.transport")

# Somebody else's file, or a broken one, must not take up memory.
_LONGEST = 4096


class Attendance:
    """Remembers for one bound address.

    Args:
        config: The configuration, for ``state_directory``.
        address: The address.
    """

    def __init__(self, config: Mapping[str, Any], address: str) -> None:
        folder = (
            # systemd gives a list where a unit has several; the first will do.
            os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
            or config.get("state_directory")
            or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        )
        self._address = address
        # What is in the file decides; the name has to be one that several daemons in a folder don't share.
        name = re.sub(r"[^\w.]+", "-", address)[-100:]
        self._path = os.path.join(folder, f"subscribers-{name}.json") if folder else ""
        self._noted: int | None = None
        self._lock = threading.Lock()

    def expected(self) -> int:
        """How many there were; 0 when nothing is known."""
        if not self._path:
            return 0
        try:
            with open(self._path, encoding="utf-8") as file:
                known = json.loads(file.read(_LONGEST))
            count = known["subscribers"] if known["address"] == self._address else 0
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("%s can't be read, so nothing is known of former subscribers: %s", self._path, error)
            return 0
        return count if isinstance(count, int) else 0

    def note(self, count: int) -> None:
        """Remember how many there are; costs nothing as long as that is the same."""
        with self._lock:
            if self._path and count != self._noted:
                self._noted = count
                self._write(count)

    def _write(self, count: int) -> None:
        passing = f"{self._path}.{os.getpid()}"
        try:
            with open(passing, "w", encoding="utf-8") as file:
                json.dump({"address": self._address, "subscribers": count}, file)
            os.replace(passing, self._path)
        except OSError as error:
            log.warning("%s can't be written, nothing is remembered: %s", self._path, error.strerror)
            self._path = ""
            with contextlib.suppress(OSError):
                os.unlink(passing)
