# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream on both databases: positions, doubles, removal, the lock, and databases that fail."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from fedmsg.exceptions import ConfigError, StoreError
from fedmsg.store import PositionLog
from fedmsg.stream.log import Chunk, Cursor, Incoming, Stored, StreamLog
from fedmsg.stream.records import Missing
from fedmsg.testing import wait_until
from tests import postgres
from tests.unit.stream.messages import TOPIC, body, everything, incoming, positions, some

NOTHING = {"age": 0, "max_bytes": 0, "messages": 0}
DAY = 86_400


@pytest.fixture
def stream(database_url: str) -> Iterator[StreamLog]:
    with StreamLog(database_url) as stream:
        yield stream


def execute(url: str, statement: str) -> None:
    """Change a database behind the back of a stream."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def new(first: int, last: int) -> list[Stored]:
    return [Stored(position, True) for position in range(first, last + 1)]


# ------------------------------------------------------------------ what is stored


def test_messages_come_back_as_they_came(stream: StreamLog) -> None:
    before = time.time()
    odd = [
        Incoming(b"", b""), Incoming(b"\x00\xff", bytes(range(256))), Incoming(TOPIC, b"x" * 3_000_000),
        Incoming(TOPIC, body(1), ("s1", "s2")), Incoming(TOPIC, '{"é": "\u20ac"}'.encode(), ("é",)),
    ]  # fmt: skip
    assert (stream.first(), stream.newest(), stream.read(0)) == (1, 0, Chunk([], 0))
    assert stream.append(odd) == new(1, 5)
    assert stream.append([]) == []
    found = everything(stream)
    assert [(one.topic, one.body, one.via) for one in found] == [one[:3] for one in odd]
    assert positions(found) == [1, 2, 3, 4, 5]
    assert all(before <= one.stored <= time.time() for one in found)
    sizes = sum(len(one.topic) + len(one.body) for one in odd)
    assert stream.statistics().items() >= {"first": 1, "newest": 5, "messages": 5, "bytes": sizes}.items()


def test_stream_keeps_its_id_and_its_positions(database_url: str) -> None:
    with StreamLog(database_url) as stream:
        first = stream.stream
        stream.append(some(1, 3))
        assert stream.trim(3) == 3
        assert (stream.first(), stream.newest(), stream.read(0)) == (4, 3, Chunk([], 3))
    with StreamLog(database_url) as stream:
        assert stream.stream == first
        assert stream.append(some(4, 4)) == new(4, 4)
        assert stream.first() == 4


@pytest.mark.parametrize("memory", [4, 1000])
def test_doubles_have_their_first_position(database_url: str, memory: int) -> None:
    with StreamLog(database_url, memory=memory) as stream:
        assert stream.append(some(1, 5)) == new(1, 5)
        again = [incoming(number, again=True) for number in range(1, 8)]
        doubles = [Stored(position, False) for position in range(1, 6)]
        assert stream.append(again) == [*doubles, *new(6, 7)]
        # In one batch too.
        assert stream.append([incoming(9), incoming(9)]) == [Stored(8, True), Stored(8, False)]
        assert stream.statistics()["duplicates"] == 6
    with StreamLog(database_url, memory=memory) as stream:
        assert stream.append(again[:5]) == doubles
        assert positions(everything(stream)) == [*range(1, 9)]


def test_old_timestamp_asks_for_old_ids(database_url: str) -> None:
    with StreamLog(database_url, memory=4) as stream:
        now = time.time()
        fresh = [Incoming(TOPIC, body(number, timestamp=now + 60)) for number in range(1, 31)]
        for one in fresh:
            stream.append([one])
        # The first is no longer in memory, and looks new; an old one can't be in memory.
        assert stream.append(fresh[:1]) == [Stored(31, True)]
        old = [Incoming(TOPIC, body(99, timestamp=now - 60))]
        assert stream.append(old) == [Stored(32, True)]
        for number in range(100, 120):
            stream.append([incoming(number)])
        assert stream.append(old) == [Stored(32, False)]


def test_same_id_with_other_bytes_is_another_message(database_url: str) -> None:
    with StreamLog(database_url, memory=4) as stream:
        one, two = (Incoming(TOPIC, body(number, msg_id="same"), again=True) for number in (1, 2))
        for _ in range(2):
            stream.append([one, *some(10, 20), two])
            assert stream.statistics()["altered"] == 1
        assert [stored.is_new for stored in stream.append([one, two])] == [False, False]
        # By another topic too, and without an id the bytes alone count.
        moved = stream.append([one._replace(topic=b"moved"), Incoming(TOPIC, b"bare"), Incoming(TOPIC, b"bare")])
        assert [stored.is_new for stored in moved] == [True, True, False]
        assert stream.find("same") == 1


def test_find_looks_everywhere(database_url: str) -> None:
    with StreamLog(database_url, memory=8) as stream:
        for first in range(1, 60, 3):
            stream.append(some(first, first + 2))
        wanted = {number: f"2026-{number:08}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" for number in range(1, 61)}
        assert {number: stream.find(msg_id) for number, msg_id in wanted.items()} == {n: n for n in range(1, 61)}
        assert stream.find("2026") is None
        stream.trim(30)
        with StreamLog(database_url) as reader:
            assert [reader.find(wanted[number]) for number in (1, 30, 60)] == [1, 30, 60]


def test_time_of_storing_is_found(stream: StreamLog, database_url: str) -> None:
    assert stream.after_time(0) == 0
    stream.append(some(1, 20))
    execute(database_url, "UPDATE fedmsg_stream_messages SET stored = position * 10")
    assert [stream.after_time(time) for time in (0, 10, 11, 100, 195, 200, 201)] == [0, 0, 1, 9, 19, 19, 20]
    stream.trim(12)
    assert [stream.after_time(time) for time in (0, 100, 140, 1e12)] == [12, 12, 13, 20]


def test_topics_come_with_the_newest_first(stream: StreamLog) -> None:
    assert stream.topics(0, 5) == stream.topics(100, 5) == []
    stream.append([Incoming(b"topic %d" % number, b"") for number in range(1, 11)])
    stream.prune(**NOTHING, until=2)
    every = [(number, b"topic %d" % number) for number in range(10, 2, -1)]
    assert stream.topics(10, 100) == stream.topics(1000, 8) == every
    assert stream.topics(6, 3) == every[4:7]


def test_times_do_not_go_back_with_the_clock(stream: StreamLog, database_url: str) -> None:
    later = time.time() + 600
    stream.append(some(1, 1))
    execute(database_url, f"UPDATE fedmsg_stream_messages SET stored = {later}")
    with stream._writing:
        stream._writer.close()
    stream.append(some(2, 2))
    assert [one.stored for one in everything(stream)] == [later, later]


# ------------------------------------------------------------------ reading


def test_read_filters_and_says_how_far_it_looked(stream: StreamLog) -> None:
    topics = [b"a.b", b"a.c", b"a", b"b", b"\xff\xff\x01", b""]
    stream.append([incoming(number, topic=topics[number % 6]) for number in range(600)])
    assert stream.read(0, [b"nothing"]) == Chunk([], 600)
    assert stream.read(0, [b"nothing"], rows=20) == Chunk([], 200)
    for prefix in [*topics, b"a.", b"\xff", b"\xff\xff"]:
        expected = [number + 1 for number in range(600) if topics[number % 6].startswith(prefix)]
        assert positions(everything(stream, 0, [prefix], rows=7)) == expected
    both = stream.read(100, [b"b", b"a.b"], rows=3)
    assert ([one.topic for one in both.entries], both.looked_at) == ([b"a.b", b"b", b"a.b"], both.entries[-1].position)


def test_read_is_limited_in_bytes(stream: StreamLog) -> None:
    stream.append([Incoming(b"", bytes([number]) * 1000) for number in range(20)])
    assert positions(stream.read(0, max_bytes=3500).entries) == [1, 2, 3]
    assert positions(stream.read(0, max_bytes=3000).entries) == [1, 2, 3]
    assert stream.read(4, max_bytes=10) == Chunk(everything(stream)[4:5], 5)
    assert positions(everything(stream, max_bytes=4999)) == [*range(1, 21)]


def test_readers_see_whole_batches_while_one_appends(stream: StreamLog) -> None:
    done = threading.Event()
    problems: list[object] = []

    def read() -> None:
        after = 0
        while not (done.is_set() and after == stream.newest()):
            chunk = stream.read(after, rows=100)
            if positions(chunk.entries) != [*range(after + 1, after + 1 + len(chunk.entries))]:
                problems.append((after, positions(chunk.entries)))
            if stream.newest() % 10:
                problems.append(stream.newest())
            after = chunk.looked_at

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for first in range(1, 1001, 10):
        stream.append(some(first, first + 9))
        stream.save_cursors([Cursor("reader", first, 0.0, "")])
    done.set()
    for reader in readers:
        reader.join(30)
    assert problems == []
    assert stream.newest() == 1000


# ------------------------------------------------------------------ removal


def test_prune_by_age(stream: StreamLog, database_url: str) -> None:
    stream.append(some(1, 50))
    now = time.time()
    execute(database_url, f"UPDATE fedmsg_stream_messages SET stored = {now} - (50 - position) * 100")
    steps = [stream.prune(age=1050, max_bytes=0, messages=0, rows=15) for _ in range(4)]
    assert steps == [15, 15, 9, 0]
    assert positions(everything(stream)) == [*range(40, 51)]
    assert stream.prune(**NOTHING) == 0


def test_prune_steps_are_small_in_bytes_too(stream: StreamLog) -> None:
    for number in range(5):
        stream.append([Incoming(b"", bytes([number]) * (7 << 20))])
    assert [stream.prune(age=0, max_bytes=1, messages=0) for _ in range(4)] == [2, 2, 1, 0]
    assert stream.statistics().items() >= {"first": 6, "messages": 0, "bytes": 0}.items()


def test_prune_beside_a_relay_that_appends(database_url: str) -> None:
    with StreamLog(database_url, memory=50) as relay, StreamLog(database_url) as command:
        for first in range(1, 400, 4):
            relay.append(some(first, first + 3))
            command.prune(age=0, max_bytes=0, messages=100)
        assert positions(everything(relay)) == [*range(301, 401)]


def test_ids_outlive_their_messages_by_a_day(database_url: str) -> None:
    with StreamLog(database_url, memory=8) as stream:
        stream.append(some(1, 5))
        stream.append(some(6, 30))
        stream.append(some(31, 33))
        again = [incoming(number, again=True) for number in (1, 7, 32)]
        assert stream.trim(33) == 33
        assert [stored.is_new for stored in stream.append(again)] == [False, False, False]
        for table in ("fedmsg_stream_segments", "fedmsg_stream_recent_ids"):
            execute(database_url, f"UPDATE {table} SET gone = gone - {DAY - 60} WHERE gone IS NOT NULL")
        stream.prune(**NOTHING)
        assert [stored.is_new for stored in stream.append(again)] == [False, False, False]
        for table in ("fedmsg_stream_segments", "fedmsg_stream_recent_ids"):
            execute(database_url, f"UPDATE {table} SET gone = gone - 120 WHERE gone IS NOT NULL")
        for _ in range(5):
            stream.prune(**NOTHING)
        assert stream.append(again) == new(34, 36)
        assert [stored.is_new for stored in stream.append(again)] == [False, False, False]


def test_sqlite_file_shrinks(sqlite_url: str, tmp_path: Path) -> None:
    with StreamLog(sqlite_url) as stream:
        for first in range(0, 40_000, 1000):
            stream.append([Incoming(TOPIC, b"%1000d" % number) for number in range(first, first + 1000)])
        stream.append([Incoming(TOPIC, b"last")])
        path = tmp_path / "test.db"
        before = path.stat().st_size
        assert before > 40_000_000
        while stream.prune(age=0, max_bytes=0, messages=1000):
            pass
        assert path.stat().st_size < before / 2
        assert (tmp_path / "test.db-wal").stat().st_size < before / 2
    assert path.stat().st_size < before / 3
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


# ------------------------------------------------------------------ cursors


def test_cursors(stream: StreamLog, database_url: str) -> None:
    one, two = Cursor("é one", 5, 12.5, "tcp://1"), Cursor("two", 2**40, 0.0, "")
    stream.save_cursors([two, one])
    stream.save_cursors([])
    stream.save_cursors([one._replace(position=6)])
    assert stream.cursor("é one") == one._replace(position=6)
    assert stream.cursor("none") is None
    with StreamLog(database_url) as other:
        assert sorted(other.cursors()) == sorted([two, one._replace(position=6)])
        assert (other.remove_cursor("two"), other.remove_cursor("two")) == (True, False)
    assert [cursor.name for cursor in stream.cursors()] == ["é one"]


# ------------------------------------------------------------------ one relay

HOLDER = """
import sys
from fedmsg.stream.log import Incoming, StreamLog
stream = StreamLog(sys.argv[1])
assert stream.acquire(30)
number = stream.append([Incoming(b"t", b"from the holder")])[0].position
print(number, flush=True)
sys.stdin.read()
"""

WRITER = """
import sys
from fedmsg.stream.log import Incoming, StreamLog
stream = StreamLog(sys.argv[1], memory=500)
number = stream.newest()
while True:
    count = 1 + number * 7 % 90
    numbers = [*range(number + 1, number + count + 1)]
    stored = stream.append([Incoming(b"topic", b"%d " % one + b"x" * (one * 37 % 3000)) for one in numbers])
    assert [one.position for one in stored] == numbers, (number, stored)
    number += count
    print(number, flush=True)
