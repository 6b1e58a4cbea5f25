# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store: numbers without gaps, questions and their answers, on both databases."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg import encoding
from fedmsg.exceptions import ConfigError, QueryError, StoreError
from fedmsg.replay import sqlstore
from fedmsg.replay.sqlstore import SqlMessage, SqlStore
from fedmsg.store import MessageLog
from tests.unit.replay.stores import TOPIC, envelope, opened


@pytest.fixture
def store(database_url: str) -> Iterator[SqlStore]:
    with opened(database_url) as store:
        yield store


@pytest.fixture
def full(store: SqlStore) -> SqlStore:
    """Give a store with ten messages."""
    store.add_many(envelope(number) for number in range(1, 11))
    return store


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [message["seq_id"] for message in messages]


# ------------------------------------------------------------------ writing


def test_numbers_begin_at_one_and_follow_each_other(store: SqlStore) -> None:
    given = envelope(7)
    assert store.last_number() == 0
    assert [store.add(given)["seq_id"] for _ in range(3)] == [1, 2, 3]
    assert given == envelope(7)
    assert store.last_number() == 3


def test_the_columns_are_those_of_1x(store: SqlStore) -> None:
    store.add(envelope(7))
    with store.session_class() as session:
        row = session.query(SqlMessage).one()
        assert (row.seq_id, row.uuid, row.topic) == (1, envelope(7)["msg_id"], TOPIC)
        assert row.timestamp == dt.datetime.fromtimestamp(envelope(7)["timestamp"])  # noqa: DTZ006 as 1.x has it
        assert json.loads(row.msg) == {**envelope(7), "seq_id": 1}
        assert row.msg == encoding.dumps({**envelope(7), "seq_id": 1})
    assert SqlMessage.__tablename__ == "fedmsg_messages"


def test_what_finish_gives_is_stored(store: SqlStore) -> None:
    assert store.add(envelope(1), lambda message: {**message, "signed": message["seq_id"]})["signed"] == 1
    assert store.add(envelope(2), lambda message: message.update(changed=True))["changed"] is True
    assert [(m.get("signed"), m.get("changed")) for m in store.get({})] == [(1, None), (None, True)]


def test_what_finish_raises_takes_no_number(store: SqlStore) -> None:
    def fail(message: dict[str, Any]) -> dict[str, Any]:
        raise LookupError(message["seq_id"])

    store.add(envelope(1))
    for _ in range(3):
        with pytest.raises(LookupError, match="2"):
            store.add(envelope(2), fail)
    assert store.add(envelope(3))["seq_id"] == 2


def test_of_several_all_are_stored_or_none(store: SqlStore) -> None:
    def fail_at_three(message: dict[str, Any]) -> dict[str, Any]:
        if message["seq_id"] == 3:
            raise LookupError
        return message

    with pytest.raises(LookupError):
        store.add_many([envelope(number) for number in range(5)], fail_at_three)
    assert store.last_number() == 0
    with pytest.raises(QueryError, match="no match"):
        store.get({})
    assert store.add_many([]) == []
    assert numbers(store.add_many([envelope(number) for number in range(5)])) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "changes",
    [
        {"timestamp": 1e300}, {"timestamp": float("nan")}, {"timestamp": -(10**15)}, {"timestamp": True},
        {"msg_id": "2026-" + "x" * 500}, {"msg": {"nul": "\x00", "high": "\udc80\U0001f600"}},
        {"msg": {"n": 10**40, "f": [1e22, float("inf")]}}, {"topic": "ü" * 1000},
    ],
)  # fmt: skip
def test_odd_messages_come_back_as_they_were(store: SqlStore, changes: dict[str, Any]) -> None:
    stored = store.add(envelope(1, **changes))
    (text,) = store.texts({"seq_id": 1})
    assert text == encoding.dumps(stored)


def test_threads_and_stores_share_the_numbers(database_url: str) -> None:
    with opened(database_url) as one, opened(database_url) as two:

        def write(thread: int) -> list[int]:
            return [(one, two)[thread % 2].add(envelope(count))["seq_id"] for count in range(25)]

        with ThreadPoolExecutor(8) as pool:
            taken = [number for part in pool.map(write, range(8)) for number in part]
        assert sorted(taken) == list(range(1, 201))
        assert numbers(one.get({})) == list(range(1, 201))


