# SPDX-License-Identifier: LGPL-2.1-or-later
"""datagrepper's page in Chromium: search, filters, completion, live view, a message, the chart, keys."""

from __future__ import annotations

import shlex
import urllib.request
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.support.select import Select

from fedmsg.datanommer import models
from fedmsg.testing import wait_until
from tests.integration.faults.link import Link
from tests.satellites.grepping import Grepper
from tests.satellites.paging import BEGIN, PREFIX, Page, serving, stored

# A browser takes a while to start on a busy machine.
pytestmark = pytest.mark.timeout(180)

COUNT = 60
_numbers = iter(range(COUNT, 10_000))


@pytest.fixture(scope="module")
def grepper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grepper]:
    with serving(tmp_path_factory.mktemp("page")) as started:
        models.add_many([stored(number) for number in range(COUNT - 2)])
        models.add_many([stored(number, "git.push", text="pushed", status="new") for number in (COUNT - 2, COUNT - 1)])
        yield started


def asked(page: Page) -> dict[str, str]:
    """Return the arguments in the address of the page."""
    return dict(parse_qsl(urlsplit(page.browser.current_url).query))


def submitted(page: Page, field: str, text: str) -> None:
    """Write into a field of the form and press Enter, wherever the field is."""
    page.run("for (const one of document.querySelectorAll('details')) one.open = true")
    page.go(lambda: page.one(f"#{field}").send_keys(text, Keys.ENTER))


def test_the_page_shows_the_newest_messages(page: Page) -> None:
    page.open()
    assert page.texts()[:3] == ["pushed", "pushed", f"order {COUNT - 3}"]
    assert page.texts("#total") == ["The newest messages"]
    assert page.complaints() == []


@pytest.mark.parametrize(
    ("name", "text", "total"),
    [
        ("topic", f"{PREFIX}.git.push", 2), ("category", "git", 2), ("user", "ann", 30), ("package", "box1", 20),
        ("agent", "ann", 30), ("where", "msg.status=new", 2),
        ("not_topic", f"{PREFIX}.git.push", 58), ("not_category", "git", 58), ("not_user", "ann", 30),
        ("not_package", "box1", 40), ("not_agent", "bob", 30), ("not_contains", "order", 2),
        ("not_where", "msg.status=new", 58),
    ],
)  # fmt: skip
def test_a_filter_of_the_form_is_applied(page: Page, name: str, text: str, total: int) -> None:
    submitted(page.open(), f"f-{name}", text)
    assert page.texts("#total") == [f"{total} messages"]
    # What is empty is left out of the address, and what was asked stands in its field.
    assert asked(page) == {name: text}
    assert page.one(f"#f-{name}").get_attribute("value") == text


@pytest.mark.parametrize(("words", "total"), [("pushed", 2), ('"order 31"', 1), ("pushed -ann", 1)])
def test_words_are_searched(page: Page, words: str, total: int) -> None:
    page.open()
    page.press("/")
    page.go(lambda: page.press(words, Keys.ENTER))
    assert asked(page) == {"q": words}
    assert len(page.texts()) == total


def test_the_text_inside_is_searched_with_a_time_and_a_category(page: Page) -> None:
    submitted(page.open("/raw?category=shop&delta=86400"), "f-contains", "order 31")
    assert page.texts() == ["order 31"]


def test_a_time_is_chosen(page: Page) -> None:
    page.open("/raw?category=git")
    Select(page.one("#f-delta")).select_by_visible_text("the last hour")
    page.go(page.one(".go button").click)
    assert asked(page)["delta"] == "3600"
    assert page.texts("#total") == ["0 messages"]
    assert "No message matches" in page.one("#empty").text
    assert sorted(page.texts(".chip bdi")) == ["git", "the last hour"]


