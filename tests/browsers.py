# SPDX-License-Identifier: LGPL-2.1-or-later
"""Chromium without a window, and sites of others that it looks at."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from fedmsg.testing import free_port
from tests import requirements

__all__ = ["chromium", "site"]

FLAGS = """
--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync
--host-resolver-rules=MAP\tsomewhere.example.org\t127.0.0.1
"""


@contextmanager
def chromium(folder: Path) -> Iterator[Chrome]:
    """Start Chromium, with nothing in it; it ends with the block.

    Args:
        folder: An empty folder for what it stores.
    """
    program = requirements.program("chromium", "chromium")
    driver = requirements.program("chromedriver", "chromium-driver")
    options = ChromeOptions()
    options.binary_location = program
    for flag in [*FLAGS.replace("\n", " ").split(" "), f"--user-data-dir={folder}"]:
        if flag:
            options.add_argument(flag.replace("\t", " "))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = Chrome(options=options, service=ChromeService(driver, port=free_port()))
    try:
        yield started
    finally:
        started.quit()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is Python's
        """Log nothing."""


@contextmanager
def site(folder: Path) -> Iterator[int]:
    """Serve a folder on this machine, and yield the port."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
