# SPDX-License-Identifier: LGPL-2.1-or-later
"""``/stream`` of a real server: history and then live messages, without a gap, over both protocols."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
import websocket

from fedmsg.datanommer import models
from fedmsg.testing import wait_until
from tests.satellites.grepping import Grepper
from tests.satellites.messages import message

TOPIC = "org.fedoraproject.prod.bodhi.update"
SPECIAL = "\n\ndata: evil\r\nid: 99\u2028</script>"


@pytest.fixture(scope="module")
def server(history_url: str, history_engine: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grepper]:
    with Grepper(tmp_path_factory.mktemp("server"), history_url, **{"datagrepper.threads": 12}) as server:
        yield server


class Event(NamedTuple):
    """An event of a stream."""

    kind: str
    id: int
    data: Any


class Events:
    """Reads the events of a stream."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def _line(self) -> str:
        line: bytes = self._response.readline()
        assert line, "the stream has ended"
        return line.decode().rstrip("\n")

    def take(self, count: int) -> list[Event]:
        """Return as many events."""
        found: list[Event] = []
        while len(found) < count:
            fields: dict[str, str] = {}
            while line := self._line():
                name, _, value = line.partition(": ")
                assert name not in fields
                fields[name] = value
            if "data" in fields:
                found.append(Event(fields.get("event", "message"), int(fields["id"]), json.loads(fields["data"])))
        return found


@contextmanager
def streaming(server: Grepper, query: str = "", **headers: Any) -> Iterator[Events]:
    with server.opened(f"/stream{query}", **headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        yield Events(response)


def wait_for_streams(server: Grepper, count: int) -> None:
    """Wait until so many streams are open."""
    line = f"\nfedmsg_datagrepper_streams {float(count)}\n"
    wait_until(lambda: line in server.get("/metrics").body.decode(), what=f"{count} streams are open")


def store(*words: Any, topic: str = TOPIC, user: str | None = None) -> int:
    """Store messages; return the position of the last one."""
    ids = [message(topic, msg={"word": word}, agent=user) for word in words]
    models.add_many(ids)
    position = models.session.scalar(sa.select(sa.func.max(models.Message.position)))
    models.session.remove()
    return int(position or 0)


def words(events: list[Event]) -> list[Any]:
    return [event.data["msg"]["word"] for event in events]


def test_history_and_then_live_messages(server: Grepper) -> None:
    begin = store("before")
    store(*range(700))
    with streaming(server, f"?after={begin}") as events:
        assert words(events.take(700)) == list(range(700))
        last = store("live", SPECIAL)
        found = events.take(2)
        assert words(found) == ["live", SPECIAL]
        assert [event.id for event in found] == [last - 1, last]
        store("more")
        assert words(events.take(1)) == ["more"]
    # What the client shows at the next connection as the last that it has seen.
    with streaming(server, Last_Event_ID=str(last - 1)) as events:
        assert words(events.take(2)) == [SPECIAL, "more"]
    # A browser does so at the address that it had, with where it began.
    with streaming(server, f"?after={begin}", Last_Event_ID=str(last - 1)) as events:
        assert words(events.take(2)) == [SPECIAL, "more"]


def test_a_stream_begins_with_what_comes_next(server: Grepper) -> None:
    store("before")
    wait_for_streams(server, 0)
    with streaming(server) as events:
        wait_for_streams(server, 1)
        store("after")
        assert words(events.take(1)) == ["after"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("category=bodhi", [0, 1]),
        ("topic=*.git.*", [2]),
        ("not_topic=*.git.*&not_topic=*.koji.*", [0, 1]),
        ("contains=two", [2]),
        ("where=msg.word.n>=2", [2, 3]),
        ("not_where=msg.word.n>=2", [0, 1]),
        ("where=category=git&where=crypto=null", [2]),
        ("where=source_name=datanommer&user=nobody", []),
        ("user=nobody&category=bodhi", []),
        ("not_user=nobody", [0, 1, 2, 3]),
        ("fields=topic&category=koji", [3]),
    ],
)
def test_filters_of_a_stream(server: Grepper, query: str, expected: list[int]) -> None:
    """The same before the stream begins and while it is open; the last message has to get through all filters."""
    begin = store("before")

    def store_four() -> None:
        for number, category in enumerate(("bodhi", "bodhi", "git", "koji")):
            text = "two" if number == 2 else "other"
            store({"n": number, "text": text}, topic=f"org.fedoraproject.prod.{category}.x")

    store_four()
    with streaming(server, f"?after={begin}&{query}") as events:
        positions = [event.id - begin for event in events.take(len(expected))]
        store_four()
        positions += [event.id - begin - 4 for event in events.take(len(expected))]
    assert positions == [number + 1 for number in expected] * 2


