# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every test gets: an environment of its own, and the ways to ask for more."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fedmsg
from tests import requirements

if TYPE_CHECKING:
    from tests import postgres

pytest_plugins = ["tests.session"]

# Started in the background of a script, or by nohup, this process ignores these, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parent.parent


_OF_THE_CALLER = ("NO_COLOR", "NOTIFY_SOCKET", "VIRTUAL_ENV", "WATCHDOG_PID", "WATCHDOG_USEC")


_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def _all_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Be in an empty folder between the tests too, where fixtures of modules are made."""
    folder = tmp_path_factory.mktemp("surroundings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.chdir(folder)
        yield folder


@pytest.fixture(autouse=True)
def _own_surroundings(_all_surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test in an empty folder and home, so that no configuration of the machine takes part.

    The repository itself holds a ``fedmsg.d`` of samples, which fedmsg would read if it
    were the current folder.
    """
    for name in [*(name for name in os.environ if name.startswith("FEDMSG_")), *_OF_THE_CALLER]:
        if name not in {"FEDMSG_MESSAGING_VENV", "FEDMSG_PEER_VENV", "FEDMSG_SOAK"}:
            monkeypatch.delenv(name, raising=False)
    folder = _all_surroundings / str(next(_numbers))
    for name in ("home", "cwd"):
        (folder / name).mkdir(mode=0o700, parents=True)
    monkeypatch.setenv("HOME", str(folder / "home"))
    # What a test before it has set with `fedmsg.init` would hold for this one.
    monkeypatch.setattr(fedmsg, "_last", (None, {}))
    monkeypatch.setitem(vars(fedmsg.config), "__cache", {})
    monkeypatch.chdir(folder / "cwd")


@pytest.fixture(scope="session")
def full_size() -> bool:
    """Say whether a test marked ``soak`` runs at full size (``make soak``) or short (``make test``)."""
    return os.environ.get("FEDMSG_SOAK") == "1"


@pytest.fixture(scope="session")
def peer() -> Path:
    """Return the ``bin`` folder of the environment in which fedmsg 1.1.7 is installed."""
    folder = Path(os.environ.get("FEDMSG_PEER_VENV", REPOSITORY / ".venv-peer")) / "bin"
    if not (folder / "fedmsg-relay").exists():
        requirements.is_missing(f"fedmsg 1.1.7 in {folder} (make test, which installs it there)")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the folder that holds setup.py."""
    return REPOSITORY


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.Cluster]:
    """Return a PostgreSQL server that belongs to this run of the tests alone."""
    from tests import postgres  # psycopg is for those tests alone that use a database

    try:
        cluster = postgres.Cluster()
    except FileNotFoundError as error:
        requirements.is_missing(str(error))
    with cluster:
        yield cluster


@pytest.fixture
def postgresql_url(postgresql: postgres.Cluster) -> Iterator[str]:
    """Return the SQLAlchemy URL of an empty PostgreSQL database."""
    url = postgresql.create()
    yield url
    postgresql.drop(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the SQLAlchemy URL of an SQLite database that is not there yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database of each kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
