# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a message says is text: on datagrepper's pages, live, in its chart, and in the widget on pages of others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.datanommer import models
from fedmsg.testing import wait_until
from tests import browsers
from tests.satellites.grepping import Grepper
from tests.satellites.messages import message
from tests.satellites.paging import PREFIX, Page, serving, stored

# A browser takes a while to start on a busy machine.
pytestmark = pytest.mark.timeout(180)

SCRIPT = '<script>window.taken = 1</script><img src=x onerror="window.taken = 2"><b id=injected>bold</b>\'"-->]]>'
BIDI = "gpj.\u202egnp.exe"
NUL = "nul\x00escape\x1b[31m\x7f"
HALF = "half \ud800 of one"
LINK = "javascript:window.taken=3"


def nested(depth: int) -> Any:
    found: Any = "deep"
    for _ in range(depth):
        found = [found]
    return found


HOSTILE = {
    "script": stored(0, text=SCRIPT, more=SCRIPT, users=[SCRIPT], packages=[SCRIPT], link=LINK),
    "topic": stored(1, f"shop.{SCRIPT}", text="in the topic"),
    "bidi": stored(2, text=BIDI, users=[BIDI]),
    "nul": stored(3, text=NUL, users=["u\x01"]),
    "half": stored(4, text=HALF),
    "large": stored(5, text="x" * 5_000_000),
    "many": stored(6, text="many", keys={f"key{number}": number for number in range(100_000)}),
    "deep": stored(7, text="deep", inside=nested(100)),
    "deeper": stored(8, text="deeper", inside=nested(400)),
    "odd": message(f"{PREFIX}.shop.odd", msg={"text": {"a": 1}, "users": 5, "packages": {"b": []}}, username=None),
    "empty": message(f"{PREFIX}.shop.empty", msg=None, username=SCRIPT),
}
SAFE = "window.taken || document.getElementById('injected')"


@pytest.fixture(scope="module")
def grepper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grepper]:
    with serving(tmp_path_factory.mktemp("hostile"), **{"datagrepper.cors_domains": []}) as started:
        models.add_many(HOSTILE.values())
        yield started


def identity(kind: str) -> str:
    return str(HOSTILE[kind]["body"]["msg_id"])


@pytest.mark.parametrize("size", ["small", "medium", "large", "extra-large"])
def test_a_list_shows_hostile_messages_as_text(page: Page, size: str) -> None:
    page.open(f"/raw?size={size}")
    page.wait_for("#facets a")
    assert page.run(f"return {SAFE}") is None
    assert len(page.texts()) == len(HOSTILE)
    shown = "\n".join(page.texts())
    assert SCRIPT[:60] in shown
    assert "gpj.\\u202egnp.exe" in shown
    assert "nul\\x00escape\\x1b[31m\\x7f" in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f\x7f]", page.one("#cards").text)
    assert page.all("#cards a[href^='javascript']") == []
    # One of five megabytes does not fill the page.
    assert len(page.browser.page_source) < 500_000
    assert page.complaints() == []


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_page_shows_a_hostile_message_as_text(page: Page, kind: str) -> None:
    page.open(f"/id?id={identity(kind)}")
    assert page.one("article.message h1").is_displayed()
    assert page.run(f"return {SAFE}") is None
    shown = "".join(page.texts(".json"))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f\x7f]", shown)
    is_cut = kind in {"large", "many", "deeper"}
    assert bool(page.all(".note")) == is_cut
    if not is_cut and kind != "half":
        original = HOSTILE[kind]["body"]["msg"]
        written = shown.replace("\\x7f", "\x7f").replace("\\\\x", "\\x")
        assert json.loads(written, strict=False)["msg"] == original
    assert page.complaints() == []


def test_all_of_a_message_that_is_cut_is_a_link_away(page: Page, grepper: Grepper) -> None:
    page.open(f"/id?id={identity('large')}")
    address = page.one(".note a").get_attribute("href")
    assert address is not None
    assert len(grepper.get(address.removeprefix(grepper.address)).json["msg"]["text"]) == 5_000_000


