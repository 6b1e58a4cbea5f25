# SPDX-License-Identifier: LGPL-2.1-or-later
"""Queries: every filter means what it says, compared with a plain loop over the same messages."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg import meta
from fedmsg.datanommer import models
from fedmsg.datanommer.models.testing import empty
from tests.satellites.messages import START, Knowing, message

CATEGORIES = ["shop", "mail", "git"]
TOPICS = [f"org.fedoraproject.dev.{category}.{action}" for category in CATEGORIES for action in ("new", "end", "edit")]
USERS, PACKAGES = ["ann", "bob", "cat", "dan"], ["kernel", "bash", "vim"]
# Three months, so that there are whole ones, whole days and parts of both.
TIMES = [START + 86400 * number // 2 + 17 * number for number in range(160)]


def corpus() -> list[dict[str, Any]]:
    chance = random.Random(1)
    found = []
    for number, time in enumerate(TIMES):
        users = chance.sample(USERS, chance.choice((0, 1, 1, 2)))
        msg = {
            "users": users, "packages": chance.sample(PACKAGES, chance.choice((0, 1, 2))),
            "agent": chance.choice(users) if users and chance.random() < 0.8 else None, "number": number,
            "text": chance.choice(("100%", "a_b", r"C:\temp", 'say "hi"', "é is é", "plain")),
            "anonymous": number % 2 == 0,
        }  # fmt: skip
        found.append(message(chance.choice(TOPICS), timestamp=time, msg=msg))
    return found


CORPUS = corpus()


@pytest.fixture(scope="module")
def stored(history_engine: sa.Engine) -> Iterator[Any]:
    """Return the module of models, with the corpus stored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta, "processors", [Knowing(), meta.DefaultProcessor(lambda text: text, topic_prefix_re="")])
        shuffled = random.Random(2).sample(CORPUS, len(CORPUS))
        for start in range(0, len(shuffled), 37):
            models.add_many(shuffled[start : start + 37])
            if start == 74:
                # Of the others the text is not in the index yet.
                assert models.index_texts(37) == 37
    yield models
    models.session.remove()
    empty(history_engine)


def expected(order: str = "asc", **filters: Any) -> list[str]:
    """Return the ids of the messages that filters match, by a plain loop."""
    found = []
    for one in CORPUS:
        body = one["body"]
        has = {
            "users": set(body["msg"]["users"]), "packages": set(body["msg"]["packages"]), "topics": {body["topic"]},
            "categories": {body["topic"].split(".")[3]}, "agents": {body["msg"]["agent"]},
        }  # fmt: skip
        if "start" in filters and not filters["start"] <= body["timestamp"] <= filters["end"]:
            continue
        text = body["msg"]["text"]
        if not all(one in text for one in filters.get("contains", ())):
            continue
        if not all((one.removeprefix("-") in text.lower()) != one.startswith("-") for one in filters.get("search", ())):
            continue
        if all(
            (not values or bool(has[name] & set(values)))
            if not name.startswith("not_")
            else not has[name.removeprefix("not_")] & set(values)
            for name, values in filters.items()
            if name not in {"start", "end", "contains", "search"}
        ):
            found.append(body)
    return [body["msg_id"] for body in sorted(found, key=lambda body: body["timestamp"], reverse=order == "desc")]


CHOICES: dict[str, list[str]] = {
    "users": [*USERS, "nobody"], "packages": [*PACKAGES, "nothing"], "topics": TOPICS,
    "categories": [*CATEGORIES, "none"], "agents": USERS,
}  # fmt: skip


def some_filters(chance: random.Random) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    for name in chance.sample(sorted(CHOICES), chance.choice((0, 1, 1, 2, 2, 3))):
        key = f"not_{name}" if chance.random() < 0.35 else name
        filters[key] = chance.sample(CHOICES[name], chance.choice((1, 1, 2)))
        if chance.random() < 0.1:
            filters[f"not_{name}" if key == name else name] = chance.sample(CHOICES[name], 1)
    if chance.random() < 0.6:
        first, last = sorted(chance.sample(TIMES, 2))
        filters["start"], filters["end"] = first + chance.choice((0, 1)), last + chance.choice((0, 5))
    for name, choices in (
        ("contains", ["100%", "C:\\t", "lai", "é", 'say "h']),
        ("search", ["plain", "say", "-é", "-plain"]),
    ):
        if chance.random() < 0.15:
            filters[name] = chance.sample(choices, chance.choice((1, 1, 2)))
    return filters


