# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishers with a store are killed at any moment: no number is missing or there twice, nothing confirmed is lost."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fedmsg.replay import sqlstore
from fedmsg.testing import Process, free_address
from tests.certificates import Bench
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import until_more

PROGRAM = Path(__file__).with_name("storing.py")
WRITERS = 3


def start(url: str, name: str, settings: dict[str, Any]) -> Process:
    # Several, since somebody else may take a free one before this does.
    endpoints = {name: [free_address() for _ in range(5)]}
    config = {"name": name, "endpoints": endpoints, "persistent_store": url, "post_init_sleep": 0}
    return Process([sys.executable, str(PROGRAM), json.dumps({**config, **settings}), "0", "tell"], stdin=True)


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_killed_writers(database_url: str, tmp_path: Path, figures: Figures, full_size: bool) -> None:
    rounds = 100 if full_size else 2
    bench = Bench(tmp_path)
    name = "shell.test"
    signing = {**bench.config, "sign_messages": True, "certnames": {name: bench.config["certname"]}}
    store = sqlstore.connect(database_url)
    confirmed: dict[int, int] = {}
    for number in range(rounds):
        with ExitStack() as stack:
            settings = signing if number % 2 else {}
            writers = [stack.enter_context(start(database_url, name, settings)) for _ in range(WRITERS)]
            for writer in writers:
                # Each at another place of its work.
                until_more(writer.out, 1 + number % 7)
                writer.popen.send_signal(signal.SIGKILL)
            for writer in writers:
                writer.wait()
                confirmed[writer.popen.pid] = len(writer.out)
    there = list(store.iter({}))
    store.close()
    assert [message["seq_id"] for message in there] == list(range(1, len(there) + 1))
    stored = Counter(message["msg"]["pid"] for message in there)
    # One that was stored and not confirmed any more may be there.
    assert {pid for pid, count in confirmed.items() if stored[pid] not in {count, count + 1}} == set()
    assert len({message["msg_id"] for message in there}) == len(there)
    total = sum(confirmed.values())
    figures(
        f"{rounds * WRITERS} writers killed, {database_url.partition(':')[0]}",
        sent=total, arrived=len(there), lost=0, exits=0, remarks="no gap, no number twice",
    )  # fmt: skip