def test_the_live_view_shows_hostile_messages_as_text(page: Page) -> None:
    page.open("/raw?category=live&size=medium")
    page.one("#live").click()
    wait_until(lambda: page.one("#state").text == "Waiting for messages")
    found = [
        message(f"{PREFIX}.live.a", msg={"log": SCRIPT, "link": LINK}),
        message(f"{PREFIX}.live.{SCRIPT}", msg={"log": BIDI}, username=NUL.replace("\x00", "")),
        message(f"{PREFIX}.live.c", msg=None, username=None),
    ]
    models.add_many(found)
    wait_until(lambda: len(page.texts()) == len(found))
    assert page.run(f"return {SAFE}") is None
    assert SCRIPT[:40] in "\n".join(page.texts())
    assert not re.search("[\u202a-\u202e\x00-\x09\x0b-\x1f\x7f]", page.one("#cards").text)
    assert page.complaints() == []
    page.open("/reference/id")


@pytest.mark.parametrize("name", ["user", "topic", "q", "where", "start", "delta", "size", "page", "cursor"])
def test_an_argument_is_shown_as_text(page: Page, name: str) -> None:
    page.open(f"/raw?{name}=%22%3E%3Cb%20id%3Dinjected%3E")
    assert page.all("#content")
    assert page.run(f"return {SAFE}") is None


# ---------------------------------------------------------------- the widget

TAG = """<!doctype html><meta charset="utf-8"><title>A page of others</title><h1>News</h1>
<script id="datagrepper-widget" src="{address}/widget.js{query}" {data}></script><p>Below</p>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[int]:
    with browsers.site(folder) as port:
        yield port


def opened(page: Page, folder: Path, site: int, *, query: str = "", **data: str) -> Page:
    """Open a page of another site that has the widget, and wait until that has shown something."""
    attributes = " ".join(f'data-{name}="{value}"' for name, value in data.items())
    # A name of its own: the browser may keep what it has seen.
    name = f"page{len(list(folder.iterdir()))}.html"
    (folder / name).write_text(TAG.format(address=page.address, query=query, data=attributes))
    foreign = Page(page.browser, f"http://somewhere.example.org:{site}").open(f"/{name}")
    foreign.wait_for(".datagrepper-widget li")
    return foreign


def test_the_widget_shows_messages_on_a_page_of_others(page: Page, folder: Path, site: int) -> None:
    foreign = opened(page, folder, site, user="ann,bob", category="shop", rows_per_page="3", order="asc", size="medium")
    shown = foreign.texts(".datagrepper-widget li a")
    assert len(shown) == 3
    assert "in the topic" in shown
    # It stands where its tag stands, and links lead to the messages.
    assert (
        foreign.run("return document.querySelector('#datagrepper-widget + .datagrepper-widget + p').textContent")
        == "Below"
    )
    links = foreign.run("return [...document.querySelectorAll('.datagrepper-widget a')].map(a => a.href)")
    assert all(link.startswith(f"{page.address}/id?id=2026-") for link in links)
    assert foreign.all("link[rel=stylesheet]") == []


def test_the_widget_shows_hostile_messages_as_text(page: Page, folder: Path, site: int) -> None:
    foreign = opened(page, folder, site, query="?css=true", category="shop", rows_per_page="100", size="large")
    assert len(foreign.texts(".datagrepper-widget li")) == len(HOSTILE)
    assert foreign.run(f"return {SAFE}") is None
    assert foreign.all(".datagrepper-widget a[href^='javascript']") == []
    assert SCRIPT[:40] in "\n".join(foreign.texts(".datagrepper-widget li"))
    assert foreign.one("link[rel=stylesheet]").get_attribute("href") == f"{page.address}/static/widget.css"
    assert foreign.run("return getComputedStyle(document.querySelector('.datagrepper-widget')).listStyleType") == "none"


def test_the_widget_says_when_there_is_nothing(page: Page, folder: Path, site: int) -> None:
    foreign = opened(page, folder, site, user="none", grouped="true")
    assert foreign.texts(".datagrepper-widget li") == ["No messages."]
    foreign = opened(page, folder, site, rows_per_page="a lot")
    assert foreign.texts(".datagrepper-widget li") == ["The messages could not be read."]
