# SPDX-License-Identifier: LGPL-2.1-or-later
"""Links are shortened by a web server, which may answer anything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from fedmsg.consumers import ircbot
from fedmsg.testing import free_port

LINK = "https://example.org/a/page?with=this&and=that"


class Service(BaseHTTPRequestHandler):
    """Answers what the test wants."""

    answer: ClassVar[tuple[int, bytes]] = (200, b"")
    asked: ClassVar[list[dict[str, list[str]]]] = []

    def do_GET(self) -> None:
        self.asked.append(parse_qs(urlsplit(self.path).query))
        status, content = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name that it has
        pass


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Service.asked.clear()
        yield f"http://127.0.0.1:{server.server_port}/s"
        server.shutdown()
        thread.join()


def test_a_link_is_shortened(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Service, "answer", (200, b"https://da.gd/abc\n"))
    assert ircbot._default_link_shortener(LINK, service) == "https://da.gd/abc"
    assert Service.asked == [{"url": [LINK]}]


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (500, b"https://da.gd/abc"),
        (404, b""),
        (200, b""),
        (200, b"\xff"),
        (200, b"too many links today"),
        (200, b"javascript:alert()"),
        (200, b"https://da.gd/abc\r\nQUIT"),
        (200, b"https://da.gd/\x01"),
        (200, b"https://da.gd/" + b"x" * 100),
    ],
)
def test_what_is_no_shorter_link(
    service: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int, content: bytes
) -> None:
    monkeypatch.setattr(Service, "answer", (status, content))
    assert ircbot._default_link_shortener(LINK, service) == LINK
    assert "a link is not shortened" in caplog.text


def test_a_service_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    assert ircbot._default_link_shortener(LINK, f"http://127.0.0.1:{free_port()}/s") == LINK
    assert "a link is not shortened" in caplog.text


def test_one_that_is_away_is_left_alone_for_a_while() -> None:
    asked = []

    def away(link: str) -> str:
        asked.append(link)
        return link

    shorten = ircbot._Shortener(away, gives_up=True)
    assert [shorten(f"{LINK}{number}") for number in range(3)] == [f"{LINK}{number}" for number in range(3)]
    assert asked == [f"{LINK}0"]


def test_a_link_that_is_short_enough_is_remembered_too() -> None:
    asked = []

    def same(link: str) -> str:
        asked.append(link)
        return link

    shorten = ircbot._Shortener(same, gives_up=False)
    assert [shorten(LINK) for _ in range(3)] == [LINK] * 3
    assert asked == [LINK]
