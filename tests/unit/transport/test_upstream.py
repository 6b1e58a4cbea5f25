# SPDX-License-Identifier: LGPL-2.1-or-later
"""A forwarder that connects: late names, broken endpoints, endpoints that go and come, loops."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.auth

from fedmsg.exceptions import ConfigError, RefusedAtStart
from fedmsg.testing import free_address, free_port, wait_until
from fedmsg.transport.zmq import resolver
from fedmsg.transport.zmq.forwarder import Forwarder
from fedmsg.transport.zmq.upstream import Upstream
from tests.integration.faults.ground import GREETING, Witness, frame, ready

LOCAL = "tcp://127.0.0.1:*"


class Publisher:
    """A plain PUB, bound.

    Args:
        address: Where.
    """

    def __init__(self, address: str = LOCAL) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, int("[" in address))
        self._socket.bind(address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def say(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *error: object) -> None:
        self._context.destroy(linger=0)


def forwarder(endpoints: dict[str, str], config: dict[str, Any] | None = None, **options: Any) -> Forwarder:
    upstream = Upstream(config or {}, endpoints.items())
    return Forwarder(config or {}, [], [LOCAL], limit=200_000, upstream=upstream, **options)


def arrives(witness: Witness, publisher: Publisher, word: bytes) -> None:
    """Publish until it comes through."""
    wait_until(lambda: [word, b"{}"] in witness.frames, meanwhile=lambda: publisher.say(word, b"{}"))


def test_frames_of_all_endpoints_pass_untouched() -> None:
    messages = [[b"", b""], [b"a"], [b"a", b"b", b"c"], [b"\xff\x00", bytes(range(256))], [b"t", b"x" * 100_000]]
    with (
        Publisher() as one,
        Publisher() as other,
        forwarder({"one": one.address, "other": other.address}) as running,
        Witness(running.outbound) as witness,
    ):
        for publisher, word in ((one, b"one"), (other, b"other")):
            arrives(witness, publisher, word)
            before = len(witness.frames)
            for frames in messages:
                publisher.say(*frames)
            publisher.say(b"that was all")
            wait_until(lambda: [b"that was all"] in witness.frames)
            passed = [frames for frames in witness.frames[before:] if frames != [word, b"{}"]]
            assert passed == [*messages, [b"that was all"]]
            del witness.frames[:]


def test_statistics_are_carried_over_when_the_loop_is_left(names_that_are_found_late: Callable[[], None]) -> None:
    with Publisher() as one, Publisher() as late:
        endpoints = {"one": one.address, "late": late.address.replace("127.0.0.1", "localhost")}
        with forwarder(endpoints) as running, Witness(running.outbound) as witness:
            arrives(witness, one, b"one")
            # Said once, after all that may still be under way.
            one.say(b"begin", b"{}")
            wait_until(lambda: [b"begin", b"{}"] in witness.frames)
            before, seen = running.statistics(), len(witness.frames)
            names_that_are_found_late()
            arrives(witness, late, b"late")
            for publisher, word in ((late, b"late end"), (one, b"end")):
                publisher.say(word, b"{}")
                wait_until(lambda: [word, b"{}"] in witness.frames)  # noqa: B023 called here and now
            after, frames = running.statistics(), witness.frames[seen:]
            size = sum(len(each) for each in itertools.chain.from_iterable(frames))
            assert [new - old for new, old in zip(after, before, strict=True)] == [len(frames), size] * 2 + [0]


@pytest.fixture
def names_that_are_found_late(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Let no name be found, until the function that this gives is called."""
    found = threading.Event()
    look_up = socket.getaddrinfo

    def later(host: str, *arguments: Any, **options: Any) -> Any:
        if not found.is_set():
            raise socket.gaierror(socket.EAI_AGAIN, "not yet")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", later)
    monkeypatch.setattr(resolver.Resolver.__init__, "__defaults__", (0.01,))
    yield found.set
    found.set()


