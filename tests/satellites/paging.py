# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pages of a ``datagrepper`` in a browser: a server with a history, and what a person does there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from fedmsg import meta
from fedmsg.testing import wait_until
from tests.satellites import histories
from tests.satellites.grepping import Grepper
from tests.satellites.messages import message

__all__ = ["BEGIN", "PREFIX", "Page", "serving", "stored"]

PREFIX = "org.fedoraproject.dev"
#: When the first message was published: so that all of them are of the last day.
BEGIN = int(time.time()) - 7200

_WORDS = """
name: {name}
description: One of the applications
obj: Things
link: https://shop.example.org/
messages:
  - topic: "**"
    subtitle: "{msg.text}"
    long_form: "{msg.more}"
    link: "{msg.link}"
    usernames: "{msg.users}"
    packages: "{msg.packages}"
"""


def stored(number: int, topic: str = "shop.order", **msg: Any) -> dict[str, Any]:
    """Return a message of a shop, to store."""
    content = {
        "text": f"order {number}", "users": ["ann" if number % 2 else "bob"], "packages": [f"box{number % 3}"],
        "link": "https://shop.example.org/", "number": number, **msg,
    }  # fmt: skip
    return message(f"{PREFIX}.{topic}", timestamp=BEGIN + number, msg=content, username=content["users"][0])


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Grepper]:
    """Run a server with an empty history; in the block the module of models writes into it."""
    words = folder / "words"
    words.mkdir()
    for name in ("shop", "git"):
        (words / f"{name}.yaml").write_text(_WORDS.replace("{name}", name))
    url = f"sqlite:///{folder / 'history.db'}"
    config = {"meta_processors": [str(words)], "topic_prefix": "org.fedoraproject"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta, "processors", None)
        meta.make_processors(topic_prefix_re=r"^org\.fedoraproject\.dev", **config)
        with (
            histories.opened(url),
            Grepper(folder, url, topic_prefix_re=r"^org\.fedoraproject\.dev", **config, **settings) as grepper,
        ):
            yield grepper


def _is_gone(element: WebElement) -> bool:
    try:
        element.is_enabled()
    except StaleElementReferenceException:
        return True
    return False


class Page:
    """What a person sees of a site in a browser, and does there.

    Args:
        browser: The browser.
        address: The address of the site, without a slash at the end.
    """

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser, self.address = browser, address

    def open(self, path: str = "/", *, width: int = 1280, height: int = 900, is_dark: bool = False) -> Page:
        """Look at a page, with a window of some size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        # What it has complained about before is not of this page.
        self.complaints()
        self.browser.get(self.address + path)
        return self

    def one(self, selector: str) -> WebElement:
        """Return the first element that there is of some kind."""
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Return all elements of some kind."""
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str = "#cards .open") -> list[str]:
        """Return the texts of elements, of the cards if nothing else is asked for."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())", selector
        )
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.browser.execute_script(script, *arguments)

    def go(self, action: Callable[[], object]) -> None:
        """Do what leads to another page, and wait until that is there."""
        before = self.one("html")
        action()
        wait_until(lambda: _is_gone(before) and self.run("return document.readyState") == "complete")

    def press(self, *keys: str) -> None:
        """Press keys, whatever has the focus."""
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def wait_for(self, selector: str) -> WebElement:
        """Wait until there is an element that shows, and return it."""
        found = wait_until(lambda: [one for one in self.all(selector) if one.is_displayed()], what=selector)
        return found[0]

    def complaints(self) -> list[str]:
        """Return what the browser has complained about: violated policies, errors of scripts, what failed to load."""
        entries: list[dict[str, Any]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
