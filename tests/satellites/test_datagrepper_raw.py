# SPDX-License-Identifier: LGPL-2.1-or-later
"""``/raw``, ``/id`` and their twins as JSON: what is found, in which order, on which page."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from fedmsg.datagrepper.app import create_app
from fedmsg.datanommer import models
from fedmsg.datanommer.models.testing import empty
from tests.satellites.messages import message

PREFIX = "org.fedoraproject.prod"
TOPICS = (f"{PREFIX}.bodhi.update.comment", f"{PREFIX}.bodhi.update.request", f"{PREFIX}.git.receive")
# Half an hour ago, a second apart.
BEGIN = int(time.time()) - 1800
COUNT = 30


def stored(number: int) -> dict[str, Any]:
    msg = {"number": number, "title": f"kernel-{number}", "update": {"status": "testing" if number % 2 else "stable"}}
    if number == 7:
        msg["odd"] = '100% "quoted" a_b\\c'
        msg["anonymous"] = False
    return message(
        TOPICS[number % 3], timestamp=BEGIN + number, msg=msg, msg_id=f"2026-{number:04}", username=f"user{number % 4}"
    )


@pytest.fixture(scope="module")
def client(history_engine: sa.Engine) -> Iterator[FlaskClient]:
    models.add_many([stored(number) for number in range(COUNT)])
    for number in range(COUNT):
        found = models.Message.from_msg_id(f"2026-{number:04}")
        assert found is not None
        found.agent_name = f"user{number % 4}"
        found.users = [models.User.get_or_create(f"user{number % 4}")]
        found.packages = [models.Package.get_or_create(name) for name in ("kernel", f"pkg{number % 2}")]
    models.session.commit()
    models.session.remove()
    yield create_app({}).test_client()
    empty(history_engine)


@pytest.mark.parametrize(
    ("query", "most"), [("", 2), (f"topic={TOPICS[0]}&count=none", 1), ("user=user1&package=kernel", 4)]
)
def test_few_questions_to_the_database(client: FlaskClient, history_engine: sa.Engine, query: str, most: int) -> None:
    asked: list[str] = []

    def note(*arguments: Any) -> None:
        asked.append(arguments[2])

    sa.event.listen(history_engine, "before_cursor_execute", note)
    try:
        assert client.get(f"/raw?{query}").get_json()["count"]
    finally:
        sa.event.remove(history_engine, "before_cursor_execute", note)
    assert len([one for one in asked if one.startswith("SELECT")]) == most


def get(client: FlaskClient, path: str, **arguments: Any) -> Any:
    """Ask for a path; ``@3`` is the time of the third message."""
    given = {
        name: BEGIN + int(value[1:]) if isinstance(value, str) and re.fullmatch("@[0-9]", value) else value
        for name, value in arguments.items()
    }
    response = client.get(path, query_string=given)
    assert response.status_code == 200, response.text
    return response.json


def numbers(answer: Any) -> list[int]:
    return [found["msg"]["number"] for found in answer["raw_messages"]]


def test_raw_returns_the_newest_first(client: FlaskClient) -> None:
    answer = get(client, "/raw")
    assert numbers(answer) == list(range(29, 4, -1))
    assert (answer["total"], answer["pages"], answer["count"]) == (30, 2, 25)
    assert set(answer) == {"raw_messages", "total", "pages", "count", "arguments", "cursor"}
    assert answer["raw_messages"][0] == {
        "certificate": None, "crypto": None, "headers": None, "i": answer["raw_messages"][0]["i"],
        "msg": {"number": 29, "title": "kernel-29", "update": {"status": "testing"}}, "msg_id": "2026-0029",
        "signature": None, "source_name": "datanommer", "source_version": answer["raw_messages"][0]["source_version"],
        "timestamp": float(BEGIN + 29), "topic": TOPICS[2], "username": "user1",
    }  # fmt: skip


def test_raw_repeats_its_arguments(client: FlaskClient) -> None:
    answer = get(client, "/raw", start=BEGIN, end=BEGIN + 5, user="user1", not_package="glibc", order="asc", page=2,
                 rows_per_page=1, meta="title", _="1")  # fmt: skip
    assert answer["arguments"] == {
        "start": float(BEGIN), "end": BEGIN + 5.0, "delta": 5.0, "users": ["user1"], "packages": [],
        "categories": [], "topics": [], "agents": [], "contains": [], "not_users": [], "not_packages": ["glibc"],
        "not_categories": [], "not_topics": [], "not_agents": [], "not_contains": [], "page": 2, "rows_per_page": 1,
        "order": "asc", "meta": ["title"], "grouped": False,
    }  # fmt: skip
    assert numbers(answer) == [5]
    assert answer["raw_messages"][0]["meta"] == {"title": "git.receive"}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"user": "user1"}, lambda n: n % 4 == 1),
        ({"user": ["user1", "user2"]}, lambda n: n % 4 in {1, 2}),
        ({"not_user": "user1"}, lambda n: n % 4 != 1),
        ({"package": "pkg1"}, lambda n: n % 2 == 1),
        ({"package": "kernel", "not_package": "pkg1"}, lambda n: n % 2 == 0),
        ({"category": "bodhi"}, lambda n: n % 3 < 2),
        ({"not_category": "bodhi"}, lambda n: n % 3 == 2),
        ({"topic": TOPICS[0]}, lambda n: n % 3 == 0),
        ({"topic": TOPICS[0][:-1]}, lambda _: False),
        ({"topic": "*.update.*"}, lambda n: n % 3 < 2),
        ({"topic": ["*comment", TOPICS[2]]}, lambda n: n % 3 != 1),
        ({"topic": "*nothing*"}, lambda _: False),
        ({"topic": "*"}, lambda _: True),
        ({"not_topic": "*comment"}, lambda n: n % 3 != 0),
        ({"not_topic": "*nothing"}, lambda _: True),
        ({"agent": "user3"}, lambda n: n % 4 == 3),
        ({"not_agent": ["user3", "user0"]}, lambda n: n % 4 in {1, 2}),
        ({"user": "user1", "category": "git"}, lambda n: n % 4 == 1 and n % 3 == 2),
        ({"user": "user1", "package": "pkg1", "topic": "*bodhi*"}, lambda n: n % 4 == 1 and n % 3 < 2),
        ({"start": "@3", "end": "@6"}, lambda n: 3 <= n <= 6),
        ({"start": "@3", "delta": 2}, lambda n: 3 <= n <= 5),
        ({"end": "@3"}, lambda n: n <= 3),
        ({"start": "@6", "end": "@3"}, lambda _: False),
        ({"contains": "kernel-7", "delta": 7200, "topic": "*"}, lambda n: n == 7),
        ({"contains": '"anonymous":false', "delta": 7200, "topic": "*"}, lambda n: n == 7),
        ({"contains": "100% \"quoted\" a_b\\c", "delta": 7200, "topic": "*"}, lambda n: n == 7),
        ({"contains": ["kernel", "testing"], "delta": 7200, "category": "bodhi"}, lambda n: n % 2 and n % 3 < 2),
        ({"contains": "Kernel", "delta": 7200, "category": "bodhi"}, lambda _: False),
        ({"not_contains": "testing"}, lambda n: n % 2 == 0),
        ({"not_contains": "testing", "user": "user0"}, lambda n: n % 4 == 0),
        ({"where": "msg.update.status=testing"}, lambda n: n % 2 == 1),
        ({"where": "msg.update.status!=testing"}, lambda n: n % 2 == 0),
        ({"not_where": "msg.update.status=testing", "user": "user0"}, lambda n: n % 4 == 0),
        ({"where": ["msg.number>=5", "msg.number<9"]}, lambda n: 5 <= n < 9),
        ({"where": "msg.odd"}, lambda n: n == 7),
        ({"where": "username=user2"}, lambda n: n % 4 == 2),
        ({"where": "nothing=1"}, lambda _: False),
        ({"q": "stable"}, lambda n: n % 2 == 0),
        ({"q": "testing -quoted", "category": "git"}, lambda n: n % 2 == 1 and n % 3 == 2),
        ({"q": '"100% quoted"'}, lambda n: n == 7),
    ],
)  # fmt: skip
def test_raw_filters(client: FlaskClient, arguments: dict[str, Any], wanted: Any) -> None:
    answer = get(client, "/raw", **arguments, rows_per_page=100, order="asc")
    expected = [number for number in range(COUNT) if wanted(number)]
    assert numbers(answer) == expected
    assert (answer["total"], answer["count"]) == (len(expected), len(expected))
    assert answer["cursor"] is None


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("more", [{}, {"user": "user1"}, {"topic": "*bodhi*"}])
def test_pages_and_cursors_lead_through_everything(client: FlaskClient, order: str, more: dict[str, str]) -> None:
    everything = numbers(get(client, "/raw", rows_per_page=100, order=order, **more))
    by_page: list[int] = []
    by_cursor: list[int] = []
    cursor = None
    pages = get(client, "/raw", rows_per_page=4, order=order, **more)["pages"]
    for page in range(1, pages + 2):
        by_page += numbers(get(client, "/raw", rows_per_page=4, order=order, page=page, **more))
    for _ in range(pages):
        given: dict[str, str] = {"cursor": cursor} if cursor else {}
        answer = get(client, "/raw", rows_per_page=4, order=order, **given, **more)
        by_cursor += numbers(answer)
        cursor = answer["cursor"]
    assert cursor is None
    assert by_page == by_cursor == everything


def test_the_next_page_is_a_link(client: FlaskClient) -> None:
    response = client.get("/raw?rows_per_page=20&user=user1&user=user2&user=user3&page=1")
    target = response.headers["Link"]
    assert target.endswith('>; rel="next"')
    following = client.get(target[1 : target.index(">")])
    assert [found["msg"]["number"] for found in following.json["raw_messages"]] == [2, 1]  # type: ignore[index]
    assert "Link" not in following.headers


@pytest.mark.parametrize("page", [1, 2, 99])
def test_count_none_counts_nothing(client: FlaskClient, page: int) -> None:
    answer = get(client, "/raw", count="none", page=page)
    assert (answer["total"], answer["pages"]) == (None, None)
    assert answer["count"] == {1: 25, 2: 5, 99: 0}[page]


def test_count_estimated(client: FlaskClient) -> None:
    assert get(client, "/raw", count="estimated")["total"] >= 0


def test_fields_choose_parts(client: FlaskClient) -> None:
    answer = get(client, "/raw", rows_per_page=1, fields="topic,msg_id")
    assert answer["raw_messages"] == [{"topic": TOPICS[2], "msg_id": "2026-0029"}]
    answer = get(client, "/raw", rows_per_page=1, fields=["-msg", "-headers"], meta="title")
    assert not {"msg", "headers"} & set(answer["raw_messages"][0])
    assert answer["raw_messages"][0]["meta"] == {"title": "git.receive"}


def test_meta_makes_lists_of_sets(client: FlaskClient) -> None:
    answer = get(client, "/raw", rows_per_page=1, meta="usernames,packages,objects,date,agent_avatar,modules")
    about = answer["raw_messages"][0]["meta"]
    assert (about["usernames"], about["packages"], about["modules"]) == ([], [], [])
    assert re.fullmatch(r"[0-9]+ minutes ago", about["date"])


def test_grouped_wraps_messages(client: FlaskClient) -> None:
    (group,) = get(client, "/raw", rows_per_page=1, grouped="true")["raw_messages"]
    assert list(group["msg_ids"]) == ["2026-0029"]
    assert group["topics"] == [TOPICS[2]]


def test_raw_takes_json(client: FlaskClient) -> None:
    asked = {"user": ["user1", "user2"], "rows_per_page": 3, "grouped": False, "order": "asc", "start": None}
    response = client.post("/raw", json=asked)
    assert response.status_code == 200
    assert numbers(response.json) == [1, 2, 5]
    for body, argument in (({"user": {"a": 1}}, "user"), ([1], "body"), ({"page": "x"}, "page")):
        response = client.post("/raw", json=body)
        assert (response.status_code, response.json["argument"]) == (400, argument)  # type: ignore[index]
    assert client.post("/raw", data="user=x").status_code == 415
    assert client.post("/raw", data="{", content_type="application/json").status_code == 400
    assert client.post("/raw", data=b" " * 2_000_000, content_type="application/json").status_code == 413


@pytest.mark.parametrize("path", ["/raw", "/id", "/v2/search", "/messagecount", "/healthz/live", "/facets", "/stream"])
def test_methods(client: FlaskClient, path: str) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        response = client.open(path, method=method)
        assert response.status_code == 405
        assert "GET" in response.headers["Allow"]
    assert client.options(path).status_code == 200
    assert client.options(f"{path}/").status_code == 200


def test_head_has_no_body(client: FlaskClient) -> None:
    response = client.head("/raw")
    assert (response.status_code, response.data) == (200, b"")
    assert int(response.headers["Content-Length"]) > 1000


@pytest.mark.parametrize("path", ["/raw/", "/id/?id=2026-0003", "/messagecount/", "/v2/search/", "/healthz/ready/"])
def test_a_slash_at_the_end_changes_nothing(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == client.get(path.replace("/?", "?").rstrip("/")).status_code == 200


def test_id(client: FlaskClient) -> None:
    found = get(client, "/id", id="2026-0003", meta="title")
    assert (found["msg"]["number"], found["meta"]) == (3, {"title": "bodhi.update.comment"})
    response = client.get("/id?id=nothing")
    assert (response.status_code, response.json) == (404, {"error": "not_found"})
    response = client.get("/id")
    assert (response.status_code, response.json["argument"]) == (400, "id")  # type: ignore[index]


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json", ""])
def test_id_as_raw_is_json(client: FlaskClient, accept: str) -> None:
    response = client.get("/id?id=2026-0003&is_raw=true", headers={"Accept": accept})
    assert response.content_type == "application/json"
    assert response.json["msg_id"] == "2026-0003"  # type: ignore[index]


def test_v2_has_the_form_of_fedora_messaging(client: FlaskClient) -> None:
    (found,) = get(client, "/v2/search", rows_per_page=1)["raw_messages"]
    assert found == get(client, "/v2/id", id="2026-0029")
    assert set(found) == {"body", "headers", "id", "priority", "queue", "topic"}
    assert found["headers"]["sent-at"].endswith("+00:00")
    assert found["body"]["number"] == 29


def test_messagecount(client: FlaskClient) -> None:
    assert get(client, "/messagecount") == {"messagecount": COUNT}


@pytest.mark.parametrize(
    ("query", "argument"),
    [
        ("rows_per_page=0", "rows_per_page"), ("rows_per_page=400", "rows_per_page"), ("page=x", "page"),
        ("start=never", "start"), ("order=x", "order"), ("meta=x", "meta"), ("contains=x", "contains"),
        ("where=msg~x", "where"), ("where=..", "where"), ("not_where=msg~x", "not_where"),
        ("where=" + "a." * 20 + "b=1", "where"), ("cursor=W10", "cursor"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_a_400(client: FlaskClient, query: str, argument: str) -> None:
    response = client.get(f"/raw?{query}")
    assert response.status_code == 400
    assert response.content_type == "application/json"
    assert response.json["argument"] == argument  # type: ignore[index]
    page = client.get(f"/raw?{query}", headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (400, "text/html")


def test_a_hostile_argument_stays_a_text(client: FlaskClient) -> None:
    for text in ("' OR 1=1 --", '"; DROP TABLE messages; --', "%", "_", "\\", "$.x", "\u202e", "😀" * 50):
        for name in ("user", "package", "category", "topic", "agent"):
            assert get(client, "/raw", **{name: text})["total"] == 0
        assert get(client, "/raw", contains=text, delta=7200, category="git")["total"] in {0, 10}
        assert get(client, "/raw", where=f"msg.title={text}")["total"] == 0
        assert client.get("/id", query_string={"id": text}).status_code == 404
    assert get(client, "/messagecount") == {"messagecount": COUNT}
