# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asking web servers that answer in every way they should not."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg._util import http
from fedmsg.exceptions import HttpError
from fedmsg.testing import free_port
from tests.datagrepper_server import DatagrepperServer, Handler, Query, message


@pytest.fixture
def server() -> Iterator[DatagrepperServer]:
    with DatagrepperServer([message(1, 1_700_000_000)]) as found:
        yield found


def test_json(server: DatagrepperServer) -> None:
    found = http.get_json(f"{server.url}/id", {"id": "2026-1"})
    assert (found["msg"], found["timestamp"]) == ({"number": 1}, 1.7e9)
    assert server.asked == [("id", {"id": ["2026-1"]})]


def test_keys_with_several_values(server: DatagrepperServer) -> None:
    http.get_json(f"{server.url}/raw?x=y", [("start", 0), ("end", 1), ("category", "a&b"), ("category", "ü")])
    assert server.asked[0][1] == {"x": ["y"], "start": ["0"], "end": ["1"], "category": ["a&b", "ü"]}


def says(status: int, content: Any, **headers: str) -> Callable[[Handler, Query, int], bool]:
    def answer(handler: Handler, query: Query, number: int) -> bool:
        handler.answer(status, content, **headers)
        return True

    return answer


def test_text(server: DatagrepperServer) -> None:
    server.misbehave = says(200, "https://da.gd/ü\n".encode())
    assert http.get_text(server.url) == "https://da.gd/ü\n"


@pytest.mark.parametrize(
    ("status", "content", "headers", "text"),
    [
        (200, b"<html>", {}, "not JSON"),
        (200, b"", {}, "not JSON"),
        (200, b"\xff", {}, "not JSON"),
        (200, b"[" * 100_000, {}, "not JSON"),
        (200, b"1" * 5000, {}, "not JSON"),
        (200, b"[1]" + b" " * 2000, {}, "more than 1000 bytes"),
        (200, gzip.compress(b"[]"), {"Content_Encoding": "gzip"}, "compressed"),
        (404, b"{}", {}, "status 404"),
        (500, b"{}", {}, "status 500"),
        (204, b"", {}, "status 204"),
        (302, b"", {"Location": "/again"}, "redirects more than"),
        (302, b"", {"Location": "file:///etc/passwd"}, "not an http or https address"),
        (302, b"", {"Location": "http://[/"}, "can't be asked"),
        (200, b"[]", {"Content_Length": "7"}, "can't be asked"),
    ],
)
def test_bad_answers(
    server: DatagrepperServer, status: int, content: bytes, headers: dict[str, str], text: str
) -> None:
    server.misbehave = says(status, content, **headers)
    with pytest.raises(HttpError, match=text) as caught:
        http.get_json(f"{server.url}/raw", timeout=5, largest=1000 if "1000" in text else 1_000_000)
    assert "\n" not in str(caught.value)
    assert caught.value.status in {None, status}


@pytest.mark.parametrize("value", ["[]", "{}", '{"a":0}', "0"], ids=["lists", "dicts", "items", "numbers"])
def test_json_that_would_grow_in_memory_is_not_decoded(server: DatagrepperServer, value: str) -> None:
    """An answer of some MiB that would take a hundred times as much is rejected; one of long texts is not."""
    server.misbehave = says(200, f"[{','.join([value] * 1_000_000)}]".encode())
    tracemalloc.start()
    try:
        with pytest.raises(http.TooLarge, match="more than 500000 values"):
            http.get_json(f"{server.url}/raw")
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()
    server.misbehave = says(200, f'[{",".join(["1"] * 1000)},"{"x" * 8_000_000}"]'.encode())
    assert len(http.get_json(f"{server.url}/raw")) == 1001


def test_text_that_is_none(server: DatagrepperServer) -> None:
    server.misbehave = says(200, b"\xff")
    with pytest.raises(HttpError, match="not UTF-8"):
        http.get_text(server.url)


def test_nobody_there() -> None:
    with pytest.raises(HttpError, match="Connection refused") as caught:
        http.get_json(f"http://127.0.0.1:{free_port()}/raw")
    assert caught.value.status is None


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense", "http://[", "http://a b/", "/etc/passwd", ""])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(HttpError, match="is not an http or https address"):
        http.get_json(url)


def test_passwords_are_not_told() -> None:
    with pytest.raises(HttpError) as caught:
        http.get_json(f"http://ann:secret@127.0.0.1:{free_port()}/raw?token=secret#secret")
    assert "secret" not in str(caught.value)


def test_an_https_address_does_not_lead_to_http(
    server: DatagrepperServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it would lead to there is an answer, but everybody on the way could read along or change it."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.use_tls(tmp_path)))
    assert http.get_json(f"{server.url}/id", {"id": "2026-1"})["i"] == 1
    with DatagrepperServer(server.messages) as plain:
        server.misbehave = says(302, b"", Location=f"{plain.url}/id?id=2026-1")
        with pytest.raises(HttpError, match="leads to one that is not"):
            http.get_json(server.url)
        assert plain.asked == []


def test_a_server_that_nobody_vouches_for(server: DatagrepperServer, tmp_path: Path) -> None:
    server.use_tls(tmp_path)
    with pytest.raises(HttpError, match=r"can't be asked: .*certificate"):
        http.get_json(server.url)
    assert server.asked == []


# ---------------------------------------------------------------- servers that take their time


def drips(server: DatagrepperServer, *, head: bool) -> Callable[[Handler, Query, int], bool]:
    """Send a byte now and then, so that no time-out for a single read strikes."""

    def answer(handler: Handler, query: Query, number: int) -> bool:
        if not head:
            handler.send_response(200)
            handler.end_headers()
        try:
            while not server.stopped.wait(0.02):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        except OSError:
            pass
        return True

    return answer


def is_silent(server: DatagrepperServer) -> Callable[[Handler, Query, int], bool]:
    def answer(handler: Handler, query: Query, number: int) -> bool:
        server.stopped.wait()
        return True

    return answer


@pytest.mark.parametrize("how", ["body", "head", "silence"])
def test_a_time_out_is_for_all_of_it(server: DatagrepperServer, how: str) -> None:
    server.misbehave = is_silent(server) if how == "silence" else drips(server, head=how == "head")
    with pytest.raises(HttpError, match="does not answer in time"):
        http.get_json(server.url, timeout=0.5)


def test_it_can_be_cut_short(server: DatagrepperServer) -> None:
    limit, begun = http.Limit(60), threading.Event()
    drip = drips(server, head=False)

    def answer(handler: Handler, query: Query, number: int) -> bool:
        begun.set()
        return drip(handler, query, number)

    server.misbehave = answer

    def cut() -> None:
        begun.wait(20)
        limit.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(HttpError, match="in time"):
        http.get_json(server.url, timeout=limit)
    cutter.join()


def test_nothing_is_left_open(server: DatagrepperServer) -> None:
    before = threading.active_count()
    for _ in range(20):
        http.get_json(f"{server.url}/id", {"id": "2026-1"}, timeout=60)
    # The server's own threads come and go; ours are all joined.
    assert [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)] == []
    assert threading.active_count() <= before + 20