"""


def test_what_is_removed_before_a_cursor_is_noted(stream: StreamLog) -> None:
    for number in range(10):
        stream.append([Incoming(b"t", b"%d" % number)])
    stored = [entry.stored for entry in stream.read(0).entries]
    stream.save_cursors(Cursor(name, position, 1.5, "") for name, position in (("a", 0), ("b", 3), ("c", 6)))
    stream.trim(2)
    assert [stream.missing(name) for name in "abc"] == [Missing("a", 0, stored[0]), None, None]
    stream.trim(4)
    stream.trim(6)
    # The first of what is missing counts, whatever goes later.
    assert [stream.missing(name) for name in "ab"] == [Missing("a", 0, stored[0]), Missing("b", 3, stored[3])]
    assert stream.missing("c") is None
    # One that has begun earlier, and then one that has moved on.
    stream.save_missing(Missing("c", 6, 1.0))
    stream.trim(7)
    assert stream.missing("c") == Missing("c", 6, 1.0)
    stream.move_cursors([Cursor("c", 8, 1.5, "")])
    stream.trim(9)
    assert stream.missing("c") == Missing("c", 8, stored[8])
    assert stream.remove_cursor("c")
    assert stream.missing("c") is None


@contextmanager
def running(program: str, url: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_one_relay_at_a_time(database_url: str) -> None:
    with StreamLog(database_url) as stream:
        with running(HOLDER, database_url) as holder:
            assert line(holder) == "1"
            assert not stream.acquire(0)
            assert not stream.acquire(0.3)
            with pytest.raises(StoreError, match="in use by another relay"):
                stream.append(some(1, 1))
            assert [one.body for one in everything(stream)] == [b"from the holder"]
        assert stream.acquire(30)
        assert stream.append(some(1, 2)) == new(2, 3)
        assert stream.acquire(0)
        with StreamLog(database_url) as other:
            assert not other.acquire(0)
        # The lock of one that is closed is free.
    with StreamLog(database_url) as stream:
        assert stream.acquire(0)


def test_lock_is_taken_again_on_a_new_connection(postgresql_url: str) -> None:
    with StreamLog(postgresql_url) as one, StreamLog(postgresql_url) as two:
        one.append(some(1, 2))
        terminate_others(postgresql_url)
        # The lock went with the connection, and another relay was quicker.
        assert two.append(some(3, 4)) == new(3, 4)
        with pytest.raises(StoreError, match="in use by another relay"):
            one.append(some(5, 6))
        two.close()
        assert one.append([incoming(4), *some(5, 6)]) == [Stored(4, False), *new(5, 6)]
        terminate_others(postgresql_url)
        assert one.append(some(7, 7)) == new(7, 7)
        assert positions(everything(one)) == [*range(1, 8)]


def test_positions_follow_what_another_writer_has_stored(stream: StreamLog, database_url: str) -> None:
    stream.append(some(1, 2))
    blob = "'x'" if database_url.startswith("sqlite") else "'x'::bytea"
    execute(database_url, f"INSERT INTO fedmsg_stream_messages VALUES (3, 0, {blob}, {blob}, NULL)")
    execute(database_url, "UPDATE fedmsg_stream SET newest = 3")
    assert stream.append([incoming(2), *some(3, 4)]) == [Stored(2, False), *new(4, 5)]
    assert positions(everything(stream)) == [1, 2, 3, 4, 5]


def terminate_others(url: str) -> None:
    """End all connections to a database, as a restart would."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


