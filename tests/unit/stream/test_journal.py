# SPDX-License-Identifier: LGPL-2.1-or-later
"""The journal of SQLite is moved into the file while messages are appended, and a reader that prevents it is logged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fedmsg.stream import journal
from fedmsg.stream.log import Incoming, StreamLog

MIB = 1 << 20


def append_mib(stream: StreamLog, count: int) -> None:
    for number in range(count):
        stream.append([Incoming(b"topic", b"%d %d" % (stream.newest(), number) + bytes(MIB))])


def test_journal_stays_small(tmp_path: Path) -> None:
    with StreamLog(f"sqlite:///{tmp_path}/stream.db") as stream:
        append_mib(stream, 30)
        assert (tmp_path / "stream.db-wal").stat().st_size < 8 * MIB
        assert (tmp_path / "stream.db").stat().st_size > 20 * MIB


def test_reader_that_keeps_the_journal_busy_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "_BUSY_SECONDS", 0.0)
    with StreamLog(f"sqlite:///{tmp_path}/stream.db") as stream:
        append_mib(stream, 1)
        reader = sqlite3.connect(tmp_path / "stream.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM fedmsg_stream_messages").fetchone()
        append_mib(stream, 20)
        assert [record.getMessage().partition("stream.db")[2][:10] for record in caplog.records] == [" busy for "]
        reader.execute("ROLLBACK")
        reader.close()
        append_mib(stream, 10)
        assert len(caplog.records) == 1
        assert stream._writer._journal._busy_since is None
