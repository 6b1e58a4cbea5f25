# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-collectd on a real bus."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmsg.testing import Process, command_path, run
from tests.datagrepper_server import message
from tests.publisher import Publisher

HOST = socket.gethostname().split(".")[0]
LINE = re.compile(rf"PUTVAL {re.escape(HOST)}/fedmsg/fedmsg_wallboard-([\w.-]+) interval=(\d+) (\d+):(\d+)")


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    with contextlib.closing(Publisher(tmp_path, status_directory=str(tmp_path / "status"))) as found:
        yield found


@contextlib.contextmanager
def counting(publisher: Publisher, *arguments: str) -> Iterator[Process]:
    """Start a fedmsg-collectd that is connected when the block begins."""
    with Process(["fedmsg-collectd", "--collectd-interval", "1", *arguments], env=publisher.environ) as process:
        publisher.wait()
        yield process


def counted(process: Process) -> dict[str, int]:
    """Add up what was printed."""
    found: dict[str, int] = {}
    for line in list(process.out):
        matched = LINE.fullmatch(line)
        assert matched, line
        found[matched[1]] = found.get(matched[1], 0) + int(matched[4])
    return found


def test_lines(publisher: Publisher) -> None:
    with counting(publisher) as process:
        words = ["logger.log", "logger.log", "announce.announcement", "shop.order", "shop.order", "shop.paid"]
        publisher.send(*(message(1, 1, f"org.fedoraproject.dev.{word}") for word in words))
        publisher.send_frames(b"no message")
        process.wait_for(lambda line: counted(process).get("unhandled") == 3)
        process.wait_for(lambda line: len(process.out) >= 6)
        assert counted(process) == {"announce": 1, "logger": 2, "unhandled": 3}
        # In each interval a line for each, sorted, with a time that goes on.
        names, intervals, times, _ = zip(*(LINE.fullmatch(line).groups() for line in process.out), strict=True)  # type: ignore[union-attr]
        assert names[:6] == ("announce", "logger", "unhandled") * 2
        assert set(intervals) == {"1"}
        assert times[0] == times[1] == times[2]
        assert time.time() - 60 < int(times[0]) <= int(times[3]) <= time.time()
        assert process.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_stopped(publisher: Publisher, number: int) -> None:
    with counting(publisher) as process:
        process.wait_ready()
        assert process.stop(number) == 0


def test_it_ends_with_collectd(publisher: Publisher) -> None:
    # The reader takes one line and leaves.
    command = f"{command_path('fedmsg-collectd')} --collectd-interval 1; echo $? >&2"
    with subprocess.Popen(
        ["/bin/bash", "-c", f"({command}) | head -n 1"], env={**publisher.environ, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        out, err = process.communicate(timeout=30)
    assert LINE.fullmatch(out.strip())
    assert err.splitlines()[-1] == "0"
    assert "Traceback" not in err


def test_it_leaves_no_status(publisher: Publisher, tmp_path: Path) -> None:
    with counting(publisher) as process:
        publisher.send(message(1, 1))
        process.wait_for(lambda line: counted(process).get("unhandled") == 1)
    assert not (tmp_path / "status").exists()


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "often"])
def test_bad_use(value: str) -> None:
    done = run(["fedmsg-collectd", "--collectd-interval", value])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--collectd-interval" in done.stderr
