# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names are looked up aside; what needs no look-up is ready at once."""

from __future__ import annotations

import pytest

from fedmsg.transport.zmq.resolver import Resolver


def test_numbers_and_paths_are_ready_at_once() -> None:
    resolver = Resolver(["tcp://127.0.0.1:1", "ipc:///x", "tcp://[::1]:2"])
    found = resolver.ready()
    assert [(one.address, one.target) for one in found] == [
        (a, a) for a in ("tcp://127.0.0.1:1", "ipc:///x", "tcp://[::1]:2")
    ]
    assert resolver.pending == 0
    assert resolver.ready(timeout=5.0) == []


def test_a_name_is_found_in_the_background() -> None:
    resolver = Resolver(["tcp://localhost:1", "tcp://localhost:2"])
    found = resolver.ready(timeout=10.0)
    while resolver.pending:
        found += resolver.ready(timeout=10.0)
    assert [one.address for one in found] == ["tcp://localhost:1", "tcp://localhost:2"]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70 + ".invalid"])
def test_one_that_is_not_found_is_warned_of_and_the_others_work(host: str, caplog: pytest.LogCaptureFixture) -> None:
    resolver = Resolver([f"tcp://{host}:1", "tcp://127.0.0.1:2"], retry=0.01)
    assert [one.target for one in resolver.ready()] == ["tcp://127.0.0.1:2"]
    while not caplog.messages:
        assert resolver.ready(timeout=0.05) == []
    resolver.stop()
    assert resolver.pending == 1
    assert len(caplog.messages) == 1
    assert f"tcp://{host}:1: host '{host}' can't be found" in caplog.messages[0]
