# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opens the history for programs that work on it, and maps what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from fedmsg.datanommer import models
from fedmsg.exceptions import StoreError, Unavailable
from fedmsg.store import database

__all__ = ["engine", "open_once", "opened", "prepare", "used"]


def engine() -> sa.Engine:
    """Return the engine of the history that is open."""
    return models.session.get_bind().engine


def open_once(url: str) -> None:
    """Open the history, unless it is open; nothing is connected yet.

    Raises:
        ConfigError: The URL can't be used. A ValueError.
    """
    if not getattr(models.session, "_datanommer_initialized", False):
        models.init(url)


def prepare(url: str) -> None:
    """Open the history, and make its tables or bring them up to date.

    Raises:
        ConfigError: The URL can't be used. A ValueError.
        Unavailable: The database is away.
        StoreError: It can't be used.
    """
    open_once(url)
    with used():
        models.upgrade(engine())


@contextmanager
def used() -> Iterator[None]:
    """Return the connection of the thread to the pool in the end, and map errors.

    Raises:
        Unavailable: The database is away.
        StoreError: The database does not take something.
    """
    try:
        with database.errors_mapped(engine(), "can't be used"):
            yield
    except StoreError as error:
        if database.is_away(error):
            raise Unavailable(str(error)) from error
        raise
    finally:
        models.session.remove()


@contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    """Open the history for a command; yields the engine.

    Raises:
        ConfigError: The URL can't be used. A ValueError.
        StoreError: The database can't be used, or has no tables of the history. An IOError.
    """
    open_once(url)
    found = engine()
    database.require_file(found, "datanommer-create-db makes it")
    try:
        with database.errors_mapped(found, "can't be used"):
            _check(found)
            yield found
    finally:
        models.session.remove()
        found.dispose()


def _check(found: sa.Engine) -> None:
    if not sa.inspect(found).has_table("datanommer_schema"):
        where = found.url.render_as_string(hide_password=True)
        raise StoreError(f"the database {where} has no tables of the history; datanommer-create-db makes them")