def test_grep_finds_what_a_loop_finds(stored: Any) -> None:
    chance = random.Random(3)
    for _ in range(60):
        filters, order = some_filters(chance), chance.choice(("asc", "desc"))
        wanted = expected(order, **filters)
        total, pages, found = stored.Message.grep(order=order, rows_per_page=0, **filters)
        assert (total, pages, [one.msg_id for one in found]) == (len(wanted), 1, wanted), filters
        page, rows = chance.randint(1, 4), chance.choice((1, 3, 10))
        total, pages, found = stored.Message.grep(order=order, page=page, rows_per_page=rows, **filters)
        assert (total, pages) == (len(wanted), -(-len(wanted) // rows)), filters
        assert [one.msg_id for one in found] == wanted[(page - 1) * rows : page * rows], filters


def test_find_goes_on_from_a_cursor(stored: Any) -> None:
    chance = random.Random(4)
    for _ in range(10):
        filters, order = some_filters(chance), chance.choice(("asc", "desc"))
        wanted, found, cursor = expected(order, **filters), [], None
        while True:
            page = stored.Message.find(cursor=cursor, limit=7, order=order, count=True, **filters)
            assert page.total == stored.Message.count(**filters) == len(wanted)
            lines = stored.Message.find(cursor=cursor, limit=7, order=order, count=True, lines=True, **filters)
            assert lines[1:] == page[1:]
            assert [one.as_dict() for one in lines.messages] == [one.as_dict() for one in page.messages]
            assert not any(isinstance(one, stored.Message) for one in lines.messages)
            found += [one.msg_id for one in page.messages]
            if (cursor := page.cursor) is None:
                break
            assert len(page.messages) == 7
        assert found == wanted, filters


def test_find_beyond_the_last_page(stored: Any) -> None:
    several: list[dict[str, Any]] = [{}, {"users": USERS[:1]}, {"search": ["plain"]}]
    for filters in several:
        total = len(expected(**filters))
        assert stored.Message.find(offset=total, count=True, lines=True, **filters) == ([], total, None)
        assert len(stored.Message.find(offset=total - 1, count=True, lines=True, **filters).messages) == 1


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "é", "MTIz", "LTEuLTE" * 9, "OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjE"])
def test_find_rejects_what_is_no_cursor(stored: Any, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        stored.Message.find(cursor=cursor)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("100%", "100%"), ("0%", "100%"), ("a_b", "a_b"), ("axb", None), (r"C:\temp", r"C:\temp"), ("\\t", r"C:\temp"),
        ('say "hi"', 'say "hi"'), ("é is", "é is é"), ("É", None), ("plain", "plain"), ("Plain", None),
        ('"text":"plain"', "plain"), ('"text":  "plain"', "plain"),
    ],
)  # fmt: skip
def test_contains(stored: Any, text: str, wanted: str | None) -> None:
    _, _, found = stored.Message.grep(contains=[text], rows_per_page=0)
    assert {one.msg["text"] for one in found} == ({wanted} if wanted else set())


@pytest.mark.parametrize("text", ['"anonymous":false', '"anonymous": false', '"anonymous":  false'])
def test_contains_a_fragment_with_or_without_blanks(stored: Any, text: str) -> None:
    assert stored.Message.grep(contains=[text])[0] == len(CORPUS) // 2


def test_contains_terms_are_all_there(stored: Any) -> None:
    first, _, _ = stored.Message.grep(contains=["plain"])
    both, _, found = stored.Message.grep(contains=["plain", '"anonymous":true'], rows_per_page=None)
    assert 0 < both < first
    assert all(one.msg["anonymous"] and one.msg["text"] == "plain" for one in found)