def test_many_may_open_an_empty_database_at_once(database_url: str) -> None:
    barrier = threading.Barrier(6)

    def open_and_write(_: int) -> int:
        barrier.wait()
        with opened(database_url) as store:
            number: int = store.add(envelope())["seq_id"]
            return number

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(open_and_write, range(6))) == [1, 2, 3, 4, 5, 6]


# ------------------------------------------------------------------ tables of 1.x


OLD = {
    "sqlite": "CREATE TABLE fedmsg_messages (seq_id INTEGER NOT NULL, uuid VARCHAR(36), topic VARCHAR, "
    "timestamp DATETIME, msg TEXT, PRIMARY KEY (seq_id))",
    "postgresql": "CREATE TABLE fedmsg_messages (seq_id SERIAL NOT NULL, uuid VARCHAR(36), topic VARCHAR, "
    "timestamp TIMESTAMP WITHOUT TIME ZONE, msg TEXT, PRIMARY KEY (seq_id))",
}


def test_a_table_of_1x_is_taken_over(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text(OLD[engine.dialect.name]))
        for number in (1, 2, 5):
            old = json.dumps({**envelope(number), "seq_id": number})
            connection.execute(
                sa.text("INSERT INTO fedmsg_messages (seq_id, uuid, topic, msg) VALUES (:n, :u, :t, :m)"),
                {"n": number, "u": f"id-{number}", "t": TOPIC, "m": old},
            )
    engine.dispose()
    with opened(database_url) as store:
        assert store.add(envelope(6))["seq_id"] == 6
        assert numbers(store.get({"seq_id_range": [2, 6]})) == [2, 5, 6]
        assert numbers(store.get({"msg_id": "id-5"})) == [5]


def test_what_1x_writes_on_the_side_is_stepped_over_at_the_next_start(database_url: str) -> None:
    with opened(database_url) as store:
        store.add(envelope(1))
        with store.engine.begin() as connection:
            row = {"seq_id": 9, "msg": "{}"}
            connection.execute(sa.insert(SqlMessage), [row])
    with opened(database_url) as store:
        assert store.add(envelope(2))["seq_id"] == 10


INSERT_OF_1X = "INSERT INTO fedmsg_messages (uuid, topic, msg) VALUES (:u, :t, :m)"


@pytest.mark.parametrize("first", ["ours", "1.x"], ids=["ours", "old"])
def test_store_and_1x_write_into_one_table_in_turn(database_url: str, first: str) -> None:
    engine = sa.create_engine(database_url)
    if first == "1.x":
        with engine.begin() as connection:
            connection.execute(sa.text(OLD[engine.dialect.name]))

    def insert(msg_id: str) -> None:
        # As fedmsg 1.x does: the database assigns the number.
        with engine.begin() as connection:
            connection.execute(sa.text(INSERT_OF_1X), {"u": msg_id, "t": TOPIC, "m": "{}"})

    with opened(database_url) as one, opened(database_url) as two:
        for turn in range(3):
            assert one.add(envelope(turn))["seq_id"] == one.last_number()
            insert(f"a{turn}")
            insert(f"b{turn}")
            two.add_many([envelope(turn), envelope(turn)])
            insert(f"c{turn}")
        assert one.last_number() == 18
        with engine.connect() as connection:
            assert connection.execute(sa.select(SqlMessage.seq_id).order_by("seq_id")).scalars().all() == [
                *range(1, 19)
            ]
    engine.dispose()


def test_store_goes_on_behind_rows_that_were_added_by_hand(store: SqlStore) -> None:
    store.add(envelope(1))
    with store.engine.begin() as connection:
        connection.execute(sa.insert(SqlMessage), [{"seq_id": 50, "msg": "{}"}])
    assert store.last_number() == 50
    assert [store.add(envelope(number))["seq_id"] for number in (2, 3)] == [51, 52]


