# SPDX-License-Identifier: LGPL-2.1-or-later
"""How datagrepper's pages look: on a phone, in the dark, and to those who do not see them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from fedmsg.datagrepper.app import create_app
from fedmsg.datanommer import models
from tests.satellites.accessibility import faults
from tests.satellites.grepping import Grepper
from tests.satellites.paging import Page, serving, stored
from tests.satellites.served import check_policy

# A browser takes a while to start on a busy machine.
pytestmark = pytest.mark.timeout(180)

LONG = "org.fedoraproject.dev.shop." + "very.long." * 20 + "end"
PAGES = ["/raw?rows_per_page=5", "/raw?user=ann&not_package=box1&size=small&rows_per_page=5",
         "/raw?size=extra-large&rows_per_page=2", "/raw?grouped=true&size=medium&rows_per_page=5",
         "/id?id={id}", "/reference/charts-line", "/raw?contains=x", "/id?id=none", "/raw?user=none"]  # fmt: skip


@pytest.fixture(scope="module")
def grepper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grepper]:
    with serving(tmp_path_factory.mktemp("look")) as started:
        models.add_many([stored(number, more=f"More about order {number}.") for number in range(30)])
        models.add_many([stored(30, LONG.removeprefix("org.fedoraproject.dev."), text="x" * 1000)])
        yield started


def address(path: str) -> str:
    """Return the path of a page, with the id of a message where it needs one."""
    if "{id}" not in path:
        return path
    found = models.Message.get_first(order="desc")
    models.session.remove()
    assert found is not None
    return path.replace("{id}", found.msg_id)


def test_the_checker_finds_faults(page: Page) -> None:
    page.open("/reference/id")
    page.run("document.body.append(document.createElement('input'))")
    assert any("label" in fault for fault in faults(page))


@pytest.mark.parametrize(
    ("path", "is_dark"),
    [*((path, False) for path in PAGES), (PAGES[0], True), (PAGES[2], True), ("/id?id={id}", True)],
)
def test_the_accessibility_checker_finds_nothing_serious(page: Page, path: str, is_dark: bool) -> None:
    page.open(address(path), is_dark=is_dark)
    if page.all("#search-page"):
        page.wait_for("#facets a, #empty")
    assert faults(page) == []


def test_the_accessibility_checker_finds_nothing_serious_in_an_open_message(page: Page) -> None:
    page.open("/raw?user=ann&rows_per_page=2")
    page.one("#save").click()
    page.press("j", "\n")
    page.wait_for("dialog article.message")
    assert faults(page) == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_phone(page: Page, path: str) -> None:
    page.open(address(path), width=360, height=740)
    assert page.run("return document.documentElement.scrollWidth") == 360
    if page.all("#cards a.open"):
        # The messages are not far below: the filters are closed.
        assert page.run("return document.querySelector('#cards').getBoundingClientRect().top") < 740
        assert not page.one("#f-user").is_displayed()


def test_what_is_pressed_on_a_phone_is_large_enough(page: Page) -> None:
    page.open("/raw?user=ann", width=360, height=740)
    page.run("document.getElementById('filters').open = true")
    small = page.run(
        "return [...document.querySelectorAll('button, input, select, .chip a, .sizes a, summary')]"
        ".filter(e => e.checkVisibility() && e.type != 'checkbox' && e.getBoundingClientRect().height < 36)"
        ".map(e => e.outerHTML)"
    )
    assert small == []


def test_a_dark_page_is_dark(page: Page) -> None:
    def lightness() -> int:
        colour = page.run("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall("[0-9]+", colour)[:3]))

    assert lightness_of(page, is_dark=True, measure=lightness) < 100
    assert lightness_of(page, is_dark=False, measure=lightness) > 600


def lightness_of(page: Page, *, is_dark: bool, measure: Any) -> int:
    page.open("/", is_dark=is_dark)
    found: int = measure()
    return found


@pytest.mark.parametrize("path", ["/", "/raw?size=extra-large", "/id?id={id}", "/reference", "/raw?contains=x"])
def test_a_page_has_nothing_of_its_own_that_the_policy_forbids(grepper: Grepper, path: str) -> None:
    check_policy(grepper.get(address(path), Accept="text/html"))


def test_the_pages_work_without_a_script(grepper: Grepper) -> None:
    path, found = "/raw?rows_per_page=10&size=small&user=ann", []
    while path:
        html = grepper.get(path, Accept="text/html").body.decode()
        found += re.findall(r'data-id="([^"]+)"', html.partition("<template")[0])
        more = re.search(r'class="next" rel="next" href="([^"]+)"', html)
        path = more[1].replace("&amp;", "&") if more else ""
    assert len(found) == len(set(found)) == 15


@pytest.mark.parametrize("path", ["/", "/raw?rows_per_page=2", "/id?id={id}", "/reference", "/raw?contains=x"])
def test_pages_work_below_the_path_of_a_proxy(grepper: Grepper, path: str) -> None:
    app = create_app({"datanommer.sqlalchemy.url": grepper.url})
    answer = app.test_client().get(
        address(path), base_url="https://example.org/history", headers={"Accept": "text/html"}
    )
    names = "href|src|action|data-(?:raw|one|stream|facets|histogram)"
    found = re.findall(rf' (?:{names})="([^"#]+)', answer.text)
    own = [one for one in found if not one.startswith(("https://shop.example.org", "https://example.invalid"))]
    assert own
    assert {one.removeprefix("https://example.org").partition("/history")[0] for one in own} == {""}


def test_a_theme_of_another_site_is_allowed_and_nothing_else(grepper: Grepper) -> None:
    theme = "https://static.example.org/theme.css"
    app = create_app({"datanommer.sqlalchemy.url": grepper.url, "datagrepper.theme_css_url": theme})
    answer = app.test_client().get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert f'<link rel="stylesheet" href="{theme}">' in answer.text
    assert "style-src https://static.example.org 'self'" in policy
    assert policy.count("static.example.org") == 1


def test_a_part_of_a_page_is_only_the_cards(grepper: Grepper) -> None:
    html = grepper.get("/raw?chrome=false&size=small", Accept="text/html").body.decode()
    assert html.lstrip().startswith('<ol class="cards small">')
    assert "<html" not in html


def test_the_reference_has_every_argument_of_every_route(grepper: Grepper) -> None:
    html = grepper.get("/reference", Accept="text/html").body.decode()
    described = grepper.get("/openapi.json").json
    for route, methods in described["paths"].items():
        assert f"<h2>{route}</h2>" in html
        for argument in methods["get"].get("parameters", []):
            if argument["in"] == "query":
                assert f"<code>{argument['name']}</code>" in html
    assert grepper.get("/reference/none", Accept="text/html").status == 404
    assert "<h2>/id</h2>" not in grepper.get("/reference/raw", Accept="text/html").body.decode()