def test_grep_deferred(stored: Any) -> None:
    total, pages, query = stored.Message.grep(defer=True, rows_per_page=10, categories=["shop"])
    assert pages == -(-total // 10)
    assert query.count() == 10
    assert len(stored.session.scalars(query).all()) == 10
    total, _, query = stored.Message.grep(defer=True, rows_per_page=0, categories=["shop"])
    assert query.count() == total == len(stored.session.scalars(query).all())


def test_grep_needs_start_and_end_together(stored: Any) -> None:
    for given in ({"start": 0}, {"end": START}):
        with pytest.raises(ValueError, match="start and end"):
            stored.Message.grep(**given)


def test_grep_takes_zero_as_a_time(stored: Any) -> None:
    assert stored.Message.grep(start=0, end=START - 1)[0] == 0
    assert stored.Message.grep(start=0, end=1e30)[0] == len(CORPUS)
    assert stored.Message.grep(start=-1e300, end=float("inf"))[0] == len(CORPUS)
    with pytest.raises(ValueError, match="time"):
        stored.Message.grep(start=0, end=float("nan"))


def test_grep_takes_datetimes_with_and_without_a_zone(stored: Any) -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    moment = dt.datetime.fromtimestamp(START, zone)
    naive = moment.astimezone(dt.timezone.utc).replace(tzinfo=None)
    for start in (moment, naive):
        assert stored.Message.grep(start=start, end=start)[0] == 1


def test_grep_survives_hostile_values(stored: Any) -> None:
    for text in ("\x00", "\ud800", "'; DROP TABLE messages; --", "x" * 100_000, "%", "\\", '"', "\x01\x02"):
        for name in ("topics", "categories", "users", "packages", "agents", "not_users", "not_topics"):
            stored.Message.grep(**{name: [text]})
        stored.Message.grep(contains=[text])
        assert stored.Message.from_msg_id(text) is None
    assert stored.Message.grep()[0] == len(CORPUS)


def test_make_query_can_be_narrowed(stored: Any) -> None:
    query = stored.Message.make_query(categories=["shop"]).where(stored.Message.topic.like("%new"))
    found = stored.session.scalars(query).all()
    assert {one.topic for one in found} == {"org.fedoraproject.dev.shop.new"}


def test_from_msg_id(stored: Any) -> None:
    wanted = CORPUS[7]["body"]
    assert stored.Message.from_msg_id(wanted["msg_id"]).msg == wanted["msg"]
    assert stored.Message.grep(msg_id=wanted["msg_id"])[0] == 1
    assert stored.Message.from_msg_id("2026-nothing") is None


def test_get_first(stored: Any) -> None:
    first, last = (expected(users=["ann"])[place] for place in (0, -1))
    assert stored.Message.get_first(users=["ann"]).msg_id == first
    assert stored.Message.get_first(order="desc", users=["ann"]).msg_id == last
    assert stored.Message.get_first(users=["nobody"]) is None


def test_messages_know_their_users_and_packages(stored: Any) -> None:
    for one in stored.session.scalars(sa.select(stored.Message).limit(20)):
        assert {user.name for user in one.users} == set(one.msg["users"])
        assert {package.name for package in one.packages} == set(one.msg["packages"])


SEARCHED = [
    "Fixes a crash\nof the kernel", "kernelci is another word", "the Kernel crashed, again",
    "é: émile's\tnotes", "a C++ program",
    'quoted "kernel"', "back\\slash", "%", "path/to/kernel.spec",
]  # fmt: skip


@pytest.mark.parametrize(
    ("search", "wanted"),
    [
        ("kernel", [0, 2, 5, 8]), ("KERNEL", [0, 2, 5, 8]), ("kernel crash", [0]), ('"the kernel"', [0, 2]),
        ('"crash of"', [0]), ("kernel -crash", [2, 5, 8]),
        ('kernel -"the kernel"', [5, 8]), ("émile", [3]), ("notes", [3]),
        ("c++", [4]), ("-kernel", [1, 3, 4, 6, 7]), ("slash", [6]), ("kern", []), ("", list(range(9))),
        ("(", list(range(9))),
        ("kernel.spec", [8]), ('"', list(range(9))), ("kernel|crash", []), ("is a", [] ), ("a", [0, 4]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_indexed", [False, True])
def test_search_finds_words_and_phrases(searched: Any, search: str, wanted: list[int], is_indexed: bool) -> None:
    if is_indexed:
        while searched.index_texts():
            pass
    _, _, found = searched.Message.grep(search=[search], categories=["search"])
    assert [one.msg["n"] for one in found] == wanted


@pytest.fixture(scope="module")
def searched(stored: Any) -> Any:
    """Return the module of models, with messages to search stored, too."""
    stored.add_many(
        [message("org.fedoraproject.dev.search.new", msg={"s": text, "n": n}) for n, text in enumerate(SEARCHED)]
    )
    return stored


@pytest.mark.parametrize("hostile", [":" + "1" * 4000 + "x", ":" + "-1.5e3" * 600 + "x", ":" + "true" * 900 + "x"])
def test_a_text_that_is_almost_a_fragment_costs_no_more_than_another(history: Any, hostile: str) -> None:
    # There were as many ways to take the digits apart as there are: this would not end.
    history.add(message(msg={"text": hostile, "numbers": [1, 23]}))
    assert history.Message.grep(contains=[hostile])[0] == 1
    # The control: what is a fragment is found with and without blanks.
    assert [history.Message.grep(contains=[one])[0] for one in ("[1,23]", ": [1, 23]", "1,24")] == [1, 1, 0]
