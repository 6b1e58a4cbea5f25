# SPDX-License-Identifier: LGPL-2.1-or-later
"""The monitor on real sockets: what it says, whom it lets in, what it leaves behind."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.monitoring.report import Monitor
from fedmsg.testing import free_address, wait_until
from fedmsg.transport.zmq import ipc

SOON = 0.02
KEY = "moksha.monitoring.socket"

Reader = Callable[[str], Callable[[], Any]]


def nothing() -> dict[str, Any]:
    return {"consumers": [], "producers": []}


@pytest.fixture
def reader() -> Iterator[Reader]:
    """Subscribe to an address, and give what reads the next report there."""
    context, made = zmq.Context(), []

    def subscribe(address: str) -> Callable[[], Any]:
        subscriber = context.socket(zmq.SUB)
        made.append(subscriber)
        subscriber.subscribe(b"")
        subscriber.connect(address)

        def read() -> Any:
            assert subscriber.poll(10_000), "no report"
            (frame,) = subscriber.recv_multipart()
            return json.loads(frame)

        return read

    yield subscribe
    for subscriber in made:
        subscriber.close(0)
    context.term()


@pytest.fixture(params=["tcp", "ipc", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "tcp": "tcp://127.0.0.1:*",
        "ipc": f"ipc://{tmp_path / 'monitoring'}",
        "abstract": f"ipc://@fedmsg-{tmp_path.name}-{os.getpid()}",
    }[request.param]


def test_reports_go_out_again_and_again(reader: Reader, address: str) -> None:
    reports = iter(range(10**9))

    def report() -> dict[str, Any]:
        return {"consumers": [{"name": "C", "backlog": next(reports)}], "producers": [{"name": "P"}]}

    with Monitor({KEY: address}, report, every=SOON) as monitor:
        assert monitor.address is not None
        read = reader(monitor.address)
        first, second = read(), read()
    assert set(first) == {"consumers", "producers"}
    assert second["consumers"][0]["backlog"] == first["consumers"][0]["backlog"] + 1
    assert [row["name"] for row in first["producers"]] == ["P", "MonitoringProducer"]


def test_the_monitor_has_a_row_of_its_own(reader: Reader) -> None:
    with Monitor({KEY: "tcp://127.0.0.1:*"}, nothing, every=SOON) as monitor:
        assert monitor.address is not None
        read = reader(monitor.address)
        read()
        row = read()["producers"][-1]
    assert isinstance(row.pop("last_ran"), float)
    assert row == {
        "name": "MonitoringProducer",
        "module": "moksha.hub.monitoring",
        "initialized": True,
        "exceptions": 0,
        "frequency": SOON,
        "now": False,
    }


def test_a_report_that_fails_is_logged_and_counted_and_the_next_goes_out(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [object(), None, {"consumers": [object()]}, ZeroDivisionError]

    def report() -> Any:
        if not answers:
            return nothing()
        answer = answers.pop()
        if answer is ZeroDivisionError:
            raise ZeroDivisionError
        return answer

    with Monitor({KEY: "tcp://127.0.0.1:*"}, report, every=SOON) as monitor:
        assert monitor.address is not None
        row = reader(monitor.address)()["producers"][-1]
    assert row["exceptions"] == monitor.failures == 4
    logged = [record.message for record in caplog.records if record.exc_info]
    assert logged == ["the status report could not be made"] * 4


def test_without_an_address_there_is_nothing() -> None:
    before = threading.active_count()
    with Monitor({}, nothing) as monitor:
        assert monitor.address is None
        assert threading.active_count() == before


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize(("mode", "bits"), [("0770", 0o770), ("600", 0o600), ("0o666", 0o666)])
def test_the_mode_of_the_file(tmp_path: Path, mode: str, bits: int, umask: int) -> None:
    path, before = tmp_path / "monitoring", os.umask(umask)
    try:
        with Monitor({KEY: f"ipc://{path}", f"{KEY}.mode": mode}, nothing):
            assert stat.S_IMODE(path.stat().st_mode) == bits
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", ["rwx", "", "888", "-770", "17777"])
def test_a_mode_that_is_none(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "monitoring"
    with pytest.raises(ConfigError, match=r"moksha\.monitoring\.socket\.mode is '.*', which is no octal file mode"):
        Monitor({KEY: f"ipc://{path}", f"{KEY}.mode": mode}, nothing).start()
    assert not path.exists()


def test_nobody_connects_before_the_mode_is_set(tmp_path: Path) -> None:
    """The system calls say in which order it went."""
    path = tmp_path / "monitoring"
    program = f"import sys; from fedmsg.transport.zmq import ipc; ipc.listen({str(path)!r}, 0o600, 'key')"
    hook = (
        "import os, socket; order = []; chmod, made = os.chmod, socket.socket\n"
        "def watched(*a): order.append('chmod'); chmod(*a)\n"
        "class Socket(made):\n"
        "    def bind(self, *a): order.append('bind'); super().bind(*a)\n"
        "    def listen(self, *a): order.append('listen'); super().listen(*a)\n"
        "os.chmod, socket.socket = watched, Socket\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{hook}{program}\nprint(*order)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["bind", "chmod", "listen"]


def test_the_file_goes_with_the_monitor(tmp_path: Path) -> None:
    path = tmp_path / "monitoring"
    with Monitor({KEY: f"ipc://{path}"}, nothing):
        assert path.is_socket()
    assert not path.exists()


def test_what_a_dead_process_left_is_replaced(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "monitoring"
    program = (
        "import os, signal; from fedmsg.monitoring.report import Monitor\n"
        f"Monitor({{{KEY!r}: 'ipc://{path}'}}, dict).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    assert path.is_socket()
    with Monitor({KEY: f"ipc://{path}"}, nothing, every=SOON):
        assert reader(f"ipc://{path}")()["consumers"] == []


@pytest.mark.parametrize("kind", ["ours", "bare", "datagrams", "busy"])
def test_what_is_in_use_is_left_alone(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "monitoring"
    config = {KEY: f"ipc://{path}"}
    with (
        Monitor(config if kind == "ours" else {}, nothing),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM) as holder,
        socket.socket(socket.AF_UNIX) as client,
    ):
        if kind != "ours":
            holder.bind(str(path))
        if kind in {"bare", "busy"}:
            holder.listen(0)
        if kind == "busy":
            client.connect(str(path))
        before = path.stat().st_ino
        asked = iter(range(10**9))
        with Monitor(config, lambda: {"consumers": [next(asked)]}, every=SOON) as monitor:
            wait_until(lambda: next(asked) > 9)
            assert monitor.address is None
        assert path.stat().st_ino == before
    (said,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert said.startswith(f"{KEY}: ipc://{path} can't be bound: Address already in use: nothing is reported until")


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "monitoring"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="there is a file that is no socket"):
        Monitor({KEY: f"ipc://{path}"}, nothing).start()
    assert path.read_text() == "precious"


def test_a_file_that_somebody_else_has_put_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "monitoring"
    with Monitor({KEY: f"ipc://{path}"}, nothing), socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        other.bind(str(path))
    assert path.is_socket()


def test_of_many_that_start_at_once_one_gets_the_address(tmp_path: Path) -> None:
    """Also when a stale file is in the way, which each of them would remove."""
    path = tmp_path / "monitoring"
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        barrier = threading.Barrier(8)
        won: list[ipc.File] = []
        lost: list[AddressInUse] = []

        def start(barrier: threading.Barrier, won: list[ipc.File], lost: list[AddressInUse]) -> None:
            barrier.wait()
            try:
                won.append(ipc.listen(str(path), None, KEY))
            except AddressInUse as error:
                lost.append(error)

        threads = [threading.Thread(target=start, args=(barrier, won, lost)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)
        os.close(won[0].descriptor)
        won[0].remove()
        assert not path.exists()


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_an_address_that_several_daemons_share(
    tmp_path: Path, reader: Reader, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first has it, and when that one has ended another does."""
    shared = free_address() if kind == "tcp" else f"ipc://{tmp_path / 'monitoring'}"

    def says(name: str) -> Callable[[], dict[str, Any]]:
        return lambda: {"consumers": [{"name": name}]}

    read = reader(shared)
    first = Monitor({KEY: shared}, says("first"), every=SOON)
    with first, Monitor({KEY: shared}, says("second"), every=SOON) as second:
        while read()["consumers"] != [{"name": "first"}]:
            pass
        assert (first.address, second.address) == (shared, None)
        first.close()
        while read()["consumers"] != [{"name": "second"}]:
            pass
        assert (first.address, second.address, second.failures) == (None, shared, 0)
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