def test_store_tries_again_when_another_writer_takes_its_number(store: SqlStore) -> None:
    tries: list[int] = []

    def finish(message: dict[str, Any]) -> None:
        tries.append(message["seq_id"])

    @sa.event.listens_for(store.engine, "before_cursor_execute")
    def interfere(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        # Between taking the number and storing the message.
        if statement.startswith("INSERT") and len(tries) == 1 and store.engine.dialect.name == "postgresql":
            tries.append(0)
            with store.engine.begin() as other:
                other.execute(sa.insert(SqlMessage), [{"seq_id": tries[0], "msg": "{}"}])

    store.add(envelope(1), finish)
    # SQLite locks out other writers before a number is taken.
    assert tries == ([1, 0, 2] if store.engine.dialect.name == "postgresql" else [1])


def test_store_is_a_message_log(store: SqlStore) -> None:
    log: MessageLog = store
    log.append(envelope(number, topic=f"a.{'bc'[number % 2]}.x") for number in range(1, 11))
    assert log.last() == 10
    assert [position for position, _ in log.read()] == [*range(1, 11)]
    assert [position for position, _ in log.read(after=3, until=8, prefixes=["a.b"], limit=2)] == [4, 6]
    assert [json.loads(text)["seq_id"] for _, text in log.read(after=9)] == [10]
    assert log.trim(10) == 10
    assert (list(log.read()), log.last()) == ([], 10)
    assert log.append([envelope(1)])[0]["seq_id"] == 11


def test_who_may_only_read_can_use_a_store_that_is_ready(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with opened(f"sqlite:///{path}") as store:
        store.add(envelope(1))
    engine = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    reader = SqlStore(engine)
    assert numbers(reader.get({})) == [1]
    with pytest.raises(StoreError, match=r"can't be written: .*readonly"):
        reader.add(envelope(2))
    reader.close()


# ------------------------------------------------------------------ questions


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"seq_id": 3}, [3]),
        ({"seq_ids": [9, 2, 2, 77]}, [2, 9]),
        ({"seq_ids": (1,)}, [1]),
        ({"seq_id_range": [4, 6]}, [4, 5, 6]),
        ({"seq_id_range": (9, 10**30)}, [9, 10]),
        ({"seq_id_range": [-(10**30), 1]}, [1]),
        ({"msg_id": envelope(4)["msg_id"]}, [4]),
        ({"msg_ids": [envelope(4)["msg_id"], envelope(2)["msg_id"], "x"]}, [2, 4]),
        ({"time": [1_700_000_002, 1_700_000_004]}, [2, 3, 4]),
        ({"time": [1_700_000_008.5, 2e9]}, [9, 10]),
        ({"seq_id": 8, "msg_id": envelope(4)["msg_id"], "time": [1_700_000_001, 1_700_000_001]}, [1, 4, 8]),
        ({}, list(range(1, 11))),
    ],
)
def test_questions(full: SqlStore, query: dict[str, Any], expected: list[int]) -> None:
    assert numbers(full.get(query)) == expected
    assert numbers(list(full.iter(query))) == expected


