# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a configuration publishes through."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fedmsg.exceptions import MissingEndpoint, NotListening
from fedmsg.testing import free_address
from fedmsg.transport.base import Sink
from fedmsg.transport.zmq.publisher import BoundPublisher, ConnectedPublisher
from fedmsg.transport.zmq.sink import open_sink


def config(**settings: Any) -> dict[str, Any]:
    return {"name": "me", "endpoints": {"me": [free_address()]}, **settings}


@pytest.mark.parametrize("settings", [{"mute": True}, {"zmq_enabled": False}])
def test_open_sink_opens_nothing_where_nothing_is_published(settings: dict[str, Any]) -> None:
    assert open_sink(config(**settings)) is None


def test_open_sink_warns_without_an_address() -> None:
    with pytest.warns(UserWarning, match="not configured to send any zmq messages for name 'me'"):
        assert open_sink(config(endpoints={})) is None


def test_open_sink_binds_an_address_of_its_own() -> None:
    sink = open_sink(config())
    assert isinstance(sink, BoundPublisher)
    sink.close()
    assert sink.socket is None


def test_open_sink_connects_to_a_relay_and_waits_as_long_as_asked() -> None:
    relayed = config(active=True, name="relay_inbound", relay_inbound=[free_address()], timeout=30)
    sink = open_sink(relayed)
    assert isinstance(sink, ConnectedPublisher)
    as_sink: Sink = sink
    start = time.monotonic()
    with pytest.raises(NotListening):
        as_sink.send(b"topic", b"body", timeout=0.1)
    assert time.monotonic() - start < 20
    assert as_sink.statistics() == {"lost": 0, "connections": 0}
    as_sink.close()


def test_open_sink_reports_a_missing_relay() -> None:
    with pytest.raises(MissingEndpoint, match="Could not find endpoint for fedmsg-relay"):
        open_sink(config(active=True, name="relay_inbound"))