def test_a_filter_has_room_for_another_value(page: Page) -> None:
    page.open("/raw?package=box1")
    page.go(lambda: page.one("#f-package").send_keys(Keys.TAB, "box2", Keys.ENTER))
    assert page.texts(".chip bdi") == ["box1", "box2"]
    assert page.texts("#total") == ["40 messages"]


def test_a_filter_is_removed(page: Page) -> None:
    page.open("/raw?package=box1&user=ann")
    page.go(page.one(".chip a[aria-label='Remove package box1']").click)
    assert asked(page) == {"user": "ann"}


def test_a_filter_is_completed(page: Page) -> None:
    page.open()
    wait_until(lambda: "ann" in options(page, "user"))
    assert sorted(options(page, "category")) == ["git", "shop"]
    page.one("#f-package").send_keys("box2")
    wait_until(lambda: options(page, "package") == ["box2"])


def options(page: Page, name: str) -> list[str]:
    found: list[str] = page.run("return [...arguments[0].options].map(o => o.value)", page.one(f"#known-{name}"))
    return found


def test_what_there_is_leads_to_a_search(page: Page) -> None:
    page.open("/raw?user=ann")
    page.go(page.wait_for("#facets a[title=shop]").click)
    assert asked(page) == {"user": "ann", "category": "shop"}


def test_scrolling_reads_the_next_pages(page: Page) -> None:
    page.open("/raw?rows_per_page=20&size=small")

    def scroll() -> None:
        page.run("window.scrollTo(0, document.body.scrollHeight)")

    wait_until(lambda: len(page.texts()) == COUNT, meanwhile=scroll)
    assert len(set(page.run("return [...document.querySelectorAll('#cards .card')].map(c => c.dataset.id)"))) == COUNT
    wait_until(lambda: not page.all("a.next"))
    assert page.complaints() == []


def test_a_message_opens_over_the_page_and_on_its_own(page: Page) -> None:
    page.open("/raw?category=git")
    page.one("#cards a.open").click()
    article = page.wait_for("dialog article.message")
    assert page.texts("dialog h1") == ["pushed"]
    assert '"status"' in page.texts("dialog .json .nt")
    permanent = page.one("dialog a.permanent").get_attribute("href")
    page.press(Keys.ESCAPE)
    wait_until(lambda: not article.is_displayed())
    # The focus is where it was.
    assert page.run("return document.activeElement.className") == "open"
    assert permanent is not None
    page.open(permanent.removeprefix(page.address))
    assert page.browser.title == "pushed"
    assert page.one("meta[property='og:title']").get_attribute("content") == "pushed"
    assert page.one("meta[property='og:url']").get_attribute("content") == permanent
    assert page.complaints() == []


def test_the_lines_for_programs_work(page: Page) -> None:
    page.open("/raw?category=git&user=ann")
    page.one("#save summary").click()
    link, curl, python = page.texts("#save code")
    assert link == page.browser.current_url
    request = urllib.request.Request(shlex.split(curl)[1], headers={"Accept": "*/*"})
    with urllib.request.urlopen(request) as answer:
        assert b'"total":1' in answer.read()
    assert eval(python, {"requests": requests})["total"] == 1
    addresses = page.run("return [...document.querySelectorAll('#save .formats a')].map(a => a.href)")
    kinds = [requests.get(address, timeout=20).headers["Content-Type"].partition(";")[0] for address in addresses]
    assert kinds == [
        "application/json", "application/x-ndjson", "text/csv", "application/atom+xml", "application/feed+json",
    ]  # fmt: skip


def test_the_chart_zooms_by_pointer(page: Page) -> None:
    page.open("/raw?category=shop")
    page.wait_for("#chart .plot")
    first, second = page.all("#chart g")[:2]
    drag = (
        ActionChains(page.browser, duration=0).move_to_element(first).click_and_hold().move_to_element(second).release()
    )
    page.go(drag.perform)
    assert set(asked(page)) == {"category", "start", "end"}
    assert 0 < len(page.texts()) <= COUNT