@pytest.mark.parametrize("checked", [False, True])
def test_a_name_that_is_found_late(
    checked: bool, names_that_are_found_late: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    with Publisher() as one, Publisher() as late:
        name = late.address.replace("127.0.0.1", "localhost")
        check = (lambda frame, body: body) if checked else None
        with (
            forwarder({"one": one.address, "late": name}, check=check) as running,
            Witness(running.outbound) as witness,
        ):
            arrives(witness, one, b"one")
            assert running.upstream is not None
            assert running.upstream.connected == [one.address]
            names_that_are_found_late()
            arrives(witness, late, b"late")
            arrives(witness, one, b"one again")
            assert sorted(running.upstream.connected) == sorted([one.address, name])
    assert [line for line in caplog.messages if "can't be found" in line] == [
        f"{name}: host 'localhost' can't be found ([Errno {socket.EAI_AGAIN}] not yet), trying again"
    ]


def test_other_kinds_of_addresses(tmp_path: Path) -> None:
    with (
        Publisher("tcp://[::1]:*") as one,
        Publisher(f"ipc://{tmp_path}/bus") as other,
        forwarder({"one": one.address, "other": other.address}) as running,
        Witness(running.outbound) as witness,
    ):
        arrives(witness, one, b"one")
        arrives(witness, other, b"other")
        assert running.upstream is not None
        assert sorted(running.upstream.connected) == sorted([one.address, other.address])


def test_an_endpoint_that_comes_up_later_and_one_that_restarts() -> None:
    address = free_address()
    config = {"zmq_reconnect_ivl": 10}
    with forwarder({"x": address}, config) as running, Witness(running.outbound) as witness:
        for word in (b"first", b"second", b"third"):
            with Publisher(address) as publisher:
                arrives(witness, publisher, word)


def test_an_endpoint_that_has_sent_what_is_no_message_is_heard_again(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    config = {"zmq_reconnect_ivl": 10, "max_message_size": 10_000}
    with forwarder({"x": f"tcp://127.0.0.1:{port}"}, config) as running, Witness(running.outbound) as witness:
        for nonsense in (b"\xff" * 100, GREETING + ready(b"REP"), GREETING + ready(b"PUB") + frame(bytes(20_000))):
            with socket.create_server(("127.0.0.1", port)) as server:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(nonsense)
                    # Until the other side has had enough of it.
                    with contextlib.suppress(ConnectionResetError):
                        while connection.recv(4096):
                            pass
            with Publisher(f"tcp://127.0.0.1:{port}") as publisher:
                arrives(witness, publisher, b"word%d" % len(nonsense))
        assert running.upstream is not None
        assert running.upstream.rejections.counts == {"connection": 3}
    assert "above max_message_size; connecting again" in caplog.text


def test_curve_where_it_is_configured(tmp_path: Path) -> None:
    zmq.auth.create_certificates(tmp_path, "server")
    zmq.auth.create_certificates(tmp_path, "gateway")
    config = {
        "curve_key": str(tmp_path / "gateway.key_secret"),
        "curve_servers": {"closed": str(tmp_path / "server.key")},
    }
    (tmp_path / "gateway.key_secret").chmod(0o600)
    _, secret = zmq.auth.load_certificate(tmp_path / "server.key_secret")
    with Publisher() as first, Publisher() as last:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        guarded = context.socket(zmq.PUB)
        guarded.curve_server, guarded.curve_secretkey = True, secret
        port = guarded.bind_to_random_port("tcp://127.0.0.1")
        endpoints = {"open": first.address, "closed": f"tcp://127.0.0.1:{port}", "also open": last.address}
        with forwarder(endpoints, config) as running, Witness(running.outbound) as witness:
            arrives(witness, first, b"first")
            arrives(witness, last, b"last")
            wait_until(
                lambda: [b"guarded", b"{}"] in witness.frames,
                meanwhile=lambda: guarded.send_multipart([b"guarded", b"{}"]),
            )
        context.destroy(linger=0)


def test_curve_without_a_key_is_refused(tmp_path: Path) -> None:
    public, _ = zmq.auth.create_certificates(tmp_path, "server")
    with pytest.raises(RefusedAtStart, match="curve_key"):
        Upstream({"curve_servers": {"x": public}}, [("x", free_address())])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "*", "0.0.0.0", "localhost"])
def test_a_loop_is_refused(host: str) -> None:
    port = free_port()
    with pytest.raises(ConfigError, match=f"{port} is where this gateway sends to"):
        Forwarder({}, [], [LOCAL], limit=1, upstream=Upstream({}, [("x", f"tcp://{host}:{port}")], port)).start()


def test_no_loop() -> None:
    port = free_port()
    for address in (
        f"tcp://192.0.2.1:{port}",
        f"ipc:///x:{port}",
        f"tcp://127.0.0.1:{port + 1 if port < 9 else port - 1}",
    ):
        assert Upstream({}, [("x", address)], port).addresses == [address]


def test_a_loop_that_shows_itself_late_is_ignored(
    names_that_are_found_late: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    upstream = Upstream({}, [("x", f"tcp://localhost:{port}")], port)
    with Forwarder({}, [], [f"tcp://127.0.0.1:{port}"], limit=1, upstream=upstream):
        names_that_are_found_late()
        wait_until(lambda: "this address is ignored" in caplog.text)
    assert upstream.connected == []


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:*"])
def test_what_is_no_address_to_connect_to(address: str) -> None:
    with pytest.raises(ConfigError, match="'x'"):
        Forwarder({}, [], [LOCAL], limit=1, upstream=Upstream({}, [("x", address)])).start()
