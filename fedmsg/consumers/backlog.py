# SPDX-License-Identifier: LGPL-2.1-or-later
"""Catching up: after a restart a consumer gets from a datagrepper what passed while it was down.

What is asked for is noted first, and taken off the note when it has been handled. So whatever
happens half-way (the server fails, the hub is stopped or killed) the rest is asked for at the
next start. Live messages go on meanwhile; what both bring is handled once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fedmsg import _wire
from fedmsg._util import plugins
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.consumers._ranges import Note, Range
from fedmsg.consumers.status import PRE, Status, StatusFile
from fedmsg.crypto.utils import fix_datagrepper_message
from fedmsg.exceptions import HttpError, MessageError

__all__ = ["CatchUp", "Datagrepper", "Topics"]

Envelope = dict[str, Any]
Fetch = Callable[[float, float], Iterable[Envelope]]

_ROWS = 100
_TIMEOUT = 60.0
_RETRIES = 3
_DELAY = 1.0
_BUSY = frozenset({408, 425, 429})
# Pages that appear while others are read: as many again as there were, or these few.
_MORE_PAGES = 10
_MOST_PAGES = 1_000_000
# How many of the ids that were handed over are known, and how many live ones meanwhile.
_REMEMBERED = 20_000
# After so many messages it is noted how far the catch-up has got.
_NOTED_EVERY = 100


class _Stopped(HttpError):
    """The one who asked does not want to know any more."""


class Topics:
    """What a consumer listens to.

    Args:
        topics: Beginnings of topics; a ``*`` in one is dropped.
        strict: Whether only the exact topic matches.
    """

    def __init__(self, topics: str | Iterable[str], *, strict: bool = False) -> None:
        several = [topics] if isinstance(topics, str) else list(topics)
        self._topics = tuple(topic.replace("*", "") for topic in several)
        self._strict = strict

    def match(self, topic: str) -> bool:
        """Say whether a message with this topic is wanted."""
        if "" in self._topics:
            return True
        return topic in self._topics if self._strict else topic.startswith(self._topics)

    @property
    def categories(self) -> list[str]:
        """What datagrepper can narrow its answer by: the fourth words, when every topic fixes its own; else nothing."""
        found = set()
        for topic in self._topics:
            words = topic.split(".")
            # The fourth word is whole when another follows. Topics of brokers are counted otherwise.
            whole = len(words) > 4 or (self._strict and len(words) == 4)
            if not whole or not words[3] or "VirtualTopic" in topic:
                return []
            found.add(words[3])
        return sorted(found)


class Datagrepper:
    """Asks a datagrepper for everything of a time, page by page.

    Args:
        url: Where it is, with or without ``/raw``.
        topics: What is wanted.
        timeout: Seconds for one page.
        retries: How often a page that failed is asked for again.
        delay: Seconds before that; they double each time.
        log: Where it tells of what it refuses.
    """

    def __init__(
        self,
        url: str,
        topics: Topics,
        *,
        timeout: float = _TIMEOUT,
        retries: int = _RETRIES,
        delay: float = _DELAY,
        log: logging.Logger | None = None,
    ) -> None:
        self.url = _raw(url)
        self._topics = topics
        self._timeout = timeout
        self._retries = retries
        self._delay = delay
        self._log = log or logging.getLogger(__name__)
        self._rejections = RejectionLog(self._log)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._request: Any = None

    def results(self, then: float, now: float) -> Iterator[Envelope]:
        """Give what was published in a time, the oldest first, one page in memory at once.

        Args:
            then: From when on, in seconds since the epoch.
            now: Up to when.

        Raises:
            HttpError: A page can't be had, or it was stopped.
        """
        page, pages, most = 1, 1, 0
        while page <= pages:
            messages, pages = self._page(then, now, page)
            most = most or max(pages + _MORE_PAGES, 2 * pages)
            if not messages and page < pages:
                raise HttpError(f"page {page} of {pages} at {self.url} is empty", 200)
            if pages > min(most, _MOST_PAGES):
                raise HttpError(f"{self.url} speaks of ever more pages: {pages}", 200)
            for message in messages:
                if (envelope := self._accept(message)) is not None:
                    yield envelope
            page += 1

    def _page(self, then: float, now: float, page: int) -> tuple[list[Any], int]:
        query: list[tuple[str, Any]] = [
            ("rows_per_page", _ROWS), ("page", page), ("start", then), ("end", now), ("order", "asc"),
            *(("category", category) for category in self._topics.categories),
        ]  # fmt: skip
        for attempt in range(self._retries + 1):
            try:
                return _checked(self._ask(query), self.url)
            except HttpError as error:
                if self._stopped.is_set():
                    raise _Stopped("it was stopped") from error
                will_do = error.status in {None, 200, *_BUSY} or (error.status or 0) >= 500
                if not will_do or attempt == self._retries:
                    raise
                delay = self._delay * 2**attempt
                self._log.info("%s; it is asked again in %g s", error, delay)
                self._stopped.wait(delay)
        raise AssertionError("the last attempt returns or raises")

    def _ask(self, query: list[tuple[str, Any]]) -> Any:
        http = plugins.lazy("http")
        with self._lock:
            if self._stopped.is_set():
                raise _Stopped("it was stopped")
            self._request = http.Limit(self._timeout)
        try:
            return http.get_json(self.url, query, self._request)
        finally:
            self._request = None

    def _accept(self, message: Any) -> Envelope | None:
        """Give the envelope as it was published, if it is one and it is wanted."""
        try:
            if not isinstance(message, dict) or not isinstance(topic := message.get("topic"), str):
                raise MessageError("it is no message", "envelope")
            if not self._topics.match(topic):
                return None
            envelope = fix_datagrepper_message(message)
            _wire.encode(envelope, topic)
            if not isinstance(envelope.get("msg_id"), str):
                raise MessageError("it has no msg_id", "envelope")
        except MessageError as error:
            self._rejections.add(self.url, error)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._rejections.add(self.url, MessageError(f"it is no message: {error}", "envelope"))
        else:
            return envelope
        return None

    def stop(self) -> None:
        """End what is going on; from any thread. Nothing more is asked for."""
        self._stopped.set()
        with self._lock:
            request = self._request
        if request is not None:
            request.cut()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stopped.is_set()


def _raw(url: str) -> str:
    """Give the address that messages are asked for at."""
    place, question, query = url.partition("?")
    place = place.rstrip("/")
    if not place.endswith(("/raw", "/v2/search")):
        place += "/raw"
    return place + question + query


def _checked(answer: Any, url: str) -> tuple[list[Any], int]:
    """Give the messages of an answer and how many pages there are."""
    if not isinstance(answer, dict):
        raise HttpError(f"{url} does not answer like a datagrepper: no object", 200)
    messages, pages = answer.get("raw_messages"), answer.get("pages")
    if not isinstance(messages, list) or type(pages) is not int or pages < 0:
        raise HttpError(f"{url} does not answer like a datagrepper: no raw_messages or pages", 200)
    return messages, pages


class CatchUp:
    """What one consumer catches up with after its start.

    Args:
        name: The consumer's, for the log.
        status: Its status file.
        fetch: Gives the envelopes of a time, as `Datagrepper.results` does; None where there is no
            datagrepper, which leaves the message that was in work.
        skip_last: Whether the message that was in work at a crash is left out.
        log: Where it tells what it does.
    """

    def __init__(
        self,
        name: str,
        status: StatusFile,
        fetch: Fetch | None,
        *,
        skip_last: bool = False,
        log: logging.Logger | None = None,
    ) -> None:
        self._name = name
        self._status = status
        self._fetch = fetch
        self._skip_last = skip_last
        self._log = log or logging.getLogger(__name__)
        self._note = Note(status.path.with_name(f"{status.path.name}.missing"), self._log)
        self._written = _written(status)
        self._lock = threading.Lock()
        # What was handed over, what came live meanwhile, and where what is not yet handled belongs.
        self._given: dict[str, None] = {}
        self._live: dict[str, None] = {}
        self._in_flight: dict[str, Range] = {}
        self._is_over = False
        self._is_past = False
        self._since_noted = 0

    # ---------------------------------------------------------------- what was missed

    def messages(self, text: str | bytes | None, now: float | None = None) -> Iterator[Envelope]:
        """Give what was missed, the oldest first; when datagrepper fails, what there is.

        Args:
            text: What the status file said when the consumer started; None for nothing.
            now: Up to when; now if not given. Live messages should be coming in already.

        Yields:
            Envelopes. Call `handled` with the id of each when it is.
        """
        now = int(time.time()) if now is None else now
        status = self._status.parse(text) if text is not None else None
        if status is not None and self._fetch is not None:
            then = status.timestamp
            if then is None or then > now:
                # A message that does not say, or comes from the future: this is when it was handled.
                then = min(self._written or now, now)
            with self._lock:
                self._note.add(Range(then, now))
        last, skipped = None, None
        if status is not None:
            if status.status == PRE and not self._skip_last:
                last = status
            else:
                skipped = status.msg_id
        count = 0
        try:
            for one, envelope in _in_its_place(last, self._stream()):
                if self._claim(one, envelope, skipped):
                    count += 1
                    yield envelope
        finally:
            self.close()
            self._is_over = True
        if self._fetch is not None and (status is not None or count):
            self._log.info("%s got %d messages that it had missed", self._name, count)

    def _stream(self) -> Iterator[tuple[Range | None, Envelope]]:
        """Give everything that datagrepper has of what is missing; its failure is told and ends the stream."""
        if self._fetch is None:
            return
        for one in [*self._note.ranges]:
            self._log.info("%s asks for what it has missed, %s", self._name, one)
            try:
                for envelope in self._fetch(one.start, one.end):
                    one.reach(envelope.get("timestamp", one.start))
                    yield one, envelope
            except HttpError as error:
                self.close()
                missing = ", ".join(str(left) for left in self._note.ranges if not left.is_fetched)
                self._log.log(
                    logging.INFO if isinstance(error, _Stopped) else logging.ERROR,
                    "%s has not caught up: %s. What passed from %s is asked for at the next start",
                    self._name, error, missing,
                )  # fmt: skip
                return
            with self._lock:
                one.is_fetched = True
                if one.is_over:
                    self._note.remove(one)

    def _claim(self, one: Range | None, envelope: Envelope, skipped: str | None) -> bool:
        """Take a message for the catch-up, unless it was handled before or came live."""
        msg_id, before = envelope.get("msg_id"), self._status.handled
        if not isinstance(msg_id, str):
            return True  # from a source of somebody's own
        if msg_id == skipped:
            return False
        with self._lock:
            if msg_id in self._given or msg_id in self._live or (one is not None and msg_id in one.done):
                return False
            if before is not None and msg_id in before:
                return False
            self._given[msg_id] = None
            if len(self._given) > _REMEMBERED:
                del self._given[next(iter(self._given))]
            if one is not None:
                self._in_flight[msg_id] = one
                one.waiting[msg_id] = envelope.get("timestamp", one.start)
            return True

    # ---------------------------------------------------------------- what became of it

    def seen(self, msg_id: str) -> bool:
        """Say of a live message whether the catch-up has brought it already; if not, it won't any more."""
        if self._is_past:
            return False
        with self._lock:
            if msg_id in self._given:
                return True
            if len(self._live) < _REMEMBERED:
                self._live[msg_id] = None
            elif self._is_over:
                # So much has come in since that nothing can be double any more.
                self._is_past = True
                self._given.clear()
                self._live.clear()
            return False

    def handled(self, msg_id: str) -> None:
        """Note that a message has been handled; one that did not come from here makes no difference."""
        if msg_id not in self._in_flight:
            return
        with self._lock:
            one = self._in_flight.pop(msg_id)
            one.done[msg_id] = one.waiting.pop(msg_id)
            self._since_noted += 1
            if one.is_over:
                self._note.remove(one)
            elif self._since_noted >= _NOTED_EVERY:
                self._save()

    def close(self) -> None:
        """Note how far it got; may be called several times."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        self._since_noted = 0
        self._note.save()


def _in_its_place(
    last: Status | None, stream: Iterator[tuple[Range | None, Envelope]]
) -> Iterator[tuple[Range | None, Envelope]]:
    """See to it that the message that was in work comes again, also when datagrepper does not have it."""
    if last is None or last.msg_id is None or not last.topic or "msg" not in last.body:
        yield from stream
        return
    is_due = True
    for one, envelope in stream:
        if envelope.get("msg_id") == last.msg_id:
            is_due = False
        elif is_due and envelope.get("timestamp", 0) > (last.timestamp or 0):
            yield None, last.body
            is_due = False
        yield one, envelope
    if is_due:
        yield None, last.body


def _written(status: StatusFile) -> float | None:
    """When a status was written last, for one whose message tells no time or one in the future."""
    try:
        return int(os.stat(status.path).st_mtime)
    except OSError:
        return None
