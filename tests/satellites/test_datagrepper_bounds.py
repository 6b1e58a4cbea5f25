# SPDX-License-Identifier: LGPL-2.1-or-later
"""What requests of strangers may take of the server: time, memory, and of the database only what can be read."""

from __future__ import annotations

import itertools
import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datagrepper.arguments import FIELDS
from fedmsg.datagrepper.history import History
from fedmsg.datanommer import models
from fedmsg.datanommer.models.testing import empty
from fedmsg.store.reading import QueryTooSlow
from fedmsg.testing import wait_until
from tests.satellites import histories
from tests.satellites.grepping import Grepper
from tests.satellites.messages import message
from tests.satellites.published import Published

# ---------------------------------------------------------------- time

# A tenth of a second, about, of both kinds of database.
WORK = {
    "postgresql": "SELECT pg_sleep(0.1)",
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 500000) SELECT max(x) FROM n",
}


@pytest.fixture
def reading(history_url: str, history_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the function that opens the history to read, with a time limit."""
    monkeypatch.setattr(models, "session", orm.scoped_session(models.maker))
    history = History(history_url, "url", 1.0)
    engine = models.session.get_bind()
    assert isinstance(engine, sa.Engine)
    assert engine is not history_engine

    def limited(seconds: float) -> Any:
        history.timeout = seconds
        return history.reading()

    yield limited
    models.session.remove()
    engine.dispose()
    models.maker.configure(bind=history_engine)


def test_all_statements_of_a_request_share_its_time(reading: Any, history_engine: sa.Engine) -> None:
    name = history_engine.dialect.name

    def work(session: Any, times: int) -> None:
        for _ in range(times):
            session.execute(sa.text(WORK[name]))

    with pytest.raises(QueryTooSlow), reading(0.5) as session:
        work(session, 100)
    # The next one has all of its own.
    with reading(60.0) as session:
        work(session, 8)
        if name == "postgresql":
            assert session.scalar(sa.text("SHOW statement_timeout")) == "1min"


# ---------------------------------------------------------------- memory


class Reader:
    """Reads many streams in one thread, and counts their messages."""

    def __init__(self, server: Grepper) -> None:
        host, _, port = server.address.rpartition("/")[2].rpartition(":")
        self._address = host, int(port)
        self._selector = selectors.DefaultSelector()
        self.counts: list[int] = []
        self._rest: list[bytes] = []

    def open(self, query: str) -> None:
        """Open another stream."""
        connection = socket.create_connection(self._address, timeout=20)
        connection.sendall(f"GET /stream?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        self._selector.register(connection, selectors.EVENT_READ, len(self.counts))
        self.counts.append(0)
        self._rest.append(b"")

    def read(self) -> int:
        """Read what has come; return how many messages the stream has that has the fewest."""
        for key, _ in self._selector.select(0.05):
            number = key.data
            assert isinstance(key.fileobj, socket.socket)
            read = key.fileobj.recv(65536)
            assert read, f"stream {number} has ended"
            *events, self._rest[number] = (self._rest[number] + read).split(b"\n\n")
            self.counts[number] += sum(b"\ndata: " in event for event in events)
        return min(self.counts)

    def close(self) -> None:
        """Close all streams."""
        for key in [*self._selector.get_map().values()]:
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


@contextmanager
def streams(server: Grepper, queries: list[str]) -> Iterator[Reader]:
    """Open streams, and wait until the server has them all."""
    reader = Reader(server)
    try:
        for query in queries:
            reader.open(query)
        line = f"\nfedmsg_datagrepper_streams {float(len(queries))}\n"
        wait_until(lambda: line in server.get("/metrics").body.decode(), what=f"{len(queries)} streams are open")
        yield reader
    finally:
        reader.close()


def memory(server: Grepper) -> float:
    """Return how many MiB the worker of a server has in memory."""
    pid = server.popen.pid
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


# Each stream wants other fields of a message: nothing that is written for one can be sent to another.
OTHERS = itertools.combinations([name for name in FIELDS if name not in {"msg", "meta"}], 3)
FIELDS_OF_STREAMS = [f"fields=msg,{','.join(some)}" for some in itertools.islice(OTHERS, 100)]
TEXT = "text" * 300


@pytest.fixture
def store(history: Any) -> Callable[[int], None]:
    """Return the function that stores so many messages."""

    def add(count: int) -> None:
        for start in range(0, count, 100):
            history.add_many([message(msg={"n": n, "text": TEXT}) for n in range(start, min(count, start + 100))])
        history.session.remove()

    return add


@pytest.mark.soak
@pytest.mark.parametrize("extra", ["", "&where=msg.n>=0"], ids=["all", "where"])
def test_the_memory_of_a_hundred_streams_stays_flat(
    store: Callable[[int], None], history_url: str, tmp_path: Path, extra: str, full_size: bool
) -> None:
    with Grepper(tmp_path, history_url, **{"datagrepper.threads": 120}) as server:
        # The messages that the server has in memory are as many as it keeps.
        with streams(server, ["fields=i"]) as one:
            store(5200)
            wait_until(lambda: one.read() == 5200)
        with streams(server, [query + extra for query in FIELDS_OF_STREAMS]) as hundred:
            before, goal = 0.0, 0
            for turn in range(30 if full_size else 4):
                store(150)
                goal += 150
                wait_until(lambda: hundred.read() >= goal, 60, what=lambda: f"{goal}; {min(hundred.counts)}")  # noqa: B023
                if turn == 0:
                    before = memory(server)
            assert hundred.counts == [goal] * 100
            assert memory(server) - before < 25


def test_the_memory_of_a_hundred_streams_that_read_what_is_stored(
    store: Callable[[int], None], history_url: str, tmp_path: Path
) -> None:
    """What each of them asks the database for is in memory for few of them at the same time."""
    with Grepper(tmp_path, history_url, **{"datagrepper.threads": 120}) as server:
        store(1)
        position = models.session.scalar(sa.select(sa.func.max(models.Message.position)))
        models.session.remove()
        store(400)
        query = f"contains=text&after={position}"
        with streams(server, [query]) as one:
            wait_until(lambda: one.read() == 400)
        before, peak = memory(server), 0.0
        with streams(server, [f"{query}&{fields}" for fields in FIELDS_OF_STREAMS]) as hundred:
            while hundred.read() < 400:
                peak = max(peak, memory(server) - before)
            assert hundred.counts == [400] * 100
        assert peak < 200


def test_the_memory_of_an_export_stays_flat(history: Any, history_url: str, tmp_path: Path) -> None:
    text, count = "text" * 2000, 6000
    for start in range(0, count, 500):
        history.add_many([message(msg={"n": n, "text": text}) for n in range(start, start + 500)])
    history.session.remove()
    with Grepper(tmp_path, history_url) as server:
        server.get("/raw?format=ndjson&rows_per_page=100")
        before = memory(server)
        peak, read, lines = 0.0, 0, 0
        with server.opened("/raw?format=ndjson&order=asc") as response:
            while part := response.read(2**20):
                peak = max(peak, memory(server) - before)
                read += len(part)
                lines += part.count(b"\n")
    assert lines == count
    # The control: all of it would not have fitted.
    assert read > 45 * 2**20
    assert peak < 30


LONG, LONG_COUNT = 2**20, 40
PAGES_OF_LONG = [
    ("/raw?rows_per_page=40", {}), ("/raw?rows_per_page=40&callback=cb", {}), ("/v2/search?rows_per_page=40", {}),
    ("/raw?format=csv", {}), ("/raw?format=ndjson", {}), ("/raw?format=ndjson&rows_per_page=40", {}),
    ("/raw?rows_per_page=40&format=feed", {}), ("/raw?rows_per_page=40&size=extra-large", {"Accept": "text/html"}),
    ("/", {"Accept": "text/html"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def of_long_messages(
    history_url: str, history_engine: sa.Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Grepper]:
    """Return a server whose messages are of a megabyte each."""
    for number in range(LONG_COUNT):
        # In the database, which compresses them, they are short.
        models.add_many([message(msg={"n": number, "text": "x" * LONG}, msg_id=f"2026-long-{number:02}")])
    models.session.remove()
    with Grepper(tmp_path_factory.mktemp("long"), history_url) as server:
        yield server
    empty(history_engine)


@pytest.mark.xdist_group("long messages")
@pytest.mark.parametrize(("path", "headers"), PAGES_OF_LONG, ids=[path for path, _ in PAGES_OF_LONG])
def test_the_memory_of_a_page_of_long_messages(of_long_messages: Grepper, path: str, headers: dict[str, Any]) -> None:
    server = of_long_messages
    # What one message takes for itself.
    server.get(path.replace("rows_per_page=40", "rows_per_page=1"), **headers)
    before, peak, read = memory(server), 0.0, 0
    with server.opened(path, **headers) as response:
        assert response.status == 200
        while part := response.read(2**18):
            peak = max(peak, memory(server) - before)
            read += len(part)
    if "html" not in str(headers) and "feed" not in path:
        # The control: all of it would not have fitted.
        assert read > LONG_COUNT * LONG
    assert peak < 40


@pytest.mark.xdist_group("long messages")
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_of_long_messages_is_whole(of_long_messages: Grepper, order: str) -> None:
    path, found = f"/raw?order={order}&rows_per_page=15", []
    while path:
        answer = of_long_messages.get(path)
        page = answer.json
        assert list(page) == ["raw_messages", "total", "pages", "count", "arguments", "cursor"]
        assert (page["total"], page["pages"], page["count"]) == (LONG_COUNT, 3, len(page["raw_messages"]))
        found += [one["msg"]["n"] for one in page["raw_messages"]]
        path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        assert (page["cursor"] is not None) == bool(path)
    assert found == sorted(range(LONG_COUNT), reverse=order == "desc")
    pages = [of_long_messages.get(f"/raw?order={order}&rows_per_page=15&page={page}").json for page in (1, 2, 3)]
    assert [one["msg"]["n"] for page in pages for one in page["raw_messages"]] == found
    lines = of_long_messages.get(f"/raw?order={order}&format=ndjson").body.splitlines()
    assert [json.loads(line)["msg"]["n"] for line in lines] == found


@pytest.mark.xdist_group("long messages")
def test_a_page_of_long_messages_in_a_call_of_a_function(of_long_messages: Grepper) -> None:
    answer = of_long_messages.get("/raw?rows_per_page=9&callback=cb")
    assert answer.headers["Content-Type"] == "application/javascript"
    text = answer.body.decode().rstrip()
    assert (text[:3], text[-2:]) == ("cb(", ");")
    assert json.loads(text[3:-2])["count"] == 9


@pytest.mark.xdist_group("long messages")
def test_long_messages_are_not_grouped(of_long_messages: Grepper) -> None:
    answer = of_long_messages.get("/raw?rows_per_page=9&grouped=true")
    assert (answer.status, answer.json["argument"]) == (400, "rows_per_page")
    assert of_long_messages.get("/raw?rows_per_page=1&grouped=true").status == 200


# ---------------------------------------------------------------- the database


ASKED = [
    "/raw", "/raw?q=text", "/raw?format=csv", "/raw?contains=text&delta=7200&category=shop",
    "/raw?where=msg.n=1&user=ann&not_package=x", "/raw?count=estimated", "/histogram?split_on=users", "/facets",
    "/charts/line?split_on=categories", "/messagecount", "/healthz/ready", "/id?id=2026-0", "/v2/search",
]  # fmt: skip
GRANTS = """
CREATE ROLE {role} LOGIN;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {role}
"""


def test_a_login_that_can_only_read_is_enough(postgresql: Any, tmp_path: Path) -> None:
    """As the guide has it, also for a partition that is made later."""
    url = postgresql.create()
    role = f"reader_of_{url.rpartition('/')[2]}"
    with ExitStack() as stack:
        engine = stack.enter_context(histories.opened(url))
        with engine.begin() as connection:
            connection.execute(sa.text(GRANTS.format(role=role)))
        models.add_many([message(msg_id="2026-0", msg={"text": "text"}, timestamp=time.time() - 3600)])
        models.session.remove()
        reader = url.replace("postgres@", f"{role}@")
        # The control: this login can write nothing.
        other = sa.create_engine(reader)
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), other.begin() as connection:
            connection.execute(sa.text("UPDATE message_positions SET newest = 0"))
        other.dispose()
        server = stack.enter_context(Grepper(tmp_path, reader))
        for path in ASKED:
            assert server.get(path).status == 200, path
        with streams(server, [""]) as one:
            models.add_many([message()])
            models.session.remove()
            wait_until(lambda: one.read() == 1)
        assert server.get("/raw").json["total"] == 2
    postgresql.drop(url)


def test_a_history_that_is_not_there_yet(database_url: str, tmp_path: Path) -> None:
    with Grepper(tmp_path, database_url) as server:
        assert server.get("/raw").status == server.get("/healthz/ready").status == 503
        if database_url.startswith("sqlite"):
            server.wait_for("there is no such file")
            # An empty file of the reader would be in the way of the writer.
            assert not Path(database_url.removeprefix("sqlite:///")).exists()
        else:
            server.wait_for("and datanommer-create-db;")
        with histories.opened(database_url):
            models.add_many([message()])
        assert server.get("/raw").json["total"] == 1


@pytest.mark.parametrize("release", ["0.9", "1.x"])
def test_a_database_of_another_release_is_named(postgresql_url: str, release: str, tmp_path: Path) -> None:
    with closing(Published(postgresql_url, release)), Grepper(tmp_path, postgresql_url) as server:
        assert server.get("/raw").status == 503
        server.wait_for("datanommer-load --from")
