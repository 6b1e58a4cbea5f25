# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pages of statistics in a browser: charts that follow the numbers, hostile texts, how it all looks."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys
from sqlalchemy import orm

from fedmsg.statscache.plugins import Schedule
from fedmsg.testing import wait_until
from tests.satellites import statistics
from tests.satellites.accessibility import faults
from tests.satellites.paging import Page
from tests.satellites.served import check_policy
from tests.satellites.statistics import MINUTE, Notes, Ranks, Shares, Statscache, Visits, install
from tests.satellites.test_statscache_server import PLUGINS, ROOT

# A browser takes a while to start on a busy machine.
pytestmark = pytest.mark.timeout(180)

SCRIPT = "<script>document.title = 'HACKED'</script><img src=x onerror=\"document.title = 'HACKED'\">"
HOSTILE = [SCRIPT, "nul\0esc\x1b[31m", "\u202egnp.exe", "x" * 5000, "\ud800", "'\"></bdi><b id=injected>", ""]
UNSEEN = "[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f\x7f]"
PAGES = ["/web/dashboard", "/web/dashboard/visits-all-1m", "/web/dashboard/shares-1m", "/web/dashboard/ranks",
         "/web/dashboard/notes", "/web/getting-started", "/web/reference", "/web/dashboard/none"]  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('pages') / 'numbers.db'}"


@pytest.fixture(scope="module")
def session(url: str) -> Iterator[orm.scoped_session[orm.Session]]:
    now = Schedule(MINUTE).last()
    with statistics.opened(url) as found:
        for number in range(50):
            found.add(Visits.model(timestamp=now - number * MINUTE, scalar=100 - number))
            found.add_all(
                [Shares.model(timestamp=now - number * MINUTE, category=f"c{n}", scalar=n * 10) for n in range(10)]
            )
        found.add_all([Shares.model(timestamp=now, category=text, scalar=500) for text in HOSTILE[:4]])
        found.add_all([Ranks.model(timestamp=now, category=text, scalar=n) for n, text in enumerate(HOSTILE)])
        found.add_all([Notes.model(timestamp=now, category=text, message=text) for text in HOSTILE])
        found.commit()
        yield found


@pytest.fixture(scope="module")
def server(session: object, url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Statscache]:
    folder = install(tmp_path_factory.mktemp("plugins"), "visits", PLUGINS, "everything")
    with Statscache(tmp_path_factory.mktemp("server"), url, path=[folder, ROOT]) as started:
        yield started


@pytest.fixture
def page(browser: Chrome, server: Statscache) -> Page:
    return Page(browser, server.address)


def opened(page: Page, path: str, **look: Any) -> Page:
    """Open a page, and wait until its charts are drawn."""
    page.open(path, **look)
    wait_until(lambda: page.run("return [...document.querySelectorAll('[data-chart]')].every(e => e.firstChild)"))
    return page


def readout(page: Page) -> str:
    return page.texts(".read")[0]


# ---------------------------------------------------------------- what is shown


def test_the_first_page_is_the_dashboard(page: Page) -> None:
    opened(page, "/")
    assert page.browser.current_url == f"{page.address}/web/dashboard"
    names = page.texts(".figure h2 a")
    assert {"Visits, (all)", "shares", "ranks", "notes", "volume"} <= set(names)
    assert len(page.all(".figure")) == len(names)
    assert "Nothing has been counted yet." in page.texts(".nothing")
    assert page.complaints() == []
    page.go(lambda: page.run("document.querySelector('a[href$=\"/visits-all-1m\"]').click()"))
    assert page.one("h1").text == "Visits, (all) by 1m"


def test_numbers_by_time(page: Page) -> None:
    opened(page, "/web/dashboard/visits-all-1m")
    assert len(page.all(".plot g")) == 60
    assert page.all(".legend") == []
    bars = page.run("return [...document.querySelectorAll('.plot rect.c0')].map(e => e.getAttribute('height'))")
    assert len(bars) >= 49
    assert [float(one) for one in bars] == sorted(map(float, bars))
    rows = page.texts("#rows tbody tr")
    assert len(rows) == 25
    assert rows[0].endswith("100")
    assert page.complaints() == []


def test_categories_by_time(page: Page) -> None:
    opened(page, "/web/dashboard/shares-1m")
    names = page.texts(".legend bdi")
    assert names[:2] == ["c9", "c8"]
    assert (len(names), names[-1]) == (8, "all others")
    numbers = {
        name: int(text.replace(",", "")) for name, text in zip(names, page.texts(".legend .number"), strict=True)
    }
    # All that there is, whether it has a colour of its own or not.
    assert sum(numbers.values()) == 50 * 450 + 4 * 500
    assert numbers["c9"] == 50 * 90


def test_a_ranking(page: Page) -> None:
    opened(page, "/web/dashboard/ranks")
    assert page.texts(".ranks .number") == ["6", "5", "4", "3", "2", "1", "0"]


