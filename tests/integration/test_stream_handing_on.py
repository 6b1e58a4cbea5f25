# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hands a stream on, against a relay that answers as the test wants it to, and what it keeps of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg.stream import protocol
from fedmsg.stream.log import StreamLog
from fedmsg.stream.records import HandedOn, Incoming
from fedmsg.stream.upstream import Upstreams
from fedmsg.stream.window import Window
from fedmsg.testing import wait_until
from tests.stream_relays import FakeRelay, Raw, StreamBus, body_of, running, sqlite_url


@contextmanager
def handing_on(folder: Path, relay: FakeRelay, count: int, **settings: Any) -> Iterator[Upstreams]:
    """Hand a stream with some numbers on to a relay."""
    with StreamLog(sqlite_url(folder)) as log:
        log.append([Incoming(b"org.test", body_of(number)) for number in range(count)])
        config = {"relay_upstream": relay.address, "timeout": 20, **settings}
        with Upstreams(config, log, Window(log.newest())) as upstreams:
            upstreams.start()
            yield upstreams


def test_upstream_sends_again_what_was_not_confirmed_and_no_more_than_its_window(tmp_path: Path) -> None:
    with FakeRelay() as relay, handing_on(tmp_path, relay, 10, publish_window=3):
        relay.greet()
        assert relay.take(3) == [0, 1, 2]
        assert not relay.hears(300)
        relay.send(protocol.OK, relay.last[0], 1)
        assert relay.take(1) == [3]
        # Not in the order of the messages: the second one is still awaited.
        third = relay.last[0]
        relay.send(protocol.OK, third, 4)
        assert relay.take(1) == [4]
        relay.send(protocol.NO, third, {"code": "hello", "reason": "begin with HELLO", "retry": True})
        relay.greet(newest=4)
        assert (relay.take(3), relay.again) == ([1, 2, 3], [True] * 3)


def test_upstream_goes_on_where_its_cursor_is(tmp_path: Path) -> None:
    for first in (0, 3):
        with FakeRelay() as relay, handing_on(tmp_path, relay, 10, publish_window=3) as upstreams:
            relay.greet(newest=first)
            assert relay.take(3) == [first, first + 1, first + 2]
            for number, one in enumerate(relay.last, first + 1):
                relay.send(protocol.OK, one, number)
            wait_until(lambda: upstreams.statistics()[0]["cursor"] == first + 3)  # noqa: B023 waited for at once


def test_upstream_survives_a_relay_that_answers_what_it_likes(tmp_path: Path) -> None:
    with FakeRelay() as relay, handing_on(tmp_path, relay, 3) as upstreams:
        relay.receive(protocol.HELLO)
        for frames in ([b""], [b"FM1", b"WELCOME", b"[]"], [b"FM1", b"WELCOME", b"{}", b""], [b"FM1", b"OK", b"1"]):
            relay.socket.send_multipart([relay.identity, *frames])
        relay.send(protocol.WELCOME, {"stream": "s", "newest": "many", "max_message_size": "large"})
        assert relay.take(3) == [0, 1, 2]
        # A second greeting changes nothing.
        relay.send(protocol.WELCOME, {"stream": "t"})
        relay.send(protocol.NO, relay.last[0], {"code": 7, "reason": ["none"]})
        relay.send(protocol.OK, relay.last[1], 2**63 - 1)
        relay.send(protocol.OK, b"another", 5)
        relay.send(protocol.OK, relay.last[2], 3)
        wait_until(lambda: upstreams.statistics()[0]["lag"] == 0)
        figures = upstreams.statistics()[0]
        assert (figures["handed_on"], figures["rejected"]) == (2, 1)
        assert upstreams.alive


def test_upstream_leaves_a_relay_that_shows_no_stream(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FakeRelay() as relay, handing_on(tmp_path, relay, 1) as upstreams:
        relay.greet(stream="no id")
        wait_until(lambda: "sends no valid id of a stream" in caplog.text)
        assert not upstreams.statistics()[0]["connected"]
        assert upstreams.alive


def test_confirmed_port_rejects_what_is_no_list_of_streams(postgresql_url: str) -> None:
    with running(StreamBus(postgresql_url)) as bus, Raw(bus.confirmed) as raw:
        raw.greet()
        wrong: list[object] = [["a b"], ["\0"], [""], ["é"], ["a" * 65], ["a"] * 101, [1], "a", {"a": 1}]
        for via in wrong:
            raw.publish(1, via=via)
            answer = raw.receive()
            assert answer.kind == protocol.NO, via
            assert "via" in answer.fields[1]["reason"]
        raw.publish(2, via=["a"] * 100)
        assert raw.receive().kind == protocol.OK
        assert [entry.via for entry in bus.entries()] == [("a",) * 100]


def test_log_keeps_where_handing_on_has_stopped(database_url: str) -> None:
    with StreamLog(database_url) as log:
        log.save_handed_on(HandedOn("s", 5, 9, 1.0, "tcp://a:1"))
        log.save_handed_on(HandedOn("s", 7, 11, 3.0, "tcp://b:1"))
        assert log.handed_on() == [HandedOn("s", 7, 11, 3.0, "tcp://b:1")]
        for number in range(150):
            log.save_handed_on(HandedOn(f"s{number}", 1, 1, 10.0 + number, "tcp://a:1"))
        kept = log.handed_on()
        assert len(kept) == 100
        assert kept[-1].stream == "s149"
