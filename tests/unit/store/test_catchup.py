# SPDX-License-Identifier: LGPL-2.1-or-later
"""Catching up, piece by piece, with a datagrepper that behaves and one that does not."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.exceptions import HttpError
from fedmsg.store import catchup, history
from fedmsg.store.catchup import CatchUp
from fedmsg.store.cursor import StatusFile
from fedmsg.store.history import Datagrepper, Topics
from fedmsg.store.recovery import message_key
from tests.datagrepper_server import DatagrepperServer, Handler, Query, message

log = logging.getLogger("tests")
T = 1_700_000_000
END = T + 100_000


@pytest.fixture
def server() -> Iterator[DatagrepperServer]:
    with DatagrepperServer(message(number, T + number) for number in range(250)) as found:
        yield found


def asking(server: DatagrepperServer, topics: str | list[str] = "", **settings: Any) -> Datagrepper:
    return Datagrepper(server.url, Topics(topics), **{"delay": 0.01, "log": log, **settings})


def ids(envelopes: Any) -> list[int]:
    return [envelope["i"] for envelope in envelopes]


# ---------------------------------------------------------------- topics


@pytest.mark.parametrize(
    ("topics", "categories"),
    [
        ("org.fedoraproject.dev.shop.order", ["shop"]),
        ("org.fedoraproject.dev.shop.*", ["shop"]),
        ("org.fedoraproject.dev.shop.", ["shop"]),
        (["a.b.c.one.x", "a.b.c.two.y", "a.b.c.one.z"], ["one", "two"]),
        # Each of these is the beginning of other words too.
        ("org.fedoraproject.dev.shop", []),
        ("org.fedoraproject.dev.shop*", []),
        ("org.fedoraproject.dev.", []),
        ("org.fedoraproject.dev..x", []),
        (["a.b.c.one.x", "a.b.c"], []),
        (["a.b.c.one.x", "*"], []),
        ("", []),
        ("/topic/VirtualTopic.eng.brew.build.x", []),
    ],
)
def test_categories(topics: str | list[str], categories: list[str]) -> None:
    assert Topics(topics).categories == categories


def test_a_strict_topic_fixes_its_last_word() -> None:
    assert Topics("a.b.c.one", strict=True).categories == ["one"]


@pytest.mark.parametrize(
    ("topics", "strict", "topic", "match"),
    [
        ("a.b", False, "a.bc", True),
        ("a.b.*", False, "a.b.c", True),
        ("a.b.*", False, "a.bc", False),
        ("", False, "x", True),
        ("*", True, "x", True),
        ("a.b", True, "a.bc", False),
        ("a.b", True, "a.b", True),
        (["x", "a"], False, "a.b", True),
        ([], False, "a.b", False),
    ],
)
def test_match(topics: str | list[str], strict: bool, topic: str, match: bool) -> None:
    assert Topics(topics, strict=strict).matches(topic) is match


# ---------------------------------------------------------------- pages


def test_every_page_once(server: DatagrepperServer) -> None:
    found = list(asking(server).read(T, END))
    assert found == [message(number, T + number) for number in range(250)]
    assert server.pages == [1, 2, 3]
    assert server.asked[0][1] == {
        "rows_per_page": ["100"], "page": ["1"], "start": [str(T)], "end": [str(END)], "order": ["asc"],
    }  # fmt: skip


def test_types_are_those_that_were_published(server: DatagrepperServer) -> None:
    server.messages = [message(1, T, headers={"a": "b"}), message(2, T)]
    first, second = asking(server).read(T, END)
    assert (type(first["timestamp"]), first["headers"], "headers" in second) == (int, {"a": "b"}, False)


def test_one_page_at_a_time(server: DatagrepperServer) -> None:
    results = asking(server).read(T, END)
    for _ in range(100):
        next(results)
    assert server.pages == [1]
    next(results)
    assert server.pages == [1, 2]
    results.close()  # type: ignore[attr-defined] # a generator


@pytest.mark.parametrize("suffix", ["", "/", "/raw", "/raw/", "/datagrepper", "/datagrepper/raw/"])
def test_the_address(server: DatagrepperServer, suffix: str) -> None:
    assert len(list(Datagrepper(server.url + suffix, Topics("")).read(T, END))) == 250


def test_a_query_in_the_address_stays(server: DatagrepperServer) -> None:
    assert list(Datagrepper(f"{server.url}/?key=1", Topics("")).read(T + 249, END))
    assert server.asked[0][1]["key"] == ["1"]


def test_categories_are_asked_for_and_topics_checked(server: DatagrepperServer) -> None:
    for number, topic in enumerate(["shop.order", "shop.other", "bank.order"]):
        server.messages[number]["topic"] = f"org.fedoraproject.dev.{topic}"
    server.messages = server.messages[:3]
    topics = ["org.fedoraproject.dev.shop.order", "org.fedoraproject.dev.bank.*"]
    assert ids(asking(server, topics).read(T, END)) == [0, 2]
    assert server.asked[0][1]["category"] == ["bank", "shop"]


def test_nothing_there(server: DatagrepperServer) -> None:
    assert list(asking(server).read(END, END + 1)) == []
    assert server.pages == [1]


# ---------------------------------------------------------------- failures


def failing(*numbers: int, status: int = 503, content: Any = b"") -> Any:
    """Fail at these questions."""

    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        if number in numbers:
            handler.answer(status, content)
        return number in numbers

    return misbehave


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (503, b""), (500, b"{}"), (429, b""), (200, b"<html>"), (200, b"null"), (200, b"[]"), (200, b"{}"),
        (200, {"raw_messages": None, "pages": 1}), (200, {"raw_messages": [], "pages": "3"}),
        (200, {"raw_messages": [], "pages": True}), (200, {"raw_messages": [], "pages": -1}),
        (200, {"raw_messages": {}, "pages": 1}),
    ],
)  # fmt: skip
def test_a_page_that_fails_is_asked_for_again(server: DatagrepperServer, status: int, content: Any) -> None:
    server.misbehave = failing(2, 3, 5, status=status, content=content)
    assert ids(asking(server).read(T, END)) == [*range(250)]
    assert server.pages == [1, 2, 2, 2, 3, 3]


def test_but_not_for_ever(server: DatagrepperServer) -> None:
    server.misbehave = failing(2, 3, 4, 5)
    results = asking(server).read(T, END)
    assert ids(next(results) for _ in range(100)) == [*range(100)]
    with pytest.raises(HttpError, match="status 503"):
        next(results)
    assert server.pages == [1, 2, 2, 2, 2]


def test_who_says_that_there_is_nothing_is_believed(server: DatagrepperServer) -> None:
    server.misbehave = failing(1, status=404)
    with pytest.raises(HttpError, match="status 404"):
        list(asking(server).read(T, END))
    assert server.pages == [1]


def test_a_server_that_is_silent(server: DatagrepperServer) -> None:
    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        return server.stopped.wait()

    server.misbehave = misbehave
    with pytest.raises(HttpError, match="does not answer in time"):
        list(asking(server, timeout=0.1, retries=1).read(T, END))
    assert server.pages == [1, 1]


@pytest.mark.parametrize("growth", [1, 1000, 10**30])
def test_ever_more_pages(server: DatagrepperServer, growth: int) -> None:
    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        handler.answer(200, {"raw_messages": [message(number, T)], "pages": 1 + growth * number})
        return True

    server.misbehave = misbehave
    with pytest.raises(HttpError, match="ever more pages"):
        list(asking(server).read(T, END))
    assert len(server.pages) < 30


def test_pages_without_anything(server: DatagrepperServer) -> None:
    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        handler.answer(200, {"raw_messages": [message(1, T)] if number == 1 else [], "pages": 1000})
        return True

    server.misbehave = misbehave
    with pytest.raises(HttpError, match="empty"):
        list(asking(server, retries=0).read(T, END))
    assert server.pages == [1, 2]


def test_a_page_without_end(server: DatagrepperServer) -> None:
    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not server.stopped.is_set():
                handler.wfile.write(b" " * 1_000_000)
        return True

    server.misbehave = misbehave
    with pytest.raises(HttpError, match="more than"):
        list(asking(server, retries=0).read(T, END))


DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "bad",
    [
        None, 3, "text", [], {}, {"topic": 3, "msg": {}}, {"topic": "a.b"},
        message(1, T, msg_id=None), message(1, T, msg_id=3), message(1, T, i="x"), message(1, T, username=[]),
        {**message(1, T), "timestamp": "x", "source_name": "a", "source_version": "b"},
        {**message(1, T), "timestamp": [], "source_name": "a", "source_version": "b"},
        {**message(1, T), "timestamp": float("inf"), "source_name": "a", "source_version": "b"},
        {**message(1, T), "timestamp": "x"}, {**message(1, T), "msg": DEEP},
    ],
)  # fmt: skip
def test_what_is_no_message_is_left_out(server: DatagrepperServer, bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        handler.answer(200, {"raw_messages": [bad, message(7, T), bad], "pages": 1})
        return True

    server.misbehave = misbehave
    assert ids(asking(server).read(T, END)) == [7]
    assert caplog.text.count("rejected a message from") == 1


def test_it_is_stopped_from_elsewhere(server: DatagrepperServer) -> None:
    asked = threading.Event()

    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        if number == 1:
            return False
        asked.set()
        return server.stopped.wait()

    server.misbehave = misbehave
    datagrepper = asking(server, retries=10, timeout=1000)

    def stop() -> None:
        asked.wait(20)
        datagrepper.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    results = datagrepper.read(T, END)
    found: list[Any] = []
    with pytest.raises(HttpError):
        found.extend(results)
    stopper.join()
    assert datagrepper.stopped
    assert server.pages == [1, 2]
    with pytest.raises(HttpError, match="the request was stopped"):
        next(datagrepper.read(T, END))
    assert server.pages == [1, 2]


# ---------------------------------------------------------------- one consumer's catch-up


class Consumer:
    """What a consumer does with a catch-up; each one is a new process, as far as it goes.

    Args:
        folder: The status directory.
        server: The datagrepper.
        skip_last: As configured.
    """

    def __init__(self, folder: Path, server: DatagrepperServer | None, *, skip_last: bool = False) -> None:
        self.status = StatusFile(folder, "Printer", log, remember=True)
        history = asking(server, retries=0) if server is not None else None
        self.text = self.status.read_text()
        self.catch_up = CatchUp("Printer", self.status, history, skip_last=skip_last, log=log)
        self.missing = self.status.path.with_name("Printer.missing")

    def handle(self, envelope: dict[str, Any]) -> None:
        """Handle a message."""
        one = {"topic": envelope["topic"], "body": envelope}
        self.status.save({"message": one, "status": "pre"})
        self.status.save({"message": one, "status": "post"})
        self.catch_up.handled(message_key(envelope))

    def run(self, now: float = END) -> list[int]:
        """Catch up and end; give what was handled."""
        with self:
            handled = []
            for envelope in self.catch_up.messages(self.text, now):
                self.handle(envelope)
                handled.append(envelope["i"])
            return handled

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *_: object) -> None:
        self.catch_up.close()
        self.status.close()


def begun(folder: Path, at: int, status: str = "post") -> None:
    """Leave a status as if a process had ended there."""
    with Consumer(folder, None) as consumer:
        body = message(at, T + at)
        consumer.status.save({"message": {"topic": body["topic"], "body": body}, "status": status})


def test_a_first_start_asks_for_nothing(server: DatagrepperServer, tmp_path: Path) -> None:
    assert Consumer(tmp_path, server).run() == []
    assert server.asked == []


def test_the_last_one_is_not_handled_again(server: DatagrepperServer, tmp_path: Path) -> None:
    begun(tmp_path, 40)
    consumer = Consumer(tmp_path, server)
    assert consumer.run() == [*range(41, 250)]
    assert server.asked[0][1]["start"] == [str(T + 40)]
    assert not consumer.missing.exists()
    # The next start goes on from the last of these.
    assert Consumer(tmp_path, server).run() == []
    assert server.asked[-1][1]["start"] == [str(T + 249)]


def test_the_one_in_work_is_handled_again(server: DatagrepperServer, tmp_path: Path) -> None:
    begun(tmp_path, 240, "pre")
    assert Consumer(tmp_path, server).run() == [*range(240, 250)]


class OwnHistory:
    """A history that has some messages, whatever the time."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self._messages = messages

    def read(self, first: float, last: float) -> list[dict[str, Any]]:
        return self._messages


