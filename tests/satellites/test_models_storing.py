# SPDX-License-Identifier: LGPL-2.1-or-later
"""Storing: all or none, once, in the order of positions, whoever writes at the same time and whatever is killed."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg import meta
from fedmsg.exceptions import StoreError
from fedmsg.testing import wait_until
from tests.satellites.messages import START, Knowing, message


def test_add_and_grep(history: Any) -> None:
    history.add(message(timestamp=START, username="me", i=3, msg={"a": [1, 2.5, None, "é"]}))
    total, pages, (found,) = history.Message.grep()
    assert (total, pages) == (1, 1)
    assert found.as_dict() == found.__json__() == {
        "certificate": None, "crypto": None, "headers": None, "i": 3, "msg": {"a": [1, 2.5, None, "é"]},
        "msg_id": found.msg_id, "signature": None, "source_name": "datanommer",
        "source_version": found.source_version, "timestamp": float(START), "topic": "org.fedoraproject.dev.shop.order",
        "username": "me",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "category"),
    [
        ("org.fedoraproject.dev.shop.order", "shop"), ("org.fedoraproject.dev.shop", "shop"), ("a.b.c", "Unclassified"),
        ("/topic/VirtualTopic.eng.brew.build", "brew"), ("", "Unclassified"), ("a.b.c.", ""),
    ],
)  # fmt: skip
def test_category(history: Any, topic: str, category: str) -> None:
    history.add(message(topic))
    assert history.Message.grep(categories=[category])[0] == 1
    assert history.Message(topic=topic).category == category
    assert history.Message(topic=topic, category="other").category == "other"
    assert history.Message(category="other", topic=topic).category == category


def test_add_many_skips_what_is_there(history: Any, caplog: pytest.LogCaptureFixture) -> None:
    first, second = message(), message()
    with caplog.at_level(logging.INFO):
        assert history.add_many([first, second, first]) == 2
        assert history.add_many([second, message()]) == 1
    assert history.Message.grep()[0] == 3
    for skipped in (first, second):
        assert f"Skipping the message {skipped['body']['msg_id']}" in caplog.text


def test_grep_has_no_most_rows_of_a_page(history: Any) -> None:
    history.add_many([message() for _ in range(450)])
    for rows, pages, wanted in ((400, 2, 400), (1000, 1, 450), (0, 1, 450), (None, 1, 450)):
        total, found, messages = history.Message.grep(rows_per_page=rows)
        assert (total, found, len(messages)) == (450, pages, wanted), rows


def test_add_many_takes_the_same_id_at_another_time(history: Any) -> None:
    first = message()
    later = message(msg_id=first["body"]["msg_id"], timestamp=START + 10_000)
    assert history.add_many([first, later]) == 2
    assert history.Message.from_msg_id(first["body"]["msg_id"]).as_dict()["timestamp"] == START + 10_000


def test_positions_follow_each_other(history: Any) -> None:
    history.add_many([message(), message()])
    known = message()
    history.add_many([known])
    history.add_many([known])
    history.add_many([message()])
    positions = history.session.scalars(sa.select(history.Message.position).order_by(history.Message.id)).all()
    assert positions == [1, 2, 3, 4]


def test_positions_have_no_gap_where_some_of_a_batch_are_there(history: Any) -> None:
    known = message()
    history.add_many([known])
    history.add_many([message(), known, message(), known])
    history.add_many([message()])
    positions = history.session.scalars(sa.select(history.Message.position).order_by(history.Message.id)).all()
    assert positions == [1, 2, 3, 4]


@pytest.fixture
def statements(history_engine: sa.Engine) -> Iterator[list[str]]:
    """Return the statements that go to the database by SQLAlchemy, as they go."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        seen.append(statement)

    sa.event.listen(history_engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(history_engine, "before_cursor_execute", note)


def test_a_batch_takes_few_statements_however_large_it_is(
    history: Any, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meta, "processors", [Knowing()])
    about = {"users": ["me", "you"], "packages": ["shop"]}
    history.add_many([message(msg=about)])
    numbers = []
    for count in (1, 100):
        batch = [message(msg=about) for _ in range(count)]
        statements.clear()
        history.add_many(batch)
        numbers.append(len(statements))
    # New names take some more.
    statements.clear()
    history.add_many([message(msg={"users": ["another"], "packages": ["other"]})])
    assert numbers[0] == numbers[1] <= 6
    assert len(statements) > numbers[0]


def test_before_commit_writes_together_with_the_messages(history: Any) -> None:
    def move(session: Any) -> None:
        session.merge(history.StreamCursor(name="datanommer", stream="a1", position=7))
        session.merge(history.ServiceCursor(service="bodhi", seq_id=9))

    history.add_many([message()], before_commit=move)
    history.add_many([], before_commit=lambda session: session.merge(
        history.StreamCursor(name="datanommer", stream="a1", position=8)))  # fmt: skip
    history.session.expire_all()
    assert history.session.get(history.StreamCursor, "datanommer").position == 8
    assert history.session.get(history.ServiceCursor, "bodhi").seq_id == 9


def test_before_commit_that_fails_leaves_everything_as_it_was(history: Any) -> None:
    def fail(session: Any) -> None:
        session.merge(history.StreamCursor(name="datanommer", stream="a1", position=7))
        session.flush()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        history.add_many([message()], before_commit=fail)
    assert history.Message.grep()[0] == 0
    assert history.session.get(history.StreamCursor, "datanommer") is None
    history.add_many([message()])
    assert history.session.scalar(sa.select(history.Message.position)) == 1


def test_an_error_of_the_database_is_one_line(history: Any, history_engine: sa.Engine) -> None:
    with history_engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE topics RENAME TO gone"))
    try:
        with pytest.raises(StoreError, match=r"can't be written: .*topics") as raised:
            history.add(message())
    finally:
        with history_engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE gone RENAME TO topics"))
    assert "\n" not in str(raised.value)
    history.add(message())


def test_a_processor_that_fails_or_returns_nonsense_loses_no_message(
    history: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Knowing):
        @staticmethod
        def usernames(msg: Any, **_config: Any) -> set[Any]:
            assert msg
            return {"me", None, 3, "", "\x00", "\ud800", "x" * 10_000}

        @staticmethod
        def packages(msg: Any, **_config: Any) -> set[str]:
            raise ZeroDivisionError(msg)

    monkeypatch.setattr(meta, "processors", [Odd(), meta.DefaultProcessor(lambda text: text, topic_prefix_re="")])
    history.add_many([message(), message()])
    assert history.Message.grep(users=["me"])[0] == 2
    assert history.Message.grep(users=["x" * 10_000])[0] == 2
    assert history.Package.query.count() == 0


def test_messages_that_are_deleted_are_no_longer_counted(history: Any) -> None:
    history.add_many([message(), message()])
    history.session.delete(history.Message.get_first())
    history.session.commit()
    assert history.Message.grep()[0] == history.Message.grep(start=0, end=START * 2)[0] == 1


WRITER = """
import itertools, sys
from fedmsg.datanommer import models
from tests.satellites.messages import START
models.init(sys.argv[1])
name, step = sys.argv[2], int(sys.argv[3])
for number in itertools.count(step=step):
    topic = f"org.fedoraproject.dev.{name}.new"
    bodies = [
        {"topic": topic, "msg": {"n": n}, "msg_id": f"{name}-{n}", "i": n, "timestamp": START + n, "username": name}
        for n in range(number, number + step)
    ]
    models.add_many([{"topic": body["topic"], "body": body} for body in bodies],
        before_commit=lambda session: session.merge(models.ServiceCursor(service=name, seq_id=number + step)))
    print(number + step, flush=True)
"""


@pytest.fixture
def write(history_url: str, repository: Any) -> Any:
    """Start writers, each in a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str, step: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, history_url, name, str(step)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.soak
def test_writers_that_are_killed_lose_nothing_and_double_nothing(
    history: Any, write: Callable[[str, int], subprocess.Popen[str]], full_size: bool
) -> None:
    for turn in range(20 if full_size else 1):
        names = [f"shop{turn}", f"mail{turn}"]
        writers = [write(name, step) for name, step in zip(names, (3, 50), strict=True)]
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(4):
                assert writer.stdout.readline()
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for name, writer in zip(names, writers, strict=True):
            confirmed = [int(line) for line in writer.communicate()[0].split()]
            stored = history.session.get(history.ServiceCursor, name).seq_id
            # The transaction that was under way is there as a whole or not at all.
            assert stored >= max(confirmed, default=0)
            numbers = [one.i for one in history.session.scalars(history.Message.make_query(categories=[name]))]
            assert sorted(numbers) == list(range(stored))
            assert history.Message.grep(categories=[name])[0] == stored
        history.session.rollback()
    positions = sorted(history.session.scalars(sa.select(history.Message.position)))
    assert positions == list(range(1, len(positions) + 1))


def test_a_writer_waits_for_another_one(
    history: Any, history_engine: sa.Engine, write: Callable[[str, int], subprocess.Popen[str]]
) -> None:
    with history_engine.begin() as connection:
        # What a writer does first.
        if history_engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(112585662624617)"))
        else:
            connection.execute(sa.text("UPDATE message_positions SET newest = newest"))
        writer = write("shop", 1)
        if history_engine.dialect.name == "postgresql":
            waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            wait_until(lambda: connection.execute(waiting).scalar() == 1, what="the writer waits")
        assert history.Message.grep()[0] == 0
    assert writer.stdout is not None
    assert writer.stdout.readline() == "1\n"