@pytest.mark.parametrize(
    "address", ["nonsense", "tcp://127.0.0.1", "tcp://192.0.2.1:1", "ipc:///nowhere/x", f"ipc:///tmp/{'x' * 200}"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{KEY}: '?{address}"):
        Monitor({KEY: address}, nothing).start()


def test_opening_and_closing_leaves_nothing_behind(tmp_path: Path) -> None:
    def once() -> None:
        with Monitor({KEY: f"ipc://{tmp_path / 'monitoring'}"}, nothing, every=SOON):
            pass
        with pytest.raises(ConfigError):
            Monitor({KEY: f"ipc://{tmp_path}"}, nothing).start()

    once()
    before = psutil.Process().num_fds(), threading.active_count()
    for _ in range(50):
        once()
    assert (psutil.Process().num_fds(), threading.active_count()) == before


def test_a_second_start_or_close_does_no_harm() -> None:
    Monitor({KEY: "tcp://127.0.0.1:*"}, nothing).close()
    with Monitor({KEY: "tcp://127.0.0.1:*"}, nothing) as monitor:
        monitor.start()
    monitor.close()
    assert monitor.address is None


def test_a_forgotten_one_warns() -> None:
    monitor = Monitor({KEY: "tcp://127.0.0.1:*"}, nothing)
    monitor.start()
    with pytest.warns(ResourceWarning, match="unclosed Monitor"):
        monitor.__del__()


def test_report_socket_is_bound_though_a_stranger_locks_its_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with Monitor({KEY: f"ipc://{tmp_path / 'monitoring'}"}, nothing) as monitor:
            assert monitor.address is not None
    finally:
        os.close(folder)
    assert "another process holds a lock of this folder" in caplog.text
    caplog.clear()
    # The control: without the stranger there is nothing to log.
    with Monitor({KEY: f"ipc://{tmp_path / 'monitoring'}"}, nothing):
        pass
    assert "lock" not in caplog.text
