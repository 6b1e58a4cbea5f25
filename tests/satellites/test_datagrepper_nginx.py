# SPDX-License-Identifier: LGPL-2.1-or-later
"""The proxy of the guide: nginx takes its lines, and hands streams on at once."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from fedmsg.datanommer import models
from fedmsg.testing import Process, free_port, wait_until
from tests import requirements
from tests.satellites import histories
from tests.satellites.grepping import Grepper
from tests.satellites.messages import message
from tests.structure import source

GUIDE = source.REPOSITORY / "docs" / "howto" / "serve-history.rst"
CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log stderr notice; {user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


def of_the_guide() -> str:
    """Return the lines of the guide."""
    found = re.search(r"\.\. code-block:: nginx\n\n((?: {3}.*\n|\n)+)", GUIDE.read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grepper]:
    folder = tmp_path_factory.mktemp("behind")
    url = f"sqlite:///{folder}/history.db"
    with histories.opened(url):
        models.add(message(msg_id="2026-0"))
        models.session.remove()
        with Grepper(folder, url) as server:
            yield server


@pytest.fixture(scope="module")
def proxy(server: Grepper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an nginx in front of the server."""
    nginx, folder, port = requirements.program("nginx", "nginx"), tmp_path_factory.mktemp("nginx"), free_port()
    locations = of_the_guide()
    assert locations.count("http://127.0.0.1:5000") == 2
    locations = locations.replace("http://127.0.0.1:5000", server.address)
    user = "user root;" if os.geteuid() == 0 else ""
    path = folder / "nginx.conf"
    path.write_text(CONFIGURATION.format(folder=folder, port=port, user=user, locations=locations))
    command = [nginx, "-p", str(folder), "-e", "stderr", "-c", str(path)]
    tried = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    assert "[warn]" not in tried.stderr
    with Process(command):
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(address), what="nginx answers")
        yield address


def answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/healthz/live", timeout=20) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def next_event(response: Any) -> str:
    """Return the next line of a stream with data."""
    while not (line := response.readline().decode()).startswith("data:"):
        assert line, "the stream has ended"
    return str(line)


def test_events_come_through_one_by_one(proxy: str) -> None:
    """A proxy that collects would keep the first one until there are many."""
    with urlopen(f"{proxy}/stream", timeout=20) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        for number in range(1, 4):
            models.add(message(msg_id=f"2026-{number}"))
            models.session.remove()
            # The next message is stored when this one has come.
            assert f"2026-{number}" in next_event(response)


def test_answers_come_through(proxy: str, server: Grepper, tmp_path: Path) -> None:
    with urlopen(f"{proxy}/id?id=2026-0", timeout=20) as response:
        assert response.read() == server.get("/id?id=2026-0").body