def test_commits_wait_for_the_disk(postgresql_url: str) -> None:
    # The server of the tests has it off.
    with StreamLog(postgresql_url) as stream:
        stream.append(some(1, 1))
        connection = stream._writer.open()
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        connection.rollback()


def test_sqlite_is_set_up(sqlite_url: str) -> None:
    with StreamLog(sqlite_url) as stream:
        stream.append(some(1, 1))
        connection = stream._writer.open()
        pragmas = ("journal_mode", "synchronous", "auto_vacuum", "cache_size")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
        assert found == ["wal", 2, 2, -65536]
        connection.rollback()


# ------------------------------------------------------------------ killed, away, full


def check_whole(stream: StreamLog, confirmed: int) -> None:
    entries = everything(stream)
    newest = stream.newest()
    assert newest >= confirmed
    assert positions(entries) == [*range(1, newest + 1)]
    assert [int(one.body.split()[0]) for one in entries] == [*range(1, newest + 1)]
    assert stream.statistics()["bytes"] == sum(len(one.topic) + len(one.body) for one in entries)


def has_reached(stream: StreamLog, position: int) -> bool:
    return stream.newest() >= position


@pytest.mark.soak
def test_writer_is_killed(database_url: str, full_size: bool) -> None:
    confirmed = 0
    with StreamLog(database_url) as reader:
        for turn in range(100 if full_size else 3):
            with running(WRITER, database_url) as writer:
                for _ in range(2 + turn * 5 % 17):
                    confirmed = int(line(writer))
                writer.kill()
                confirmed = max([confirmed, *map(int, writer.communicate()[0].split())])
            # The server ends the transaction of the dead one in its own time.
            wait_until(partial(has_reached, reader, confirmed))
        check_whole(reader, confirmed)


