# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that serve over HTTP as processes of their own, and what tests ask them."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fedmsg.testing import Process

__all__ = ["Answer", "Grepper", "Server"]


class Answer(NamedTuple):
    """What the server has answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Server(Process):
    """A command that serves over HTTP, on a free port, with a configuration of its own.

    Args:
        name: The command.
        folder: A folder for its configuration.
        settings: Its configuration.
        env: More of its environment.

    Attributes:
        address: Where it serves, without a slash at the end.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: Mapping[str, Any],
        *arguments: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        path = folder / f"{name}.py"
        path.write_text(f"config = {dict(settings)!r}\n")
        super().__init__([name, "--port", "0", *arguments], env={**(env or {}), "FEDMSG_CONFIG": str(path)}, cwd=folder)
        self.address = ""

    def __enter__(self) -> Server:
        super().__enter__()
        found = re.search(r"http://\S+[0-9]", self.wait_for("serving "))
        assert found is not None
        self.address = found[0]
        return self

    def get(self, path: str, *, timeout: float = 20.0, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path; headers have underscores in place of dashes."""
        with self.opened(path, timeout=timeout, method=method, **headers) as response:
            return Answer(response.status, response.headers, response.read())

    @contextmanager
    def opened(self, path: str, *, timeout: float = 20.0, method: str = "GET", **headers: str) -> Iterator[Any]:
        """Ask for a path, and read the answer piece by piece."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, headers=named, method=method)
        try:
            response = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            yield response


class Grepper(Server):
    """A ``datagrepper``.

    Args:
        folder: A folder for its configuration.
        url: The URL of its database.
        settings: More of its configuration.

    Attributes:
        url: The URL of its database.
    """

    def __init__(self, folder: Path, url: str, *arguments: str, **settings: Any) -> None:
        config = {"datanommer.sqlalchemy.url": url, "datagrepper.workers": 1, **settings}
        super().__init__("datagrepper", folder, config, *arguments)
        self.url = url

    def __enter__(self) -> Grepper:
        super().__enter__()
        return self