def test_messages_without_an_id_from_a_source_of_ones_own(tmp_path: Path) -> None:
    begun(tmp_path, 240)
    with Consumer(tmp_path, None) as consumer:
        own = [{"topic": "a.b", "msg": {}}, {"topic": "a.b", "msg": {}}]
        catch_up = CatchUp("Printer", consumer.status, OwnHistory(own))
        assert list(catch_up.messages(consumer.text)) == own


def test_unless_it_is_to_be_skipped(server: DatagrepperServer, tmp_path: Path) -> None:
    begun(tmp_path, 240, "pre")
    assert Consumer(tmp_path, server, skip_last=True).run() == [*range(241, 250)]


def test_the_one_in_work_comes_again_though_datagrepper_has_it_not(server: DatagrepperServer, tmp_path: Path) -> None:
    del server.messages[240]
    begun(tmp_path, 240, "pre")
    assert Consumer(tmp_path, server).run() == [*range(240, 250)]
    begun(tmp_path, 255, "pre")
    assert Consumer(tmp_path, server).run() == [255]


def test_the_one_in_work_comes_again_though_there_is_no_datagrepper(server: DatagrepperServer, tmp_path: Path) -> None:
    begun(tmp_path, 240, "pre")
    assert Consumer(tmp_path, None).run() == [240]
    begun(tmp_path, 241, "pre")
    server.misbehave = failing(1)
    assert Consumer(tmp_path, server).run() == [241]
    begun(tmp_path, 242)
    assert Consumer(tmp_path, None).run() == []


