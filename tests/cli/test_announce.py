# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-announce on a real bus."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from fedmsg.testing import Bus, Process


@pytest.fixture(scope="module")
def bus() -> Iterator[Bus]:
    with Bus() as found:
        found.start_relay()
        yield found


@pytest.fixture(scope="module")
def tail(bus: Bus) -> Iterator[Process]:
    with bus.tail("--json") as found:
        yield found


@pytest.fixture(autouse=True)
def _nothing_heard_yet(tail: Process) -> None:
    del tail.out[:]


@pytest.mark.parametrize(
    ("arguments", "stdin", "msg"),
    [
        ([], b"It is done.", {"message": "It is done.", "link": None}),
        (["--link", "https://x.org/"], b"It is done.\n", {"message": "It is done.", "link": "https://x.org/"}),
        ([], b" one \n\n  two\r\nlast", {"message": "one\n\ntwo\nlast", "link": None}),
        ([], "caf\xe9 ☃".encode(), {"message": "caf\xe9 ☃", "link": None}),
        ([], b"caf\xe9 \xff", {"message": "caf\ufffd \ufffd", "link": None}),
        ([], b"\x00\x1b[31m", {"message": "\x00\x1b[31m", "link": None}),
        ([], b"", {"message": "", "link": None}),
    ],
)
def test_an_announcement(bus: Bus, tail: Process, arguments: list[str], stdin: bytes, msg: dict[str, Any]) -> None:
    ended = bus.run("fedmsg-announce", *arguments, stdin=stdin)
    assert (ended.returncode, ended.stderr) == (0, "")
    heard = json.loads(tail.wait_for("announce.announcement"))
    assert (heard["topic"], heard["msg"]) == ("org.fedoraproject.dev.announce.announcement", msg)


@pytest.mark.parametrize("arguments", [["--nonsense"], ["stray"], ["--link"]])
def test_bad_use(bus: Bus, arguments: list[str]) -> None:
    ended = bus.run("fedmsg-announce", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert arguments[0] in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_no_relay() -> None:
    with Bus({"timeout": 0.2}) as lonely:
        ended = lonely.run("fedmsg-announce", stdin="It is done.")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("fedmsg-announce: nothing listens at ")
    assert ended.stderr.count("\n") == 1


def test_what_is_stopped_while_it_is_typed_is_not_announced(bus: Bus, tail: Process) -> None:
    with Process(["fedmsg-announce", "--log-level", "debug"], env=bus.environ, stdin=True) as announce:
        assert announce.popen.stdin is not None
        # Told at once, so it shows that reading has begun.
        announce.popen.stdin.write(b"half an \xff\n")
        announce.popen.stdin.flush()
        announce.wait_for("line 1 is not UTF-8")
        assert announce.stop(signal.SIGINT) == 8
        assert len(announce.err) == 1
        assert "stopped before the announcement was sent" in announce.err[0]
    bus.run("fedmsg-announce", stdin="the next one")
    assert json.loads(tail.wait_for("announce.announcement"))["msg"]["message"] == "the next one"
