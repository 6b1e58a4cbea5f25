# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.transport.zmq.source: what is good comes through, what is not is rejected, counted and survived."""

from __future__ import annotations

import json
import os
import re
import resource
import socket as plain
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
import zmq

from fedmsg._wire import MAX_TOPIC_BYTES
from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.testing import free_address, wait_until
from fedmsg.transport.zmq import resolver
from fedmsg.transport.zmq import source as module
from fedmsg.transport.zmq.source import Received, Source, tail


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


def take(source: Source, count: int, validate: Callable[[dict[str, Any]], bool] | None = None) -> list[Received]:
    return list(islice(tail(lambda: source, validate), count))


def test_what_is_received(make: Make) -> None:
    socket, address = make()
    with Source({}, [("one", address)]) as source:
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"a.b", body("a.b", msg=1)])
        assert take(source, 1) == [("one", address, "a.b", {"topic": "a.b", "msg": 1})]


def test_topics_are_prefixes(make: Make) -> None:
    socket, address = make()
    with Source({}, [("one", address)], ["a.b", "c"]) as source:
        assert {socket.recv(), socket.recv()} == {b"\x01a.b", b"\x01c"}
        for topic in ("a", "a.b", "a.bX", "b", "c.d"):
            socket.send_multipart([topic.encode(), body(topic)])
        assert [received[2] for received in take(source, 3)] == ["a.b", "a.bX", "c.d"]


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
    with Source({"max_message_size": 11_000}, [("one", address)]) as source:
        assert socket.recv() == b"\x01"
        for number, (frames, _kind) in enumerate(BAD):
            socket.send_multipart(frames)
            socket.send_multipart([b"good", body("good", i=number)])
        assert [received[3]["i"] for received in take(source, len(BAD))] == list(range(len(BAD)))
        kinds = [kind for _frames, kind in BAD]
        assert source.rejections.counts == {kind: kinds.count(kind) for kind in kinds}


def test_what_does_not_validate_is_refused(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    socket, address = make()
    with Source({}, [("one", address)]) as source:
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"a", body("a", msg="bad")])
        socket.send_multipart([b"a", body("a", msg="good")])
        assert take(source, 1, lambda envelope: bool(envelope["msg"] == "good"))[0][3]["msg"] == "good"
        assert source.rejections.counts == {"invalid": 1}
    assert f"!! invalid message received: from {address}" in caplog.text


def test_many_endpoints_each_under_its_name(make: Make) -> None:
    publishers = [make() for _ in range(50)]
    endpoints = [(f"name{number}", address) for number, (_, address) in enumerate(publishers)]
    with Source({}, endpoints) as source:
        for socket, _ in publishers:
            assert socket.recv() == b"\x01"
        for _round in range(3):
            for number, (socket, _) in enumerate(publishers):
                socket.send_multipart([b"a", body("a", msg=number)])
        received = take(source, 150)
    for number, endpoint in enumerate(endpoints):
        heard = [(name, address) for name, address, _, envelope in received if envelope["msg"] == number]
        assert heard == [endpoint] * 3


def test_one_busy_endpoint_does_not_starve_another(make: Make) -> None:
    (busy, busy_address), (quiet, quiet_address) = make(), make()
    with Source({}, [("busy", busy_address), ("quiet", quiet_address)]) as source:
        assert [busy.recv(), quiet.recv()] == [b"\x01"] * 2
        for _ in range(20_000):
            busy.send_multipart([b"a", body("a")])
        quiet.send_multipart([b"a", body("a")])
        received = take(source, 20_001)
    assert "quiet" in [name for name, _, _, _ in received[:15_000]]


def test_an_address_under_two_names_is_heard_once(make: Make) -> None:
    socket, address = make()
    with Source({}, [("first", address), ("second", address)]) as source:
        assert socket.recv() == b"\x01"
        for number in range(3):
            socket.send_multipart([b"a", body("a", i=number)])
        assert [(name, envelope["i"]) for name, _, _, envelope in take(source, 3)] == [("first", n) for n in range(3)]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{}", "tcp://[::1]:{}", "ipc://{}"])
def test_a_passive_one_is_connected_to(address: str, tmp_path: Any) -> None:
    where = address.format(tmp_path / "socket" if address.startswith("ipc") else free_address().rpartition(":")[2])
    context = zmq.Context()
    with context.socket(zmq.XPUB) as socket, Source({}, [("me", where)], passive=True) as source:
        socket.setsockopt(zmq.IPV6, int("[" in where))
        socket.connect(where)

        def publish() -> None:
            socket.recv()  # the subscription, which gets out once the source works
            socket.send_multipart([b"a", body("a")])

        thread = threading.Thread(target=publish)
        thread.start()
        assert take(source, 1)[0][:3] == ("me", where, "a")
        thread.join(10)
    context.term()


