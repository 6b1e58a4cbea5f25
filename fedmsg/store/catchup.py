# SPDX-License-Identifier: LGPL-2.1-or-later
"""Catching up: after a restart a consumer gets from a datagrepper what passed while it was down.

What is asked for is noted first, and removed from the note when it has been handled. So whatever
happens half-way (the server fails, the hub is stopped or killed) the rest is asked for at the
next start. Live messages go on meanwhile; what both bring is handled once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from fedmsg import crypto
from fedmsg._util.bounded import SeenIds
from fedmsg.config import settings
from fedmsg.crypto.utils import fix_datagrepper_message
from fedmsg.store.cursor import POST, PRE, Status, StatusFile
from fedmsg.store.history import Datagrepper, Stopped, Topics
from fedmsg.store.ranges import PendingRanges, Range
from fedmsg.store.recovery import History, Message, is_time, message_key, recover

__all__ = ["CatchUp", "ConsumerProgress"]

# How many keys of messages that were passed on are remembered, and how many live ones meanwhile.
_SEEN_MAX = 20_000
# After so many messages it is noted how far the catch-up has got.
_SAVE_EVERY = 100


class CatchUp:
    """What one consumer catches up with after its start; the ledger of its history and its live messages."""

    def __init__(
        self,
        name: str,
        status: StatusFile,
        history: History[float] | None,
        *,
        skip_last: bool = False,
        log: logging.Logger | None = None,
    ) -> None:
        self._name = name
        self._status = status
        self._history = history
        self._skip_last = skip_last
        self._log = log or logging.getLogger(__name__)
        self._pending = PendingRanges(status.path.with_name(f"{status.path.name}.missing"), self._log)
        self._written = _written(status)
        self._lock = threading.Lock()
        # What was passed on, what came live meanwhile, and the ranges of what is in flight.
        self._given: SeenIds[str] = SeenIds(_SEEN_MAX)
        self._live: SeenIds[str] = SeenIds(_SEEN_MAX)
        self._in_flight: dict[str, Range] = {}
        # The range that is being read, and the message that is not to be handled again.
        self._range: Range | None = None
        self._skipped: str | None = None
        self._is_over = False
        self._is_past = False
        self._since_save = 0

    # ---------------------------------------------------------------- what was missed

    def messages(self, text: str | bytes | None, now: float | None = None) -> Iterator[Message]:
        """Yield what was missed, the oldest first; when datagrepper fails, what there is.

        ``text`` is the content of the status file when the consumer started. Live messages should be coming in already.
        Call `handled` with the key of each envelope when it is.
        """
        now = int(time.time()) if now is None else now
        status = self._status.parse(text) if text is not None else None
        if status is not None and self._history is not None:
            then = status.timestamp
            if then is None or then > now:
                # The message has no time, or one that can't be right: this is when it was handled.
                then = min(self._written or now, now)
            self._status.start_from(then)
            with self._lock:
                self._pending.add(Range(then, now))
        last = None
        if status is not None:
            if status.status == PRE and not self._skip_last:
                last = status
            else:
                self._skipped = status.key
        count = 0
        try:
            for envelope in self._in_place(last):
                count += 1
                yield envelope
        finally:
            self.close()
            self._is_over = True
        if self._history is not None and (status is not None or count):
            self._log.info("%s got %d messages that it had missed", self._name, count)

    def _in_place(self, last: Status | None) -> Iterator[Message]:
        """Yield the history, and the message that was in work in its place, also when datagrepper does not have it."""
        if last is None or last.msg_id is None or not last.topic or "msg" not in last.body:
            yield from self._read()
            return
        key, when, is_due = last.key, last.timestamp or 0, True
        for envelope in self._read():
            if is_due and message_key(envelope) == key:
                is_due = False
            elif is_due and _time_of(envelope) > when:
                is_due = False
                self._range = None
                if self.claim(last.body):
                    yield last.body
            yield envelope
        self._range = None
        if is_due and self.claim(last.body):
            yield last.body

    def _read(self) -> Iterator[Message]:
        """Yield all that datagrepper has of what is missing; its failure is logged and ends it."""
        if self._history is None:
            return
        for one in [*self._pending.ranges]:
            self._log.info("%s asks for what it has missed, %s", self._name, one)
            self._range = one
            error = yield from recover(self._history, one.start, one.end, self)
            if error is not None:
                self.close()
                missing = ", ".join(str(left) for left in self._pending.ranges if not left.is_fetched)
                self._log.log(
                    logging.INFO if isinstance(error, Stopped) else logging.ERROR,
                    "%s has not caught up: %s. What passed from %s is asked for at the next start",
                    self._name, error, missing,
                )  # fmt: skip
                return
            with self._lock:
                one.is_fetched = True
                if one.is_over:
                    self._pending.remove(one)

    def claim(self, message: Message) -> bool:
        """Take a message for the catch-up, unless it was handled before or came live."""
        one = self._range
        when = one.advance(message.get("timestamp")) if one is not None else 0.0
        msg_id, before = message.get("msg_id"), self._status.handled
        if not isinstance(msg_id, str):
            return True  # from another history than a datagrepper
        key = message_key(message)
        if key == self._skipped:
            return False
        with self._lock:
            if key in self._given or key in self._live:
                return False
            # Files of earlier versions have ids in them instead of keys.
            if one is not None and not one.done.keys().isdisjoint((key, msg_id)):
                return False
            if before is not None and (key in before or msg_id in before):
                return False
            self._given.add(key)
            if one is not None:
                self._in_flight[key] = one
                one.in_flight[key] = when
            return True

    # ---------------------------------------------------------------- what became of it

    def seen(self, message: Mapping[str, Any]) -> bool:
        """Return whether the catch-up has brought a live message already; if not, it won't any more."""
        if self._is_past or not isinstance(message.get("msg_id"), str):
            return False
        key = message_key(message)
        with self._lock:
            if key in self._given:
                return True
            if len(self._live) < _SEEN_MAX:
                self._live.add(key)
            elif self._is_over:
                # So much has come in since that there can be no more duplicates.
                self._is_past = True
                self._given = SeenIds(0)
                self._live = SeenIds(0)
            return False

    def handled(self, key: str) -> None:
        """Note that a message has been handled; one that did not come from here makes no difference."""
        if key not in self._in_flight:
            return
        with self._lock:
            one = self._in_flight.pop(key)
            one.done[key] = one.in_flight.pop(key)
            self._since_save += 1
            if one.is_over:
                self._pending.remove(one)
            elif self._since_save >= _SAVE_EVERY:
                self._save()

    def close(self) -> None:
        """Write down how far the catch-up got; may be called several times."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        self._since_save = 0
        self._pending.save()


def _time_of(envelope: Message) -> float:
    when = envelope.get("timestamp")
    return float(when) if is_time(when) else 0.0


def _written(status: StatusFile) -> float | None:
    """Return when a status was written last, for one whose message has no time that can be right."""
    try:
        return int(os.stat(status.path).st_mtime)
    except OSError:
        return None


class ConsumerProgress:
    """How far a consumer has got, from one start to the next: its status file, and the catch-up from there.

    Attributes:
        status: The status file; None where none is kept.

    Raises:
        ConfigError: There can't be files in ``status_directory``.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        name: str,
        topics: str | Iterable[str],
        log: logging.Logger,
        *,
        signed: bool = False,
    ) -> None:
        directory, url = settings.get(config, "status_directory"), settings.get(config, "datagrepper_url")
        matching = Topics(topics, strict=settings.get(config, "zmq_strict"))
        self.status = StatusFile(directory, name, log, remember=bool(url)) if directory else None
        clean = partial(crypto.as_signed, config=config) if signed else fix_datagrepper_message
        self._datagrepper = Datagrepper(url, matching, log=log, clean=clean) if url else None
        # Before the first message replaces it.
        self._text = self.status.read_text() if self.status is not None else None
        self._catch_up: CatchUp | None = None
        if self.status is not None:
            skip_last = bool(settings.get(config, "skip_last_message"))
            self._catch_up = CatchUp(name, self.status, self._datagrepper, skip_last=skip_last, log=log)

    def missed(self) -> Iterator[Message]:
        """Yield the envelopes that passed since the last status, and the one that was in work then."""
        return self.since(self._text)

    def since(self, text: str | bytes | None) -> Iterator[Message]:
        """Yield the same for the text of a status file."""
        return self._catch_up.messages(text) if self._catch_up is not None else iter(())

    def results(self, then: float, now: float) -> Iterator[Message]:
        """Yield what the datagrepper has of a time, in seconds since the epoch."""
        return self._datagrepper.read(then, now) if self._datagrepper is not None else iter(())

    def has_brought(self, envelope: Mapping[str, Any]) -> bool:
        """Return whether the catch-up has brought a message that now came live."""
        return self._catch_up is not None and self._catch_up.seen(envelope)

    def save(self, data: Mapping[str, Any]) -> None:
        """Replace the status file, where there is one."""
        if self.status is None:
            return
        key = self.status.save(data)
        if key is not None and data.get("status") == POST and self._catch_up is not None:
            self._catch_up.handled(key)

    def forget(self, envelope: Mapping[str, Any]) -> None:
        """Note that nothing more is to be done with a message that the catch-up may have brought."""
        if self._catch_up is not None:
            self._catch_up.handled(message_key(envelope))

    @property
    def lock(self) -> threading.Lock:
        """The lock that is held while the status file is written."""
        return self.status.lock if self.status is not None else threading.Lock()

    def end(self) -> None:
        """Ask for nothing more."""
        if self._datagrepper is not None:
            self._datagrepper.stop()

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        self.end()
        if self._catch_up is not None:
            self._catch_up.close()
        if self.status is not None:
            self.status.close()