class Appender(threading.Thread):
    """Appends batches one after the other, each until it is stored."""

    def __init__(self, stream: StreamLog) -> None:
        # A test that fails must not wait for it.
        super().__init__(daemon=True)
        self._stream = stream
        self._end = threading.Event()
        self.confirmed = self.failed = 0
        self.problems: list[object] = []

    def run(self) -> None:
        while not self._end.is_set():
            first, last = self.confirmed + 1, self.confirmed + 1 + self.confirmed % 20
            batch = [Incoming(b"t", b"%d" % number) for number in range(first, last + 1)]
            try:
                stored = self._stream.append(batch)
            except StoreError:
                self.failed += 1
                self._end.wait(0.01)
                continue
            # As new, although an append that failed may have stored them.
            if stored != new(first, last):
                self.problems.append(stored)
            self.confirmed = last

    def wait_for(self, *, confirmed: int = 0, failed: int = 0) -> None:
        """Wait for so many more."""
        confirmed, failed = self.confirmed + confirmed, self.failed + failed
        wait_until(lambda: self.confirmed >= confirmed and self.failed >= failed)

    def stop(self) -> None:
        self._end.set()
        self.join(60)


def test_postgresql_is_killed_and_starts_again() -> None:
    with postgres.Cluster(durable=True) as cluster, StreamLog(cluster.create()) as stream:
        appender = Appender(stream)
        appender.start()
        for _ in range(3):
            appender.wait_for(confirmed=100)
            cluster.kill()
            appender.wait_for(failed=1)
            with pytest.raises(StoreError, match="can't be read"):
                stream.read(0)
            cluster.start_again()
            appender.wait_for(confirmed=1)
            assert stream.read(0).entries
        appender.stop()
        assert appender.problems == []
        check_whole(stream, appender.confirmed)
        assert stream.newest() == appender.confirmed