def test_one_that_was_handled_in_the_end_is_not_handled_again(server: DatagrepperServer, tmp_path: Path) -> None:
    # As when a hub stops between two tries: what was in work is kept elsewhere, and handled before.
    begun(tmp_path, 248, "pre")
    with Consumer(tmp_path, server) as consumer:
        consumer.handle(server.messages[248])
        assert ids(consumer.catch_up.messages(consumer.text, END)) == [249]


def test_messages_of_one_second_are_told_apart(server: DatagrepperServer, tmp_path: Path) -> None:
    for one in server.messages:
        one["timestamp"] = T
    with Consumer(tmp_path, server) as consumer:
        for number in (3, 1, 2):  # in the order in which they came live
            consumer.handle(server.messages[number])
    handled = Consumer(tmp_path, server).run()
    assert handled == [0, *range(4, 250)]


def test_what_comes_live_meanwhile_is_handled_once(server: DatagrepperServer, tmp_path: Path) -> None:
    begun(tmp_path, 0)
    with Consumer(tmp_path, server) as consumer:
        messages = consumer.catch_up.messages(consumer.text, END)
        found = [next(messages)["i"] for _ in range(10)]
        assert not consumer.catch_up.seen(message(200, T + 200))  # it has not come from there yet
        assert consumer.catch_up.seen(message(5, T + 5))
        assert not consumer.catch_up.seen(message(999, T + 999))
        found += ids(messages)
        assert found == [number for number in range(1, 250) if number != 200]
        assert consumer.catch_up.seen(message(249, T + 249))
        assert not consumer.catch_up.seen(message(1000, T + 1000))


