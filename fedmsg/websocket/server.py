# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lets programs in a browser listen to the bus, over WebSockets.

A client sends ``{"topic": "__topic_subscribe__", "body": "<topic>"}`` and from then on gets
``{"topic": ..., "body": <envelope>}`` for each match. The server has a thread of its own,
which is handed messages and never keeps the hub waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http
import logging
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from fedmsg import _wire, crypto
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError, MessageError, ValidationError
from fedmsg.websocket import clients, origins
from fedmsg.websocket.clients import Client, Clients, Limits, Seldom
from fedmsg.websocket.subscription_index import Audience

__all__ = ["Inject", "Limits", "Server", "Wanted", "for_hub"]

log = logging.getLogger("fedmsg.websocket.server")

#: Takes what a client sends, topic and body, and returns at once. What it raises is the reason why it doesn't.
Inject = Callable[[str, Any], object]

#: Is told that messages are wanted, or no more.
Wanted = Callable[[bool], object]

_PORT = "moksha.livesocket.websocket.port"
_INTERFACE = "moksha.livesocket.websocket.interface"
_CLIENT_TO_SERVER = "moksha.livesocket.websocket.client2server"
_ORIGINS = "moksha.livesocket.websocket.origins"
_SUBSCRIBE = "__topic_subscribe__"

_POLICY_VIOLATION = 1008
# How long the thread has to end, in seconds; and how long a client has to say goodbye.
_PATIENCE = 4.0
_GOODBYE = 1.0
# Connections that have not said yet what they are, beyond those that may stay.
_IN_THE_DOORWAY = 50
# So many messages are put in front of clients at once; then those who write to them have their turn.
_TURN = 100

_NO_LIMITS_OF_THEIR_OWN = Limits()


class _Connection(ServerConnection):
    """A connection that is cut when there are too many, and not read while its other side doesn't read."""

    server_of_ours: ClassVar[Server]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, or cut it."""
        super().connection_made(transport)
        if not self.server_of_ours.enter(self.transport):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it off."""
        self.server_of_ours.exit(self.transport)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Take no more from one who takes nothing: each of its pings would make an answer that waits."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self.transport.resume_reading()


