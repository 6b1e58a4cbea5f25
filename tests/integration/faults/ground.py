# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the fault tests stand on: waiting for conditions, a witness, raw connections, /proc."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import zmq

from fedmsg.core import FedMsgContext
from fedmsg.testing import Bus, free_address, wait_until

PREFIX = "org.fedoraproject.dev"
OWN = os.getpid()

_never = threading.Event()


def until_more(values: Sized, more: int, timeout: float = 30.0) -> None:
    """Wait until something has grown by so many."""
    start = len(values)
    wait_until(lambda: len(values) >= start + more, timeout, what=f"{more} more than {start}")


class Witness:
    """A thread that subscribes to everything at some addresses and keeps what comes, unread.

    Plain ZeroMQ without any limit, so that what is missing here never came.

    Args:
        addresses: What it connects to.

    Attributes:
        frames: The messages so far, each a list of frames.
    """

    def __init__(self, *addresses: str) -> None:
        self.frames: list[list[bytes]] = []
        self._stop = threading.Event()
        self._context = zmq.Context()
        self._thread = threading.Thread(target=self._run, args=(addresses,), daemon=True)
        self._thread.start()

    def _run(self, addresses: Sequence[str]) -> None:
        with self._context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.LINGER, 0)
            # It is back before anybody who publishes has found the other side again.
            socket.setsockopt(zmq.RECONNECT_IVL, 5)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            for address in addresses:
                socket.setsockopt(zmq.IPV6, int("[" in address))
                socket.connect(address)
            while not self._stop.is_set():
                if socket.poll(20):
                    self.frames.append(socket.recv_multipart())

    def bodies(self, word: str) -> list[dict[str, Any]]:
        """Give the envelopes whose topic ends with a word, in the order they came."""
        ending = b"." + word.encode()
        return [json.loads(frames[1]) for frames in self.frames if frames[0].endswith(ending)]

    def numbers(self, word: str) -> list[Any]:
        """Give the ``n`` of each message under a topic."""
        return [body["msg"]["n"] for body in self.bodies(word)]

    def greet(self, bus: Bus) -> None:
        """Return once what is published through the bus's relay gets here."""
        with bus.context() as context:
            wait_until(lambda: self.bodies("hello"), meanwhile=lambda: context.publish("hello", modname="test"))
            # Greetings may still be under way; this one comes after them.
            context.publish("last-hello", modname="test")
            self.wait_for(1, "last-hello")
        del self.frames[:]

    def wait_for(self, count: int, word: str, timeout: float = 30.0) -> None:
        """Wait until there are so many messages under a topic."""
        ending = b"." + word.encode()
        seen = found = 0

        def there() -> bool:
            nonlocal seen, found
            now = len(self.frames)
            found += sum(frames[0].endswith(ending) for frames in self.frames[seen:now])
            seen = now
            return found >= count

        try:
            wait_until(there, timeout)
        except TimeoutError:
            raise TimeoutError(f"{found} of {count} messages {word!r} after {timeout} s") from None

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()
        self._context.term()

    def __enter__(self) -> Witness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def surroundings(way: str) -> Iterator[tuple[Witness, dict[str, Any]]]:
    """Give a witness, and the settings to reach it with through a relay or bound."""
    if way == "bound":
        address = free_address()
        with Witness(address) as witness:
            yield witness, {"name": "test.here", "endpoints": {"test.here": [address]}, "post_init_sleep": 20}
        return
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        bus.start_relay()
        witness.greet(bus)
        yield witness, {**bus.config, "active": True, "name": "relay_inbound", "timeout": 20}
        assert bus.stop_relay() == 0


class Alarm:
    """What an alarm does.

    Attributes:
        raises: Whether it raises a KeyboardInterrupt. On a busy machine a second one may come while the
            first is being handled.
    """

    raises = False


