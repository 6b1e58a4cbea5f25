# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread that stores: how its owner gets to know that a batch is stored, whether or not it waits for that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmsg.stream.committing import Committer
from fedmsg.stream.log import StreamLog
from tests.stream_relays import sqlite_url
from tests.unit.stream.messages import some

SECONDS = 20.0


@pytest.fixture
def committer(tmp_path: Path) -> Iterator[Committer]:
    with Committer(lambda: StreamLog(sqlite_url(tmp_path)), {}) as made:
        made.start()
        assert made.wait_acquired(SECONDS)
        made.news.clear()
        yield made


def test_owner_that_waits_is_not_woken(committer: Committer) -> None:
    for number in range(1, 4):
        committer.store(some(number, number))
        result = committer.result(SECONDS)
        assert result is not None
        assert [stored.position for stored in result.stored] == [number]
    assert not committer.news.poll(0)


def test_owner_that_does_something_else_is_woken(committer: Committer) -> None:
    committer.store(some(1, 1))
    assert committer.result(SECONDS) is not None
    for number in (2, 3):
        committer.store(some(number, number))
        assert committer.news.wait(SECONDS)
        result = committer.result(0)
        assert result is not None
        assert [stored.position for stored in result.stored] == [number]


def test_owner_that_waits_too_briefly_is_woken(committer: Committer) -> None:
    for number in range(1, 200):
        committer.store(some(number, number))
        result = committer.result(0.0)
        if result is None:
            assert committer.news.wait(SECONDS)
            result = committer.result(0.0)
        assert result is not None
        committer.news.clear()
