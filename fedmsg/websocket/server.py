# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lets programs in a browser listen to the bus, over WebSockets.

A client sends ``{"topic": "__topic_subscribe__", "body": "<topic>"}`` and from then on gets
``{"topic": ..., "body": <envelope>}`` for each match. In place of the topic there may be a filter, an
object with ``topics``, ``where`` and their ``not_`` twins, see `fedmsg.filters`.
The server has a thread of its own; the hub puts messages into its queue and never waits for it.
"""

from __future__ import annotations

import asyncio
import errno
import http
import ipaddress
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from fedmsg import _wire, crypto
from fedmsg._util.ratelimit import RateLimitedLog, RejectionLog
from fedmsg._util.service import ServiceThread
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError, MessageError, ValidationError
from fedmsg.filters import MessageFilter, SubscriptionIndex
from fedmsg.websocket import clients
from fedmsg.websocket.clients import Client, Clients, Filtered, Limits

__all__ = ["Inject", "Limits", "Server", "Wanted", "for_hub"]

log = logging.getLogger("fedmsg.websocket.server")

#: Takes topic and body of what a client sends, and returns at once. What it raises is why it rejects them.
Inject = Callable[[str, Any], object]

#: Is called with whether clients have subscriptions, when that changes.
Wanted = Callable[[bool], object]

_PORT = "moksha.livesocket.websocket.port"
_INTERFACE = "moksha.livesocket.websocket.interface"
_CLIENT_TO_SERVER = "moksha.livesocket.websocket.client2server"
_ORIGINS = "moksha.livesocket.websocket.origins"
_SUBSCRIBE = "__topic_subscribe__"

# Users and packages would be asked of plugins for each message.
_FILTER_KEYS = ("topics", "where", "not_topics", "not_where")

_POLICY_VIOLATION = 1008
# How long a client has to answer when the connection is closed, in seconds.
_CLOSE_TIMEOUT = 1.0
# So many messages are sent in a row; then other work of the loop has its turn.
_BATCH = 100

# With more topics than that, to compare them all with each message would cost more than to queue every message.
_PREFIXES_MAX = 64

_DEFAULT_LIMITS = Limits()


class Server(ServiceThread):
    """A WebSocket server for the messages of a hub.

    Args:
        inject: Takes what clients send, where the configuration allows it.
        wanted: Is called when the first client subscribes and when the last one has left.

    Attributes:
        rejections: Messages of the hub that are not fit for clients.

    Raises:
        RefusedAtStart: Messages are to be checked, and can't be.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        inject: Inject | None = None,
        *,
        wanted: Wanted = lambda _: None,
        limits: Limits = _DEFAULT_LIMITS,
    ) -> None:
        self.port: int | None = None
        self.rejections = RejectionLog(log)
        self._host: str = settings.get(config, _INTERFACE) or "127.0.0.1"
        self._configured_port: int | None = settings.get(config, _PORT)
        self._origins = origins(settings.get(config, _ORIGINS), self._host)
        self._inject = inject if settings.get(config, _CLIENT_TO_SERVER) else None
        self._frame_limit: int = settings.get(config, "max_message_size") if self._inject else limits.frame
        self._check = crypto.checker(config) if settings.get(config, "validate_signatures") else None
        self._wanted = wanted
        self._limits = limits
        self._log = RateLimitedLog(log)
        self._strict: bool = settings.get(config, "zmq_strict")
        self._index: SubscriptionIndex[Client | Filtered] = SubscriptionIndex(
            strict=self._strict, prefixes_max=_PREFIXES_MAX
        )
        self._clients = Clients(limits, self._log)
        # Each counter is written by one thread: the thread of the hub appends and drops, ours takes.
        self._queue: deque[tuple[str, str | bytes]] = deque()
        self._appended_bytes = self._taken_bytes = self._dropped_bytes = 0
        self._dropped = self._dropped_reported = 0
        self._is_awake = False
        # Last: what is closed must have a thread.
        super().__init__("fedmsg-websocket")

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    @property
    def counts(self) -> Mapping[str, int]:
        """Events by kind: ignored frames, dropped messages, rejected connections, disconnected clients."""
        return self._log.counts

    def deliver(self, topic: str, body: str | bytes) -> None:
        """Queue a message, as it came, for the clients that have subscribed; called by one thread, never waits."""
        if not topic.startswith(self._index.prefixes) or self.closed:
            return
        limits = self._limits
        self._queue.append((topic, body))
        self._appended_bytes += len(body)
        while len(self._queue) > limits.queue or (
            self._appended_bytes - self._taken_bytes - self._dropped_bytes > limits.queue_bytes and len(self._queue) > 1
        ):
            try:
                oldest = self._queue.popleft()
            except IndexError:  # the other thread was faster
                break
            self._dropped_bytes += len(oldest[1])
            self._dropped += 1
        if not self._is_awake:
            self._is_awake = True
            self.waker.wake()

    def __enter__(self) -> Server:
        self.start()
        return self

    # ---------------------------------------------------------------- in its thread

    def run(self) -> None:
        """Serve until the server is closed.

        Raises:
            AddressInUse: Another program has the port.
            ConfigError: The interface is none of this machine, or there is no port.
        """
        if self._configured_port is None:
            raise ConfigError(f"{_PORT} is not set: set it to the port to serve WebSockets on")
        try:
            asyncio.run(self._serve(self._configured_port))
        except OSError as error:
            raise self._explained(error) from error

    def _explained(self, error: OSError) -> Exception:
        kind = AddressInUse if error.errno == errno.EADDRINUSE else ConfigError
        # asyncio's own text has the address once more.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        return kind(f"{_PORT}: port {self._configured_port} of {self._host} can't be bound: {reason}")

    async def _serve(self, port: int) -> None:
        loop, ending = asyncio.get_running_loop(), asyncio.Event()
        limits = self._limits
        async with serve(
            self._attend,  # type: ignore[arg-type] # create_connection makes all connections a Client
            self._host,
            port,
            create_connection=type("Connection", (Client,), {"clients": self._clients}),
            origins=self._origins,
            process_request=self._admit,  # type: ignore[arg-type] # as above
            process_response=self._report_origin,
            logger=_silent(),
            # It would cost the hub's processor, and memory for each client.
            compression=None,
            server_header=None,
            max_size=self._frame_limit,
            max_queue=4,
            open_timeout=limits.handshake,
            ping_interval=limits.ping,
            ping_timeout=limits.ping,
            close_timeout=_CLOSE_TIMEOUT,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            log.info("serving WebSockets on port %d of %s", self.port, self._host)
            loop.add_reader(self.waker.fileno(), self._on_wake, loop, ending)
            self.ready()
            try:
                await ending.wait()
            finally:
                loop.remove_reader(self.waker.fileno())
                # The library would wait for handshakes, and for clients that do not read.
                self._clients.cut_handshakes()
                loop.call_later(1.5 * _CLOSE_TIMEOUT, self._clients.cut_all)

    def _admit(self, client: Client, _request: Request) -> Response | None:
        """Reject a client when there are too many."""
        if self._clients.admit(client):
            return None
        return client.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "There are too many clients.\n")

    def _report_origin(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Report that the library has rejected a page of another site."""
        if response.status_code == http.HTTPStatus.FORBIDDEN:
            page = ", ".join(request.headers.get_all("Origin"))
            self._log.report("origin", f"a page of {page} was rejected: it is not in {_ORIGINS}", str(connection.id))

    async def _attend(self, client: Client) -> None:
        self._clients.opened(client)
        try:
            async for frame in client:
                await self._on_frame(client, frame)
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 - reported there
            # The library would log it to its own logger, which is silent.
            self._report_defect(f"the client {client.name} can't be served", error)
        finally:
            self._unsubscribe(client)
            self._clients.lost(client)

    def _report_defect(self, what: str, error: Exception) -> None:
        self._log.report("defect", f"{what}: {error!r}")
        log.debug("%s", what, exc_info=error)

    # ---------------------------------------------------------------- what clients send

    async def _on_frame(self, client: Client, frame: str | bytes) -> None:
        try:
            topic, body = clients.read(frame)
            if topic == _SUBSCRIBE:
                self._subscribe(client, body)
            elif self._inject is None:
                raise MessageError("it is no subscription", "unwanted")
            else:
                self._pass_on(self._inject, topic, body)
            client.active = True
        except MessageError as error:
            client.rejected += 1
            self._log.report(error.kind, f"ignored what the client {client.name} sent: {error}")
            if client.rejected >= self._limits.rejected:
                await client.close(_POLICY_VIOLATION, "too many frames that have to be ignored")

    def _subscribe(self, client: Client, body: Any) -> None:
        member: Client | Filtered = client
        if isinstance(body, dict):
            member = Filtered(client, self._read_filter(body))
            # A strict index compares whole topics, which the beginning of a glob is not.
            topics = ("",) if self._strict else member.wanted.prefixes()
        elif isinstance(body, str):
            # Without its stars, so that two ways to write a topic count as one.
            topics = (body.replace("*", ""),)
        else:
            raise MessageError("the topic of its subscription is not text", "frame")
        if max(map(len, topics)) > self._limits.topic:
            raise MessageError(f"the topic of its subscription is longer than {self._limits.topic}", "frame")
        if isinstance(member, Filtered):
            client.filtered.append(member)
        before = self._index.prefixes
        most = max(self._index.add(member, topic) for topic in topics) + len(client.filtered)
        if most > self._limits.topics:
            self._unsubscribe(client)
            client.rejected = self._limits.rejected
            raise MessageError(f"it has more than {self._limits.topics} subscriptions", "subscriptions")
        log.debug("the client %s subscribes to %a", client.name, body)
        if not before:
            self._notify_hub(wanted=True)

    def _read_filter(self, body: dict[str, Any]) -> MessageFilter:
        """Return the filter of a subscription, which must not cost more than looking at a message once.

        Raises:
            MessageError: It makes no sense, or is more than a stranger may ask for.
        """
        if unknown := body.keys() - _FILTER_KEYS:
            raise MessageError(f"its filter may have {', '.join(_FILTER_KEYS)}, and not {min(unknown)!r}", "frame")
        try:
            wanted = MessageFilter.from_config(body, "its filter", strict=self._strict)
        except ConfigError as error:
            raise MessageError(str(error), "frame") from error
        if wanted.has_patterns:
            raise MessageError("its filter has a regular expression (~), which a client may not send", "frame")
        if len(wanted.to_params()) > self._limits.topics:
            raise MessageError(f"its filter has more than {self._limits.topics} parts", "frame")
        return wanted

    def _unsubscribe(self, client: Client) -> None:
        before = self._index.prefixes
        self._index.remove(client)
        for member in client.filtered:
            self._index.remove(member)
        client.filtered.clear()
        if before and not self._index.prefixes:
            self._notify_hub(wanted=False)

    def _notify_hub(self, *, wanted: bool) -> None:
        try:
            self._wanted(wanted)
        except Exception as error:  # noqa: BLE001 - reported there
            self._report_defect("the subscription at the hub can't be changed", error)

    def _pass_on(self, inject: Inject, topic: str, body: Any) -> None:
        try:
            inject(topic, body)
        except MessageError:
            raise
        except Exception as error:
            log.debug("the hub rejects a message of a client", exc_info=True)
            raise MessageError(f"the hub rejects it: {error!r}", "inject") from error

    # ---------------------------------------------------------------- what clients get

    def _on_wake(self, loop: asyncio.AbstractEventLoop, ending: asyncio.Event) -> None:
        self.waker.clear()
        if self.stopping:
            ending.set()
        # Before the queue is looked at: what comes later wakes again.
        self._is_awake = False
        self._send_queued(loop)

    def _send_queued(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what the hub has queued to the clients that have subscribed to it."""
        if dropped := self._dropped - self._dropped_reported:
            self._dropped_reported += dropped
            self._log.report("overrun", f"{dropped} messages came faster than they can be sent, and were dropped")
        for _ in range(_BATCH):
            try:
                topic, body = self._queue.popleft()
            except IndexError:
                return
            self._taken_bytes += len(body)
            try:
                self._send(topic, body)
            except Exception as error:  # noqa: BLE001 - reported there
                self._report_defect(f"a message with the topic {topic} can't be sent", error)
        loop.call_soon(self._send_queued, loop)

    def _send(self, topic: str, body: str | bytes) -> None:
        members = self._index.matching(topic)
        envelope = self._checked(topic, body) if members else None
        if envelope is None:
            return
        # Each once, however many of its subscriptions match.
        recipients = dict.fromkeys(
            member.client if isinstance(member, Filtered) else member
            for member in members
            if not isinstance(member, Filtered) or member.wanted.matches(envelope)
        )
        if recipients:
            text = clients.write(topic, envelope)
            self._clients.send(recipients, text)

    def _checked(self, topic: str, body: str | bytes) -> dict[str, Any] | None:
        """Return the envelope of a message; None for one that is invalid."""
        try:
            envelope = _wire.parse(*(_bytes(part) for part in (topic, body)))
            if self._check is not None and not self._check(envelope):
                raise ValidationError(envelope)
        except MessageError as error:
            self.rejections.add("the hub", error)
            return None
        return envelope


def for_hub(hub: Any) -> Server:
    """Return a server for the messages that a hub receives; without subscriptions it costs the hub nothing."""

    def deliver(message: Any) -> None:
        server.deliver(message.topic, message.body)

    def wanted(yes: bool) -> None:
        if yes:
            hub.subscribe("", deliver)
        else:
            hub.unsubscribe(deliver)

    server = Server(hub.config, hub.inject, wanted=wanted)
    return server


#: The origins of pages on this machine.
_LOOPBACK = re.compile(
    r"[a-z][a-z0-9+.-]*://(localhost|[a-z0-9.-]+\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE
)


def origins(allowed: Iterable[str] | None, host: str) -> list[Any] | None:
    """Return which pages may connect, for the library; programs without an origin always may.

    A browser lets every page that its user looks at connect to any server that the browser can
    reach, also to one that only this machine can. It does send whose page it is.

    Args:
        allowed: Origins such as ``https://wall.example.org``; ``*`` is every one. None means that the
            interface decides: what is served to this machine only is for pages of this machine,
            and what is served to others is for all pages.
        host: The interface that is served.

    Returns:
        Origins and expressions for them; None for all.
    """
    if allowed is None:
        return [None, _LOOPBACK] if _is_loopback(host) else None
    listed = [origin.rstrip("/") for origin in allowed]
    if "*" in listed:
        return None
    return [None, *(re.compile(re.escape(origin), re.IGNORECASE) for origin in listed)]


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _bytes(part: str | bytes) -> bytes:
    return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part


def _silent() -> logging.Logger:
    """Return a silent logger: the library logs a traceback for each client that does not know the protocol."""
    logger = logging.getLogger("fedmsg.websocket.server.library")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    return logger
