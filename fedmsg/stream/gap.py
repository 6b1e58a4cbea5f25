# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is missing in a stream before a message, and what is known of it."""

from __future__ import annotations

from fedmsg.exceptions import FedmsgError

__all__ = ["Gap"]


class Gap:
    """What is missing before a message of the stream.

    Args:
        address: The address of the relay.
        start: It was stored since then.
        late: So many seconds before it may have been published.
        after: The position before it.
        had: What was received before it: when it was stored, topic and body.

    Attributes:
        last: The last position that is known to be missing.
        lost: How many positions the relay has reported to be lost.
        found: How many messages history had of it.
        counted: How many positions are counted as lost all the same.
        end: When the first message after it was stored; None before that is known.
        until: Before this position.
        error: Why the rest can't be had.
        is_known: Whether the end is that of the relay.
        is_over: Whether no more is recovered.
    """

    def __init__(
        self, address: str, start: float, late: float, after: int, had: list[tuple[float, bytes, bytes]] | None = None
    ) -> None:
        self.address, self.start, self.late, self.after = address, start, late, after
        self.had = had or []
        self.last = after
        self.lost = self.found = self.counted = self.until = 0
        self.end: float | None = None
        self.error: FedmsgError | None = None
        self.is_known, self.is_over = True, False
