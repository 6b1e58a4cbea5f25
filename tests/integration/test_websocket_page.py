# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page in a browser listens to a bus: the page of the documentation, in Chromium, at a hub that runs."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from fedmsg.testing import Bus, Process, free_port, wait_until
from tests import browsers
from tests.structure.source import REPOSITORY

# A browser takes a while to start on a busy machine.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """Serve the folder with the page, and give the port."""
    with browsers.site(REPOSITORY / "docs" / "howto") as port:
        yield port


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Start Chromium, with nothing in it."""
    with browsers.chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="module")
def bus() -> Iterator[Bus]:
    """Give a bus with a relay."""
    with Bus() as made:
        made.start_relay()
        yield made


@pytest.fixture(scope="module")
def hub(bus: Bus) -> Iterator[int]:
    """Run a hub that serves the bus to pages, and give the port for that."""
    port = free_port()
    with Process(["fedmsg-hub", "--websocket-server-port", str(port)], env=bus.environ) as process:
        process.wait_ready()
        yield port
        assert process.stop() == 0, process.report()


def open_page(browser: Chrome, host: str, site: int, hub: int, topic: str = "*") -> None:
    query = urlencode({"server": f"ws://127.0.0.1:{hub}/", "topic": topic})
    browser.get(f"http://{host}:{site}/websocket.html?{query}")


def state(browser: Chrome) -> str:
    return browser.find_element(By.ID, "state").text


def lines(browser: Chrome) -> list[str]:
    return [line.text for line in browser.find_elements(By.CSS_SELECTOR, "#messages li")]


def test_the_page_shows_messages_as_they_come(browser: Chrome, site: int, bus: Bus, hub: int) -> None:
    hostile = "<script>document.title = 'taken over'</script>"
    open_page(browser, "localhost", site, hub, "org.fedoraproject.dev.shop.*")
    wait_until(lambda: state(browser) == "listening for org.fedoraproject.dev.shop.*")
    with bus.context() as context:
        wait_until(lambda: lines(browser), meanwhile=lambda: context.publish("hello", modname="shop"))
        for number in range(3):
            context.publish("order", {"order": number}, modname="garden")
            context.publish("order", {"order": number, "note": hostile}, modname="shop")
    wait_until(lambda: '"order":2' in lines(browser)[0])
    first, second, third = lines(browser)[:3]
    assert all("org.fedoraproject.dev.shop.order" in line for line in (first, second, third))
    assert ['"order":2' in first, '"order":1' in second, '"order":0' in third] == [True] * 3
    assert hostile in first
    assert "garden" not in "".join(lines(browser))
    assert browser.title == "What passes on the bus"


def test_a_page_of_somebody_else_does_not_get_in(browser: Chrome, site: int, hub: int) -> None:
    open_page(browser, "somewhere.example.org", site, hub)
    wait_until(lambda: state(browser) == "not connected")
    open_page(browser, "localhost", site, hub)
    wait_until(lambda: state(browser) == "listening for *")


def test_the_page_connects_again(browser: Chrome, site: int, bus: Bus) -> None:
    port = free_port()
    open_page(browser, "localhost", site, port)
    for _ in range(2):
        wait_until(lambda: state(browser) == "not connected")
        with Process(["fedmsg-hub", "--websocket-server-port", str(port)], env=bus.environ) as process:
            wait_until(lambda: state(browser) == "listening for *")
            assert process.stop() == 0, process.report()
