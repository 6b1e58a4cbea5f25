# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guard of a relay under strangers, while key files break: it fails closed, and never ends in silence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

from fedmsg.testing import Bus, wait_until
from fedmsg.transport.zmq import curve
from fedmsg.transport.zmq.forwarder import Forwarder
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import memory
from tests.integration.test_curve import Keys

Plain = zmq.Socket[bytes]
LOCAL = "tcp://127.0.0.1:*"
_KEY = '    public-key = "{}"\n'


def _write(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def _link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def _unreadable(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00" * 100)


# What a key file can come to. The first two ended the guard once.
BROKEN: dict[str, Callable[[Path], object]] = {
    "a character that Z85 lacks": _write(_KEY.format("~" * 40)),
    "too short": _write(_KEY.format("a" * 39)),
    "too large a number": _write(_KEY.format("#" * 40)),
    "thirty characters": _write(_KEY.format("a" * 30)),
    "not ASCII": _write(_KEY.format("ä" * 40)),
    "empty": _write(""),
    "no UTF-8": _unreadable,
    "a link to nowhere": _link("/nowhere/at/all"),
    "a link to itself": _link("broken.key"),
    "a named pipe": os.mkfifo,
    "a folder": os.mkdir,
    "endless": _link("/dev/zero"),
}


class Clients:
    """Connections with a key, each of which ends with the answer of the server to its handshake."""

    def __init__(self, keys: Keys) -> None:
        self.context: zmq.Context[Plain] = zmq.Context()
        self.server = zmq.auth.load_certificate(keys.folder / "relay.key")[0]
        self.pairs = {
            name: zmq.auth.load_certificate(keys.folder / f"{name}.key_secret") for name in ("web", "stranger", "tail")
        }

    @contextmanager
    def connected(self, address: str, name: str, count: int = 1, kind: int = zmq.XPUB) -> Iterator[list[Plain]]:
        """Connect so many sockets; yields their monitors, which report whether they were admitted."""
        sockets, monitors = [], []
        for _ in range(count):
            socket = self.context.socket(kind)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, -1)
            socket.curve_publickey, socket.curve_secretkey = self.pairs[name]
            socket.curve_serverkey = self.server
            sockets.append(socket)
            monitors.append(socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED))
            socket.connect(address)
        try:
            yield monitors
        finally:
            for socket, monitor in zip(sockets, monitors, strict=True):
                socket.disable_monitor()
                socket.close(0)
                monitor.close(0)

    def admitted(self, address: str, name: str, kind: int = zmq.XPUB) -> bool:
        """Return whether the server lets a client in; it disconnects the others, after 3 s."""
        with self.connected(address, name, kind=kind) as (monitor,):
            assert monitor.poll(20_000)
            return bool(recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture(autouse=True)
def short_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a rejected client of this process be disconnected soon."""
    monkeypatch.setattr(curve, "_HANDSHAKE_TIMEOUT_MS", 500)


@pytest.fixture
def clients(keys: Keys) -> Iterator[Clients]:
    made = Clients(keys)
    yield made
    made.context.term()


@pytest.mark.parametrize("how", BROKEN)
def test_curve_guard_rejects_strangers_when_a_key_file_breaks(
    how: str, keys: Keys, clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(curve, "_RELOAD_INTERVAL", 0.0)
    with Forwarder(keys.server(), [LOCAL], [LOCAL], limit=100) as running:
        BROKEN[how](keys.publishers / "broken.key")
        assert not clients.admitted(running.inbound[0], "stranger")
        # Control: the other file in the folder counts.
        assert clients.admitted(running.inbound[0], "web")
        assert running.running
    assert f"the CURVE key {keys.publishers}/broken.key is ignored: " in caplog.text


def test_curve_guard_rejects_all_when_its_folder_is_gone(
    keys: Keys, clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(curve, "_RELOAD_INTERVAL", 0.0)
    with Forwarder(keys.server(), [LOCAL], [LOCAL], limit=100) as running:
        assert clients.admitted(running.inbound[0], "web")
        keys.publishers.rename(keys.folder / "elsewhere")
        assert not clients.admitted(running.inbound[0], "web")
        (keys.folder / "elsewhere").rename(keys.publishers)
        assert clients.admitted(running.inbound[0], "web")
    assert "all connections are rejected" in caplog.text


def test_curve_guard_that_fails_rejects_and_lives(
    keys: Keys, clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_guard: curve.Guard, _domain: bytes) -> frozenset[bytes]:
        raise ZeroDivisionError("unforeseen")

    with Forwarder(keys.server(), [LOCAL], [LOCAL], limit=100) as running:
        with monkeypatch.context() as patched:
            patched.setattr(curve.Guard, "_allowed", fail)
            assert not clients.admitted(running.inbound[0], "web")
        assert clients.admitted(running.inbound[0], "web")
    assert "its key can't be checked: ZeroDivisionError" in caplog.text


def test_curve_guard_that_has_ended_admits_nobody_and_ends_the_relay(keys: Keys, clients: Clients) -> None:
    running = Forwarder(keys.server(), [LOCAL], [LOCAL], limit=100).start()
    guard = running.guard
    assert guard is not None
    states = [running.running]
    guard.stop()
    assert guard.join(10)
    states.append(running.running)
    assert states == [True, False]
    assert not clients.admitted(running.inbound[0], "stranger")
    assert not clients.admitted(running.inbound[0], "web")
    running.stop()


def test_curve_guard_on_one_side_only_guards_that_side(keys: Keys, clients: Clients) -> None:
    config = {**keys.server(), "curve_publishers": None}
    with Forwarder(config, [LOCAL], [LOCAL], limit=100) as running:
        assert not clients.admitted(running.outbound, "stranger", kind=zmq.SUB)
        assert clients.admitted(running.outbound, "tail", kind=zmq.SUB)


@pytest.mark.soak
def test_curve_guard_holds_against_many_strangers_while_key_files_break(
    keys: Keys, clients: Clients, figures: Figures, full_size: bool
) -> None:
    rounds, together = (100, 100) if full_size else (2, 20)
    admitted = 0
    with Bus(keys.server()) as bus:
        bus.start_relay()
        assert bus.relay is not None
        (inbound,) = (
            bus.config["relay_inbound"]
            if isinstance(bus.config["relay_inbound"], list)
            else (bus.config["relay_inbound"],)
        )
        before, ways = memory(bus.relay.popen.pid), list(BROKEN.values())
        for number in range(rounds):
            path = keys.publishers / "broken.key"
            ways[number % len(ways)](path)
            with clients.connected(inbound, "stranger", together) as monitors:
                for monitor in monitors:
                    assert monitor.poll(20_000)
                    admitted += recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        assert clients.admitted(inbound, "web")
        wait_until(lambda: memory(bus.relay.popen.pid) < before + 8192, what="memory stays")  # type: ignore[union-attr]
        after, lines = memory(bus.relay.popen.pid), len(bus.relay.err)
        assert bus.stop_relay() == 0
    assert admitted == 0
    assert lines < 100 + 12 * rounds
    figures(
        f"{rounds * together} strangers at a CURVE port while key files break",
        sent=rounds * together, arrived=admitted, lost=0, exits=0, memory_before=before, memory_after=after,
    )  # fmt: skip
