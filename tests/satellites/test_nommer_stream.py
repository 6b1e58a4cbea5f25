# SPDX-License-Identifier: LGPL-2.1-or-later
"""Storing what the stream of a relay has: each message once, whatever the relay knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.stream.log import StreamLog
from fedmsg.stream.records import Incoming
from tests.satellites.nommers import Stored, storing, totals
from tests.stream_relays import StreamBus, publish, running, sqlite_url, stream_of

DURABLE = {"datanommer.durable": True}


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


@pytest.fixture
def stored(history: Any, history_url: str) -> Iterator[Stored]:
    with Stored(history_url) as made:
        yield made


def forget_name(bus: StreamBus) -> None:
    """Remove the cursor that the relay has."""
    with StreamLog(bus.url) as log:
        assert log.remove_cursor("Nommer")


def test_nommer_stores_its_position_with_what_it_stores(bus: StreamBus, stored: Stored) -> None:
    publish(bus, range(30))
    with storing(bus.config, begin={"after": 0}, **DURABLE) as hub:
        stored.wait_for(range(30))
        publish(bus, range(30, 40))
        stored.wait_for(range(40))
        assert (totals(hub)["stored"], totals(hub)["skipped"]) == (40, 0)
    assert stored.position() == (stream_of(bus), 40)


def test_nommer_goes_on_where_the_database_is_when_the_relay_does_not_know_it(bus: StreamBus, stored: Stored) -> None:
    publish(bus, range(10))
    with storing(bus.config, begin={"after": 0}, **DURABLE):
        stored.wait_for(range(10))
    forget_name(bus)
    publish(bus, range(10, 20))
    # Without what it has stored, it would begin with new messages.
    with storing(bus.config, **DURABLE) as hub:
        stored.wait_for(range(20))
        assert totals(hub)["received"] == 10


def test_nommer_goes_on_with_another_stream_that_has_the_same_messages(
    bus: StreamBus, stored: Stored, tmp_path: Path
) -> None:
    publish(bus, range(10))
    with storing(bus.config, begin={"after": 0}, **DURABLE):
        stored.wait_for(range(10))
    entries = bus.entries()
    assert bus.stop_relay() == 0
    # A stream of its own: what the relay has kept, without the first three, and more.
    other = StreamBus(sqlite_url(tmp_path, "other.db"), relay_stream=bus.config["relay_stream"])
    with StreamLog(other.url) as log:
        log.append([Incoming(entry.topic, entry.body) for entry in entries[3:]])
    with running(other):
        publish(other, range(10, 15))
        with storing({**other.config}, **DURABLE) as hub:
            stored.wait_for(range(15))
            assert totals(hub)["received"] == 5
    assert stored.position() == (stream_of(other), 12)


def test_nommer_that_had_stored_what_the_relay_does_not_know_to_be_handled(bus: StreamBus, stored: Stored) -> None:
    publish(bus, range(10))
    with storing(bus.config, begin={"after": 0}, **DURABLE):
        stored.wait_for(range(10))
    with StreamLog(bus.url) as log:
        # As it is when a hub is killed between its commit and its acknowledgement.
        cursor = log.cursor("Nommer")
        assert cursor is not None
        log.save_cursors([cursor._replace(position=4)])
    publish(bus, range(10, 12))
    with storing(bus.config, **DURABLE) as hub:
        stored.wait_for(range(12))
        assert totals(hub)["skipped"] == 0
