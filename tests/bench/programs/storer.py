# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishes stored messages, answers for them and asks for them: as an application does, or by the bare parts.

``fedmsg`` is ours or the peer's, whichever this Python has; ``limit`` is SQLAlchemy, json
and plain sockets.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
import zmq

from tests.bench.programs import payload
from tests.bench.programs.link import serve

# As many numbers as ours asks for at a time.
AT_ONCE = 1000

_publish: list[Callable[[], object]] = []
_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

_metadata = sa.MetaData()
_table = sa.Table(
    "bench_messages", _metadata,
    sa.Column("seq_id", sa.Integer, primary_key=True), sa.Column("uuid", sa.String, index=True),
    sa.Column("topic", sa.String), sa.Column("timestamp", sa.Integer, index=True), sa.Column("msg", sa.Text),
)  # fmt: skip


def _durable(connection: Any, _record: object) -> None:
    """Set SQLite the way that ours does: a write-ahead log, and commits that wait for the disk."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _engine(url: str) -> Any:
    engine = sa.create_engine(url)
    if url.startswith("sqlite"):
        sa.event.listen(engine, "connect", _durable)
    return engine


def open_fedmsg(address: str, url: str) -> None:
    """Publish through fedmsg with a store."""
    import fedmsg
    from fedmsg.replay.sqlstore import SqlStore

    message = payload.message(300)
    store = SqlStore(_engine(url))
    fedmsg.init(name="bench", endpoints={"bench": [address]}, post_init_sleep=0, persistent_store=store)
    _publish.append(lambda: fedmsg.publish(topic="update", msg=message, modname="bench"))


def open_limit(address: str, url: str) -> None:
    """Insert the same envelope, a transaction each, and send it."""
    engine, message = _engine(url), payload.message(300)
    _metadata.create_all(engine)
    socket = _context.socket(zmq.PUB)
    socket.set_hwm(200_000)
    socket.bind(address)
    insert, number = sa.insert(_table), 0

    def publish() -> None:
        nonlocal number
        number += 1
        now = int(time.time())
        envelope = {
            "i": number,
            "msg": message,
            "msg_id": f"2026-{uuid.uuid4()}",
            "seq_id": number,
            "timestamp": now,
            "topic": payload.TOPIC,
            "username": "bench",
        }
        text = json.dumps(envelope, sort_keys=True, separators=(",", ":"))
        row = {"seq_id": number, "uuid": envelope["msg_id"], "topic": payload.TOPIC, "timestamp": now, "msg": text}
        with engine.begin() as connection:
            connection.execute(insert, row)
        socket.send_multipart([payload.TOPIC.encode(), text.encode()])

    _publish.append(publish)


def publish(count: int) -> float:
    """Publish so many messages; gives how many there were in a second."""
    call = _publish[0]
    start = time.perf_counter()
    for _ in range(count):
        call()
    return count / (time.perf_counter() - start)


def fill(url: str, count: int) -> None:
    """Store messages, for a server to give them out."""
    from fedmsg.replay import sqlstore

    store = sqlstore.connect(url)
    for start in range(0, count, 5000):
        store.add_many(json.loads(payload.body(number)) for number in range(start, min(start + 5000, count)))
    store.close()


def answer(address: str, url: str) -> None:
    """Answer questions for ranges, for ever: the database, and a plain REP."""
    with sa.create_engine(url).connect() as connection, _context.socket(zmq.REP) as socket:
        socket.bind(address)
        statement = sa.text("SELECT msg FROM fedmsg_messages WHERE seq_id BETWEEN :first AND :last ORDER BY seq_id")
        while True:
            first, last = json.loads(socket.recv())["seq_id_range"]
            rows = connection.execute(statement, {"first": first, "last": last})
            socket.send_multipart([row[0].encode() for row in rows])


def _ask_plainly(address: str, count: int) -> Iterator[dict[str, Any]]:
    with _context.socket(zmq.REQ) as socket:
        socket.connect(address)
        for first in range(1, count + 1, AT_ONCE):
            socket.send(json.dumps({"seq_id_range": [first, min(first + AT_ONCE - 1, count)]}).encode())
            for frame in socket.recv_multipart():
                yield json.loads(frame)


def ask(address: str, count: int, how: str) -> dict[str, Any]:
    """Ask for all messages; gives the time, how many came in order, and how much memory that took."""
    if how == "limit":
        messages = _ask_plainly(address, count)
    else:
        from fedmsg.replay import get_replay

        config = {"replay_endpoints": {"bench": address}, "timeout": 60}
        messages = get_replay("bench", {"seq_id_range": [1, count]}, config)
    expected = 0
    start = time.perf_counter()
    for message in messages:
        expected += message["seq_id"] == expected + 1
    return {"seconds": time.perf_counter() - start, "count": expected}


serve({"open_fedmsg": open_fedmsg, "open_limit": open_limit, "publish": publish, "fill": fill, "answer": answer,
       "ask": ask})  # fmt: skip
