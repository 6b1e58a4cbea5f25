# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statistics to serve: plugins with rows of known values, and the command ``statscache`` as a process of its own."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import orm

from fedmsg.statscache.database import create_tables, init_model
from fedmsg.statscache.plugins import BaseModel as Base
from fedmsg.statscache.plugins import (
    BasePlugin,
    CategorizedLogModel,
    CategorizedModel,
    ConstrainedCategorizedLogModel,
    ScalarModel,
    Schedule,
)
from fedmsg.statscache.utils import init_plugins
from tests.satellites.grepping import Server

__all__ = ["MINUTE", "START", "Statscache", "install", "make_tables", "opened", "opened_again", "plugins"]

#: The time of the first row.
START = dt.datetime(2026, 11, 30)  # noqa: DTZ001 as the columns have it

MINUTE = dt.timedelta(minutes=1)


class Visits(BasePlugin):
    """A number for each minute."""

    name = "Visits, (all)"
    summary = "How many visits there were"
    description = "The number of visits in each minute."
    interval = MINUTE
    layout = {"color": "blue", "groups": ["visits"]}  # noqa: RUF012 as plugins write it
    model: Any = type("Visits", (ScalarModel,), {"__tablename__": "test_visits", "__unique__": ()})


class Shares(BasePlugin):
    """A number for each minute and category, and a category may have several."""

    name = "shares"
    summary = "Who had how much"
    description = "The share of each in each minute."
    interval = MINUTE
    model: Any = type("Shares", (CategorizedModel,), {"__tablename__": "test_shares"})


class Ranks(BasePlugin):
    """A number for each category, of one time."""

    name = "ranks"
    summary = "Who is first"
    description = "The sums of a week."
    model: Any = type("Ranks", (CategorizedModel,), {"__tablename__": "test_ranks", "__unique__": ("category",)})


class Notes(BasePlugin):
    """Texts."""

    name = "notes"
    summary = "What was written"
    description = "The newest notes."
    model: Any = type("Notes", (CategorizedLogModel,), {"__tablename__": "test_notes"})


class Limits(BasePlugin):
    """Texts with what their category is one of."""

    name = "limits"
    summary = "What was written about what"
    description = "The newest notes about each thing."
    model: Any = type("Limits", (ConstrainedCategorizedLogModel,), {"__tablename__": "test_limits"})


def plugins() -> list[BasePlugin]:
    """Return an instance of each plugin."""
    return [
        kind(Schedule(kind.interval) if kind.interval else None, {}) for kind in (Visits, Shares, Ranks, Notes, Limits)
    ]


def make_tables(url: str) -> None:
    """Make the tables of all plugins, those that are installed as well."""
    init_plugins({})
    create_tables(url)


@contextmanager
def opened(url: str) -> Iterator[orm.scoped_session[orm.Session]]:
    """Make the tables of all plugins, and yield a session; what is in them is removed in the end."""
    make_tables(url)
    # Tests declare others later.
    tables = Base.metadata.sorted_tables
    with opened_again(url) as session:
        try:
            yield session
        finally:
            session.rollback()
            for table in reversed(tables):
                session.execute(table.delete())
            session.commit()


@contextmanager
def opened_again(url: str) -> Iterator[orm.scoped_session[orm.Session]]:
    """Yield a session for a database that has its tables."""
    session = init_model(url)
    try:
        yield session
    finally:
        engine = session.get_bind()
        session.remove()
        engine.engine.dispose()


class Statscache(Server):
    """A ``statscache``.

    Args:
        folder: A folder for its configuration.
        url: The URL of its database.
        path: Folders with more plugins.
        settings: More of its configuration.
    """

    def __init__(self, folder: Path, url: str, *arguments: str, path: Iterable[Path] = (), **settings: Any) -> None:
        config = {"statscache.sqlalchemy.uri": url, "statscache.app.workers": 1, **settings}
        more = {"PYTHONPATH": os.pathsep.join(map(str, path))} if path else {}
        super().__init__("statscache", folder, config, *arguments, env=more)

    def __enter__(self) -> Statscache:
        super().__enter__()
        return self


def install(folder: Path, module: str, text: str, entry: str) -> Path:
    """Make a folder of an installed package with plugins, and return it.

    Args:
        folder: An empty folder.
        module: The name of the module.
        text: What is in it.
        entry: What the entry point names of it.
    """
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    about = folder / f"{module}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[statscache.plugin]\n{module} = {module}:{entry}\n")
    return folder
