# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening and closing a hub with all it may have, again and again, leaves nothing behind."""

from __future__ import annotations

import gc
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.exceptions import AddressInUse
from fedmsg.hub import Hub, PollingProducer
from fedmsg.testing import free_address, wait_until
from tests import open_files
from tests.hubs import Feed, Taker, taker
from tests.integration.faults import ground
from tests.integration.faults.conftest import Figures
from tests.integration.faults.test_open_close import NOWHERE

_rounds = itertools.count()
_polls = itertools.count()


class Ticker(PollingProducer):
    """Is polled a few times."""

    frequency = 0.001

    def poll(self) -> None:
        """Fail now and then."""
        if next(_polls) % 3 == 0:
            raise ValueError("no")


def fail(self: Taker, message: Any) -> None:
    """Handle no message."""
    raise ValueError("no")


def once(feed: Feed, folder: Path) -> None:
    """Run a hub with everything, and stop it with work left, for the next one."""
    word = f"shop.{next(_rounds)}"

    def fail_once(self: Taker, message: Any) -> None:
        # A dead letter of the round before is handled in this one.
        if message["topic"].endswith(word):
            raise ValueError("no")

    settings = {
        **feed.config,
        "endpoints": {"feed": [feed.address], "nowhere": [NOWHERE], "nobody": [free_address()]},
        "moksha.workers_per_consumer": 3,
        "zmq_publish_endpoints": free_address(),
        "post_init_sleep": 0,
        "state_directory": str(folder / "state"),
        "dead_letter_directory": str(folder / "dead"),
        "consume_retries": 1,
        "consume_retry_delay": 0.001,
    }
    got: list[Any] = []
    kinds = [taker(), taker(jsonify=False), taker(consume=fail_once), taker(__init__=fail)]
    with Hub(settings, kinds, [Ticker], retry_dead_letters=True) as hub:
        hub.subscribe("", got.append)
        feed.wait()
        feed.send(word)
        hub.send_message("a.b", {"n": 1})
        wait_until(lambda: got and hub.consumers[0].taken and hub.consumers[2].totals()["dead"])
        hub.consumers[0].incoming.put({"topic": "a", "body": {}})
        hub.report()
    with pytest.raises(AddressInUse):
        Hub({**settings, "zmq_subscribe_endpoints": feed.address, "zmq_subscribe_method": "bind"}, kinds, []).start()
    feed.wait_until_gone()


@pytest.fixture
def _unlogged() -> Iterator[None]:
    """Log nothing: what pytest keeps of an exception is all that it has touched, and so the whole hub."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.soak
@pytest.mark.usefixtures("_unlogged")
def test_nothing_is_left_behind(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    rounds = 500 if full_size else 25
    with Feed() as feed:
        for _ in range(3):
            once(feed, tmp_path)
        gc.collect()
        before = open_files.descriptors(), ground.threads(), ground.memory(ground.OWN)
        for _ in range(rounds):
            once(feed, tmp_path)
        gc.collect()
        wait_until(lambda: open_files.descriptors() <= before[0] and ground.threads() <= before[1])
        after = ground.memory(ground.OWN)
    # The allocator takes some hundred rounds until it has all that it keeps.
    assert after - before[2] < 32 * 1024
    figures(
        f"hub opened and closed {rounds} times", exits=0, memory_before=before[2], memory_after=after,
        remarks="no more descriptors or threads",
    )  # fmt: skip