def test_meta_and_fields_of_a_stream(server: Grepper) -> None:
    begin = store("before", "one")
    with streaming(server, f"?after={begin - 1}&meta=title&fields=msg_id") as events:
        ((_, _, data),) = events.take(1)
    assert data["meta"] == {"title": "bodhi.update"}
    assert set(data) == {"msg_id", "meta"}


def test_what_is_gone_is_reported(server: Grepper) -> None:
    first = store("one", "two", "three") - 2
    with models.session() as session:
        session.execute(sa.delete(models.Message).where(models.Message.position <= first + 1))
        session.commit()
    models.session.remove()
    with streaming(server, f"?after={first - 1}") as events:
        lost, event = events.take(2)
        assert lost == ("lost", first + 1, {"first": first, "last": first + 1, "after": first + 1})
        assert words([event]) == ["three"]
    with streaming(server, "?after=999999999") as events:
        (lost,) = events.take(1)
        assert (lost.kind, lost.data["first"]) == ("lost", None)
        store("next")
        assert words(events.take(1)) == ["next"]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "meta=nothing", "where=msg~x", "start=1&after="])
def test_a_bad_argument_of_a_stream(server: Grepper, query: str) -> None:
    if query.startswith("start"):
        # A stream has no time; the argument is ignored like any that it does not know.
        with streaming(server, f"?{query}"):
            return
    answer = server.get(f"/stream?{query}")
    assert (answer.status, answer.json["argument"]) == (400, query.partition("=")[0])
    assert server.get("/stream", Last_Event_ID="x").json["argument"] == "Last-Event-ID"


def test_websocket(server: Grepper) -> None:
    begin = store("before")
    store("old", "x" * 300_000)
    client = websocket.create_connection(f"{server.address.replace('http', 'ws')}/stream?after={begin}", timeout=20)
    try:
        first, second = json.loads(client.recv()), json.loads(client.recv())
        assert first["id"] == begin + 1
        assert first["message"]["msg"] == {"word": "old"}
        assert len(second["message"]["msg"]["word"]) == 300_000
        store("live")
        assert json.loads(client.recv())["message"]["msg"] == {"word": "live"}
        client.ping("alive")
    finally:
        client.close()
    # The server goes on.
    assert server.get("/messagecount").status == 200


def test_many_streams_get_everything_and_leave_room(server: Grepper) -> None:
    """Of the threads of the server some are left for other requests."""
    wait_for_streams(server, 0)
    begin = store("before")
    found: dict[int, list[Any]] = {}

    def read(number: int) -> None:
        with streaming(server, f"?after={begin}") as events:
            found[number] = words(events.take(60))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    wait_for_streams(server, 10)
    assert server.get("/stream").status == 503
    assert server.get("/stream").headers["Retry-After"] == "10"
    for number in range(0, 60, 6):
        store(*range(number, number + 6))
    for thread in threads:
        thread.join(20)
    assert found == {number: list(range(60)) for number in range(10)}


def test_streams_end_when_the_server_stops(history_url: str, history_engine: sa.Engine, tmp_path: Path) -> None:
    with Grepper(tmp_path, history_url) as server, streaming(server) as events:
        store("one")
        assert words(events.take(1)) == ["one"]
        assert server.stop() == 0
        with pytest.raises(http.client.IncompleteRead):
            events._response.read()