def test_connections_are_cut_again_and_again(postgresql_url: str) -> None:
    with StreamLog(postgresql_url) as stream:
        appender = Appender(stream)
        appender.start()
        for _ in range(20):
            appender.wait_for(confirmed=1)
            terminate_others(postgresql_url)
            stream.read(0)
        appender.stop()
        assert appender.problems == []
        check_whole(stream, appender.confirmed)
        assert stream.newest() == appender.confirmed


FULL = """
import resource, sys
from fedmsg.exceptions import StoreError
from fedmsg.stream.log import Incoming, Stored, StreamLog
stream = StreamLog(sys.argv[1])
number = failed = 0
def append():
    global number
    first = number * 20 + 1
    stored = stream.append([Incoming(b"t", b"%d " % one + b"x" * 5000) for one in range(first, first + 20)])
    # As new, although an append that failed may have stored them.
    assert stored == [Stored(position, True) for position in range(first, first + 20)], stored
    number += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
while failed < 5:
    try:
        append()
    except StoreError as error:
        failed += 1
        print(error)
assert len(stream.read(0, max_bytes=1 << 30, rows=100000).entries) == number * 20
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for _ in range(3):
    append()
print(number * 20)
stream.close()
"""


def test_disk_of_sqlite_is_full_for_a_while(sqlite_url: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL, sqlite_url], capture_output=True, text=True, check=False, timeout=60
    )
    assert (run.returncode, "Traceback" in run.stderr) == (0, False), run.stderr
    *errors, stored = run.stdout.splitlines()
    assert len(errors) == 5
    assert all("can't be written" in error for error in errors)
    with StreamLog(sqlite_url) as stream:
        check_whole(stream, int(stored))


