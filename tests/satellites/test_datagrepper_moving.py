# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration file of the published datagrepper: each of its names has its effect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fedmsg.datagrepper import configuration
from fedmsg.datanommer import models
from fedmsg.testing import run
from tests import postgres
from tests.satellites import histories
from tests.satellites.grepping import Grepper
from tests.satellites.messages import message

FILE = """
APP_PATH = "/grepper"
DEFAULT_QUERY_DELTA = 3600
DATANOMMER_SQLALCHEMY_URL = {url!r}
DATAGREPPER_APPROXIMATE_COUNT = True
DATAGREPPER_BASE_URL = "https://history.example.org/grepper"
CORS_DOMAINS = [r"https://.*[.]example[.]org"]
CORS_METHODS = ["GET", "OPTIONS"]
CORS_HEADERS = ["X-Shop-.*"]
CORS_MAX_AGE = 77
BUS_INFO = {{"name": "Bus of the shop", "contact": "ann@example.org"}}
THEME_CSS_URL = "https://theme.example.org/shop.css"
WEBSOCKET_URL = "wss://live.example.org:9939"
CONTENT_SECURITY_POLICY = "default-src 'self'; style-src 'self'; img-src https://shop.example.org"
DEBUG = True
"""
COUNT = 3
ORIGIN = "https://www.example.org"


@pytest.fixture(scope="module")
def url(postgresql: postgres.Cluster) -> Iterator[str]:
    """Return a database that estimates."""
    url = postgresql.create()
    with histories.opened(url):
        models.add_many([message(msg_id=f"2026-{number}") for number in range(COUNT)])
    yield url
    postgresql.drop(url)


@pytest.fixture(scope="module")
def moved(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grepper]:
    """Return a server that has nothing but the old file."""
    folder = tmp_path_factory.mktemp("moved")
    (folder / "old.cfg").write_text(FILE.format(url=url))
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATAGREPPER_CONFIG", str(folder / "old.cfg"))
            server = stack.enter_context(Grepper(folder, "sqlite:////nothing/here.db"))
        yield server


@pytest.fixture(scope="module")
def plain(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grepper]:
    """Return the control: a server without such a file."""
    with Grepper(tmp_path_factory.mktemp("plain"), url) as server:
        yield server


def test_all_names_are_here() -> None:
    lines = [line.partition(" = ")[0] for line in FILE.strip().splitlines()]
    assert sorted(lines) == sorted([*configuration.NAMES, "DEBUG"])


def test_url_and_path(moved: Grepper, plain: Grepper) -> None:
    assert moved.get("/grepper/id?id=2026-1").json["msg_id"] == "2026-1"
    assert plain.get("/grepper/id?id=2026-1").status == 404
    assert '"/grepper/raw' in moved.get("/grepper/", Accept="text/html").body.decode()


def test_delta(moved: Grepper, plain: Grepper) -> None:
    assert round(moved.get("/raw").json["arguments"]["delta"]) == 3600
    assert (moved.get("/raw").json["total"], moved.get("/raw").json["raw_messages"]) != (COUNT, [])
    assert plain.get("/raw").json["arguments"]["delta"] is None


def test_totals_are_estimated_unless_exact_ones_are_wanted(moved: Grepper, plain: Grepper) -> None:
    estimated = moved.get("/raw?start=0").json["total"]
    assert estimated == plain.get("/raw?start=0&count=estimated").json["total"]
    # What PostgreSQL expects of a table that it has not looked at.
    assert estimated != COUNT
    assert moved.get("/raw?start=0&count=exact").json["total"] == plain.get("/raw?start=0").json["total"] == COUNT


def test_base_url(moved: Grepper, plain: Grepper) -> None:
    for server, base in ((moved, "https://history.example.org/grepper"), (plain, plain.address)):
        (item, *_) = server.get("/raw?start=0&format=feed").json["items"]
        assert item["url"].startswith(f"{base}/id?id=")


def test_cors(moved: Grepper, plain: Grepper) -> None:
    asked: dict[str, Any] = {"Origin": ORIGIN, "Access_Control_Request_Method": "GET"}
    asked["Access_Control_Request_Headers"] = "X-Shop-A, X-B"
    headers = moved.get("/raw", method="OPTIONS", **asked).headers
    assert {name: headers.get(f"Access-Control-{name}") for name in ("Allow-Origin", "Max-Age", "Allow-Headers")} == {
        "Allow-Origin": ORIGIN, "Max-Age": "77", "Allow-Headers": "X-Shop-A"
    }  # fmt: skip
    assert headers["Access-Control-Allow-Methods"] == "GET, OPTIONS"
    assert headers["Vary"].startswith("Origin")
    others = plain.get("/raw", method="OPTIONS", **asked).headers
    assert (others["Access-Control-Max-Age"], others["Access-Control-Allow-Headers"]) == ("600", "X-Shop-A, X-B")
    assert "POST" in others["Access-Control-Allow-Methods"]
    for origin in ("https://www.example.com", "https://www.example.org.evil.com", "http://www.example.org"):
        assert "Access-Control-Allow-Origin" not in moved.get("/raw", Origin=origin).headers
        assert plain.get("/raw", Origin=origin).headers["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "Bus of the shop"), ("/reference", "ann@example.org"), ("/reference", "wss://live.example.org:9939"),
        ("/", 'href="https://theme.example.org/shop.css"'),
    ],
)  # fmt: skip
def test_what_pages_show(moved: Grepper, plain: Grepper, path: str, text: str) -> None:
    assert text in moved.get(path, Accept="text/html").body.decode()
    assert text not in plain.get(path, Accept="text/html").body.decode()


def test_content_security_policy(moved: Grepper, plain: Grepper) -> None:
    policy = moved.get("/", Accept="text/html").headers["Content-Security-Policy"]
    # The theme is let in.
    assert policy == (
        "default-src 'self'; style-src https://theme.example.org 'self'; img-src https://shop.example.org"
    )
    assert "default-src 'none'" in plain.get("/").headers["Content-Security-Policy"]


def test_a_bad_value_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.cfg").write_text("CORS_MAX_AGE = 'long'\n")
    monkeypatch.setenv("DATAGREPPER_CONFIG", str(tmp_path / "old.cfg"))
    done = run(["datagrepper", "--port", "0"])
    assert done.returncode == 5
    (line,) = done.stderr.strip().splitlines()
    assert "old.cfg: CORS_MAX_AGE: 'long' is not a number of seconds" in line