def test_a_passive_one_on_a_taken_address(make: Make) -> None:
    _socket, address = make()
    with pytest.raises(AddressInUse, match=f"{address} can't be bound"):
        Source({}, [("me", address)], passive=True)


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"endpoints\['me'\]: 'nonsense'"):
        Source({}, [("me", "nonsense")])


def test_a_host_that_can_not_be_found_does_not_keep_the_others(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    socket, address = make()
    with Source({}, [("lost", "tcp://no-such-host.invalid:1"), ("one", address)]) as source:
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"a", body("a")])
        assert take(source, 1)[0][0] == "one"


def test_a_host_by_name(make: Make) -> None:
    socket, address = make()
    with Source({}, [("named", address.replace("127.0.0.1", "localhost"))]) as source:
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"a", body("a")])
        assert take(source, 1)[0][0] == "named"


def test_a_forgotten_one_warns_and_is_closed(make: Make) -> None:
    _socket, address = make()
    source = Source({}, [("one", address)])
    with pytest.warns(ResourceWarning, match="unclosed Source"):
        source.__del__()
    source.close()


def test_a_topic_that_can_not_be_sent() -> None:
    with pytest.raises(ConfigError, match="topic"):
        Source({}, [], ["\udcff"])


def test_some_names_are_subscribed_to_as_a_whole(make: Make) -> None:
    (one, address), (two, other) = make(), make()
    with Source({}, [("one", address), ("two", other)], ["a."], whole={"two"}):
        assert one.recv() == b"\x01a."
        assert two.recv() == b"\x01"


# ---------------------------------------------------------------- topics that are too long


def test_source_rejects_topics_that_are_too_long(make: Make) -> None:
    socket, address = make()
    with Source({}, [("one", address)]) as source:
        assert socket.recv() == b"\x01"
        for length in (MAX_TOPIC_BYTES + 1, MAX_TOPIC_BYTES):
            topic = "a" * length
            socket.send_multipart([topic.encode(), body(topic)])
        assert [len(received[2]) for received in take(source, 1)] == [MAX_TOPIC_BYTES]
        assert source.rejections.counts == {"topic": 1}


# ---------------------------------------------------------------- many endpoints


@pytest.mark.soak
def test_source_listens_to_thousands_of_endpoints(full_size: bool) -> None:
    count = 5000 if full_size else 1500
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.PUB) as socket, low_limit(200):
        socket.setsockopt(zmq.LINGER, 0)
        # Both ends are in this process.
        resource.setrlimit(resource.RLIMIT_NOFILE, (HARD_LIMIT, HARD_LIMIT))
        endpoints = []
        for number in range(count):
            socket.bind("tcp://127.0.0.1:*")
            endpoints.append((f"name{number}", socket.getsockopt_string(zmq.LAST_ENDPOINT)))
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, HARD_LIMIT))
        heard: set[tuple[str, str]] = set()
        with Source({}, endpoints) as source:
            deadline = time.monotonic() + 60
            while len(heard) < count:
                assert time.monotonic() < deadline, len(heard)
                if len(source.connected) == count:
                    socket.send_multipart([b"a", body("a")])
                source.wait(0.05)
                heard |= {(delivery.name, delivery.address) for delivery in source.poll(count)}
            # On a busy machine connections may have missed a heartbeat, and come back.
            assert {**source.statistics(), "connected": count} == {
                "endpoints": count,
                "connected": count,
                "rejected": 0,
                "duplicates": 0,
            }
        assert heard == set(endpoints)
    context.term()


