# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is written to the log for a thousand rejected messages of all kinds: less than 4 KB, at tail and hub."""

from __future__ import annotations

import itertools
import logging
import threading
from typing import Any

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.hub import Hub
from fedmsg.testing import free_address, wait_until
from tests.hubs import taker
from tests.integration.faults import hostile
from tests.integration.faults.test_hostile_messages import Enemy

MESSAGES = 1000
LIMIT = 4096


class Lines(logging.Handler):
    """Keeps what is logged, as it is written to a file."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("[%(asctime)s][%(name)10s %(levelname)7s] %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record) + "\n")


@pytest.fixture
def lines() -> Any:
    """Collect the lines of all loggers of ours."""
    handler, logger = Lines(), logging.getLogger("fedmsg")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(before)


def bad() -> list[list[bytes]]:
    """Return a thousand messages, of every kind that is rejected."""
    return list(itertools.islice(itertools.cycle(one.frames for one in hostile.small()), MESSAGES))


def test_tail_writes_little_about_rejected_messages(lines: list[str]) -> None:
    address, last = free_address(), threading.Event()
    with Enemy(address) as enemy, FedMsgContext(endpoints={"enemy": [address]}, mute=True) as context:

        def receive() -> None:
            next(iter(context.tail_messages()))
            last.set()

        thread = threading.Thread(target=receive)
        thread.start()
        enemy.wait_for_subscribers(1)
        del lines[:]
        enemy.send(bad())
        assert last.wait(30)
        thread.join()
        assert context.rejections.counts.total() == MESSAGES
    assert 0 < len("".join(lines)) < LIMIT, lines


def test_hub_writes_little_about_rejected_messages(lines: list[str]) -> None:
    address, heard = free_address(), list[Any]()

    def consume(_self: object, message: Any) -> None:
        heard.append(message)

    config = {"endpoints": {"enemy": [address]}, "test.enabled": True}
    with Enemy(address) as enemy, Hub(config, [taker(consume=consume)], []):
        enemy.wait_for_subscribers(1)
        del lines[:]
        enemy.send(bad())
        wait_until(lambda: heard)
        written = "".join(lines)
    assert 0 < len(written) < LIMIT, written