def test_disk_of_postgresql_is_full_for_a_while(postgresql: postgres.Cluster, postgresql_url: str) -> None:
    with StreamLog(postgresql_url) as stream:
        connection = stream._writer.open()
        backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        connection.rollback()
        # More than a segment of its journal, which it could not go on without.
        postgresql.limit_files(backend, 17 << 20)

        def batch(number: int) -> list[Incoming]:
            return [
                Incoming(b"t", b"%d " % (number + 1) + bytes((number * 7 + one) % 251 for one in range(2000)) * 500)
            ]

        # Stored as they are, so that they fill it.
        execute(postgresql_url, "ALTER TABLE fedmsg_stream_messages ALTER COLUMN body SET STORAGE EXTERNAL")
        number = 0
        with suppress(StoreError):
            for number in range(50):
                stream.append(batch(number))
        assert stream.newest() == number
        with pytest.raises(StoreError, match="can't be written: could not extend file"):
            stream.append(batch(number))
        assert stream.newest() == number
        postgresql.limit_files(backend, None)
        assert stream.append(batch(number)) == new(number + 1, number + 1)
        check_whole(stream, number + 1)


def test_sqlite_is_locked_for_a_while(sqlite_url: str, tmp_path: Path) -> None:
    with StreamLog(sqlite_url) as stream:
        stream.append(some(1, 1))
        other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        appender = Appender(stream)
        appender.confirmed = 1
        appender.start()
        assert [one.position for one in everything(stream)] == [1]
        other.execute("ROLLBACK")
        other.close()
        appender.wait_for(confirmed=20)
        appender.stop()
        assert (appender.problems, appender.failed) == ([], 0)


