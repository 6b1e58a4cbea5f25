# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests of the consumer that stores have in common: a look into the database, hubs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fedmsg.datanommer.consumer import Nommer
from fedmsg.hub import Hub
from fedmsg.testing import wait_until
from tests.hubs import HubProcess


class Stored:
    """What a database has, read by a connection of its own.

    Args:
        url: The URL of the database.
    """

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)

    def numbers(self) -> list[int]:
        """Return the ``n`` of the messages, in the order in which they were stored."""
        try:
            with self.engine.connect() as connection:
                found = connection.execute(sa.text("SELECT msg FROM messages ORDER BY position")).scalars()
                msgs = [msg if isinstance(msg, dict) else json.loads(msg) for msg in found]
        except sa.exc.DBAPIError:
            # It is not there, or has no tables yet.
            return []
        return [msg["n"] for msg in msgs if "n" in msg]

    def count(self, table: str = "messages") -> int:
        """Return how many rows a table has."""
        try:
            with self.engine.connect() as connection:
                return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())
        except sa.exc.DBAPIError:
            return 0

    def position(self) -> tuple[str, int] | None:
        """Return the stream, and the position in it."""
        with self.engine.connect() as connection:
            row = connection.execute(sa.text("SELECT stream, position FROM stream_cursors")).first()
        return None if row is None else (row.stream, row.position)

    def wait_for(self, numbers: Iterable[int], timeout: float = 30.0) -> None:
        """Wait until these are there, and no others."""
        wanted = [*numbers]
        wait_until(lambda: self.count() >= len(wanted), timeout, what=lambda: f"{wanted[-5:]}; {self.numbers()[-5:]}")
        assert self.numbers() == wanted

    def __enter__(self) -> Stored:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()


@contextmanager
def storing(config: Mapping[str, Any], *others: type, begin: Any = None, **settings: Any) -> Iterator[Hub]:
    """Run a hub of this process that stores, into the history that is open."""
    made = {**config, "datanommer.enabled": True, "datanommer.sqlalchemy.url": "sqlite://", **settings}
    with Hub(made, [Nommer, *others], [], begin=begin or {}) as hub:
        yield hub


def totals(hub: Hub) -> dict[str, int]:
    """Return what the consumer has counted."""
    counts: dict[str, int] = hub.consumers[0].totals()
    return counts


def hub_process(folder: Path, url: str, config: Mapping[str, Any], *arguments: str, **settings: Any) -> HubProcess:
    """Start a hub that stores."""
    made = {**config, "datanommer.enabled": True, "datanommer.sqlalchemy.url": url, **settings}
    return HubProcess(folder, made, *arguments)