def test_charts_follow_the_numbers(page: Page, session: orm.scoped_session[orm.Session]) -> None:
    opened(page, "/web/dashboard/visits-all-1m")
    before = readout(page)
    soon = Schedule(MINUTE).last()
    row = session.query(Visits.model).filter_by(timestamp=soon).one_or_none()
    if row is None:
        row = Visits.model(timestamp=soon, scalar=0)
        session.add(row)
    row.scalar += 123_456
    session.commit()
    shown = f"{row.scalar:,.0f}"
    wait_until(lambda: shown in "".join(page.texts(".plot ~ *, .read, #rows")), 30, what=lambda: readout(page))
    wait_until(lambda: shown in page.texts("#rows tbody tr")[0], 30)
    assert readout(page) != before
    assert page.complaints() == []
    row.scalar -= 123_456
    session.commit()


def test_a_chart_is_read_with_keys(page: Page) -> None:
    opened(page, "/web/dashboard/visits-all-1m")
    page.run("document.querySelector('.plot svg').focus()")
    page.press(Keys.HOME)
    first = page.one(".plot svg").get_attribute("aria-valuetext")
    page.press(Keys.ARROW_RIGHT)
    assert page.one(".plot svg").get_attribute("aria-valuenow") == "1"
    assert first != readout(page) == page.one(".plot svg").get_attribute("aria-valuetext")
    page.press(Keys.END)
    assert page.one(".plot svg").get_attribute("aria-valuenow") == "59"
    page.press(Keys.ESCAPE)
    assert page.all(".is-chosen") == []


def test_a_server_that_is_away_is_shown(browser: Chrome, url: str, session: object, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    with Statscache(tmp_path, url, path=[install(folder, "visits", PLUGINS, "everything"), ROOT]) as server:
        page = opened(Page(browser, server.address), "/web/dashboard/visits-all-1m")
        server.popen.kill()
        page.wait_for(".lost")
        assert len(page.all(".plot g")) == 60
    page.complaints()


# ---------------------------------------------------------------- hostile texts


@pytest.mark.parametrize("ident", ["shares-1m", "ranks", "notes"])
def test_hostile_texts_are_shown_as_text(page: Page, ident: str) -> None:
    opened(page, f"/web/dashboard/{ident}")
    wait_until(lambda: page.all("#rows tbody td"))
    shown = page.one("main").text
    assert "<script>document.title" in shown
    assert page.all("#injected, main img, main script") == []
    assert "HACKED" not in page.browser.title
    assert not re.search(UNSEEN, shown.replace("\n", ""))
    assert len(page.browser.page_source) < 200_000
    assert page.complaints() == []


def test_the_dashboard_shows_hostile_texts_as_text(page: Page) -> None:
    opened(page, "/web/dashboard")
    assert page.all("#injected, main img, main script") == []
    assert "HACKED" not in page.browser.title
    assert not re.search(UNSEEN, "".join(page.texts(".figure")).replace("\n", ""))


def test_the_table_is_there_without_a_script(server: Statscache) -> None:
    html = server.get("/web/dashboard/notes", Accept="text/html").body.decode()
    assert html.count("<tr>") == 1 + len(HOSTILE)
    assert "&lt;script&gt;document.title" in html
    assert "<script>document" not in html


# ---------------------------------------------------------------- how it looks


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_the_accessibility_checker_finds_nothing_serious(page: Page, path: str, is_dark: bool) -> None:
    opened(page, path, is_dark=is_dark)
    assert faults(page) == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_phone(page: Page, path: str) -> None:
    opened(page, path, width=360, height=740)
    assert page.run("return document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_nothing_that_the_policy_forbids(server: Statscache, path: str) -> None:
    check_policy(server.get(path, Accept="text/html"))


def test_every_page_is_a_link_away(page: Page) -> None:
    opened(page, "/web/dashboard")
    for name in ("Getting started", "Reference", "Dashboard"):
        page.go(lambda: page.browser.find_element("link text", name).click())  # noqa: B023 it is called at once
        assert page.all("main h1")
        assert page.complaints() == []


def test_what_a_link_offers_can_be_read(page: Page, server: Statscache) -> None:
    opened(page, "/web/dashboard/visits-all-1m")
    for name, kind in (("JSON", "application/json"), ("CSV", "text/csv"), ("Layout", "application/json")):
        address = page.browser.find_element("link text", name).get_attribute("href")
        assert address is not None
        answer = server.get(address.removeprefix(server.address), Accept="text/html, */*;q=0.8")
        assert answer.headers["Content-Type"].startswith(kind)


def test_times_are_of_today(page: Page) -> None:
    """The scale of a chart ends with the time that it is."""
    opened(page, "/web/dashboard/visits-all-1m")
    begin = dt.datetime.now(dt.timezone.utc) - dt.timedelta(minutes=5)
    last = page.texts(".ticks span")[-1]
    assert f"{begin:%m-%d %H:%M}" <= last
