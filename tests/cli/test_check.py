# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-check, in-process as tests of others run it and as a process: the words and statuses that scripts read."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from click.testing import CliRunner, Result

from fedmsg.commands import check
from fedmsg.testing import free_address, run, wait_until

KEY = "moksha.monitoring.socket"
ALL = "No consumers or producers specified so all will be shown.\n"
GOOD = "All consumers and producers are active!\n"
MISSING = "Error: Some consumers and/or producers are missing!\n"
UNINITIALIZED = "Error: Some consumers and/or producers are uninitialized!\n"

REPORT: dict[str, Any] = {
    "producers": [{"name": "P", "initialized": True}, {"name": "Q", "initialized": False}],
    "consumers": [
        {"name": "A", "initialized": True, "module": "é", "connections": [{"peer": "10.0.0.33:40218", "queued": 7}]},
        {"name": "B", "initialized": 1},
        {"name": "C", "initialized": False},
        {"name": "D"},
        {"initialized": True},
        {"name": "E", "initialized": True},
        {"name": "E", "initialized": False},
        {"name": "F", "initialized": True},
        {"name": "F", "initialized": True},
    ],
    "more": None,
}
SHOWN = json.dumps(REPORT, indent=2, sort_keys=True) + "\n"

Check = Callable[..., Result]


@contextmanager
def daemon(*frames: bytes) -> Iterator[str]:
    """Say the same again and again, as fast as a daemon does it in tests; give the address."""
    address, stop = free_address(), threading.Event()

    def speak() -> None:
        with zmq.Context() as context, context.socket(zmq.PUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(address)
            while not stop.wait(0.02):
                for frame in frames:
                    socket.send_multipart([frame])

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield address
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run the command with a configuration."""

    def invoke(address: str | None, *arguments: str) -> Result:
        monkeypatch.setattr(check, "load_config", lambda: {KEY: address})
        return CliRunner().invoke(check.check, arguments)

    return invoke


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with daemon(json.dumps(REPORT).encode()) as address:
        yield address


@pytest.mark.parametrize(
    ("arguments", "status", "output"),
    [
        ("", 0, ALL + SHOWN),
        ("-c A", 0, GOOD + SHOWN),
        ("--consumer A --producer P --consumer A", 0, GOOD + SHOWN),
        ("-p P", 0, GOOD + SHOWN),
        ("-c F", 0, GOOD + SHOWN),
        ("-c P", 1, '"P" is not active!\n' + MISSING),
        ("-p A", 1, '"A" is not active!\n' + MISSING),
        ("-c a", 1, '"a" is not active!\n' + MISSING),
        ("-c None", 1, '"None" is not active!\n' + MISSING),
        ("-c B", 1, '"B" is not initialized!\n' + UNINITIALIZED),
        ("-c C", 1, '"C" is not initialized!\n' + UNINITIALIZED),
        ("-c D", 1, '"D" is not initialized!\n' + UNINITIALIZED),
        ("-c E", 1, '"E" is not initialized!\n' + UNINITIALIZED),
        ("-c A -p Q", 1, '"Q" is not initialized!\n' + UNINITIALIZED),
        (
            "-p Q -c Z -c Y -c C -p A",
            1,
            '"Z" is not active!\n"Y" is not active!\n"C" is not initialized!\n"Q" is not initialized!\n'
            '"A" is not active!\n' + MISSING,
        ),
    ],
)
def test_what_it_says(address: str, ask: Check, arguments: str, status: int, output: str) -> None:
    done = ask(address, *arguments.split())
    # All of it is on standard output when it is good news, and on standard error otherwise.
    assert (done.exit_code, done.stderr if status else done.stdout) == (status, output)
    assert done.output == output


@pytest.mark.parametrize("configured", [None, ""])
def test_no_address_is_configured(ask: Check, configured: str | None) -> None:
    done = ask(configured)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == ('Error: No monitoring endpoint has been configured: please set "moksha.monitoring.socket"\n')


@pytest.mark.parametrize("seconds", ["0", "1"])
def test_silence(ask: Check, seconds: str) -> None:
    address = free_address()
    done = ask(address, "--timeout", seconds, "-c", "A")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: Failed to receive message from the monitoring endpoint ({address}) in {seconds} seconds.\n"
    )


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1", "tcp://[::1", "ipc://", "\x1b[31m"])
def test_an_address_that_is_none(ask: Check, address: str) -> None:
    done = ask(address)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {KEY}: ")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


HOSTILE = [
    b"",
    b"\xff",
    b"nonsense",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b'{"consumers": {}, "producers": []}',
    b'{"consumers": [[]]}',
    b"[" * 100_000,
    b'{"consumers": [], "producers": [], "deep": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    b"9" * 5000,
]


def test_what_is_no_report_is_passed_over(ask: Check) -> None:
    with daemon(*HOSTILE, b'{"consumers": [null, [], "A", {"name": ["A"]}], "producers": [3]}') as address:
        done = ask(address)
        assert done.exit_code == 0, done.output
        missing = ask(address, "-c", "A")
        assert missing.stderr == '"A" is not active!\n' + MISSING


def test_nothing_but_nonsense_is_silence(ask: Check) -> None:
    with daemon(*HOSTILE) as address:
        done = ask(address, "--timeout", "1")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Failed to receive message" in done.stderr


def test_what_a_report_says_does_not_reach_the_terminal_raw(ask: Check) -> None:
    with daemon(json.dumps({"consumers": [{"name": "\x1b[31m\x9b\u202e"}], "producers": []}).encode()) as address:
        done = ask(address)
    assert done.output.isascii()
    assert "\x1b" not in done.output


# ------------------------------------------------------------------ as a process


def test_with_a_configuration(address: str, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text(f"config = {{{KEY!r}: {address!r}}}\n")
    done = run(["fedmsg-check", "-c", "A"], env={"FEDMSG_CONFIG": str(config)})
    assert (done.returncode, done.stdout, done.stderr) == (0, GOOD + SHOWN, "")


def test_a_configuration_that_can_not_be_read(tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text("config = {\n")
    done = run(["fedmsg-check"], env={"FEDMSG_CONFIG": str(config)})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert str(config) in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--timeout", "x"], ["--timeout", "1.5"], ["--timeout", "-1"], ["--bogus"], ["name"], ["-c"]]
)
def test_a_command_line_that_makes_no_sense(arguments: list[str]) -> None:
    done = run(["fedmsg-check", *arguments])
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


def test_it_waits_for_a_daemon_that_is_yet_to_come(ask: Check) -> None:
    address, done = free_address(), []
    thread = threading.Thread(target=lambda: done.append(ask(address, "-p", "MonitoringProducer")))
    thread.start()
    with zmq.Context() as context, context.socket(zmq.XPUB) as late:
        late.setsockopt(zmq.LINGER, 0)
        late.bind(address)
        # The one who asks has come.
        assert late.recv() == b"\x01"
        late.send(b'{"consumers": [], "producers": [{"name": "MonitoringProducer", "initialized": true}]}')
        wait_until(lambda: done)
    thread.join()
    assert done[0].stdout.startswith(GOOD)
