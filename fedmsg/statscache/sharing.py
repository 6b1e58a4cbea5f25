# SPDX-License-Identifier: LGPL-2.1-or-later
"""The session as plugins have it, which share one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import orm

__all__ = ["PluginSession"]


class PluginSession:
    """Passes everything on to a session, but for the end of its transaction, which is not the plugin's to decide.

    A plugin that commits writes what it has so far, and one that rolls back undoes what it has written since: both
    as far as a savepoint goes.
    """

    def __init__(self, session: orm.Session) -> None:
        self._session = session
        self._savepoint = session.begin_nested()

    def commit(self) -> None:
        """Write what there is, and go on."""
        self._savepoint.commit()
        self._savepoint = self._session.begin_nested()

    def rollback(self) -> None:
        """Undo what was written since the last commit of the plugin, and go on."""
        self._savepoint.rollback()
        self._savepoint = self._session.begin_nested()

    def close(self) -> None:
        """Do nothing: the session is used by others too."""

    def finish(self) -> None:
        """Write what there is."""
        self._savepoint.commit()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
