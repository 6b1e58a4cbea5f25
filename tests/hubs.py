# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests of the hub stand on: a publisher that knows who listens, and plugins that are really installed."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import zmq

from fedmsg.consumers import FedmsgConsumer
from fedmsg.testing import Process, free_address, wait_until

#: The topics of the tests begin with this.
PREFIX = "org.fedoraproject.dev"

#: The setting that enables the consumers of the tests.
ENABLED = {"test.enabled": True}

_numbers = itertools.count(1)


def envelope(word: str = "test", msg: Any = None, **fields: Any) -> dict[str, Any]:
    """Return a message as a publisher makes it.

    Args:
        word: The end of its topic.
        msg: What it says.
        fields: Fields that are different.
    """
    number = next(_numbers)
    return {
        "topic": f"{PREFIX}.{word}",
        "msg": {} if msg is None else msg,
        "msg_id": f"2024-{number}",
        "i": number,
        "timestamp": int(time.time()),
        "username": "tester",
        **fields,
    }


class Feed:
    """A publisher with an address of its own, for one thread; it knows who has subscribed.

    Attributes:
        address: Where it publishes.
        config: The settings of a hub that listens to it, and runs the consumers of the tests.
        subscribed: The prefixes that somebody has subscribed to and nobody has withdrawn.
    """

    def __init__(self, **settings: Any) -> None:
        self.address = free_address()
        self.config: dict[str, Any] = {"endpoints": {"feed": [self.address]}, **ENABLED, **settings}
        self.subscribed: list[bytes] = []
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self.socket.bind(self.address)

    def wait(self, *words: str, count: int = 1) -> None:
        """Wait until somebody has subscribed to everything, or to each of these topics.

        Args:
            words: The ends of the topics.
            count: How many subscribers there have to be for each.
        """
        wanted = [f"{PREFIX}.{word}".encode() for word in words] or [b""]
        wait_until(lambda: all(self._look().count(one) >= count for one in wanted))

    def wait_until_gone(self) -> None:
        """Wait until nobody subscribes to anything."""
        wait_until(lambda: not self._look())

    def _look(self) -> list[bytes]:
        while self.socket.poll(0):
            news = self.socket.recv()
            (self.subscribed.append if news[:1] == b"\x01" else self.subscribed.remove)(news[1:])
        return self.subscribed

    def send(self, word: str = "test", msg: Any = None, **fields: Any) -> dict[str, Any]:
        """Publish a message; returns it."""
        made = envelope(word, msg, **fields)
        self.publish(made)
        return made

    def publish(self, *messages: dict[str, Any]) -> None:
        """Publish messages as they are."""
        for message in messages:
            self.raw(message["topic"].encode(), json.dumps(message).encode())

    def raw(self, *frames: bytes) -> None:
        """Publish frames."""
        self.socket.send_multipart(frames)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
        self._context.term()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Taker(FedmsgConsumer):
    """A consumer that keeps what it gets. Subclasses are made by `taker`, one for each test."""

    topic: Any = ""
    config_key = "test.enabled"

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self.taken: list[Any] = []

    def consume(self, message: Any) -> None:
        """Keep it."""
        self.taken.append(message)

    @property
    def said(self) -> list[Any]:
        """What the messages said."""
        return [message["body"]["msg"] for message in self.taken]


def taker(*bases: type, **members: Any) -> type[Taker]:
    """Make a class of consumers.

    Args:
        bases: What it derives from beside `Taker`.
        members: Its attributes and methods.
    """
    return type(members.pop("name", "Made"), (*bases, Taker), members)


def install(folder: Path, name: str, modules: Mapping[str, str], points: Mapping[str, Iterable[str]] = {}) -> Path:
    """Install a distribution of somebody's into a folder, as pip does.

    Args:
        folder: The folder, which goes on the path.
        name: The name of the distribution.
        modules: The text of each module or package file, by its path.
        points: The entry points, such as ``name = module:Class``, by group.

    Returns:
        The folder.
    """
    for path, text in modules.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    sections = [f"[{group}]\n" + "".join(f"{line}\n" for line in lines) for group, lines in points.items()]
    (info / "entry_points.txt").write_text("\n".join(sections))
    return folder


class HubProcess(Process):
    """A ``fedmsg-hub`` with a configuration and a folder of plugins of its own.

    Args:
        folder: A folder for both; what is in it is on the path.
        config: The configuration.
        arguments: Arguments of the command.
        environ: Additions to its environment.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], *arguments: str, environ: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "hub-config.py"
        path.write_text(f"config = {dict(config)!r}\n")
        super().__init__(
            ["fedmsg-hub", *arguments],
            env={"FEDMSG_CONFIG": str(path), "PYTHONPATH": str(folder), **(environ or {})},
            cwd=folder,
        )
