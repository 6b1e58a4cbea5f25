# SPDX-License-Identifier: LGPL-2.1-or-later
"""How far a reader of a stream has come, and where it goes on: at the same stream, or at another one."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from fedmsg import encoding
from fedmsg._util.bounded import SEEN_MESSAGES, SeenIds
from fedmsg._util.text import quoted
from fedmsg.stream.begin import Begin

__all__ = ["Progress", "StoredPosition"]

# Seconds: clocks of relays differ, and messages take their time between them.
_OVERLAP = 60.0
# A publisher may have made it as long as a message may be, and a relay ends the connection at a request of that size.
_MSG_ID_MAX = 1000


class StoredPosition(NamedTuple):
    """How far a reader has come that stores that itself.

    Attributes:
        stream: The id of the stream.
        position: The position of the last message that it has stored.
        msg_id: The ``msg_id`` of that message; empty where it is not known.
        time: When that message was received, in seconds since the epoch; 0 where it is not known.
    """

    stream: str
    position: int
    msg_id: str = ""
    time: float = 0.0


class Progress:
    """How far a reader has come.

    Args:
        begin: Where it begins.

    Attributes:
        begin: Where to begin at the next ``OPEN``.
        stream: The id of the stream; empty before the first message can come.
        position: The position of the last message that was received.
        previous: What the next message has to name as the one before it.
        looked_at: The position up to which the relay has looked.
        received_at: When the last message was received; set by the owner.
        has_moved: Whether this is not the first stream, so that messages may come a second time.
    """

    def __init__(self, begin: Begin) -> None:
        self.begin = self._wanted = begin
        self.stream = ""
        self.position = self.previous = self.looked_at = 0
        self.has_moved = False
        self._opened = 0.0
        self.received_at = 0.0
        self._body = b""
        self._msg_id = ""
        # Until the first move only noted, which costs next to nothing.
        self._noted: deque[int] = deque(maxlen=SEEN_MESSAGES)
        self._seen: SeenIds[int] = SeenIds(SEEN_MESSAGES)

    def opened(self, stream: str, position: int) -> None:
        """Note that a subscription has begun after a position."""
        if stream != self.stream:
            self.stream = stream
            self.position = self.looked_at = position
            self._opened = self._opened or time.time()
        self.position = max(self.position, position)
        self.looked_at = max(self.looked_at, self.position)
        self.previous = position
        self.begin = Begin(after=self.position, resume=True)

    def recall(self, stored: StoredPosition | Begin) -> None:
        """Go on after what was stored; begin where the owner wants to, where that is nothing yet."""
        if isinstance(stored, Begin):
            if self._wanted == Begin():
                self.begin = self._wanted = stored
            return
        self.stream, self._msg_id, self.received_at = stored.stream, stored.msg_id, stored.time
        self.position = self.previous = self.looked_at = stored.position

    def received(self, position: int, topic: bytes, body: bytes) -> bool:
        """Note a message; whether it is new."""
        self.position = self.previous = self.looked_at = position
        self._body = body
        # The hash of Python is a keyed one, so that no sender can make two messages have the same.
        key = hash((topic, body))
        if self.has_moved:
            return self._seen.add(key)
        self._noted.append(key)
        return True

    def passed_over(self, position: int) -> None:
        """Note a message that does not come; the next one names the one before it."""
        self.position = self.looked_at = position

    def resume(self) -> Begin:
        """Return where to go on in the same stream."""
        if self.stream:
            self.begin = Begin(after=self.position, resume=True)
        return self.begin

    def move(self) -> str:
        """Go on in another stream, or in the same one after it has lost what was received; return how."""
        self.has_moved = True
        while self._noted:
            self._seen.add(self._noted.popleft())
        self.stream = ""
        msg_id = _message_id(self._body) if self._body else self._msg_id
        if msg_id:
            self.begin = Begin(after=msg_id)
            return f"after the message {quoted(msg_id)}"
        return self.move_by_time()

    def move_by_time(self) -> str:
        """Go on in another stream that does not know the last message; return how."""
        wanted = self._wanted
        if self.received_at:
            self.begin = Begin(since=max(0.0, self.received_at - _OVERLAP))
        elif wanted == Begin() or wanted.after:
            self.begin = Begin(since=self._opened)
        else:
            self.begin = wanted
            return "from where it was to begin"
        return f"with what was stored since {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(self.begin.since))}"


def _message_id(body: bytes) -> str:
    try:
        envelope = encoding.decode(body)
    except ValueError:
        return ""
    found = envelope.get("msg_id") if isinstance(envelope, dict) else None
    return found if isinstance(found, str) and len(found) <= _MSG_ID_MAX else ""
