# SPDX-License-Identifier: LGPL-2.1-or-later
"""The subscribers of a bound socket: how many, which are stuck, and how many there were before a restart."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from fedmsg.testing import wait_until
from fedmsg.transport.zmq.subscribers import Subscribers, remember, remembered
from tests.integration.faults.ground import frame, raw, shake_hands, stuck_subscriber

Plain = zmq.Socket[bytes]
ADDRESS = "tcp://127.0.0.1:4001"
Bound = tuple[Plain, Subscribers, str]


class Ground:
    """A context and its sockets, each of which is closed by the thread that made it."""

    def __init__(self) -> None:
        self.context: zmq.Context[Plain] = zmq.Context()
        self._made: list[Plain] = []
        self._watched: list[Subscribers] = []

    def socket(self, kind: int) -> Plain:
        self._made.append(self.context.socket(kind))
        return self._made[-1]

    def watch(self, socket: Plain) -> Subscribers:
        self._watched.append(Subscribers(self.context))
        self._watched[-1].watch(socket)
        return self._watched[-1]

    def close(self) -> None:
        for one in self._made:
            one.close(0)
        self.context.term()
        for each in self._watched:
            each.close()


@pytest.fixture
def ground() -> Iterator[Ground]:
    """Give a context that ends with everything in it."""
    made = Ground()
    yield made
    made.close()


@pytest.fixture
def bound(ground: Ground) -> Bound:
    """Give a publisher, its subscribers, and its address."""
    publisher = ground.socket(zmq.PUB)
    subscribers = ground.watch(publisher)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    return publisher, subscribers, f"tcp://127.0.0.1:{port}"


def test_subscribers_count_connections_and_handshakes(bound: Bound) -> None:
    _, subscribers, address = bound
    assert (subscribers.count(), subscribers.handshakes) == (0, 0)
    with raw(address) as one, raw(address) as other:
        wait_until(lambda: subscribers.count() == 2)
        assert subscribers.handshakes == 0
        shake_hands(one, b"XSUB")
        wait_until(lambda: subscribers.handshakes == 1)
        shake_hands(other, b"SUB")
        wait_until(lambda: subscribers.handshakes == 2)
    wait_until(lambda: subscribers.count() == 0)
    assert subscribers.handshakes == 2


@pytest.mark.parametrize("curve", [False, True])
def test_subscribers_of_zeromq_have_subscribed_soon_after_the_handshake(ground: Ground, curve: bool) -> None:
    publisher, subscriber = ground.socket(zmq.PUB), ground.socket(zmq.SUB)
    if curve:
        server, client = zmq.curve_keypair(), zmq.curve_keypair()
        publisher.curve_server, publisher.curve_secretkey = True, server[1]
        subscriber.curve_serverkey, subscriber.curve_publickey, subscriber.curve_secretkey = server[0], *client
    subscribers = ground.watch(publisher)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    subscriber.subscribe(b"")
    subscriber.connect(f"tcp://127.0.0.1:{port}")
    wait_until(lambda: subscribers.handshakes == 1)
    wait_until(lambda: time.monotonic() > subscribers.last_handshake + 0.1)
    publisher.getsockopt(zmq.EVENTS)
    publisher.send(b"here")
    assert subscriber.poll(10_000)


def test_subscribers_count_a_connection_by_a_path(ground: Ground, tmp_path: Path) -> None:
    publisher, subscriber = ground.socket(zmq.PUB), ground.socket(zmq.SUB)
    subscribers = ground.watch(publisher)
    publisher.bind(f"ipc://{tmp_path}/bus")
    subscriber.subscribe(b"")
    subscriber.connect(f"ipc://{tmp_path}/bus")
    wait_until(lambda: subscribers.handshakes == 1)
    subscribers.look()
    assert subscribers.stuck(1) == []


def test_subscribers_show_a_stuck_one_with_its_address(bound: Bound) -> None:
    publisher, subscribers, address = bound
    with stuck_subscriber(address) as stuck, raw(address) as fine:
        shake_hands(fine, b"SUB")
        fine.sendall(frame(b"\x01"))
        wait_until(lambda: subscribers.handshakes == 2)
        publisher.getsockopt(zmq.EVENTS)
        for _ in range(100):
            publisher.send(bytes(10_000))
        fine.settimeout(0.2)
        wait_until(lambda: subscribers.stuck(0.5), meanwhile=lambda: look_and_read(subscribers, fine))
        (shown,) = subscribers.stuck(0.5)
        assert shown.address == "{}:{}".format(*stuck.getsockname())
        assert shown.unsent > 0
        assert shown.seconds >= 0.5
        assert subscribers.behind() >= 1
        # It takes something again, and is stuck no more.
        stuck.settimeout(0.2)
        wait_until(lambda: not subscribers.stuck(0.5), meanwhile=lambda: look_and_read(subscribers, stuck))
    wait_until(lambda: subscribers.behind() == 0)


def look_and_read(subscribers: Subscribers, connection: socket.socket) -> None:
    """Take what there is on a connection, and look."""
    try:
        while connection.recv(1 << 20):
            pass
    except TimeoutError:
        pass
    subscribers.look()


def test_subscribers_show_an_ipv6_address_in_brackets(ground: Ground) -> None:
    publisher = ground.socket(zmq.PUB)
    publisher.setsockopt(zmq.IPV6, 1)
    subscribers = ground.watch(publisher)
    port = publisher.bind_to_random_port("tcp://[::1]")
    with socket.create_connection(("::1", port)) as connection:
        wait_until(lambda: subscribers._connected)
        (shown,) = subscribers._connected.values()
        assert shown.address == f"[::1]:{connection.getsockname()[1]}"


# ---------------------------------------------------------------- over a restart


def test_remember_is_for_one_address(tmp_path: Path) -> None:
    config = {"state_directory": str(tmp_path)}
    for address, count in ((ADDRESS, 3), ("tcp://0.0.0.0:9940", 700)):
        remember(config, address, count)
    assert remembered(config, ADDRESS) == 3
    assert remembered(config, "tcp://0.0.0.0:9940") == 700
    assert remembered(config, "tcp://127.0.0.1:4002") == 0
    # Nothing is left over from writing them.
    assert len(list(tmp_path.iterdir())) == 2


def test_remember_replaces_the_last_number(tmp_path: Path) -> None:
    config = {"state_directory": str(tmp_path)}
    for count in (1, 2, 2, 0, 5):
        remember(config, ADDRESS, count)
        assert remembered(config, ADDRESS) == count


@pytest.mark.parametrize("variable", ["RUNTIME_DIRECTORY", "STATE_DIRECTORY"])
def test_remember_uses_the_folder_that_systemd_keeps(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"{tmp_path}:/somewhere/else")
    remember({}, ADDRESS, 2)
    assert len(list(tmp_path.iterdir())) == 1
    assert remembered({}, ADDRESS) == 2


def test_remember_does_nothing_without_a_folder(tmp_path: Path) -> None:
    remember({}, ADDRESS, 2)
    assert remembered({}, ADDRESS) == 0
    assert list(Path.cwd().iterdir()) == list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        "{}",
        '{"address": "tcp://127.0.0.1:4001"}',
        "\udcff",
        '{"address": "tcp://127.0.0.1:4001", "subscribers": 3' + " " * 5000 + "}",
    ],
)
def test_remembered_logs_a_broken_file_and_returns_0(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"state_directory": str(tmp_path)}
    remember(config, ADDRESS, 3)
    (path,) = tmp_path.iterdir()
    path.write_text(content, encoding="utf-8", errors="surrogateescape")
    assert remembered(config, ADDRESS) == 0
    assert len(caplog.messages) == 1
    assert str(path) in caplog.messages[0]


def test_remembered_does_not_believe_a_file_that_others_can_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"state_directory": str(tmp_path)}
    remember(config, ADDRESS, 3)
    (path,) = tmp_path.iterdir()
    path.chmod(0o646)
    assert remembered(config, ADDRESS) == 0
    assert "others can write it" in caplog.text
    path.chmod(0o640)
    assert remembered(config, ADDRESS) == 3


@pytest.mark.parametrize("value", ['"3"', "null", "[3]", "1.5"])
def test_remembered_returns_0_for_what_is_no_number(value: str, tmp_path: Path) -> None:
    config = {"state_directory": str(tmp_path)}
    remember(config, ADDRESS, 3)
    (path,) = tmp_path.iterdir()
    path.write_text(f'{{"address": "{ADDRESS}", "subscribers": {value}}}')
    assert remembered(config, ADDRESS) == 0


def test_remember_logs_a_folder_that_can_not_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = {"state_directory": str(tmp_path / "missing")}
    remember(config, ADDRESS, 1)
    assert remembered(config, ADDRESS) == 0
    assert len(caplog.messages) == 1
    assert "can't be written" in caplog.messages[0]
