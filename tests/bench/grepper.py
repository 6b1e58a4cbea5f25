# SPDX-License-Identifier: LGPL-2.1-or-later
"""How quickly the history answers over HTTP, at a million messages: each kind of query, and many at once."""

from __future__ import annotations

import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, urlencode

from tests.bench.harness import Bench, expect, progress
from tests.bench.programs.history import END, TOPICS
from tests.bench.table import Goal, Row
from tests.postgres import Cluster

STORED = 1_000_000
ASKED, CLIENTS = 40, 4
DAY = 86400
# What is asked, and how many milliseconds the answer may take.
QUERIES = {
    "no argument": ("/raw", 30),
    "topic": (f"/raw?topic={TOPICS[0]}", 50),
    "category": ("/raw?category=koji", 50),
    "package": ("/raw?package=package-0", 50),
    "user": ("/raw?user=user0", 50),
    "user and package": ("/raw?user=user0&package=package-0", 50),
    "category and user": ("/raw?category=koji&user=user0", 50),
    "page 9,000": ("/raw?rows_per_page=100&page=9000&order=asc&count=none", 500),
    "cursor": ("/raw?rows_per_page=100&cursor={cursor}", 30),
    "words": (f"/raw?topic={TOPICS[0]}&q=needle", 100),
    "chart of a category": (f"/charts/line?category=koji&start={END - 150 * DAY}&end={END}", 60),
    "histogram of a day": (f"/histogram?start={END - DAY}&end={END}", 100),
    "facets of a day": (f"/facets?start={END - DAY}&end={END}", 100),
}


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    rows = [Row(f"/raw etc., {name}, p95", "ms", Goal("max", goal)) for name, (_, goal) in QUERIES.items()]
    many = Row(f"/raw, last day, {CLIENTS} clients", "requests/s", Goal("min", 400))
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        url = cluster.create()
        progress("grepper: filling the history")
        fill = [sys.executable, "-m", "tests.bench.programs.history", url, str(bench.size(STORED))]
        subprocess.run(fill, check=True, stdout=subprocess.DEVNULL)
        server = _Server(url)
        stack.callback(server.close)
        one = json.loads(server.ask("/raw?rows_per_page=1"))["raw_messages"][0]["msg_id"]
        cursor = _late_cursor(server)
        for number in range(bench.rounds):
            progress(f"grepper: round {number + 1}")
            for row, (path, _) in zip(rows, QUERIES.values(), strict=True):
                row.ours.append(_p95(server, path.replace("{cursor}", cursor)))
            many.ours.append(_at_once(server, f"/raw?{urlencode({'start': END - DAY, 'end': END})}"))
        expect("" if server.ask(f"/id?id={quote(one)}") else "a message is not found", "ours")
    return [*rows, many]


class _Server:
    """A datagrepper as a process."""

    def __init__(self, url: str) -> None:
        code = (
            "import sys; sys.argv = ['datagrepper', '--port', '0', '--workers', '2'];"
            "from fedmsg.datagrepper.command import main; main()"
        )
        self._folder = tempfile.TemporaryDirectory()
        config = Path(self._folder.name) / "datagrepper.py"
        config.write_text(f"config = { ({'datanommer.sqlalchemy.url': url})!r}\n")
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
            env={"FEDMSG_CONFIG": str(config), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self._process.stdout is not None
        found = next(filter(None, (re.search(r"http://([^:]+):(\d+)", line) for line in self._process.stdout)))
        self.address = found[1], int(found[2])

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection of its own."""
        return http.client.HTTPConnection(*self.address, timeout=60)

    def ask(self, path: str, connection: http.client.HTTPConnection | None = None) -> bytes:
        """Ask for a path, and check that it is answered."""
        connection = connection or self.connect()
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        expect("" if response.status == 200 else f"{path}: {response.status} {body[:200]!r}", "ours")
        return body

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(20)
        self._folder.cleanup()


def _late_cursor(server: _Server) -> str:
    """Return the cursor of a page that is far from the first."""
    page = json.loads(server.ask("/raw?rows_per_page=100&page=100&count=none"))
    expect("" if page["cursor"] else "there is no cursor", "ours")
    return str(page["cursor"])


def _p95(server: _Server, path: str) -> float:
    # An idle connection is closed by the server after a while.
    connection = server.connect()
    server.ask(path, connection)
    taken = []
    for _ in range(ASKED):
        began = time.perf_counter()
        server.ask(path, connection)
        taken.append((time.perf_counter() - began) * 1000)
    connection.close()
    return statistics.quantiles(taken, n=20)[-1]


def _at_once(server: _Server, path: str) -> float:
    """Return how many requests in a second several clients together get answered."""
    counts = [0] * CLIENTS
    end = time.perf_counter() + 3

    def ask(number: int) -> None:
        connection = server.connect()
        while time.perf_counter() < end:
            server.ask(path, connection)
            counts[number] += 1
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / 3
