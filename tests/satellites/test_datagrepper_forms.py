# SPDX-License-Identifier: LGPL-2.1-or-later
"""The forms of an answer: which one a client gets, and that no message breaks any of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from fedmsg.datagrepper.app import create_app
from fedmsg.datanommer import models
from fedmsg.datanommer.models.testing import empty
from tests.satellites.messages import message

HOSTILE = [
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "=1+1", "@SUM(A1)", "-2+3", "+1", "\t=1",
    "]]>", "&amp;", "\u202egnp.exe", "a\x00b", "\x1b[31mred\x07", "\ud800", "\u2028\u2029", "\r\nSet-Cookie: a=b",
    "\ufffe", "😀", "__proto__",
]  # fmt: skip
ATOM = "{http://www.w3.org/2005/Atom}"


def hostile() -> list[dict[str, Any]]:
    deep: Any = "end"
    for _ in range(100):
        deep = [deep]
    made = [
        message(
            f"org.fedoraproject.dev.logger.{text}", msg={"log": text, text: [text]}, username=text, msg_id=text,
            timestamp=1_790_000_000 + number,
        )
        for number, text in enumerate(HOSTILE)
    ]  # fmt: skip
    odd: list[Any] = [deep, float("nan"), -5, 10**300, 1e300, None, [], "x" * 100_000]
    return made + [message(msg=value, timestamp=1_790_000_100 + number) for number, value in enumerate(odd)]


@pytest.fixture(scope="module")
def client(history_engine: sa.Engine) -> Iterator[FlaskClient]:
    models.add_many(hostile())
    yield create_app({}).test_client()
    models.session.remove()
    empty(history_engine)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("image/png", "application/json"),
        ("text/plain", "application/json"),
        ("text/html", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("application/json;q=0.5, text/html;q=0.9", "text/html"),
        ("application/json, text/javascript, */*; q=0.01", "application/json"),
        ("text/csv", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/atom+xml", "application/atom+xml"),
        ("application/feed+json", "application/feed+json"),
        ("application/json\r", "application/json"),
    ],
)
def test_the_form_is_the_one_that_is_accepted(client: FlaskClient, accept: str, kind: str) -> None:
    response = client.get("/raw", headers={"Accept": accept.strip()} if accept else {})
    assert (response.status_code, response.mimetype) == (200, kind)
    assert "Accept" in response.headers["Vary"]
    # The list itself can be read again, too.
    response.close()


def test_the_form_can_be_named(client: FlaskClient) -> None:
    for form, kind in (("json", "application/json"), ("atom", "application/atom+xml"), ("csv", "text/csv")):
        assert client.get(f"/raw?format={form}", headers={"Accept": "text/html"}).mimetype == kind


def test_json_is_read_by_every_reader(client: FlaskClient) -> None:
    response = client.get("/raw?rows_per_page=100")
    assert response.data.isascii()
    answer = json.loads(response.data, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    found = {one["msg_id"]: one for one in answer["raw_messages"]}
    for text in HOSTILE:
        assert found[text]["msg"] == {"log": text, text: [text]}
    assert answer["total"] == len(HOSTILE) + 8


def test_jsonp(client: FlaskClient) -> None:
    response = client.get("/raw?callback=jQuery1.cb&_=123&rows_per_page=100", headers={"Accept": "text/html"})
    assert response.mimetype == "application/javascript"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    text = response.text
    assert text.startswith("jQuery1.cb(")
    assert text.endswith(");")
    assert json.loads(text[len("jQuery1.cb(") : -2])["count"] == len(HOSTILE) + 8
    for path in ("/id?id=x&callback=cb", "/id?id=%3D1%2B1&callback=cb", "/v2/search?callback=cb", "/facets?callback=cb",
                 "/messagecount?callback=cb", "/histogram?callback=cb"):  # fmt: skip
        assert client.get(path).text.startswith("cb({"), path


def test_csv_has_no_formula(client: FlaskClient) -> None:
    response = client.get("/raw?format=csv&fields=msg_id,username,topic,msg&meta=subtitle,usernames&order=asc")
    assert response.headers["Content-Disposition"] == 'attachment; filename="messages.csv"'
    head, *rows = csv.reader(io.StringIO(response.text, newline=""))
    assert head == ["msg_id", "username", "topic", "msg", "subtitle", "usernames"]
    assert len(rows) == len(HOSTILE) + 8
    assert all(len(row) == 6 for row in rows)
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))]
    assert {"'=1+1", "'@SUM(A1)", "'-2+3", "'+1", "'\t=1"} <= set(cells)
    # What is none stays as it is.
    assert "<img src=x onerror=alert(1)>" in cells


def test_exports_have_everything_unless_a_page_is_asked_for(client: FlaskClient) -> None:
    def ids(query: str) -> list[str]:
        return [json.loads(line)["msg_id"] for line in client.get(f"/raw?format=ndjson{query}").text.splitlines()]

    everything = ids("&order=asc")
    assert len(everything) == len(HOSTILE) + 8
    assert ids("") == everything[::-1]
    assert ids("&rows_per_page=3&page=2&order=asc") == everything[3:6]
    assert ids("&topic=*nothing*") == []
    assert ids("&rows_per_page=3&page=99") == []


def test_an_export_is_read_in_chunks(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = client.get("/raw?format=ndjson").text
    monkeypatch.setattr("fedmsg.datagrepper.history._CHUNK", 4)
    assert client.get("/raw?format=ndjson").text == whole


def test_atom(client: FlaskClient) -> None:
    response = client.get("/raw?format=atom&rows_per_page=100&category=logger")
    root = ET.fromstring(response.data)
    assert root.tag == f"{ATOM}feed"
    entries = root.findall(f"{ATOM}entry")
    assert len(entries) == len(HOSTILE)
    for entry in entries:
        for name in ("id", "title", "updated"):
            assert entry.findtext(f"{ATOM}{name}")
        assert entry.findtext(f"{ATOM}author/{ATOM}name")
        content = entry.find(f"{ATOM}content")
        assert content is not None
        assert content.get("type") == "text"
    assert "2026-09-21T14:13:20Z" in {entry.findtext(f"{ATOM}updated") for entry in entries}
    assert b"<script" not in response.data
    links = {link.get("rel"): link.get("href") for link in root.findall(f"{ATOM}link")}
    assert links["self"] == "http://localhost/raw?format=atom&rows_per_page=100&category=logger"
    assert links["alternate"] == "http://localhost/raw?format=html&rows_per_page=100&category=logger"


def test_json_feed(client: FlaskClient) -> None:
    feed = client.get("/raw?format=feed&rows_per_page=5").json
    assert feed is not None
    assert feed["version"] == "https://jsonfeed.org/version/1.1"
    assert len(feed["items"]) == 5
    following = client.get(feed["next_url"]).json
    assert following is not None
    assert not {item["id"] for item in feed["items"]} & {item["id"] for item in following["items"]}


@pytest.mark.parametrize(
    "path", ["/raw?format=html", "/id?id=%3D1%2B1", "/raw?user=%3Cscript%3E", "/nothing/%3Cscript%3E"]
)
def test_html_has_no_markup_of_messages(client: FlaskClient, path: str) -> None:
    text = client.get(path, headers={"Accept": "text/html"}).text
    assert "<script>alert" not in text
    assert "<img src=x" not in text


def test_an_answer_that_has_not_changed_is_not_sent_again(client: FlaskClient) -> None:
    first = client.get("/raw")
    again = client.get("/raw", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/raw?order=asc", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_gzip(client: FlaskClient) -> None:
    plain = client.get("/raw")
    assert "Content-Encoding" not in plain.headers
    packed = client.get("/raw", headers={"Accept-Encoding": "br, gzip;q=0.8"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert gzip.decompress(packed.data) == plain.data
    assert int(packed.headers["Content-Length"]) == len(packed.data)
    for refused in ("gzip;q=0", "identity", ""):
        assert "Content-Encoding" not in client.get("/raw", headers={"Accept-Encoding": refused}).headers
    head = client.head("/raw", headers={"Accept-Encoding": "gzip"})
    assert head.data == b""


def test_security_headers(client: FlaskClient) -> None:
    for path in ("/raw", "/nothing", "/id", "/charts/line?start=1", "/raw?format=csv", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "script-src 'unsafe" not in policy


def test_other_sites_may_read(history_engine: sa.Engine) -> None:
    config = {"datagrepper.cors_domains": [r"https://(\w+\.)?example\.org"], "datagrepper.cors_headers": ["X-.*"]}
    client = create_app(config).test_client()

    def allowed(origin: str, **headers: str) -> Any:
        response = client.options("/raw", headers={"Origin": origin, **headers})
        assert "Origin" in response.headers["Vary"]
        return response.headers

    assert allowed("https://www.example.org")["Access-Control-Allow-Origin"] == "https://www.example.org"
    for other in ("https://example.org.evil.example", "http://example.org", "null", "https://evilexample.org"):
        assert "Access-Control-Allow-Origin" not in allowed(other)
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "X-One, Authorization"}
    headers = allowed("https://example.org", **asked)
    assert headers["Access-Control-Allow-Headers"] == "X-One"
    assert headers["Access-Control-Max-Age"] == "600"
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert "Origin" in client.get("/nothing").headers["Vary"]


def test_a_time_in_the_answers_is_of_now(client: FlaskClient) -> None:
    before = time.time()
    answer = client.get("/raw?delta=10").json
    assert answer is not None
    assert before - 1 < answer["arguments"]["end"] < time.time() + 1