@contextmanager
def interrupts() -> Iterator[Alarm]:
    """Let a KeyboardInterrupt come out of the block's code, again and again."""
    alarm = Alarm()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if alarm.raises:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield alarm
    finally:
        alarm.raises = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def doubled(values: Sequence[Any]) -> list[Any]:
    """Give the values that are there more than once."""
    return [value for value, count in Counter(values).items() if count > 1]


@contextmanager
def publishing(context: FedMsgContext, word: str, *, pause: float = 0.0) -> Iterator[list[int]]:
    """Publish numbers from a thread for as long as the block lasts.

    Yields:
        The numbers of the messages for which ``publish`` has returned.
    """
    done: list[int] = []
    stop = threading.Event()
    errors: list[Exception] = []

    def run() -> None:
        number = 0
        try:
            while not stop.is_set():
                context.publish(word, {"n": number}, modname="test")
                done.append(number)
                number += 1
                if pause:
                    stop.wait(pause)
        except Exception as error:  # noqa: BLE001 raised again below, where pytest sees it
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


# ------------------------------------------------------------------ processes as the kernel sees them


def memory(pid: int, key: str = "VmRSS") -> int:
    """Give the resident memory of a process in KiB; ``VmHWM`` for the most it ever had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(status.split(f"{key}:")[1].split()[0])


def until_idle(pid: int, timeout: float = 60.0) -> None:
    """Wait until a process has had nothing to do for a while."""
    used, since = "", 0.0

    def idle() -> bool:
        nonlocal used, since
        now = " ".join(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13])
        if now != used:
            used, since = now, time.monotonic()
        return time.monotonic() - since > 0.3

    wait_until(idle, timeout, what=f"process {pid} idle")


def threads(pid: int | None = None) -> int:
    """Count the threads of a process."""
    return len(os.listdir(f"/proc/{pid or os.getpid()}/task"))


def freeze(pid: int) -> None:
    """Stop a process as by ``kill -STOP``; return when none of its threads runs any more."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")

    def is_frozen() -> bool:
        stats = [(task / "stat").read_text(encoding="ascii", errors="replace") for task in tasks.iterdir()]
        return all(stat.rpartition(")")[2].split()[0] in {"T", "t"} for stat in stats)

    wait_until(is_frozen, what=f"process {pid} frozen")


# ------------------------------------------------------------------ ZMTP by hand

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\x00") + bytes(32)


def ready(socket_type: bytes) -> bytes:
    """Give the command that ends the handshake of the NULL mechanism."""
    name, value = b"Socket-Type", socket_type
    body = b"\x05READY" + bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
    return b"\x04" + bytes([len(body)]) + body


def frame(content: bytes) -> bytes:
    """Give a message of one frame as it goes over the wire."""
    if len(content) < 256:
        return b"\x00" + bytes([len(content)]) + content
    return b"\x02" + struct.pack(">Q", len(content)) + content


def raw(address: str, *, window: int | None = None) -> socket.socket:
    """Connect to a ZeroMQ address without ZeroMQ.

    Args:
        address: Where to.
        window: How many bytes the kernel keeps until they are read.
    """
    connection = socket.socket()
    if window is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(10)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    connection.connect((host, int(port)))
    return connection


def shake_hands(connection: socket.socket, socket_type: bytes) -> None:
    """Do what comes before the first message.

    Raises:
        ConnectionError: The other side ends it.
    """
    connection.sendall(GREETING + ready(socket_type))
    with connection.makefile("rb") as answers:
        head = answers.read(len(GREETING) + 2)
        if len(head) < len(GREETING) + 2:
            raise ConnectionAbortedError("the other side has refused to shake hands")
        answers.read(head[-1])


def stuck_subscriber(address: str) -> socket.socket:
    """Subscribe to everything at an address, and never read a byte of it."""
    # A small window, so that what is sent piles up at the sender and not in the kernel.
    stuck = raw(address, window=4096)
    shake_hands(stuck, b"SUB")
    stuck.sendall(frame(b"\x01"))
    return stuck
