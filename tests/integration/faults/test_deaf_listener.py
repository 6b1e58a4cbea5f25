# SPDX-License-Identifier: LGPL-2.1-or-later
"""Endpoints that once answer what is no message: every listener hears the publisher that binds there afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import zmq

import fedmsg.aio
from fedmsg.core import FedMsgContext
from fedmsg.exceptions import TransportError
from fedmsg.hub import Hub
from fedmsg.replay import client
from fedmsg.testing import Bus, Process, free_port, wait_until
from tests.hubs import taker
from tests.integration.faults.ground import GREETING, frame, ready

MAX_SIZE = 10_000
NONSENSE = {
    "garbage": b"\xff" * 100,
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3,
    "wrong type": GREETING + ready(b"REP"),
    "too large": GREETING + ready(b"PUB") + frame(bytes(8 * MAX_SIZE)),
}
TOPIC = "org.fedoraproject.dev.test.here"

Listening = Callable[[dict[str, Any], list[str]], contextlib.AbstractContextManager[None]]


def talk_nonsense(port: int, nonsense: bytes) -> None:
    """Answer one connection so, and go away when the other side has had enough of it."""
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(20)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(20)
            connection.sendall(nonsense)
            if not nonsense.startswith(b"HTTP"):
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(4096):
                        pass


@contextlib.contextmanager
def answering(port: int, before: threading.Thread) -> Iterator[None]:
    """Answer one question, once a thread has ended that has the port."""

    def answer() -> None:
        before.join()
        with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
            server.setsockopt(zmq.LINGER, 1000)
            server.bind(f"tcp://127.0.0.1:{port}")
            if server.poll(20_000):
                frames = server.recv_multipart()
                server.send_multipart([*frames[:-1], b"answer"])

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    thread.join()


@contextlib.contextmanager
def publisher(port: int) -> Iterator[Callable[[str], None]]:
    """Bind a plain publisher; yields what sends a word."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.PUB) as bound:
        bound.setsockopt(zmq.LINGER, 0)
        bound.bind(f"tcp://127.0.0.1:{port}")

        def send(word: str) -> None:
            bound.send_multipart([TOPIC.encode(), json.dumps({"topic": TOPIC, "msg": {"word": word}}).encode()])

        yield send
    context.term()


