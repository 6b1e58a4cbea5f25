# SPDX-License-Identifier: LGPL-2.1-or-later
"""A publisher with an outbox, and readers, as processes that may be killed at any moment.

Of the readers one is durable, and one keeps its position itself.

::

    python -m tests.integration.faults.stream_parts publish FOLDER WINDOW RATE < configuration
    python -m tests.integration.faults.stream_parts read FOLDER NAME < configuration
    python -m tests.integration.faults.stream_parts keep FOLDER < configuration

All end when their standard input does. What they write is with the operating system before they go on, so that it
outlives the process; the machine does not fail in these tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fedmsg.core import FedMsgContext
from fedmsg.exceptions import NotConfirmed

__all__ = ["Outbox", "handled", "results"]

_never = threading.Event()


class Outbox:
    """What a publisher has made, and what was confirmed of it.

    Args:
        folder: Where the files are.

    Attributes:
        made: The envelopes, in the order in which they are published.
        confirmed: Their positions, in the same order.
    """

    def __init__(self, folder: Path) -> None:
        self._made, self._confirmed = folder / "made", folder / "confirmed"
        self.made: list[dict[str, Any]] = [json.loads(line) for line in _whole_lines(self._made)]
        self.confirmed = [int(line) for line in _whole_lines(self._confirmed)]

    def opened(self) -> tuple[BinaryIO, BinaryIO]:
        """Open both files to go on, each after its last whole line."""
        lines = (self._made, [json.dumps(envelope).encode() for envelope in self.made])
        positions = (self._confirmed, [b"%d" % position for position in self.confirmed])
        return _go_on(*lines), _go_on(*positions)


def _whole_lines(path: Path) -> list[bytes]:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()


def _go_on(path: Path, lines: list[bytes]) -> BinaryIO:
    file = path.open("r+b" if path.exists() else "w+b", buffering=0)
    file.truncate(sum(len(line) + 1 for line in lines))
    file.seek(0, os.SEEK_END)
    return file


def handled(folder: Path, name: str) -> list[tuple[int, int]]:
    """Return what a reader has handled: number and position of each message, in its order."""
    return [(int(number), int(position)) for number, position in map(bytes.split, _whole_lines(folder / name))]


def publish(context: FedMsgContext, folder: Path, rate: float) -> None:
    """Publish numbers with confirms, for ever: first what the process before this one has not seen confirmed."""
    outbox = Outbox(folder)
    made, confirmed = outbox.opened()
    for envelope in outbox.made[len(outbox.confirmed) :]:
        while True:
            try:
                confirmed.write(b"%d\n" % context.republish(envelope))
                break
            except NotConfirmed:
                continue

    def keep(envelope: dict[str, Any]) -> dict[str, Any]:
        made.write(json.dumps(envelope).encode() + b"\n")
        return envelope

    def messages(number: int) -> Iterator[dict[str, Any]]:
        begin = time.monotonic() - number / rate if rate else 0.0
        while True:
            yield {"topic": "t", "modname": "m", "msg": {"n": number}, "pre_fire_hook": keep}
            number += 1
            if rate and (ahead := begin + number / rate - time.monotonic()) > 0:
                _never.wait(ahead)

    for position in context.publish_many(messages(len(outbox.made))):
        confirmed.write(b"%d\n" % position)


def read(context: FedMsgContext, folder: Path, name: str) -> None:
    """Handle what comes, for ever."""
    with (folder / name).open("ab", buffering=0) as file, context.subscribe(after="first", durable=name) as stream:
        for message in stream:
            file.write(b"%d %d\n" % (message[3]["msg"]["n"], message.position or 0))


@contextlib.contextmanager
def _results_in(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(folder / "results", 30, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS results (position INTEGER PRIMARY KEY, number INTEGER UNIQUE)")
        yield database


def results(folder: Path) -> list[tuple[int, int]]:
    """Return what `keep` has stored: number and position of each message."""
    with _results_in(folder) as database:
        return database.execute("SELECT number, position FROM results ORDER BY position").fetchall()


def keep(context: FedMsgContext, folder: Path) -> None:
    """Store what comes together with its position, for ever; begin after the last position that is there."""
    with _results_in(folder) as database:
        (last,) = database.execute("SELECT coalesce(max(position), 0) FROM results").fetchone()
        with context.subscribe(after=last) as stream:
            for message in stream:
                # A message that came a second time would be an error here.
                database.execute("INSERT INTO results VALUES (?, ?)", (message.position, message[3]["msg"]["n"]))


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    """Do what the arguments say."""
    config = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    action, folder, *rest = sys.argv[1:]
    if action == "publish":
        settings = {"active": True, "publish_window": int(rest[0]), "publish_confirm": True}
        with FedMsgContext(**{**config, **settings}) as context:
            publish(context, Path(folder), float(rest[1]))
    else:
        with FedMsgContext(**{**config, "mute": True}) as context:
            if action == "read":
                read(context, Path(folder), rest[0])
            else:
                keep(context, Path(folder))


if __name__ == "__main__":
    main()