# ------------------------------------------------------------------ foreign and damaged


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("mssql+nothing://host/name", "relay_store"),
        ("no url", "relay_store"),
        ("postgresql://127.0.0.1:99999/name", "is not a port"),
    ],
)
def test_url_that_can_not_be_used(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        StreamLog(url)


def damage(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        execute(f"sqlite:///{path}", statement)

    return change


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(6000)


def overwrite(path: Path) -> None:
    path.write_bytes(b"This is a letter and no database. " * 200)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def forget_table(path: Path) -> None:
    execute(f"sqlite:///{path}", "DROP TABLE fedmsg_stream_messages")
    execute(f"sqlite:///{path}", "CREATE TABLE fedmsg_stream_messages (id INTEGER)")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (overwrite, "file is not a database"),
        (truncate, "malformed"),
        (replace_by_folder, "unable to open"),
        (forget_table, "no such column"),
        (damage("DELETE FROM fedmsg_stream_messages WHERE position > 290"), "damaged.*1 to 300 and has 1 to 290"),
        (damage("DELETE FROM fedmsg_stream_messages"), "damaged.*1 to 300 and has none"),
        (damage("UPDATE fedmsg_stream SET newest = 2"), "damaged"),
        (damage("UPDATE fedmsg_stream SET version = 99"), "made by a newer fedmsg"),
    ],
)
def test_database_that_can_not_be_used(
    sqlite_url: str, tmp_path: Path, change: Callable[[Path], None], problem: str
) -> None:
    with StreamLog(sqlite_url) as stream:
        stream.append(some(1, 300))
    change(tmp_path / "test.db")
    with pytest.raises(StoreError, match=f"^the store {sqlite_url} .*{problem}"):
        StreamLog(sqlite_url).append(some(301, 301))


def test_server_that_is_not_there() -> None:
    with pytest.raises(StoreError, match=r"the store postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/x can't be prepared"):
        StreamLog("postgresql://me:secret@127.0.0.1:1/x")


def test_pages_that_are_damaged_later(sqlite_url: str, tmp_path: Path) -> None:
    with StreamLog(sqlite_url) as stream:
        stream.append(some(1, 2000))
    with (tmp_path / "test.db").open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xaa" * 4096 * 40)
    with StreamLog(sqlite_url) as stream, pytest.raises(StoreError, match=r"can't be read: .*malformed"):
        everything(stream)


# ------------------------------------------------------------------ closing


def test_stream_is_a_log_with_positions(stream: StreamLog) -> None:
    log: PositionLog = stream
    stream.append(some(1, 3))
    assert (log.last(), log.trim(2), log.trim(2), log.last()) == (3, 2, 0, 3)
    assert positions(everything(stream)) == [3]


def test_child_leaves_the_stream_to_its_parent(stream: StreamLog) -> None:
    stream.append(some(1, 2))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            is_whole = positions(everything(stream)) == [1, 2]
            status = 0 if is_whole and not stream.acquire(0) else 2
            stream.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stream.append(some(3, 3)) == new(3, 3)


def test_open_and_close_leaves_nothing(database_url: str) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with StreamLog(database_url) as stream:
        stream.append(some(1, 1))
    before = descriptors()
    for number in range(2, 30):
        with StreamLog(database_url) as stream:
            stream.append(some(number, number))
            stream.read(0)
        stream.close()
    assert descriptors() <= before


def test_many_may_open_an_empty_database_at_once(database_url: str) -> None:
    ids: list[str] = []

    def opened() -> None:
        with StreamLog(database_url) as stream:
            ids.append(stream.stream)

    threads = [threading.Thread(target=opened) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6
    assert len(set(ids)) == 1