@pytest.mark.parametrize(
    "query",
    [
        {"seq_id": 11}, {"seq_id": 0}, {"seq_id": 10**30}, {"seq_ids": []}, {"seq_id_range": [6, 4]}, {"msg_id": ""},
        {"msg_ids": ["'; DROP TABLE fedmsg_messages; --"]}, {"time": [5, 3]},
    ],
)  # fmt: skip
def test_nothing_found(full: SqlStore, query: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^There was no match for the given query$"):
        full.get(query)
    assert full.last_number() == 10


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"key": 1}, 'Unsupported field: "key"'),
        ({"seq_id": 1, "": None}, 'Unsupported field: "key"'),
        ({"time": 3}, 'Ill-format "time" field'),
        ({"time": [1]}, 'Ill-format "time" field'),
        ({"time": [1, "2"]}, 'Ill-format "time" field'),
        ({"time": [1, float("nan")]}, 'Ill-format "time" field'),
        ({"time": [1, 1e300]}, 'Ill-format "time" field'),
        ({"seq_id_range": 3}, 'Ill-format "sed_id_range" field'),
        ({"seq_id_range": [1, 2, 3]}, 'Ill-format "sed_id_range" field'),
        ({"seq_id_range": [1, None]}, 'Ill-format "sed_id_range" field'),
        ({"seq_id": "1"}, 'Ill-format "seq_id" field'),
        ({"seq_id": True}, 'Ill-format "seq_id" field'),
        ({"seq_id": 1.0}, 'Ill-format "seq_id" field'),
        ({"seq_ids": 3}, 'Ill-format "seq_ids" field'),
        ({"seq_ids": ["3"]}, 'Ill-format "seq_ids" field'),
        ({"msg_id": 3}, 'Ill-format "msg_id" field'),
        ({"msg_id": "\x00"}, 'Ill-format "msg_id" field'),
        ({"msg_id": "\udc80"}, 'Ill-format "msg_id" field'),
        ({"msg_ids": "2026"}, 'Ill-format "msg_ids" field'),
        ({"seq_ids": list(range(10_001))}, "A list may have 10000 items: ask for less"),
    ],
)
def test_questions_that_can_not_be_asked(full: SqlStore, query: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared as a whole
        full.get(query)
    assert str(caught.value) == reason
    assert isinstance(caught.value, QueryError)


def test_as_many_single_numbers_as_are_allowed(full: SqlStore) -> None:
    assert numbers(full.get({"seq_ids": list(range(10_000))})) == list(range(1, 11))


def test_a_reader_may_stop_in_the_middle(store: SqlStore) -> None:
    store.add_many(envelope(number) for number in range(3000))
    texts = store.texts({})
    next(texts)
    texts.close()
    found = store.iter({"seq_id_range": [5, 3000]})
    assert next(found)["seq_id"] == 5
    del found
    assert store.add(envelope(1))["seq_id"] == 3001


def test_a_reader_does_not_wait_for_a_writer(full: SqlStore) -> None:
    def look(message: dict[str, Any]) -> dict[str, Any]:
        assert numbers(full.get({"seq_id_range": [1, 100]})) == list(range(1, 11))
        return message

    assert full.add(envelope(11), look)["seq_id"] == 11


# ------------------------------------------------------------------ databases that fail


@pytest.mark.parametrize(
    "url",
    [
        "nonsense", "nosuch://x/y", "sqlite+nosuch:///x", "postgresql+nosuch://x/y", "postgresql://x:port/y",
        "postgresql://x:99999/y", "postgresql://x:-1/y", "postgresql://[::1/y", "", "sqlite://x:y@z:a/b",
    ],
    ids=["no-url", "no-dialect", "no-sqlite-driver", "no-driver", "port-text", "port-big", "port-minus", "host",
         "empty", "sqlite-port"],
)  # fmt: skip
def test_a_url_that_can_not_be_used(url: str) -> None:
    with pytest.raises(ConfigError, match="persistent_store"):
        sqlstore.connect(url)


def test_a_database_that_can_not_be_reached_is_one_line_without_its_password() -> None:
    with pytest.raises(StoreError) as caught:
        sqlstore.connect("postgresql://me:secret@127.0.0.1:1/x")
    text = str(caught.value)
    assert "postgresql+psycopg://me:***@127.0.0.1:1/x" in text
    assert "secret" not in text
    assert "\n" not in text


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_text("not a database, and long enough to tell " * 100)
    with pytest.raises(StoreError, match="not a database"):
        sqlstore.connect(f"sqlite:///{tmp_path / 'store.db'}")


def test_a_table_that_has_gone(store: SqlStore) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE fedmsg_messages"))
    for call in (lambda: store.add(envelope()), lambda: store.get({"seq_id": 1})):
        with pytest.raises(StoreError, match="fedmsg_messages"):
            call()


def test_connections_that_a_restart_has_ended_are_replaced(postgresql_url: str) -> None:
    def end_all() -> None:
        with other.begin() as connection:
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            )

    other = sa.create_engine(postgresql_url)
    with opened(postgresql_url) as store:
        store.add(envelope(1))
        end_all()
        assert store.add(envelope(2))["seq_id"] == 2
        end_all()
        assert numbers(store.get({})) == [1, 2]

        def end(message: dict[str, Any]) -> None:
            if len(seen) == 0:
                end_all()
            seen.append(message["seq_id"])

        seen: list[int] = []
        assert store.add(envelope(3), end)["seq_id"] == 3
        assert seen == [3, 3]
    other.dispose()


def test_an_engine_of_the_user_waits_for_other_writers(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    # It gives up at once by itself, and has no write-ahead log.
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
    store = SqlStore(engine)
    blocker = sqlite3.connect(path, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, blocker.rollback)
    release.start()
    assert store.add(envelope())["seq_id"] == 1
    assert release.finished.is_set()
    release.join()
    blocker.close()
    store.close()


def test_a_writer_that_hangs_is_ended_by_the_database(postgresql_url: str) -> None:
    with opened(postgresql_url) as store, store.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == "1min"


def test_a_commit_waits_for_the_disk(sqlite_url: str) -> None:
    with opened(sqlite_url) as store, store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
