# SPDX-License-Identifier: LGPL-2.1-or-later
"""``/stream``: messages as they are stored, as Server-Sent Events or over a WebSocket."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import flask
import simple_websocket

from fedmsg._web import answers
from fedmsg._web.arguments import BadArgument
from fedmsg._web.written import dump
from fedmsg.datagrepper import arguments, routes
from fedmsg.datagrepper.asked import Asked
from fedmsg.datagrepper.described import Describer
from fedmsg.datagrepper.live import Entry, Feed, Gap, Matcher
from fedmsg.exceptions import FedmsgError

__all__ = ["blueprint"]

blueprint = flask.Blueprint("stream", __name__)

# A line that keeps proxies from closing a silent connection, and finds out that a client has gone.
_HEARTBEAT_SECONDS = 15.0
# How often the end of the server is looked for.
_TURN_SECONDS = 1.0
# Messages that come within this time are sent together.
_TOGETHER_SECONDS = 0.02
_RETRY_MS = 1000
_LONGEST_FRAME = 4096
# Where servers put the connection of a request.
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")


class _Events:
    """The events of one stream: messages, gaps, and None for a heartbeat.

    Args:
        feed: Where messages come from.
        after: The position to begin after; None is now.
        asked: Which messages.
        describer: What puts them into words.
        ending: Set when the server stops.

    Attributes:
        has_gone: Returns whether the client has gone.
    """

    has_gone: Callable[[], bool]

    def __init__(
        self,
        feed: Feed,
        after: int | None,
        asked: Asked,
        describer: Describer,
        ending: threading.Event,
    ) -> None:
        self._feed, self._asked, self._describer, self._ending = feed, asked, describer, ending
        self._matcher = Matcher(asked)
        self._key = (tuple(asked.given["meta"]), tuple(asked.given["fields"]))
        self._matcher.check(feed.history)
        self._gap: Gap | None = None
        try:
            self._position = feed.begin(after)
        except Gap as gap:
            self._gap, self._position = gap, gap.goes_on

    def text(self, entry: Entry) -> str:
        """Return a message as JSON, written once for all streams that want the same of it."""
        return entry.text(self._key, self._write)

    def _write(self, entry: Entry) -> str:
        return dump(self._describer.envelope(dict(entry.envelope), self._asked.given))

    def __iter__(self) -> Iterator[list[Entry] | Gap | None]:
        with self._feed:
            if self._gap is not None:
                yield self._gap
            quiet_since = time.monotonic()
            while not self._ending.is_set():
                found, self._position = self._feed.after(self._position, self._matcher)
                if found:
                    self._feed.sent += len(found)
                    quiet_since = time.monotonic()
                    yield found
                    self._ending.wait(_TOGETHER_SECONDS)
                elif self.has_gone():
                    return
                elif time.monotonic() - quiet_since > _HEARTBEAT_SECONDS:
                    quiet_since = time.monotonic()
                    yield None
                else:
                    self._feed.wait(self._position, _TURN_SECONDS, self._ending)


def _lost(gap: Gap) -> str:
    return dump({"first": gap.first, "last": gap.last, "after": gap.goes_on})


def _has_gone(environ: Mapping[str, Any]) -> bool:
    """Return whether the client has closed the connection of a request; it has nothing more to send."""
    for name in _SOCKETS:
        if name in environ:
            poll = select.poll()
            poll.register(environ[name], select.POLLIN)
            try:
                return bool(poll.poll(0)) and environ[name].recv(1, socket.MSG_PEEK) == b""
            except OSError:
                return True
    return False


def _cut(environ: Mapping[str, Any]) -> None:
    """Cut the connection of a request: a server that stops would wait for each client to close it."""
    for name in _SOCKETS:
        if name in environ:
            with suppress(OSError):
                environ[name].shutdown(socket.SHUT_RDWR)


def _as_events(events: _Events, environ: Mapping[str, Any]) -> Iterator[str]:
    """Yield the text of Server-Sent Events."""
    yield f"retry: {_RETRY_MS}\n\n"
    try:
        for event in events:
            if event is None:
                yield ":\n\n"
            elif isinstance(event, Gap):
                yield f"id: {event.goes_on}\nevent: lost\ndata: {_lost(event)}\n\n"
            else:
                yield "".join(f"id: {one.position}\ndata: {events.text(one)}\n\n" for one in event)
    except FedmsgError:
        # The client connects again, and then gets an answer that says what is wrong.
        return
    _cut(environ)


@blueprint.route("/stream", endpoint="websocket", websocket=True)
@blueprint.route("/stream")
def stream() -> flask.Response:
    """Answer with messages as they are stored."""
    found = list(routes.pairs())
    given = arguments.parse("/stream", found)
    asked = Asked({**given, "order": "asc"}, None, None, None, None)
    extensions: Mapping[str, Any] = flask.current_app.extensions
    if extensions["feed"].streams >= extensions["feed"].most:
        return answers.unavailable("as many streams as may be are open")
    # A browser that connects again does so at the same address, and the header has what it has seen since.
    seen = _last_event_id()
    after = given["after"] if seen is None else seen
    is_websocket = flask.request.headers.get("Upgrade", "").lower() == "websocket"
    events = _Events(extensions["feed"], after, asked, extensions["describer"], extensions["ending"])
    events.has_gone = partial(_has_gone, flask.request.environ)
    if is_websocket:
        return _serve_websocket(events)
    response = flask.Response(
        _as_events(events, flask.request.environ), content_type="text/event-stream; charset=utf-8"
    )
    response.headers["Cache-Control"] = "no-store"
    # Asks nginx not to collect what is sent.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _last_event_id() -> int | None:
    """Return the position that a client which connects again has seen last."""
    text = flask.request.headers.get("Last-Event-ID", "").strip()
    if not text:
        return None
    try:
        position: int = arguments.POSITION.read(text)
    except ValueError as error:
        raise BadArgument("Last-Event-ID", str(error)) from error
    return position


class _Taken(flask.Response):
    """A response whose connection was used for something else; the server only closes it."""

    def __call__(self, environ: Mapping[str, Any], start_response: Any) -> Any:
        if "gunicorn.socket" in environ:
            raise StopIteration
        return super().__call__(environ, start_response)  # type: ignore[arg-type]


class _Connection:
    """A connection whose `send` sends all of it, also where it has a time limit, and one text at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def send(self, data: bytes) -> int:
        with self._lock:
            self._connection.sendall(data)
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _with_whole_writes(environ: Mapping[str, Any]) -> dict[str, Any]:
    changed = {name: _Connection(environ[name]) for name in _SOCKETS if name in environ}
    return {**environ, **changed}


def _serve_websocket(events: _Events) -> flask.Response:
    origin = flask.request.headers.get("Origin", "")
    own = flask.request.host_url.rstrip("/")
    if origin and origin != own and not answers.is_allowed_origin(origin):
        return answers.problem(403, "pages of this site may not connect")
    if not any(name in flask.request.environ for name in _SOCKETS):
        return answers.problem(501, "this server has no WebSockets; use Server-Sent Events")
    try:
        client = simple_websocket.Server.accept(
            _with_whole_writes(flask.request.environ), ping_interval=_HEARTBEAT_SECONDS, max_message_size=_LONGEST_FRAME
        )
        events.has_gone = lambda: not client.connected
        try:
            for event in events:
                if isinstance(event, Gap):
                    client.send(f'{{"lost":{_lost(event)}}}')
                for one in event if isinstance(event, list) else ():
                    client.send(f'{{"id":{one.position},"message":{events.text(one)}}}')
        finally:
            client.close(1001)
            _cut(flask.request.environ)
    except (simple_websocket.ConnectionClosed, simple_websocket.ConnectionError, OSError, FedmsgError):
        pass
    return _Taken()