def test_the_chart_zooms_by_keys(page: Page) -> None:
    page.open()
    plot = page.wait_for("#chart .plot")
    page.run("arguments[0].focus({focusVisible: true})", plot)
    page.press(Keys.HOME)
    assert plot.get_attribute("aria-valuenow") == "0"
    assert "messages" in (plot.get_attribute("aria-valuetext") or "")
    assert page.texts("#chart .read") == [plot.get_attribute("aria-valuetext")]
    page.go(lambda: page.press(Keys.ENTER))
    assert {"start", "end"} <= set(asked(page))
    assert len(page.texts()) > 0


def test_the_live_view_goes_on_after_a_lost_connection(browser: Chrome, grepper: Grepper) -> None:
    with Link(grepper.address.replace("http:", "tcp:")) as link:
        page = Page(browser, link.address.replace("tcp:", "http:")).open("/?size=medium")
        # Between the page and its stream; in the stream; while there is no connection.
        first, second, third = (next(_numbers) for _ in range(3))
        models.add_many([stored(first, text="before the stream")])
        page.one("#live").click()
        wait_until(lambda: page.texts()[0] == "before the stream")
        models.add_many([stored(second, text="in the stream")])
        wait_until(lambda: page.texts()[0] == "in the stream")
        link.cut()
        link.drop()
        models.add_many([stored(third, text="without a connection")])
        link.mend()
        wait_until(lambda: page.texts()[0] == "without a connection")
        assert page.texts()[:4] == ["without a connection", "in the stream", "before the stream", "pushed"]
        assert page.one("#state").text == "3 new"
        page.one("#live").click()
        assert page.one("#live").get_attribute("aria-pressed") == "false"
        page.open("/")


def test_the_live_view_has_only_what_was_asked_for(page: Page) -> None:
    page.open("/raw?user=eve&q=special")
    assert page.texts() == []
    page.one("#live").click()
    wait_until(lambda: page.one("#state").text == "Waiting for messages")
    models.add_many(
        [
            stored(next(_numbers), text="not hers"),
            stored(next(_numbers), users=["eve"], text="plain"),
            stored(next(_numbers), users=["eve"], text="a special one"),
        ]
    )
    wait_until(lambda: page.texts() == ["a special one"])
    assert page.texts("#cards .name.user") == ["eve"]
    assert not page.all("#empty")
    page.open("/")


def test_keys_are_enough(page: Page) -> None:
    page.open("/raw?category=git&size=small")
    page.press(Keys.TAB)
    assert page.run("return document.activeElement.className") == "skip"
    page.press("j")
    page.press("j")
    assert page.run("return document.activeElement === document.querySelectorAll('#cards a.open')[1]")
    page.press("k", Keys.ENTER)
    page.wait_for("dialog article.message")
    page.press(Keys.ESCAPE)
    wait_until(lambda: not page.one("dialog").is_displayed())
    page.press("l")
    wait_until(lambda: page.one("#live").get_attribute("aria-pressed") == "true")
    page.press("/")
    assert page.run("return document.activeElement.id") == "q"
    # A letter in a field is a letter.
    page.press("l")
    assert page.one("#q").get_attribute("value") == "l"
    assert page.one("#live").get_attribute("aria-pressed") == "true"
    page.open("/")


def test_the_form_is_there_again_after_a_mistake(page: Page) -> None:
    page.open("/raw?contains=something")
    assert page.texts("h1") == ["This can not be answered"]
    assert "contains" in page.one(".failure").text
    assert page.one("#f-contains").get_attribute("value") == "something"


def test_times_of_the_page_are_those_of_the_address(page: Page) -> None:
    page.open(f"/raw?start={BEGIN + 1}&end={BEGIN + 3}&order=asc")
    assert page.texts() == ["order 1", "order 2", "order 3"]
    page.go(page.one(".go button").click)
    assert page.texts() == ["order 1", "order 2", "order 3"]