@contextlib.contextmanager
def plain(config: dict[str, Any], heard: list[str]) -> Iterator[None]:
    """Listen by ZeroMQ alone."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stop = threading.Event()

    def run() -> None:
        with context.socket(zmq.SUB) as listener:
            listener.setsockopt(zmq.MAXMSGSIZE, MAX_SIZE)
            listener.subscribe(b"")
            listener.connect(config["endpoints"]["x"][0])
            while not stop.is_set():
                if listener.poll(20):
                    heard.append(json.loads(listener.recv_multipart()[1])["msg"]["word"])

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()
    context.term()


@contextlib.contextmanager
def tail(config: dict[str, Any], heard: list[str]) -> Iterator[None]:
    """Listen by ``tail_messages``; it ends by the word "end"."""

    def run() -> None:
        with FedMsgContext(**config, mute=True) as context:
            for *_, envelope in context.tail_messages():
                heard.append(envelope["msg"]["word"])
                if heard[-1] == "end":
                    return

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()


@contextlib.contextmanager
def aio(config: dict[str, Any], heard: list[str]) -> Iterator[None]:
    """Listen in an event loop; it ends by the word "end"."""

    async def run() -> None:
        async with (
            fedmsg.aio.FedMsgContext(**config, mute=True) as context,
            contextlib.aclosing(context.tail_messages()) as messages,
        ):
            async for *_, envelope in messages:
                heard.append(envelope["msg"]["word"])
                if heard[-1] == "end":
                    return

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    yield
    thread.join()


@contextlib.contextmanager
def hub(config: dict[str, Any], heard: list[str]) -> Iterator[None]:
    """Listen by a hub."""

    def consume(_self: object, message: Any) -> None:
        heard.append(message["body"]["msg"]["word"])

    consumer = taker(consume=consume)
    with Hub({**config, "test.enabled": True}, [consumer], []):
        yield


@contextlib.contextmanager
def trigger(config: dict[str, Any], heard: list[str]) -> Iterator[None]:
    """Listen by ``fedmsg-trigger``."""
    command = ["fedmsg-trigger", "--command", "cat; echo"]
    with Bus({**config}) as bus, Process(command, env=bus.environ) as process:

        class Words(threading.Thread):
            done = threading.Event()

            def run(self) -> None:
                while not self.done.wait(0.02):
                    heard[:] = [json.loads(line)["msg"]["word"] for line in process.out if '"word"' in line]

        words = Words()
        words.start()
        yield
        words.done.set()
        words.join()
        logging.getLogger("fedmsg").warning("%s", "\n".join(process.err + process.out))  # for `caplog`


OURS: Mapping[str, Listening] = {"tail": tail, "aio": aio, "hub": hub, "trigger": trigger}


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize("listener", OURS)
def test_listener_reconnects_after_a_protocol_error(listener: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    port, heard = free_port(), list[str]()
    config = {"endpoints": {"x": [f"tcp://127.0.0.1:{port}"]}, "max_message_size": MAX_SIZE}
    with OURS[listener](config, heard):
        talk_nonsense(port, NONSENSE[kind])
        with publisher(port) as send:
            wait_until(lambda: "word" in heard, meanwhile=lambda: send("word"))
            send("end")
            wait_until(lambda: "end" in heard)
    # After an answer that ZeroMQ takes for an old version of its own, it tries again by itself.
    if kind != "http":
        assert f"tcp://127.0.0.1:{port}: it ended the connection with what is no ZeroMQ" in caplog.text


@pytest.mark.parametrize("kind", ["garbage", "wrong type", "too large"])
def test_control_plain_zeromq_stays_deaf(kind: str) -> None:
    port, heard = free_port(), list[str]()
    with plain({"endpoints": {"x": [f"tcp://127.0.0.1:{port}"]}}, heard):
        talk_nonsense(port, NONSENSE[kind])
        with publisher(port) as send:
            for _ in range(150):
                send("word")
                threading.Event().wait(0.01)
    assert heard == []


@pytest.mark.parametrize("nonsense", [NONSENSE["garbage"], GREETING + ready(b"PUB")], ids=["garbage", "wrong type"])
def test_replay_client_asks_again_after_a_protocol_error(nonsense: bytes) -> None:
    port = free_port()
    config = {"replay_endpoints": {"x": f"tcp://127.0.0.1:{port}"}, "timeout": 20}
    talker = threading.Thread(target=talk_nonsense, args=(port, nonsense))
    talker.start()
    with client.Client("x", config) as asking, answering(port, talker):
        assert asking.ask({"seq_id": 1}, 20) == [b"answer"]


def test_replay_client_leaves_a_server_that_never_answers() -> None:
    port = free_port()
    config = {"replay_endpoints": {"x": f"tcp://127.0.0.1:{port}"}}
    silent = threading.Thread(target=talk_nonsense, args=(port, GREETING + ready(b"REP")))
    silent.start()
    with client.Client("x", config) as asking:
        with pytest.raises(TransportError, match="did not answer within 1 s"):
            asking.ask({"seq_id": 1}, 1)
        # It ends with its connection.
        with answering(port, silent):
            assert asking.ask({"seq_id": 1}, 20) == [b"answer"]


def keep_talking_nonsense(port: int, nonsense: bytes, rounds: int) -> None:
    """Answer so many connections so."""
    for _ in range(rounds):
        talk_nonsense(port, nonsense)


def test_gateway_hears_all_publishers_after_their_endpoints_failed_together() -> None:
    ports, outbound, heard = [free_port() for _ in range(6)], free_port(), set[str]()
    config = {
        "endpoints": {f"x{port}": [f"tcp://127.0.0.1:{port}"] for port in ports},
        "fedmsg.consumers.gateway.port": outbound,
    }
    threads = [threading.Thread(target=keep_talking_nonsense, args=(port, NONSENSE["wrong type"], 4)) for port in ports]
    with Bus(config) as bus, zmq.Context() as context, contextlib.ExitStack() as stack:
        stack.enter_context(Process(["fedmsg-gateway"], env=bus.environ))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        listener = stack.enter_context(context.socket(zmq.SUB))
        listener.subscribe(b"")
        listener.connect(f"tcp://127.0.0.1:{outbound}")
        senders = {str(port): stack.enter_context(publisher(port)) for port in ports}

        def send_all() -> None:
            for word, send in senders.items():
                send(word)
            while listener.poll(20):
                heard.add(json.loads(listener.recv_multipart()[1])["msg"]["word"])

        wait_until(lambda: heard == {*senders}, meanwhile=send_all)
