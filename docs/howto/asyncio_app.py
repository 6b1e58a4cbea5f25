# SPDX-License-Identifier: LGPL-2.1-or-later
"""A shop on the web: every order goes to the bus, and browsers watch what happens there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import fedmsg.aio
from fedmsg.exceptions import FedmsgError

# A client that is so many messages behind is disconnected; a browser reconnects by itself.
MOST_BEHIND = 1000


class Watchers:
    """Sends each message of the bus to all who watch; it is received and decoded once."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[str | None]] = set()

    async def run(self) -> None:
        """Listen to the bus."""
        async for name, endpoint, topic, envelope in fedmsg.aio.tail_messages():
            # As JSON it is one line, whatever it contains: a message can not add an event of its own.
            event = json.dumps({"topic": topic, "msg": envelope["msg"]})
            for queue in list(self._queues):
                if queue.qsize() < MOST_BEHIND:
                    queue.put_nowait(f"data: {event}\n\n")
                else:
                    self._send_away(queue)

    async def watch(self) -> AsyncIterator[str]:
        """Yield events for one browser; ended by Starlette when the browser is gone."""
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            event: str | None = ": welcome\n\n"
            while event is not None:
                yield event
                try:
                    event = await asyncio.wait_for(queue.get(), timeout=15)
                except asyncio.TimeoutError:
                    event = ": still here\n\n"
        finally:
            self._queues.discard(queue)

    def close(self) -> None:
        """Send all of them away."""
        for queue in list(self._queues):
            self._send_away(queue)

    def _send_away(self, queue: asyncio.Queue[str | None]) -> None:
        self._queues.discard(queue)
        queue.put_nowait(None)


watchers = Watchers()


@contextlib.contextmanager
def when_stopping(call: Callable[[], None]) -> Iterator[None]:
    """Call something when the server is stopped.

    It then waits for its connections to end, and a stream of events never does by itself.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(call)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, stop)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    """Open the bus before the first request and close it after the last."""
    await fedmsg.aio.init(active=True)
    watching = asyncio.create_task(watchers.run())
    with when_stopping(watchers.close):
        yield
    watching.cancel()
    await asyncio.wait({watching})
    await fedmsg.aio.destroy()


async def order(request: Request) -> Response:
    """Take an order, and publish it."""
    placed = await request.json()
    try:
        await fedmsg.aio.publish(topic="order.placed", modname="shop", msg=placed)
    except FedmsgError as error:
        return JSONResponse({"error": str(error)}, status_code=503)
    return JSONResponse(placed, status_code=202)


async def events(_request: Request) -> Response:
    """Stream what happens on the bus, as server-sent events."""
    return StreamingResponse(watchers.watch(), media_type="text/event-stream")


app = Starlette(
    routes=[Route("/orders", order, methods=["POST"]), Route("/events", events)],
    lifespan=lifespan,
)
