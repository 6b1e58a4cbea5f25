# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a message is not valid, and how the log is told without being flooded."""

from __future__ import annotations

import logging
import time

__all__ = ["Refused", "tell"]

log = logging.getLogger("fedmsg.crypto")

# A flood of forged messages must not become a flood of log lines: so many of a kind, then silence.
_BURST = 20
_PERIOD = 10.0
_LONGEST = 300

_told: dict[str, tuple[float, int]] = {}


class Refused(Exception):
    """A message, certificate or key that is not accepted.

    Args:
        kind: A short fixed word for the reason.
        reason: The reason, for a log line.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def tell(error: Refused) -> None:
    """Log why a message was refused; of each kind only so many in a while."""
    now = time.monotonic()
    start, count = _told.get(error.kind, (now, 0))
    if now - start > _PERIOD:
        if count > _BURST:
            log.warning("%d more messages were not valid for a reason like it (%s)", count - _BURST, error.kind)
        start, count = now, 0
    _told[error.kind] = start, count + 1
    if count < _BURST:
        # It may quote the message, whose text must not steer a terminal or fill a disk.
        log.warning("message is not valid: %s", ascii(str(error))[1:-1][:_LONGEST])
