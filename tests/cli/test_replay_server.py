# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-replay as a process: what it says, how it starts, how it ends."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmsg.replay import get_replay
from fedmsg.testing import Process, free_address, run
from tests.unit.replay.stores import envelope, opened

Configure = Callable[..., tuple[dict[str, Any], dict[str, str]]]


@pytest.fixture
def configure(tmp_path: Path, sqlite_url: str) -> Configure:
    """Give the function that writes a configuration; gives it, and the environment to use it with."""

    def write(**settings: Any) -> tuple[dict[str, Any], dict[str, str]]:
        config = {"persistent_store": sqlite_url, "replay_endpoints": {"shop": free_address()}, **settings}
        path = tmp_path / "replay.py"
        path.write_text(f"config = {config!r}\n")
        return config, {"FEDMSG_CONFIG": str(path)}

    return write


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(configure: Configure, sqlite_url: str, number: int) -> None:
    config, environ = configure()
    with Process(["fedmsg-replay"], env=environ) as server:
        server.wait_ready()
        server.wait_for(f"serving messages of shop at tcp://0.0.0.0:{config['replay_endpoints']['shop'][16:]}")
        with opened(sqlite_url) as store:
            store.add_many(envelope(count) for count in range(3))
        assert len(list(get_replay("shop", {}, config))) == 3
        assert server.stop(number) == 0
        assert "STOPPING=1" in server.notifications()
        assert server.err == []
        server.wait_for("stopped after 1 answers with 3 messages")


def test_postgresql(configure: Configure, postgresql_url: str) -> None:
    config, environ = configure(persistent_store=postgresql_url)
    with Process(["fedmsg-replay"], env=environ) as server, opened(postgresql_url) as store:
        server.wait_ready()
        store.add(envelope(1))
        assert list(get_replay("shop", {"seq_id": 1}, config)) == [envelope(1, seq_id=1)]
        assert server.stop() == 0


def test_a_store_that_is_an_object(configure: Configure, tmp_path: Path, sqlite_url: str) -> None:
    config, _ = configure()
    path = tmp_path / "object.py"
    path.write_text(
        "import sqlalchemy\nfrom fedmsg.replay.sqlstore import SqlStore\n"
        f"store = SqlStore(sqlalchemy.create_engine({sqlite_url!r}))\n"
        f"config = {{'persistent_store': store, 'replay_endpoints': {config['replay_endpoints']!r}}}\n"
    )
    with Process(["fedmsg-replay", "--config-filename", str(path)]) as server, opened(sqlite_url) as store:
        server.wait_ready()
        store.add(envelope(1))
        assert len(list(get_replay("shop", {}, config))) == 1
        assert server.stop() == 0


def test_the_watchdog_is_reassured(configure: Configure) -> None:
    _, environ = configure()
    with Process(["fedmsg-replay"], env={**environ, "WATCHDOG_USEC": "100000"}) as server:
        server.wait_ready()
        said: list[str] = []
        while said.count("WATCHDOG=1") < 3 or not any(line.startswith("STATUS=serving messages of") for line in said):
            said.extend(server.notifications())
            assert server.popen.poll() is None
        assert server.stop() == 0


def test_one_of_several_names(configure: Configure) -> None:
    addresses = {"shop": free_address(), "bank": free_address()}
    _, environ = configure(replay_endpoints=addresses)
    ended = run(["fedmsg-replay"], env=environ)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (5, 1)
    assert "choose one with --name: shop, bank" in ended.stderr
    with Process(["fedmsg-replay", "--name", "bank"], env=environ) as server:
        server.wait_ready()
        server.wait_for("serving messages of bank")
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("settings", "arguments", "status", "said"),
    [
        ({"persistent_store": None}, (), 5, "No valid persistent_store config value found."),
        ({"persistent_store": 3}, (), 5, "No valid persistent_store config value found: 3 has no get(query)"),
        ({"persistent_store": "nonsense"}, (), 5, "persistent_store: "),
        ({"persistent_store": "postgresql://me@db:port/x"}, (), 5, "persistent_store: "),
        ({"persistent_store": "postgresql://me@db:99999/x"}, (), 5, "persistent_store: 99999 is not a port"),
        ({"persistent_store": "sqlite:////nowhere/at/all.db"}, (), 3, "unable to open database file"),
        ({"replay_endpoints": {}}, (), 5, "replay_endpoints is not set"),
        ({}, ("--name", "bank"), 5, "No appropriate replay endpoint found for bank"),
        ({"replay_endpoints": {"shop": "nonsense"}}, (), 5, "'nonsense' is no address"),
    ],
)
def test_what_can_not_work_is_one_line(
    configure: Configure, settings: dict[str, Any], arguments: tuple[str, ...], status: int, said: str
) -> None:
    _, environ = configure(**settings)
    ended = run(["fedmsg-replay", *arguments], env=environ)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (status, 1), ended.stderr
    assert said in ended.stderr


def test_a_taken_address_is_status_6_and_one_line(configure: Configure) -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        _, environ = configure(replay_endpoints={"shop": f"tcp://127.0.0.1:{holder.getsockname()[1]}"})
        ended = run(["fedmsg-replay"], env=environ)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (6, 1)
    assert "The replay endpoint cannot be bound." in ended.stderr


def test_it_says_which_extra_is_missing(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "without" / "sqlalchemy").mkdir(parents=True)
    (tmp_path / "without" / "sqlalchemy" / "__init__.py").write_text("raise ModuleNotFoundError(name='sqlalchemy')")
    _, environ = configure()
    ended = run(["fedmsg-replay"], env={**environ, "PYTHONPATH": str(tmp_path / "without")})
    assert (ended.returncode, len(ended.stderr.splitlines())) == (5, 1)
    assert "keeping messages in a database needs fedmsg[sql]" in ended.stderr
