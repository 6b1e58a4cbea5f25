# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests of statistics have in common: messages, plugins as others write them, recounts, hubs."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fedmsg.hub.hooks import Origin, Received
from fedmsg.statscache.counting import Counting
from fedmsg.statscache.plugins import BasePlugin, CategorizedModel, Schedule
from fedmsg.testing import wait_until
from tests.hubs import HubProcess

#: The tables of the shipped plugins that count everything.
VOLUMES = {"stats_volume_1m": 60, "stats_volume_1h": 3600, "stats_volume_1d": 86400}
#: A moment that is well within a day.
NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc).timestamp()


def message(number: int, moment: float | None = None, *, topic: str = "", origin: Origin | None = None) -> Received:
    """Return a message as a consumer receives it."""
    topic = topic or f"org.fedoraproject.dev.shop{number % 3}.sold"
    envelope = {
        "topic": topic,
        "msg": {"n": number},
        "msg_id": f"2026-{number}",
        "i": number,
        "timestamp": NOON + number if moment is None else moment,
        "username": "tester",
    }
    return Received(topic, envelope, origin or Origin())


def of_stream(numbers: Iterable[int], stream: str = "one") -> list[Received]:
    """Return messages that come from a stream, at the positions of their numbers."""
    return [message(number, origin=Origin(stream, number, time.time())) for number in numbers]


def recount(messages: Iterable[Mapping[str, Any]], seconds: int, *, by_category: bool = False) -> Counter[Any]:
    """Return how many messages there are of each bucket of time, counted anew; each message once."""
    once = {one["body"]["msg_id"]: one["body"] for one in messages}
    buckets = [(one["timestamp"] // seconds * seconds, one["topic"].split(".")[3]) for one in once.values()]
    return Counter(buckets) if by_category else Counter(bucket for bucket, _ in buckets)


class Numbers:
    """What a database has, read by a connection of its own."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)

    def read(self, table: str) -> Counter[Any]:
        """Return the numbers of a table, by time, or by time and category."""
        try:
            with self.engine.connect() as connection:
                rows = connection.execute(sa.text(f"SELECT * FROM {table}")).mappings().all()
        except sa.exc.DBAPIError:
            # It is not there, or has no tables yet.
            return Counter()
        found: Counter[Any] = Counter()
        for row in rows:
            moment = row["timestamp"]
            moment = moment if isinstance(moment, dt.datetime) else dt.datetime.fromisoformat(moment)
            bucket = moment.replace(tzinfo=dt.timezone.utc).timestamp()
            found[(bucket, row["category"]) if "category" in row else bucket] += int(row["scalar"])
        return found

    def total(self, table: str = "stats_volume_1d") -> int:
        """Return the sum of a table."""
        return self.read(table).total()

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        with self.engine.connect() as connection:
            return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())

    def wait_for(self, total: int, table: str = "stats_volume_1d", timeout: float = 60.0) -> None:
        """Wait until so many were counted, and no more."""
        wait_until(lambda: self.total(table) >= total, timeout, what=lambda: f"{total}; {self.total(table)}")
        assert self.total(table) == total

    def check(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Check that the numbers are those of a recount."""
        everything = list(messages)
        for table, seconds in VOLUMES.items():
            assert self.read(table) == recount(everything, seconds)
        assert self.read("stats_volume_by_category_1h") == recount(everything, 3600, by_category=True)

    def __enter__(self) -> Numbers:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()


@contextmanager
def counting(url: str, *plugins: Any, **settings: Any) -> Iterator[Counting]:
    """Open what counts, with the shipped plugins, or with these."""
    config = {"statscache.sqlalchemy.uri": url, **settings}
    made = Counting(config, [kind(schedule_of(kind), config) for kind in plugins] if plugins else None)
    try:
        made.open()
        yield made
    finally:
        made.close()


def schedule_of(kind: Any) -> Schedule | None:
    """Return the schedule that a plugin gets."""
    return Schedule(kind.interval) if kind.interval is not None else None


class Edits(BasePlugin):
    """A plugin as others write it: it knows of nothing but process and update."""

    name = "edits"
    summary = "How many edits there were"
    description = "The number of messages by their category."
    interval = dt.timedelta(hours=1)
    #: The number of the message that it can't understand.
    bad: Any = None

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.counts: Counter[Any] = Counter()

    def _made_model(self) -> Any:
        return type("Edits", (CategorizedModel,), {"__tablename__": "edits", "__unique__": ("category",)})

    def process(self, message: Any) -> None:
        """Count in memory."""
        if message["msg"]["n"] == self.bad:
            raise ValueError("this one again")
        moment = dt.datetime.fromtimestamp(message["timestamp"], dt.timezone.utc).replace(tzinfo=None)
        assert self.schedule is not None
        self.counts[self.schedule.last(moment), message["topic"].split(".")[3]] += 1

    def update(self, session: Any) -> None:
        """Write all of it."""
        for (moment, category), number in self.counts.items():
            found = session.query(self.model).filter_by(timestamp=moment, category=category).first()
            if found is None:
                session.add(self.model(timestamp=moment, category=category, scalar=number))
            else:
                found.scalar += number
        self.counts.clear()


class HoldingEdits(Edits):
    """The same, but it writes an hour when that is over."""

    def update(self, session: Any) -> None:
        """Write the hours that are over."""
        newest = max((moment for moment, _ in self.counts), default=None)
        held = Counter({key: number for key, number in self.counts.items() if key[0] == newest})
        self.counts -= held
        super().update(session)
        self.counts = held


def hub_process(folder: Path, url: str, config: Mapping[str, Any], *arguments: str, **settings: Any) -> HubProcess:
    """Start a hub that counts."""
    made = {**config, "statscache.consumer.enabled": True, "statscache.sqlalchemy.uri": url, **settings}
    return HubProcess(folder, made, *arguments)


def as_received(bodies: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return messages as a consumer receives them, from the bytes of their envelopes."""
    return [{"body": json.loads(body)} for body in bodies]
