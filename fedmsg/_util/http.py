# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one module that imports requests: asks web servers, and does not trust what they answer."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from fedmsg._util import text
from fedmsg.exceptions import HttpError

__all__ = ["Limit", "Params", "TooLarge", "get_json", "get_text"]

#: The query of an address, as requests takes it; of a key with several values there are several pairs.
Params = Mapping[str, Any] | Iterable[tuple[str, Any]]

_TIMEOUT = 30
_CONNECT = 10
# A bus with thousands of certificates has a CRL of a few hundred kilobytes; a hundred messages
# rarely come to one megabyte.
_LARGEST = 64 * 1024 * 1024
_LARGEST_TEXT = 64 * 1024
# How many values an answer in JSON may have, counted before it is decoded: a value of three bytes
# takes up to a hundred times as much in memory.
_VALUES_MAX = 500_000
_REDIRECTS = 5
_PIECE = 64 * 1024
_NO_ADDRESS = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidURL,
)
# The root of the errors of urllib3.
_BelowRequests: type[Exception] = requests.exceptions.BaseHTTPError  # type: ignore[attr-defined] # not in its stubs


class TooLarge(HttpError):
    """An answer is larger than is read."""


def get_json(url: str, params: Params | None = None, timeout: float | Limit = _TIMEOUT, largest: int = _LARGEST) -> Any:
    """Ask a web server for JSON.

    Raises:
        HttpError: There is no answer in time, or it is an error, too large, or not JSON.
    """
    content = _get(url, params, timeout, largest, "application/json")
    if content.count(b",") + content.count(b"[") + content.count(b"{") > _VALUES_MAX:
        raise TooLarge(f"{text.shown_url(url)} answers with more than {_VALUES_MAX} values", 200)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HttpError(f"the answer of {text.shown_url(url)} is not JSON: {error}", 200) from error


def get_text(url: str, params: Params | None = None, timeout: float = _TIMEOUT, largest: int = _LARGEST_TEXT) -> str:
    """Ask a web server for text.

    Raises:
        HttpError: There is no answer in time, or it is an error, too large, or not UTF-8.
    """
    try:
        return _get(url, params, timeout, largest, "text/plain").decode()
    except UnicodeDecodeError as error:
        raise HttpError(f"the answer of {text.shown_url(url)} is not UTF-8", 200) from error


def _get(url: str, params: Params | None, timeout: float | Limit, largest: int, kind: str) -> bytearray:
    # Uncompressed: a few bytes could unpack to more than there is memory.
    headers = {"Accept": kind, "Accept-Encoding": "identity"}
    limit = timeout if isinstance(timeout, Limit) else Limit(timeout)
    with _errors_named(url, limit), requests.Session() as session, limit:
        session.max_redirects = _REDIRECTS
        for scheme in ("https://", "http://"):
            session.mount(scheme, _LimitedAdapter(limit))
        if url.lower().startswith("https:"):
            session.adapters.pop("http://")  # no redirection from there to plain text
        # To connect must not take as long as to answer: that alone can't be cut.
        times = (min(_CONNECT, limit.seconds), limit.seconds)
        with session.get(url, params=params, headers=headers, timeout=times, stream=True) as response:
            if response.status_code != 200:
                raise HttpError(
                    f"{text.shown_url(url)} answers with status {response.status_code}", response.status_code
                )
            content = _read(response, largest)
        if limit.is_over:
            # An answer whose length was not announced looks whole wherever it is cut.
            raise requests.exceptions.Timeout
        return content


def _read(response: requests.Response, largest: int) -> bytearray:
    """Read the answer, but no more of it than is wanted."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise HttpError(f"{text.shown_url(response.url)} answers compressed, which it was not asked to", 200)
    content = bytearray()
    for piece in response.iter_content(_PIECE):
        content += piece
        if len(content) > largest:
            raise TooLarge(f"{text.shown_url(response.url)} answers with more than {largest} bytes", 200)
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and len(content) != int(announced):
        raise requests.exceptions.ConnectionError
    return content


@contextmanager
def _errors_named(url: str, limit: Limit) -> Iterator[None]:
    """Turn the many errors of the libraries below into a line each."""
    try:
        yield
    except HttpError:
        raise
    # Not all that is raised below requests comes through it as an error of its own.
    except (OSError, ValueError, HTTPException, _BelowRequests) as error:
        raise HttpError(f"{text.shown_url(url)} {_problem(error, limit)}") from error


def _problem(error: Exception, limit: Limit) -> str:
    """Describe what is wrong with an address."""
    if limit.is_over or isinstance(error, requests.exceptions.Timeout):
        return "does not answer in time"
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return f"redirects more than {_REDIRECTS} times"
    if isinstance(error, _NO_ADDRESS):
        return "is not an http or https address, or leads to one that is not"
    return f"can't be asked: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """Return the error of the operating system or the TLS library, or at least what kind of error it is."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return text.quoted(cause.strerror, 200)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


# ---------------------------------------------------------------- a limit for the whole of it


class Limit:
    """Ends a request when time is up: a time-out of requests begins anew with every byte that comes.

    It counts from the beginning of the block. The caller who waits for the answer gets an HttpError.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self.cut)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> None:
        """Take in a connection that has been made."""
        with self._lock:
            self._sockets.append(connection)
        if self.is_over:
            self.cut()

    def cut(self) -> None:
        """End it now; from any thread."""
        self.is_over = True
        with self._lock:
            for one in self._sockets:
                with suppress(OSError):
                    # Below TLS, so that the reader sees the end and nothing else.
                    socket.socket.shutdown(one, socket.SHUT_RDWR)

    def __enter__(self) -> Limit:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        # After some errors the libraries leave them to the garbage collector.
        while self._sockets:
            descriptor = self._sockets.pop().detach()
            if descriptor >= 0:
                os.close(descriptor)


class _LimitedAdapter(HTTPAdapter):
    """Makes connections that a limit watches."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        super().__init__()

    def get_connection_with_tls_context(self, *arguments: Any, **keywords: Any) -> Any:
        """Return the pool of connections for a request."""
        return self._watched(super().get_connection_with_tls_context(*arguments, **keywords))

    def get_connection(self, *arguments: Any, **keywords: Any) -> Any:
        """Return the same in older versions of requests."""
        return self._watched(super().get_connection(*arguments, **keywords))

    def _watched(self, pool: Any) -> Any:
        limit = self._limit
        plain_or_tls: Any = pool.ConnectionCls

        class Watched(plain_or_tls):  # type: ignore[misc] # only the pool knows which
            def connect(self) -> None:
                super().connect()
                limit.watch(self.sock)

        pool.ConnectionCls = Watched
        return pool
