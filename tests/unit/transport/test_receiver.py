# SPDX-License-Identifier: LGPL-2.1-or-later
"""The receiver: what is good comes through, what is not is refused, counted and survived."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import zmq

from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.testing import free_address
from fedmsg.transport.zmq.source import Received, Receiver


def body(topic: str, **changes: Any) -> bytes:
    return json.dumps({"topic": topic, "msg": {}, **changes}).encode()


@pytest.fixture
def make() -> Iterator[Callable[[], tuple[zmq.Socket[bytes], str]]]:
    """Makes plain publishers: a socket that shows subscriptions, and its address."""
    context, made = zmq.Context(), []

    def one() -> tuple[zmq.Socket[bytes], str]:
        socket = context.socket(zmq.XPUB)
        made.append(socket)
        socket.set_hwm(0)
        socket.bind("tcp://127.0.0.1:*")
        return socket, socket.getsockopt_string(zmq.LAST_ENDPOINT)

    yield one
    for socket in made:
        socket.close(0)
    context.term()


Make = Callable[[], tuple[zmq.Socket[bytes], str]]


def take(receiver: Receiver, count: int) -> list[Received]:
    return list(islice(receiver, count))


def test_what_is_received(make: Make) -> None:
    socket, address = make()
    with Receiver({}, [("one", address)]) as receiver:
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"a.b", body("a.b", msg=1)])
        assert take(receiver, 1) == [("one", address, "a.b", {"topic": "a.b", "msg": 1})]


def test_topics_are_prefixes(make: Make) -> None:
    socket, address = make()
    with Receiver({}, [("one", address)], ["a.b", "c"]) as receiver:
        assert {socket.recv(), socket.recv()} == {b"\x01a.b", b"\x01c"}
        for topic in ("a", "a.b", "a.bX", "b", "c.d"):
            socket.send_multipart([topic.encode(), body(topic)])
        assert [received[2] for received in take(receiver, 3)] == ["a.b", "a.bX", "c.d"]


BAD: list[tuple[list[bytes], str]] = [
    ([b"one frame"], "frames"),
    ([b"a", body("a"), b"x"], "frames"),
    ([b"a", body("a"), b"x", b"y", b"z"], "frames"),
    ([b"\xff", b"{}"], "utf-8"),
    ([b"a", b"\xff"], "utf-8"),
    ([b"a", b"null"], "json"),
    ([b"a", b""], "json"),
    ([b"a", body("b")], "topic"),
    ([b"a", b"[" * 10_000], "depth"),
    ([b"a", body("a", i="1")], "envelope"),
    ([b"a", body("a", msg="x" * 20_000)], "size"),
]


def test_each_bad_message_is_refused_and_the_next_good_one_comes_through(make: Make) -> None:
    socket, address = make()
    with Receiver({"max_message_size": 11_000}, [("one", address)]) as receiver:
        assert socket.recv() == b"\x01"
        for number, (frames, _kind) in enumerate(BAD):
            socket.send_multipart(frames)
            socket.send_multipart([b"good", body("good", i=number)])
        assert [received[3]["i"] for received in take(receiver, len(BAD))] == list(range(len(BAD)))
        kinds = [kind for _frames, kind in BAD]
        assert receiver.rejections.counts == {kind: kinds.count(kind) for kind in kinds}


def test_what_does_not_validate_is_refused(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    socket, address = make()
    with Receiver({}, [("one", address)], validate=lambda envelope: envelope["msg"] == "good") as receiver:
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"a", body("a", msg="bad")])
        socket.send_multipart([b"a", body("a", msg="good")])
        assert take(receiver, 1)[0][3]["msg"] == "good"
        assert receiver.rejections.counts == {"invalid": 1}
    assert f"!! invalid message received: from {address}" in caplog.text


def test_many_endpoints_each_under_its_name(make: Make) -> None:
    publishers = [make() for _ in range(50)]
    endpoints = [(f"name{number}", address) for number, (_, address) in enumerate(publishers)]
    with Receiver({}, endpoints) as receiver:
        for socket, _ in publishers:
            assert socket.recv() == b"\x01"
        for _round in range(3):
            for number, (socket, _) in enumerate(publishers):
                socket.send_multipart([b"a", body("a", msg=number)])
        received = take(receiver, 150)
    for number, endpoint in enumerate(endpoints):
        heard = [(name, address) for name, address, _, envelope in received if envelope["msg"] == number]
        assert heard == [endpoint] * 3


def test_one_busy_endpoint_does_not_starve_another(make: Make) -> None:
    (busy, busy_address), (quiet, quiet_address) = make(), make()
    with Receiver({}, [("busy", busy_address), ("quiet", quiet_address)]) as receiver:
        assert [busy.recv(), quiet.recv()] == [b"\x01"] * 2
        for _ in range(20_000):
            busy.send_multipart([b"a", body("a")])
        quiet.send_multipart([b"a", body("a")])
        received = take(receiver, 20_001)
    assert "quiet" in [name for name, _, _, _ in received[:15_000]]


def test_an_address_under_two_names_is_heard_once(make: Make) -> None:
    socket, address = make()
    with Receiver({}, [("first", address), ("second", address)]) as receiver:
        assert socket.recv() == b"\x01"
        for number in range(3):
            socket.send_multipart([b"a", body("a", i=number)])
        assert [(name, envelope["i"]) for name, _, _, envelope in take(receiver, 3)] == [("first", n) for n in range(3)]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{}", "tcp://[::1]:{}", "ipc://{}"])
def test_a_passive_one_is_connected_to(address: str, tmp_path: Any) -> None:
    where = address.format(tmp_path / "socket" if address.startswith("ipc") else free_address().rpartition(":")[2])
    context = zmq.Context()
    with context.socket(zmq.XPUB) as socket, Receiver({}, [("me", where)], passive=True) as receiver:
        socket.setsockopt(zmq.IPV6, int("[" in where))
        socket.connect(where)

        def publish() -> None:
            socket.recv()  # the subscription, which gets out once the receiver works
            socket.send_multipart([b"a", body("a")])

        thread = threading.Thread(target=publish)
        thread.start()
        assert take(receiver, 1)[0][:3] == ("me", where, "a")
        thread.join(10)
    context.term()


def test_a_passive_one_on_a_taken_address(make: Make) -> None:
    _socket, address = make()
    with pytest.raises(AddressInUse, match=f"{address} can't be bound"):
        Receiver({}, [("me", address)], passive=True)


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"endpoints\['me'\]: 'nonsense'"):
        Receiver({}, [("me", "nonsense")])


def test_a_host_that_can_not_be_found_does_not_keep_the_others(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    socket, address = make()
    with Receiver({}, [("lost", "tcp://no-such-host.invalid:1"), ("one", address)]) as receiver:
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"a", body("a")])
        assert take(receiver, 1)[0][0] == "one"


def test_a_host_by_name(make: Make) -> None:
    socket, address = make()
    with Receiver({}, [("named", address.replace("127.0.0.1", "localhost"))]) as receiver:
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"a", body("a")])
        assert take(receiver, 1)[0][0] == "named"


def test_a_forgotten_one_warns_and_is_closed(make: Make) -> None:
    _socket, address = make()
    receiver = Receiver({}, [("one", address)])
    with pytest.warns(ResourceWarning, match="unclosed Receiver"):
        receiver.__del__()
    receiver.close()


def test_a_topic_that_can_not_be_sent() -> None:
    with pytest.raises(ConfigError, match="topic"):
        Receiver({}, [], ["\udcff"])


def test_some_names_are_subscribed_to_as_a_whole(make: Make) -> None:
    (one, address), (two, other) = make(), make()
    with Receiver({}, [("one", address), ("two", other)], ["a."], whole={"two"}):
        assert one.recv() == b"\x01a."
        assert two.recv() == b"\x01"
