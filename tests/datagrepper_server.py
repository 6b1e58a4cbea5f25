# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small datagrepper for tests: a real HTTP server over messages in memory, which can also misbehave."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

from tests.certificates import Holder, authority, key, put, usage

__all__ = ["DatagrepperServer", "Handler", "Query", "message"]

Query = dict[str, list[str]]


class Handler(BaseHTTPRequestHandler):
    """Answers one question.

    Attributes:
        server: The server, ours.
    """

    server: _Http

    def do_GET(self) -> None:
        """Look the answer up, unless the test has one of its own."""
        found = urlsplit(self.path)
        query, owner = parse_qs(found.query), self.server.owner
        with owner.lock:
            owner.asked.append((found.path.rpartition("/")[2], query))
            number = len(owner.asked)
        if owner.misbehave is None or not owner.misbehave(self, query, number):
            self.answer(*owner.look_up(found.path, query))

    def answer(self, status: int, content: Any, **headers: str) -> None:
        """Send an answer: bytes as they are, anything else as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Http(ThreadingHTTPServer):
    owner: DatagrepperServer

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that have gone."""


class DatagrepperServer:
    """Serves ``/raw`` and ``/id`` as a datagrepper does.

    Args:
        messages: The envelopes that it has, the way they were published.
        misbehave: Gets the handler, the query and the number of the question, the first being 1;
            says whether it has answered.

    Attributes:
        url: Where it is, without ``/raw``.
        asked: The questions so far: ``raw`` or ``id``, and the query.
        stopped: Set when it stops, for those that make a client wait.
    """

    def __init__(
        self,
        messages: Iterable[dict[str, Any]] = (),
        misbehave: Callable[[Handler, Query, int], object] | None = None,
    ) -> None:
        self.messages = list(messages)
        self.misbehave = misbehave
        self.asked: list[tuple[str, Query]] = []
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self._http = _Http(("127.0.0.1", 0), Handler)
        self._http.owner = self
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def pages(self) -> list[int]:
        """Which pages were asked for."""
        return [int(query["page"][0]) for what, query in self.asked if what == "raw"]

    def look_up(self, path: str, query: Query) -> tuple[int, Any]:
        """Return status and content of the answer to a question."""
        if path.endswith("/id"):
            found = [one for one in self.messages if one["msg_id"] == query["id"][0]]
            return (200, _as_told(found[0])) if found else (404, {"error": "not_found"})
        if not path.endswith("/raw"):
            return 404, {"error": "not_found"}
        rows, page = int(query.get("rows_per_page", ["25"])[0]), int(query.get("page", ["1"])[0])
        start, end = float(query["start"][0]), float(query["end"][0])
        found = [
            one
            for one in sorted(self.messages, key=lambda one: float(one["timestamp"]))
            if start <= one["timestamp"] <= end
            and ("category" not in query or one["topic"].split(".")[3] in query["category"])
            and ("topic" not in query or one["topic"] in query["topic"])
        ]
        if query.get("order", ["desc"])[0] == "desc":
            found.reverse()
        shown = [_as_told(one) for one in found[rows * (page - 1) : rows * page]]
        return 200, {
            "arguments": {name: values[0] for name, values in query.items()},
            "count": len(shown),
            "pages": -(-len(found) // rows),
            "total": len(found),
            "raw_messages": shown,
        }

    def use_tls(self, folder: Path) -> Path:
        """Be an https server from now on.

        Args:
            folder: An empty folder for its key and certificates.

        Returns:
            The file with the certificate of the authority that vouches for it.
        """
        public = key(50).public_key()
        # What Python 3.13 demands of a certificate beyond the name.
        of_authority: list[tuple[x509.ExtensionType, bool]] = [
            (x509.SubjectKeyIdentifier.from_public_key(public), False),
            usage(key_cert_sign=True),
        ]
        web_ca = authority("Web CA", key_number=50, extensions=of_authority)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
        Holder("web", web_ca, extensions=[(names, False), (issuer, False)]).write(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "web.crt", folder / "web.key")
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")
        return put(folder / "web-ca.crt", web_ca.pem)

    def close(self) -> None:
        """Stop."""
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> DatagrepperServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _as_told(envelope: dict[str, Any]) -> dict[str, Any]:
    """Return a message the way that datagrepper does, with what nobody signed."""
    return {
        "headers": {},
        **envelope,
        "timestamp": float(envelope["timestamp"]),
        "source_name": "datanommer",
        "source_version": "1.5.0",
    }


def message(number: int, when: int, topic: str = "org.fedoraproject.dev.shop.order", **more: Any) -> dict[str, Any]:
    """Make an envelope.

    Args:
        number: Which one: its ``i``, and part of its id.
        when: Its timestamp.
        topic: Its topic.
        more: What else is in it.
    """
    return {
        "topic": topic,
        "msg": {"number": number},
        "msg_id": f"2026-{number}",
        "timestamp": when,
        "i": number,
        "username": "ann",
        **more,
    }