HARD_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@contextmanager
def low_limit(soft: int) -> Iterator[None]:
    """Put the limit of open files back at the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, len(os.listdir("/proc/self/fd")) + 50), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_source_names_a_hard_limit_that_is_too_low() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))\n"
        "from fedmsg.transport.zmq.source import Source\n"
        "Source({}, [(f'n{n}', f'tcp://127.0.0.1:{n}') for n in range(1, 500)])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert re.search(
        r"ConfigError: 499 endpoints need about \d+ open files, and the hard limit .* is 300", ended.stderr
    )


def test_source_names_endpoints_that_share_a_socket_and_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OWN_SOCKETS", 0)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def publisher(address: str = "tcp://127.0.0.1:*") -> zmq.Socket[bytes]:
        socket = context.socket(zmq.PUB)
        socket.setsockopt(zmq.LINGER, 0)
        wait_until(lambda: binds(socket, address))
        return socket

    def binds(socket: zmq.Socket[bytes], address: str) -> bool:
        try:
            socket.bind(address)
        except zmq.ZMQError:
            return False  # the one before is still being closed
        return True

    publishers = [publisher() for _ in range(20)]
    addresses = [socket.getsockopt_string(zmq.LAST_ENDPOINT) for socket in publishers]
    endpoints = [(f"name{number}", address) for number, address in enumerate(addresses)]
    endpoints[0] = ("name0", addresses[0].replace("127.0.0.1", "localhost"))
    with Source({"zmq_reconnect_ivl": 10}, endpoints) as source:
        for turn in range(3):
            heard: set[tuple[str, str]] = set()
            deadline = time.monotonic() + 20
            while len(heard) < len(endpoints):
                assert time.monotonic() < deadline, heard
                for number, socket in enumerate(publishers):
                    socket.send_multipart([b"a", body("a", msg=[turn, number])])
                source.wait(0.02)
                for delivery in source.poll(1000):
                    said, number = delivery.envelope()["msg"]
                    if said == turn:
                        assert (delivery.name, delivery.address) == endpoints[number]
                        heard.add((delivery.name, delivery.address))
            assert len(source._channels) == 1
            # In another order, so that the connections get other descriptors.
            for socket in publishers:
                socket.close(0)
            publishers = [publisher(address) for address in reversed(addresses)][::-1]
    context.destroy(linger=0)


# ---------------------------------------------------------------- one that can't be connected to


def test_source_leaves_out_an_endpoint_that_can_not_be_connected_to(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    socket, address = make()
    with Source({}, [("all", "tcp://*:1"), ("one", address)]) as source:
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"a", body("a")])
        assert take(source, 1)[0][0] == "one"
    assert (
        "endpoints['all']: tcp://*:1 can't be connected to: Invalid argument (addr='tcp://*:1'); "
        "this address is ignored" in caplog.text
    )


def test_source_with_no_endpoint_to_connect_to() -> None:
    with pytest.raises(ConfigError, match=r"tcp://\*:1 can't be connected to"):
        Source({}, [("all", "tcp://*:1")])


# ---------------------------------------------------------------- names


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Names that are found, with their addresses; others are not."""
    known: dict[str, str] = {}
    look_up = plain.getaddrinfo

    def found(host: str, *arguments: Any, **options: Any) -> Any:
        if host not in known:
            raise plain.gaierror(plain.EAI_NONAME, "not known")
        return look_up(known[host], *arguments, **options)

    monkeypatch.setattr(plain, "getaddrinfo", found)
    return known


def test_source_connects_to_a_host_with_an_ipv6_address_only(hosts: dict[str, str]) -> None:
    hosts["six.test"] = "::1"
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.IPV6, 1)
        socket.bind("tcp://[::1]:*")
        port = socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
        with Source({}, [("six", f"tcp://six.test:{port}")]) as source:
            assert socket.recv() == b"\x01"
            socket.send_multipart([b"a", body("a")])
            assert take(source, 1)[0][:2] == ("six", f"tcp://six.test:{port}")
    context.term()


def test_source_tries_a_name_again_that_is_not_found(
    make: Make, hosts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver.Resolver.__init__, "__defaults__", (0.01,))
    _socket, address = make()
    with Source({}, [("late", address.replace("127.0.0.1", "six.test"))]) as source:
        source.wait(0.05)
        assert source.connected == []
        hosts["six.test"] = "::1"  # by which the target is a number; the publisher has none there
        deadline = time.monotonic() + 10
        while source._resolver.pending:
            assert time.monotonic() < deadline
            source.wait(0.05)


@pytest.mark.parametrize(
    ("config", "dropped"),
    [
        ({"relay_stream": ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]}, 1),
        ({"relay_confirmed": ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]}, 1),
        ({}, 0),
    ],
    ids=["streams", "confirmed", "plain"],
)
def test_source_drops_what_has_come_by_another_relay(make: Make, config: dict[str, Any], dropped: int) -> None:
    one, two = make(), make()
    wanted = [b"1", b"2"] if dropped else [b"1", b"1", b"2"]
    with Source(config, [("one", one[1]), ("two", two[1])]) as source:
        assert one[0].recv() == two[0].recv() == b"\x01"
        got: list[bytes] = []
        for socket, number in ((one[0], b"1"), (two[0], b"1"), (two[0], b"2")):
            socket.send_multipart([b"org.test", number])
        wait_until(
            lambda: len(got) >= len(wanted),
            meanwhile=lambda: got.extend(delivery.data for delivery in source.poll(10)),
        )
        # The two are read in any order, each of them in its own.
        assert sorted(got) == wanted
        assert source.statistics()["duplicates"] == dropped


def test_source_of_one_relay_hands_out_what_is_sent_twice(make: Make) -> None:
    socket, address = make()
    with Source({"relay_stream": ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]}, [("one", address)]) as source:
        assert socket.recv() == b"\x01"
        for _ in range(2):
            socket.send_multipart([b"org.test", body("org.test")])
        assert len(take(source, 2)) == 2