def test_what_came_meanwhile_is_forgotten_in_the_end(
    server: DatagrepperServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "_SEEN_MAX", 5)
    begun(tmp_path, 240)
    with Consumer(tmp_path, server) as consumer:
        assert len(list(consumer.catch_up.messages(consumer.text, END))) == 9
        assert [consumer.catch_up.seen(message(number, T + number)) for number in (244, 245, 249)] == [
            False,
            True,
            True,
        ]
        assert not any(consumer.catch_up.seen(message(5000 + number, T)) for number in range(10))
        assert not consumer.catch_up.seen(message(249, T + 249))
        assert (len(consumer.catch_up._given), len(consumer.catch_up._live)) == (0, 0)


def test_what_is_missing_is_asked_for_at_the_next_start(
    server: DatagrepperServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun(tmp_path, 0)
    server.misbehave = failing(3)
    consumer = Consumer(tmp_path, server)
    assert consumer.run() == [*range(1, 200)]
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1
    assert "2023-11-14T22:16:39Z to 2023-11-16T02:00:00Z is asked for at the next start" in said[0]
    # Then it handles live messages, which are newer, and stops.
    with Consumer(tmp_path, server) as between:
        between.handle(message(1000, END + 50))
    assert consumer.missing.exists()
    server.asked.clear()
    server.messages += [message(1001, END + 50), message(1002, END + 51)]
    assert Consumer(tmp_path, server).run(END + 60) == [*range(200, 250), 1001, 1002]
    assert [query["start"] for _, query in server.asked] == [[str(T + 199)], [str(END + 50)]]
    assert not consumer.missing.exists()


def test_what_was_handed_over_but_not_handled_is_still_missing(server: DatagrepperServer, tmp_path: Path) -> None:
    begun(tmp_path, 0)
    with Consumer(tmp_path, server) as consumer:
        waiting = list(consumer.catch_up.messages(consumer.text, END))
        assert ids(waiting) == [*range(1, 250)]
        for envelope in waiting[:150]:
            consumer.handle(envelope)
    # It ends here, with 99 that wait, and other messages push the memory of what was handled out.
    (tmp_path / consumer.status.path.parent.name / "Printer.handled").unlink()
    assert Consumer(tmp_path, server).run() == [*range(151, 250)]


def test_an_end_in_the_middle_of_a_page(server: DatagrepperServer, tmp_path: Path) -> None:
    begun(tmp_path, 0)
    with Consumer(tmp_path, server) as consumer:
        messages = consumer.catch_up.messages(consumer.text, END)
        for _ in range(130):
            consumer.handle(next(messages))
        messages.close()  # type: ignore[attr-defined] # a generator
    assert Consumer(tmp_path, server).run() == [*range(131, 250)]


def test_a_server_that_does_not_sort(server: DatagrepperServer, tmp_path: Path) -> None:
    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        if number == 2:
            handler.answer(503, b"")
            return True
        query["order"] = ["desc"]
        return False

    begun(tmp_path, 0)
    server.misbehave = misbehave
    assert Consumer(tmp_path, server).run() == [*range(249, 149, -1)]
    with Consumer(tmp_path, server) as between:
        between.handle(message(1000, END + 50))
    assert sorted(Consumer(tmp_path, server).run(END + 60)) == [*range(1, 150)]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"ranges": 3}', '{"ranges": [{}]}', "[" * 100_000,
        '{"ranges": [{"start": 2, "end": 1, "done": {}}]}', '{"ranges": [{"start": NaN, "end": 1, "done": {}}]}',
        '{"ranges": [{"start": 1, "end": 1, "done": [1]}]}', '{"ranges": [{"start": 1, "end": 1, "done": {"a": "b"}}]}',
    ],
)  # fmt: skip
def test_a_broken_note_is_a_warning(
    server: DatagrepperServer, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    begun(tmp_path, 240)
    with Consumer(tmp_path, server) as consumer:
        pass
    consumer.missing.write_text(text)
    caplog.clear()
    assert Consumer(tmp_path, server).run() == [*range(241, 250)]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


def test_a_status_that_makes_no_sense_is_a_warning(
    server: DatagrepperServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Consumer(tmp_path, server) as consumer:
        consumer.status.path.write_text("{")
    assert Consumer(tmp_path, server).run() == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("when", [4_000_000_000, None])
def test_a_message_that_tells_no_time_does_not_hide_what_was_missed(
    server: DatagrepperServer, tmp_path: Path, when: int | None
) -> None:
    with Consumer(tmp_path, server) as consumer:
        body = message(1, when or 0)
        if when is None:
            del body["timestamp"]
        consumer.status.save({"message": {"topic": body["topic"], "body": body}, "status": "post"})
        written = int(consumer.status.path.stat().st_mtime)
    server.messages = [message(5, written - 1), message(6, written), message(7, written + 5)]
    assert Consumer(tmp_path, server).run(written + 10) == [6, 7]


@pytest.mark.parametrize(
    "odd",
    [-1, 5, float("nan"), 1e300, (T + 248) * 1000, "x"],
    ids=["negative", "1970", "nan", "huge", "milliseconds", "text"],
)
def test_catch_up_is_not_steered_by_odd_times(server: DatagrepperServer, tmp_path: Path, odd: Any) -> None:
    """The last message of all has an odd time: what passed after the one before it is caught up with."""
    with Consumer(tmp_path, server) as consumer:
        consumer.handle(message(200, T + 200))
        consumer.handle(message(999, T, timestamp=odd))
    assert Consumer(tmp_path, server).run() == [*range(201, 250)]


def test_catch_up_goes_on_where_it_was_after_odd_times_in_history(server: DatagrepperServer, tmp_path: Path) -> None:
    server.messages[100]["timestamp"] = 1e300
    server.messages[101]["timestamp"] = -5
    begun(tmp_path, 0)
    with Consumer(tmp_path, None) as consumer:
        consumer.catch_up = CatchUp("Printer", consumer.status, OwnHistory(server.messages[1:]), log=log)
        messages = consumer.catch_up.messages(consumer.text, END)
        for _ in range(130):
            consumer.handle(next(messages))
        messages.close()  # type: ignore[attr-defined] # a generator
    (left,) = json.loads(consumer.missing.read_bytes())["ranges"]
    assert (left["start"], left["end"]) == (T + 130, END)


def test_another_message_with_the_same_id_suppresses_nothing(server: DatagrepperServer, tmp_path: Path) -> None:
    """A stranger's message has the id of a real one, live before the catch-up brings the real one, and in history."""
    begun(tmp_path, 240)
    forged = {**server.messages[245], "msg": {"number": "forged"}}
    with Consumer(tmp_path, server) as consumer:
        assert not consumer.catch_up.seen(forged)
        consumer.handle(forged)
        assert ids(consumer.catch_up.messages(consumer.text, END)) == [*range(241, 250)]
        assert consumer.catch_up.seen(server.messages[245])
    # A copy of the same message is known, whatever datagrepper adds to it.
    again = {**server.messages[245], "headers": {}, "source_name": "datanommer", "certificate": None}
    assert message_key(again) == message_key(server.messages[245]) != message_key(forged)


def test_a_page_that_is_too_large_is_asked_for_in_parts(
    server: DatagrepperServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_PAGE_MAX_BYTES", 10_000)
    server.messages[137]["msg"] = {"text": "x" * 9000}
    assert ids(asking(server, retries=0).read(T, END)) == [*range(250)]
    server.messages[137]["msg"] = {"text": "x" * 11_000}
    with pytest.raises(HttpError, match="more than 10000 bytes"):
        list(asking(server, retries=0).read(T, END))


def test_many_starts_without_a_datagrepper_leave_a_short_note(server: DatagrepperServer, tmp_path: Path) -> None:
    server.misbehave = failing(*range(1000), status=404)
    for number in range(70):
        with Consumer(tmp_path, server) as consumer:
            consumer.handle(message(number, T + 100 * number))
        consumer = Consumer(tmp_path, server)
        assert consumer.run(T + 100 * number + 10) == []
    ranges = json.loads(consumer.missing.read_bytes())["ranges"]
    assert len(ranges) == 50
    assert (ranges[0]["start"], ranges[-1]["end"]) == (T, T + 6910)
