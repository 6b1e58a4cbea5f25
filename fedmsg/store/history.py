# SPDX-License-Identifier: LGPL-2.1-or-later
"""History from a datagrepper: everything of a time, page by page, as it was published."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from fedmsg import _wire
from fedmsg._util import plugins
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.crypto.utils import fix_datagrepper_message
from fedmsg.exceptions import HttpError, MessageError
from fedmsg.filters import TopicFilter
from fedmsg.store.recovery import Message

__all__ = ["Datagrepper", "Stopped", "Topics"]

# Where a page is larger than is read, as many rows are asked for at once as come next.
_ROWS = (100, 10, 1)
_PAGE_MAX_BYTES = 16 * 1024 * 1024
_TIMEOUT = 60.0
_RETRIES = 3
_RETRY_DELAY = 1.0
_BUSY = frozenset({408, 425, 429})
# Pages that appear while others are read: as many again as there were, or these few.
_MORE_PAGES = 10
_PAGES_MAX = 1_000_000


class Stopped(HttpError):
    """The request was stopped by this process."""


class Topics(TopicFilter):
    """The topics that a consumer subscribes to."""

    def __init__(self, topics: str | Iterable[str], *, strict: bool = False) -> None:
        several = [topics] if isinstance(topics, str) else list(topics)
        super().__init__(several, strict=strict, globs=False)
        # A consumer without a topic subscribes to nothing.
        self.everything = self.everything and bool(several)
        self._topics = [topic.replace("*", "") for topic in several]
        self._is_strict = strict

    @property
    def categories(self) -> list[str]:
        """The categories to ask for: the fourth words of the topics, when each topic has a whole one; else none."""
        found = set()
        for topic in self._topics:
            words = topic.split(".")
            # The fourth word is whole when another follows. Topics of brokers are counted otherwise.
            whole = len(words) > 4 or (self._is_strict and len(words) == 4)
            if not whole or not words[3] or "VirtualTopic" in topic:
                return []
            found.add(words[3])
        return sorted(found)


class Datagrepper:
    """Asks a datagrepper for everything of a time, page by page."""

    def __init__(
        self,
        url: str,
        topics: Topics,
        *,
        timeout: float = _TIMEOUT,
        retries: int = _RETRIES,
        delay: float = _RETRY_DELAY,
        log: logging.Logger | None = None,
        clean: Callable[[Message], Message] = fix_datagrepper_message,
    ) -> None:
        self._clean = clean
        self.url = _raw(url)
        self._topics = topics
        self._timeout = timeout
        self._retries = retries
        self._delay = delay
        self._log = log or logging.getLogger(__name__)
        self._rejections = RejectionLog(self._log)
        self._is_stopped = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._request: Any = None

    def read(self, first: float, last: float) -> Iterator[Message]:
        """Yield what was published in a time, the oldest first, one page in memory at once.

        Raises:
            HttpError: A page can't be had, or the request was stopped.
        """
        rows, page, pages, most = _ROWS[0], 1, 1, 0
        while page <= pages:
            try:
                messages, pages = self._page(first, last, page, rows)
            except plugins.lazy("http").TooLarge:
                if rows == _ROWS[-1]:
                    raise
                # Pages follow each other without a gap: the same row begins another page.
                fewer = _ROWS[_ROWS.index(rows) + 1]
                page, pages, most = (page - 1) * rows // fewer + 1, pages * rows // fewer, most * rows // fewer
                rows = fewer
                continue
            most = most or max(pages + _MORE_PAGES, 2 * pages)
            if not messages and page < pages:
                raise HttpError(f"page {page} of {pages} at {self.url} is empty", 200)
            if pages > min(most, _PAGES_MAX):
                raise HttpError(f"{self.url} speaks of ever more pages: {pages}", 200)
            for message in messages:
                if (envelope := self._accept(message)) is not None:
                    yield envelope
            page += 1

    def _page(self, first: float, last: float, page: int, rows: int) -> tuple[list[Any], int]:
        query: list[tuple[str, Any]] = [
            ("rows_per_page", rows), ("page", page), ("start", first), ("end", last), ("order", "asc"),
            *(("category", category) for category in self._topics.categories),
        ]  # fmt: skip
        for attempt in range(self._retries + 1):
            try:
                return _checked(self._ask(query), self.url)
            except HttpError as error:
                if self._is_stopped:
                    raise Stopped("the request was stopped: the hub stops") from error
                can_retry = error.status in {None, 200, *_BUSY} or (error.status or 0) >= 500
                if not can_retry or isinstance(error, plugins.lazy("http").TooLarge) or attempt == self._retries:
                    raise
                delay = self._delay * 2**attempt
                self._log.info("%s; it is asked again in %g s", error, delay)
                with suppress(queue.Empty):
                    self._wake.get(timeout=delay)
        raise AssertionError("the last attempt returns or raises")

    def _ask(self, query: list[tuple[str, Any]]) -> Any:
        http = plugins.lazy("http")
        # In this order, and the other way round in `stop`, so that one of the two sees the other.
        self._request = http.Limit(self._timeout)
        try:
            if self._is_stopped:
                raise Stopped("the request was stopped: the hub stops")
            return http.get_json(self.url, query, self._request, _PAGE_MAX_BYTES)
        finally:
            self._request = None

    def _accept(self, message: Any) -> Message | None:
        """Return the envelope as it was published, if it is one and it is wanted."""
        try:
            if not isinstance(message, dict) or not isinstance(topic := message.get("topic"), str):
                raise MessageError("it is no message", "envelope")
            if not self._topics.matches(topic):
                return None
            envelope = self._clean(message)
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
        """End the current request; any thread may call it. No other request is sent."""
        self._is_stopped = True
        self._wake.put(None)
        if (request := self._request) is not None:
            request.cut()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopped


def _raw(url: str) -> str:
    """Return the address that messages are asked for at."""
    place, question, query = url.partition("?")
    place = place.rstrip("/")
    if not place.endswith(("/raw", "/v2/search")):
        place += "/raw"
    return place + question + query


def _checked(answer: Any, url: str) -> tuple[list[Any], int]:
    """Return the messages of an answer and how many pages there are."""
    if not isinstance(answer, dict):
        raise HttpError(f"{url} does not answer like a datagrepper: no object", 200)
    messages, pages = answer.get("raw_messages"), answer.get("pages")
    if not isinstance(messages, list) or type(pages) is not int or pages < 0:
        raise HttpError(f"{url} does not answer like a datagrepper: no raw_messages or pages", 200)
    return messages, pages
