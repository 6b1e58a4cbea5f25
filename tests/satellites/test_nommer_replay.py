# SPDX-License-Identifier: LGPL-2.1-or-later
"""Storing without a stream: what is missing is asked for by the numbers that stand in the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg.testing import free_address, wait_until
from tests.hubs import Feed, envelope
from tests.satellites.nommers import Stored, storing, totals
from tests.unit.replay.stores import ListStore, serving

NAMES = ("shop", "post")


class Street:
    """Publishers with numbers of their own, whose stores are asked for what is missing.

    Attributes:
        config: The settings of a hub that listens to all of them.
        feeds: The publishers by name.
        stores: Their stores.
    """

    def __init__(self) -> None:
        self.feeds = {name: Feed() for name in NAMES}
        self.stores = {name: ListStore() for name in NAMES}
        self._heard: dict[str, int] = {}
        self.config: dict[str, Any] = {
            "endpoints": {name: [feed.address] for name, feed in self.feeds.items()},
            "replay_endpoints": {name: free_address() for name in NAMES},
            "timeout": 10,
        }

    def say(self, name: str, *numbers: int, is_sent: bool = True) -> None:
        """Store messages, and send them."""
        for number in numbers:
            message = self.stores[name].add(envelope(name, {"n": number}))
            if is_sent:
                self.feeds[name].publish(message)

    def wait(self) -> None:
        """Wait until a hub listens that did not before."""
        for name, feed in self.feeds.items():
            feed.wait(count=self._heard.get(name, 0) + 1)
            self._heard[name] = feed.subscribed.count(b"")

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Street]:
        """Have all of them publish, and answer."""
        made = cls()
        with ExitStack() as stack:
            for name, feed in made.feeds.items():
                stack.enter_context(feed)
                where = made.config["replay_endpoints"]
                stack.enter_context(serving(made.stores[name], name=name, replay_endpoints=where))
            yield made


@pytest.fixture
def street() -> Iterator[Street]:
    with Street.running() as made:
        yield made


@pytest.fixture
def stored(history: Any, history_url: str) -> Iterator[Stored]:
    with Stored(history_url) as made:
        yield made


def numbers(stored: Stored) -> dict[str, int]:
    """Return how far each service was stored."""
    with stored.engine.connect() as connection:
        found = connection.execute(sa.text("SELECT service, seq_id FROM service_cursors")).all()
    return {service: number for service, number in found}  # noqa: C416 the rows are no pairs for the type checker


def test_nommer_asks_each_service_for_what_is_missing(street: Street, stored: Stored) -> None:
    with storing(street.config) as hub:
        street.wait()
        street.say("shop", 1)
        street.say("post", 2)
        stored_both = [1, 2]
        wait_until(lambda: sorted(stored.numbers()) == stored_both)
        street.say("shop", 3, 4, is_sent=False)
        street.say("shop", 5)
        wait_until(lambda: sorted(stored.numbers()) == [1, 2, 3, 4, 5])
        street.say("post", 6)
        wait_until(lambda: len(stored.numbers()) == 6)
        assert totals(hub)["replayed"] == 2
    assert numbers(stored) == {"shop": 4, "post": 2}
    assert stored.numbers()[2:5] == [3, 4, 5]


def test_nommer_asks_at_its_start_for_what_was_sent_while_it_was_down(street: Street, stored: Stored) -> None:
    with storing(street.config):
        street.wait()
        street.say("shop", 1)
        stored.wait_for([1])
    street.say("shop", *range(2, 1500), is_sent=False)
    with storing(street.config):
        # Nothing is sent that would show that something is missing.
        stored.wait_for(range(1, 1500))
        street.wait()
        street.say("shop", 1500)
        stored.wait_for(range(1, 1501))
    assert numbers(stored) == {"shop": 1500}


def test_nommer_stores_what_is_of_no_service(street: Street, stored: Stored) -> None:
    with Feed() as other:
        street.config["endpoints"]["other"] = [other.address]
        with storing(street.config):
            other.wait()
            other.publish(envelope("other", {"n": 7}, seq_id=1000))
            stored.wait_for([7])
    assert numbers(stored) == {}