class Server:
    """A WebSocket server for the messages of a hub.

    Args:
        config: The configuration.
        inject: Takes what clients send, where the configuration lets them.
        wanted: Is told when the first client subscribes and when the last one has left.
        limits: What clients may do.

    Attributes:
        port: The port that is served, once it runs.
        rejections: What was handed over and is not fit for clients.

    Raises:
        RefusedAtStart: Messages are to be checked, and can't be.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        inject: Inject | None = None,
        *,
        wanted: Wanted = lambda _: None,
        limits: Limits = _NO_LIMITS_OF_THEIR_OWN,
    ) -> None:
        self.port: int | None = None
        self.rejections = RejectionLog(log)
        self._host: str = settings.get(config, _INTERFACE) or "127.0.0.1"
        self._configured_port: int | None = settings.get(config, _PORT)
        self._origins = origins.Policy(settings.get(config, _ORIGINS), self._host)
        self._inject = inject if settings.get(config, _CLIENT_TO_SERVER) else None
        self._longest_frame: int = settings.get(config, "max_message_size") if self._inject else limits.frame
        self._check = crypto.checker(config) if settings.get(config, "validate_signatures") else None
        self._wanted = wanted
        self._limits = limits
        self._seldom = Seldom(log)
        self._audience: Audience[Client] = Audience(strict=bool(settings.get(config, "zmq_strict")))
        self._clients = Clients(limits, self._seldom)
        # All of them, and whether they have become clients.
        self._connections: dict[asyncio.Transport, bool] = {}
        # What the hub's thread hands over to ours.
        self._lock = threading.Lock()
        self._inbox: deque[tuple[str, str | bytes]] = deque()
        self._inbox_bytes = 0
        self._inbox_lost = 0
        self._awake = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._started = threading.Event()
        self._problem: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often what has happened that should not: ignored frames, messages left out, clients turned away."""
        return self._seldom.counts

    # ---------------------------------------------------------------- for the hub

    def start(self) -> Server:
        """Bind the port and begin; returns when that is done.

        Raises:
            AddressInUse: Somebody else has the port.
            ConfigError: The interface is none of this machine, or there is no port.
        """
        if self._configured_port is None:
            raise ConfigError(f"{_PORT} is not set: give it a port to serve WebSockets on")
        if self._thread is not None:
            return self
        self._thread = threading.Thread(target=self._run, name="fedmsg-websocket", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._problem is not None:
            self._thread.join()
            self._thread = None
            raise self._problem
        log.info("serving WebSockets on port %d of %s", self.port, self._host)
        return self

    def deliver(self, topic: str, body: str | bytes) -> None:
        """Hand a message over to whoever has subscribed to it; never waits.

        Args:
            topic: The topic.
            body: The envelope, as it came.
        """
        if not topic.startswith(self._audience.prefixes):
            return
        limits = self._limits
        with self._lock:
            if self._loop is None:
                return
            self._inbox.append((topic, body))
            self._inbox_bytes += len(body)
            while len(self._inbox) > limits.handed_over or (
                self._inbox_bytes > limits.handed_over_bytes and len(self._inbox) > 1
            ):
                self._inbox_bytes -= len(self._inbox.popleft()[1])
                self._inbox_lost += 1
            if not self._awake:
                self._awake = True
                self._loop.call_soon_threadsafe(self._distribute)

    def close(self) -> None:
        """Say goodbye to all clients and end the thread; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._lock:
            if self._loop is not None and self._ending is not None:
                self._loop.call_soon_threadsafe(self._ending.set)
        thread.join(_PATIENCE)
        if thread.is_alive():
            log.error("the WebSocket server does not come to an end, and is left behind")

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_thread", None) is not None:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    # ---------------------------------------------------------------- in its thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.is_set():
                log.exception("the WebSocket server has ended")
            self._problem = self._explained(error) if isinstance(error, OSError) else error
        finally:
            self._started.set()

    def _explained(self, error: OSError) -> Exception:
        kind = AddressInUse if error.errno == errno.EADDRINUSE else ConfigError
        # asyncio's own text has the address once more.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        return kind(f"{_PORT}: port {self._configured_port} of {self._host} can't be bound: {reason}")

    async def _serve(self) -> None:
        self._ending = asyncio.Event()
        async with serve(
            self._attend,
            self._host,
            self._configured_port,
            create_connection=type("Connection", (_Connection,), {"server_of_ours": self}),
            process_request=self._admit,
            logger=_silent(),
            # It would cost the hub's processor, and memory for each client.
            compression=None,
            server_header=None,
            max_size=self._longest_frame,
            max_queue=4,
            open_timeout=self._limits.handshake,
            ping_interval=self._limits.ping,
            ping_timeout=self._limits.ping,
            close_timeout=_GOODBYE,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            with self._lock:
                self._loop = asyncio.get_running_loop()
            self._started.set()
            try:
                await self._ending.wait()
            finally:
                with self._lock:
                    loop, self._loop = self._loop, None
                # The library would wait for those who have not said what they are, and for who takes nothing.
                self._cut(clients=False)
                loop.call_later(1.5 * _GOODBYE, lambda: self._cut(clients=True))

    def enter(self, transport: asyncio.Transport) -> bool:
        """Count a new connection, before it has said anything; False when there is no room for it."""
        if len(self._connections) >= self._limits.clients + _IN_THE_DOORWAY:
            self._seldom.say("crowd", f"a connection was cut: there are {len(self._connections)} already")
            return False
        self._connections[transport] = False
        return True

    def exit(self, transport: asyncio.Transport) -> None:
        """Count off a connection."""
        self._connections.pop(transport, None)

    def _cut(self, *, clients: bool) -> None:
        """Cut the connections that are clients, or those that have not become any."""
        for transport, is_client in list(self._connections.items()):
            if is_client == clients:
                transport.abort()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Give an answer to the request of one who may not stay."""
        if len(self._clients) >= self._limits.clients:
            self._seldom.say("crowd", f"a client was turned away: there are {len(self._clients)} already")
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "There are too many clients.\n")
        origins = request.headers.get_all("Origin")
        if not all(map(self._origins.allows, origins)):
            self._seldom.say("origin", f"a page of {', '.join(origins)} was turned away; {_ORIGINS} lets pages in")
            return connection.respond(http.HTTPStatus.FORBIDDEN, "Pages of this site may not connect.\n")
        return None

    def _note_defect(self, what: str, error: Exception) -> None:
        self._seldom.say("defect", f"{what}: {error!r}")
        log.debug("%s", what, exc_info=error)

    async def _attend(self, connection: ServerConnection) -> None:
        address = connection.remote_address
        client = Client(connection, f"{address[0]}:{address[1]}" if address else "?", connection.transport.abort)
        self._clients.add(client)
        self._connections[connection.transport] = True
        writer = asyncio.create_task(self._clients.write(client))
        try:
            async for frame in connection:
                await self._hear(client, connection, frame)
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 - told there
            # The library would tell it to its own log, which nobody reads.
            self._note_defect(f"the client {client.name} can't be served", error)
        finally:
            self._leave(client)
            self._clients.remove(client)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await writer

    # ---------------------------------------------------------------- what clients say

    async def _hear(self, client: Client, connection: ServerConnection, frame: str | bytes) -> None:
        try:
            topic, body = clients.read(frame)
            if topic == _SUBSCRIBE:
                self._subscribe(client, body)
            elif self._inject is None:
                raise MessageError("it is no subscription", "unwanted")
            else:
                self._pass_on(self._inject, topic, body)
        except MessageError as error:
            client.refused += 1
            self._seldom.say(error.kind, f"ignored what the client {client.name} sent: {error}")
            if client.refused >= self._limits.refused:
                await connection.close(_POLICY_VIOLATION, "too much that has to be ignored")

    def _subscribe(self, client: Client, topic: Any) -> None:
        if not isinstance(topic, str):
            raise MessageError("the topic of its subscription is not text", "frame")
        if len(topic) > self._limits.topic:
            raise MessageError(f"the topic of its subscription is longer than {self._limits.topic}", "frame")
        before = self._audience.prefixes
        if self._audience.subscribe(client, topic) > self._limits.topics:
            self._leave(client)
            client.refused = self._limits.refused
            raise MessageError(f"it has more than {self._limits.topics} subscriptions", "subscriptions")
        log.debug("the client %s subscribes to %a", client.name, topic)
        if not before:
            self._tell_hub(wanted=True)

    def _leave(self, client: Client) -> None:
        before = self._audience.prefixes
        self._audience.leave(client)
        if before and not self._audience.prefixes:
            self._tell_hub(wanted=False)

    def _tell_hub(self, *, wanted: bool) -> None:
        try:
            self._wanted(wanted)
        except Exception as error:  # noqa: BLE001 - told there
            self._note_defect("the hub can't be told whether messages are wanted", error)

    def _pass_on(self, inject: Inject, topic: str, body: Any) -> None:
        try:
            inject(topic, body)
        except MessageError:
            raise
        except Exception as error:
            log.debug("a message of a client could not be handed to the hub", exc_info=True)
            raise MessageError(f"the hub does not take it: {error!r}", "inject") from error

    # ---------------------------------------------------------------- what clients get

    def _distribute(self) -> None:
        """Put what the hub has handed over in front of those who want it."""
        messages: list[tuple[str, str | bytes]] = []
        with self._lock:
            while self._inbox and len(messages) < _TURN:
                messages.append(self._inbox.popleft())
                self._inbox_bytes -= len(messages[-1][1])
            self._awake = bool(self._inbox)
            if self._awake and self._loop is not None:
                self._loop.call_soon(self._distribute)
            lost, self._inbox_lost = self._inbox_lost, 0
        if lost:
            self._seldom.say("overrun", f"{lost} messages came faster than they can be passed on, and are left out")
        for topic, body in messages:
            try:
                self._pass_out(topic, body)
            except Exception as error:  # noqa: BLE001 - told there
                self._note_defect(f"a message with the topic {topic} can't be passed on", error)

    def _pass_out(self, topic: str, body: str | bytes) -> None:
        clients = self._audience.of(topic)
        if clients and (text := self._checked(topic, body)) is not None:
            for client in clients:
                self._clients.put(client, text)

    def _checked(self, topic: str, body: str | bytes) -> str | None:
        """Give a message as clients get it; None for one that they should not get."""
        try:
            envelope = _wire.parse(*(_bytes(part) for part in (topic, body)))
            if self._check is not None and not self._check(envelope):
                raise ValidationError(envelope)
        except MessageError as error:
            self.rejections.add("the hub", error)
            return None
        return clients.write(topic, envelope)


def for_hub(hub: Any) -> Server:
    """Make a server for the messages that a hub receives.

    Args:
        hub: The hub. While no client has subscribed, it has nothing to do with the server.
    """

    def take(message: Any) -> None:
        server.deliver(message.topic, message.body)

    def wanted(yes: bool) -> None:
        if yes:
            hub.subscribe("", take)
        else:
            hub.unsubscribe(take)

    server = Server(hub.config, hub.inject, wanted=wanted)
    return server


def _bytes(part: str | bytes) -> bytes:
    return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part


def _silent() -> logging.Logger:
    """Give a logger that says nothing: the library has a traceback for each stranger who doesn't know the protocol."""
    logger = logging.getLogger("fedmsg.websocket.server.library")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    return logger
