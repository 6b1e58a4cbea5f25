# SPDX-License-Identifier: LGPL-2.1-or-later
"""A history on each kind of database: its tables are made once for a module, and emptied after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from selenium.webdriver import Chrome

from fedmsg.datanommer import models
from fedmsg.datanommer.models.testing import empty
from tests import browsers, inside
from tests.satellites import histories
from tests.satellites.commands import Call, Result
from tests.satellites.grepping import Grepper
from tests.satellites.paging import Page


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def history_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a database of each kind in turn, for the tests of a module."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('history') / 'history.db'}"
        return
    cluster = request.getfixturevalue("postgresql")
    url = cluster.create()
    yield url
    cluster.drop(url)


@pytest.fixture(scope="module")
def history_engine(history_url: str) -> Iterator[sa.Engine]:
    """Return the engine of a database with the tables of the history, which the module of models uses."""
    with histories.opened(history_url) as engine:
        yield engine


@pytest.fixture
def history(history_engine: sa.Engine) -> Iterator[ModuleType]:
    """Return the module of models, open, with nothing stored."""
    yield models
    models.session.remove()
    empty(history_engine)


@pytest.fixture
def call(history: Any, history_url: str, tmp_path: Path) -> Call:
    """Return the function that runs a command on the history that is open."""
    path = tmp_path / "quiet.py"
    path.write_text("config = {'logging': {}}")

    def run(name: str, *arguments: str, stdin: str = "") -> Result:
        history.session.remove()
        argv = [f"datanommer-{name}", "--database", history_url, *arguments]
        ended = inside.run(argv, stdin=stdin, env={"FEDMSG_CONFIG": str(path)})
        return Result(ended.stdout, ended.stderr, ended.returncode)

    return run


# ---------------------------------------------------------------- pages; a module has its own server, `grepper`


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Return a browser for the tests of a module."""
    with browsers.chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def page(browser: Chrome, grepper: Grepper) -> Page:
    """Return the browser as one that shows pages of the server of the module."""
    return Page(browser, grepper.address)
