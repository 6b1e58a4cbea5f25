# SPDX-License-Identifier: LGPL-2.1-or-later
"""A gap of a million messages is replayed with memory that does not grow, at neither end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from fedmsg.replay import sqlstore
from fedmsg.replay.gaps import GapFiller
from fedmsg.testing import Process, free_address
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import memory
from tests.unit.replay.stores import envelope

SLACK = 16 * 1024


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_a_long_gap(database_url: str, tmp_path: Path, figures: Figures, full_size: bool) -> None:
    count = 1_000_000 if full_size else 20_000
    store = sqlstore.connect(database_url)
    for start in range(1, count + 1, 5000):
        store.add_many(envelope(number, msg={"text": "x" * 300}) for number in range(start, start + 5000))
    store.close()
    config = {"persistent_store": database_url, "replay_endpoints": {"shop": free_address()}, "timeout": 20}
    path = tmp_path / "replay.py"
    path.write_text(f"config = {config!r}\n")
    with Process(["fedmsg-replay"], env={"FEDMSG_CONFIG": str(path)}) as server:
        server.wait_ready()
        filler = GapFiller(config, numbers={"shop": 0})
        last, before = 0, (0, 0)
        pids = (os.getpid(), server.popen.pid)
        messages = filler.fill("shop", envelope(count, seq_id=count))
        assert isinstance(messages, Generator)
        with contextlib.closing(messages):
            for message in messages:
                assert message["seq_id"] == last + 1
                last += 1
                if last == 10_000:
                    before = (memory(pids[0]), memory(pids[1]))
        after = (memory(pids[0]), memory(pids[1]))
        assert server.stop() == 0, server.report()
    assert last == count
    # One query more: whether the server has the message that makes the gap so long.
    assert filler.counts["asked"] == count // 1000 + 1
    assert after[0] < before[0] + SLACK
    assert after[1] < before[1] + SLACK
    figures(
        f"replay of {count:,}, {database_url.partition(':')[0]}: listener and server",
        sent=count, arrived=last, lost=0, memory_before=sum(before), memory_after=sum(after),
    )  # fmt: skip
