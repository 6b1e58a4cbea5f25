# SPDX-License-Identifier: LGPL-2.1-or-later
"""The routes of statistics for programs: every argument, every form, the links, and what is rejected."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import orm
from werkzeug.test import TestResponse

from fedmsg.statscache.app import arguments, create_app
from tests.satellites import statistics
from tests.satellites.statistics import MINUTE, START, Notes, Shares, Visits

VISITS = "/api/visits-all-1m"
FIRST = 1_795_996_800.0
NUMBERS = 250
HOSTILE = ["<script>alert(1)</script>", "nul\0 esc\x1b[31m", "=1+1", '"quoted"', "\u202egnp", "\ud800", "]]></x>\u2028"]


@pytest.fixture(scope="module")
def session(history_url: str) -> Iterator[orm.scoped_session[orm.Session]]:
    with statistics.opened(history_url) as found:
        found.add_all([Visits.model(timestamp=START + number * MINUTE, scalar=number) for number in range(NUMBERS)])
        found.add_all(
            [Shares.model(timestamp=START + n // 4 * MINUTE, category=f"c{n % 4}", scalar=n) for n in range(10)]
        )
        found.add_all([Notes.model(timestamp=START, category=text, message=text) for text in HOSTILE])
        found.commit()
        yield found


@contextmanager
def served(url: str, plugins: Any = None, **settings: Any) -> Iterator[FlaskClient]:
    """Yield a client of an application of its own."""
    config = {f"statscache.app.{name}": value for name, value in settings.items()}
    app = create_app({"statscache.sqlalchemy.uri": url, **config}, plugins or statistics.plugins())
    yield app.test_client()
    app.extensions["numbers"].close()


@pytest.fixture(scope="module")
def app(history_url: str, session: object) -> Iterator[Flask]:
    with served(history_url) as client:
        yield client.application


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def scalars(response: TestResponse) -> list[float]:
    assert response.status_code == 200, response.text
    assert response.json is not None
    return [row["scalar"] for row in response.json]


def links(response: TestResponse) -> dict[str, str]:
    """Return the addresses of the Link header by what they are."""
    return {name: found for found, name in re.findall(r'<([^>]*)>; rel="(\w+)"', response.headers.get("Link", ""))}


# ---------------------------------------------------------------- rows


def test_the_list(client: FlaskClient) -> None:
    for path in ("/api/", "/api"):
        response = client.get(path)
        assert response.json == ["visits-all-1m", "shares-1m", "ranks", "notes", "limits"]
        assert response.headers["Content-Type"] == "application/json"


def test_rows_are_the_newest_first(client: FlaskClient) -> None:
    response = client.get(VISITS)
    assert response.json is not None
    assert response.json[0] == {"timestamp": FIRST + 60 * (NUMBERS - 1), "scalar": NUMBERS - 1}
    assert scalars(response) == list(range(NUMBERS - 1, NUMBERS - 101, -1))
    assert (response.headers["X-Link-Number"], response.headers["X-Link-Count"]) == ("1", "3")


def test_rows_of_one_time_are_in_order(client: FlaskClient) -> None:
    assert scalars(client.get("/api/shares-1m?order=asc")) == list(range(10))
    assert scalars(client.get("/api/shares-1m")) == list(range(9, -1, -1))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("order=asc&rows_per_page=3", [0, 1, 2]),
        ("order=desc&rows_per_page=2", [249, 248]),
        ("rows_per_page=3&page=2", [246, 245, 244]),
        ("rows_per_page=200", list(range(249, 149, -1))),
        ("page=3", list(range(49, -1, -1))),
        ("limit=2", [249, 248]),
        ("limit=0", []),
        ("limit=5&rows_per_page=2&page=3", [245]),
        ("limit=1000&page=3&rows_per_page=100", list(range(49, -1, -1))),
        (f"start={FIRST + 60 * 248}", [249, 248]),
        (f"stop={FIRST + 61}", [1, 0]),
        (f"start={FIRST + 60}&stop={FIRST + 120}&order=asc", [1, 2]),
        ("start=2026-11-30T00:01&stop=2026-11-30T00:02:00Z", [2, 1]),
        ("stop=2026-11-30T02:00:00%2B02:00", [0]),
        ("stop=2026-11-30T02:00:00 02:00", [0]),
        ("stop=2026-11-30", [0]),
        ("start=2030-01-01", []),
        ("stop=0", []),
        ("start=0&limit=1", [249]),
        (f"start={FIRST + 120}&stop={FIRST}", []),
        ("through=0", []),
        ("unknown=1&_=5&limit=1", [249]),
        ("limit=&start=&limit=1", [249]),
        ("format=json&limit=1", [249]),
    ],
)
def test_an_argument_is_obeyed(client: FlaskClient, query: str, found: list[int]) -> None:
    assert scalars(client.get(f"{VISITS}?{query}")) == found


@pytest.mark.parametrize(
    "name", ["order", "limit", "start", "stop", "page", "rows_per_page", "through", "format", "callback"]
)
@pytest.mark.parametrize("text", ["x", "-1", "1e400", "\0", "½", "'; DROP TABLE x", "1 OR 1=1", "9" * 5000])
def test_a_bad_argument_is_rejected_with_its_name(client: FlaskClient, name: str, text: str) -> None:
    if (name, text) in {("callback", "x"), ("start", "-1"), ("stop", "-1")}:
        return
    response = client.get(VISITS, query_string={name: text})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["argument"] == name
    assert response.json["error"] == f"{name}: {response.json['reason']}"
    assert len(response.text) < 1000


@pytest.mark.parametrize(("page", "pages"), [(4, 3), (2**31 - 1, 3)])
def test_a_page_behind_the_last_one_is_rejected(client: FlaskClient, page: int, pages: int) -> None:
    response = client.get(f"{VISITS}?page={page}")
    assert (response.status_code, response.json) == (
        400, {"error": f"page: {page} is behind the last one, {pages}", "argument": "page",
              "reason": f"{page} is behind the last one, {pages}"},
    )  # fmt: skip


def test_page_0_and_no_rows_on_a_page_are_rejected(client: FlaskClient) -> None:
    assert [client.get(f"{VISITS}?{query}").status_code for query in ("page=0", "rows_per_page=0")] == [400, 400]


def test_nothing_is_one_empty_page(client: FlaskClient) -> None:
    response = client.get("/api/ranks")
    assert (response.json, links(response), response.headers["X-Link-Count"]) == ([], {}, "0")
    assert client.get("/api/ranks?page=2").status_code == 400


@pytest.mark.parametrize(("most", "usual", "found"), [(10, 5, 5), (10, 50, 10)])
def test_pages_have_as_many_rows_as_are_configured(
    history_url: str, session: object, most: int, usual: int, found: int
) -> None:
    with served(history_url, maximum_rows_per_page=most, default_rows_per_page=usual) as client:
        assert len(scalars(client.get(VISITS))) == found
        assert len(scalars(client.get(f"{VISITS}?rows_per_page=1000"))) == most


# ---------------------------------------------------------------- forms


def test_jsonp(client: FlaskClient) -> None:
    for accept in ("*/*", "application/javascript", "application/json"):
        response = client.get(f"{VISITS}?callback=a.b&limit=1", headers={"Accept": accept})
        assert response.text == f'a.b([{{"timestamp":{FIRST + 60 * 249},"scalar":249}}]);'
        assert response.headers["Content-Type"].startswith("application/javascript")
    assert client.get("/api/?callback=cb").text.startswith('cb(["visits-all-1m"')
    assert client.get(f"{VISITS}/layout?callback=cb").text == 'cb({"color":"blue","groups":["visits"]});'


@pytest.mark.parametrize("name", ["alert(1)", "a b", "a..b", "a;b", "<x>", "a" * 201, "é"])
def test_a_callback_is_the_name_of_a_function(client: FlaskClient, name: str) -> None:
    response = client.get(VISITS, query_string={"callback": name})
    assert (response.status_code, response.json and response.json["argument"]) == (400, "callback")


def test_javascript_needs_a_callback(client: FlaskClient) -> None:
    response = client.get(VISITS, headers={"Accept": "application/javascript"})
    assert (response.status_code, response.json and response.json["argument"]) == (400, "callback")


@pytest.mark.parametrize("how", ["header", "argument"])
def test_csv(client: FlaskClient, how: str) -> None:
    if how == "header":
        response = client.get(f"{VISITS}?order=asc&rows_per_page=2", headers={"Accept": "text/csv"})
    else:
        response = client.get(f"{VISITS}?order=asc&rows_per_page=2&format=csv")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["Content-Disposition"] == 'attachment; filename="visits-all-1m.csv"'
    assert response.text == f'"timestamp","scalar"\r\n"{FIRST}","0"\r\n"{FIRST + 60}","1"\r\n'
    assert links(response)["next"].endswith("&page=2&through=250")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("text/csv;q=0.4, application/json;q=0.5", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
def test_the_form_is_what_the_client_prefers(client: FlaskClient, accept: str | None, kind: str) -> None:
    response = client.get(VISITS, headers={} if accept is None else {"Accept": accept})
    assert (response.status_code, response.mimetype) == (200, kind)
    assert "Accept" in response.vary


@pytest.mark.parametrize("accept", ["image/png", "text/html", "application/json;q=0", "text/plain"])
@pytest.mark.parametrize("path", ["/api/", VISITS, f"{VISITS}/layout"])
def test_a_form_that_there_is_not_is_rejected(client: FlaskClient, path: str, accept: str) -> None:
    response = client.get(path, headers={"Accept": accept})
    assert response.status_code == 406
    assert "application/json" in response.text


def test_hostile_texts_are_text_in_each_form(client: FlaskClient) -> None:
    shown = [text.replace("\0", "\ufffd").replace("\ud800", "\ufffd") for text in HOSTILE]
    found = client.get("/api/notes?order=asc")
    assert found.json is not None
    assert [row["message"] for row in found.json] == shown
    # No byte of it acts on a page that reads it as a script.
    assert found.text.isascii()
    jsonp = client.get("/api/notes?order=asc&callback=cb")
    assert jsonp.text.isascii()
    assert json.loads(jsonp.text.removeprefix("cb(").removesuffix(");")) == found.json
    assert jsonp.headers["X-Content-Type-Options"] == "nosniff"
    _, *rows = csv.reader(io.StringIO(client.get("/api/notes?order=asc&format=csv").text, newline=""))
    assert [row[2].removeprefix("'") for row in rows] == shown
    assert [row[2] for row in rows if row[2].startswith("=")] == []


# ---------------------------------------------------------------- layout and what there is not


def test_layout(client: FlaskClient) -> None:
    assert client.get(f"{VISITS}/layout").json == {"color": "blue", "groups": ["visits"]}
    response = client.get("/api/notes/layout")
    assert (response.status_code, response.json) == (404, {"error": "These statistics have no layout."})


@pytest.mark.parametrize(
    "path", ["/api/none", "/api/none/layout", "/none", "/api/visits", "/api/a/b/c", "/web/dashboard/none"]
)
def test_what_there_is_not(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.json is not None
    assert response.json["error"]
    page = client.get(path, headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (404, "text/html")


@pytest.mark.parametrize("path", ["/api/", VISITS, f"{VISITS}/layout", "/web/dashboard"])
def test_methods(client: FlaskClient, path: str) -> None:
    assert (client.head(path).status_code, client.head(path).data) == (200, b"")
    assert client.options(path).headers["Allow"]
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.open(path, method=method).status_code == 405
    assert client.get(f"{path.rstrip('/')}/").status_code == 200


def test_other_sites_may_read_everything(client: FlaskClient) -> None:
    origin = {"Origin": "https://other.example.org"}
    for path in ("/api/", VISITS, f"{VISITS}/layout", "/api/none", f"{VISITS}?page=9", "/healthz/live", "/metrics"):
        response = client.get(path, headers=origin)
        assert response.headers["Access-Control-Allow-Origin"] == origin["Origin"]
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Link", "X-Link-Number", "X-Link-Count"} <= set(exposed)
        assert "Origin" in response.vary
    asked = {**origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "X-Mine"}
    response = client.options(VISITS, headers=asked)
    assert "GET" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Headers"] == "X-Mine"
    assert "Access-Control-Allow-Origin" not in client.get(VISITS).headers


def test_other_sites_can_be_limited(history_url: str, session: object) -> None:
    with served(history_url, cors_domains=[r"https://good\.example"]) as client:
        for origin, allowed in (("https://good.example", True), ("https://good.example.evil", False)):
            headers = client.get(VISITS, headers={"Origin": origin}).headers
            assert ("Access-Control-Allow-Origin" in headers) == allowed


def test_an_answer_that_has_not_changed_is_not_sent_again(client: FlaskClient) -> None:
    first = client.get(VISITS)
    again = client.get(VISITS, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


# ---------------------------------------------------------------- links


def test_links_keep_all_arguments(client: FlaskClient) -> None:
    query = f"order=asc&rows_per_page=2&start={FIRST}&stop=2026-11-30T00:05&limit=5&x=%3E%3Cb%3E&x=2&callback=cb&page=2"
    response = client.get(f"{VISITS}?{query}")
    found = links(response)
    assert {name: parse_qs(urlsplit(link).query)["page"] for name, link in found.items()} == {
        "first": ["1"], "prev": ["1"], "next": ["3"], "last": ["3"],
    }  # fmt: skip
    for link in found.values():
        given = parse_qs(urlsplit(link).query)
        assert given.pop("through") == [str(NUMBERS)]
        assert {**given, "page": ["2"]} == parse_qs(query)
    assert (response.headers["X-Link-Number"], response.headers["X-Link-Count"]) == ("2", "3")


@pytest.mark.parametrize(
    ("page", "names"),
    [(1, ["first", "next", "last"]), (2, ["first", "prev", "next", "last"]), (3, ["first", "prev", "last"])],
)
def test_links_lead_to_pages_that_there_are(client: FlaskClient, page: int, names: list[str]) -> None:
    assert list(links(client.get(f"{VISITS}?page={page}"))) == names


def walk(client: FlaskClient, path: str, name: str, between: Any = lambda: None) -> Iterator[list[dict[str, Any]]]:
    while path:
        response = client.get(path)
        assert response.status_code == 200, response.text
        assert response.json is not None
        yield response.json
        between()
        path = links(response).get(name, "")


@pytest.mark.parametrize(
    ("kind", "order", "count"),
    [(Shares, "desc", 10_000), (Shares, "asc", 1000), (Visits, "desc", 1000), (Visits, "asc", 1000)],
    ids=["by id, newest first", "by id, oldest first", "by time, newest first", "by time, oldest first"],
)
def test_rows_are_read_whole_while_numbers_are_added(
    history_url: str, session: orm.scoped_session[orm.Session], kind: Any, order: str, count: int
) -> None:
    """Forwards and backwards: each row once, none that was added meanwhile, at both ends and in between."""
    model, plugin = kind.model, next(one for one in statistics.plugins() if isinstance(one, kind))
    key = {"category": "w"} if kind is Shares else {}
    begin = START + dt.timedelta(days=400)
    rows = [model(timestamp=begin + number * MINUTE, scalar=number, **key) for number in range(count)]
    added = iter(range(1, 10**6))

    def add() -> None:
        number = next(added)
        for moment in (
            begin - number * MINUTE,
            begin + (20_000 + number) * MINUTE,
            begin + (2 * number - 1) * MINUTE / 2,
        ):
            session.add(model(timestamp=moment, scalar=-1, **key))
        session.commit()

    session.bulk_save_objects(rows)
    session.commit()
    try:
        with served(history_url, [plugin]) as client:
            path = f"/api/{plugin.ident}?order={order}&start={begin.isoformat()}"
            last = links(client.get(path))["last"]
            pages = list(walk(client, path, "next", add))
            assert len(pages) == count // 100
            forwards = [row["scalar"] for page in pages for row in page]
            assert forwards == (list(range(count)) if order == "asc" else list(range(count - 1, -1, -1)))
            backwards = [row["scalar"] for page in walk(client, last, "prev", add) for row in reversed(page)]
            assert backwards == forwards[::-1]
            # Who begins anew sees what was added.
            assert int(client.get(path).headers["X-Link-Count"]) > count // 100
    finally:
        session.rollback()
        session.execute(sa.delete(model).where(model.timestamp >= begin - dt.timedelta(days=1)))
        session.commit()


def test_the_table_is_what_the_description_has(client: FlaskClient) -> None:
    described = client.get("/openapi.json").json
    assert described is not None
    assert set(described["paths"]) == set(arguments.SUMMARIES)
    for path, rows in arguments.ROUTES.items():
        names = [one["name"] for one in described["paths"][path]["get"]["parameters"] if one["in"] == "query"]
        assert names == [row.name for row in rows]


def test_every_route_of_programs_is_described(app: Flask) -> None:
    routes = {
        re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule).rstrip("/") for rule in app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in {"api", "operating"}
    }  # fmt: skip
    assert routes == {path.rstrip("/") for path in arguments.SUMMARIES}


def test_the_examples_of_the_description_are_answered(client: FlaskClient) -> None:
    described = client.get("/openapi.json").json
    assert described is not None
    for path, methods in described["paths"].items():
        given = {one["name"]: one["example"] for one in methods["get"]["parameters"] if "example" in one}
        address = path.replace("{ident}", "visits-all-1m")
        given.pop("ident", None)
        assert client.get(address, query_string=given).status_code == 200, path
