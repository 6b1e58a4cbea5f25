# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contract of a plugin: what is called with each message, and when it writes its rows."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from fedmsg.statscache.models import ScalarModel
from fedmsg.statscache.plugins.schedule import Schedule

__all__ = ["BasePlugin"]

_LEFT_OUT = re.compile(r"""["'()*&?,]""")
_NO_NAME_OF_TABLE = re.compile(r"\W+")

_models: dict[str, type[Any]] = {}


class BasePlugin:
    """Makes statistics of messages: a subclass has a name, a summary, a description, `process` and `update`.

    `process` is called with each message, and counts in memory. `update` is called after some of them, once at least
    for each time that the hub is free, and writes to the session what was counted since. Both happen in one
    transaction, together with how far the plugin has come. So a plugin that writes all that it has counted is exact,
    whatever happens to the process or to the database. One that holds something back until an interval is over is
    exact too, where there is a history to read again what was lost with the process.

    Args:
        schedule: The buckets of time; None where the class has no ``interval``.
        config: The configuration of fedmsg.
        model: The class of the rows, where it is not that of the class.

    Attributes:
        name: A name for people, which `ident` is made of.
        summary: What it counts, in a line.
        description: The same in a paragraph.
        interval: The length of a bucket of time; None where there is none.
        backlog_delta: How far back it goes at most, to catch up; None is as far as there is history.
        model: The class of the rows; one of numbers by time is made where it is None.
        layout: How a page shows the numbers: anything that is JSON.

    Raises:
        ValueError: The class lacks a name, a summary or a description.
    """

    name: str | None = None
    summary: str | None = None
    description: str | None = None
    interval: dt.timedelta | None = None
    backlog_delta: dt.timedelta | None = None
    model: Any = None
    layout: Any = None

    def __init__(self, schedule: Schedule | None, config: Mapping[str, Any], model: Any = None) -> None:
        for attribute in ("name", "summary", "description"):
            if not getattr(self, attribute, None):
                raise ValueError(f"{type(self).__module__}:{type(self).__name__} must define {attribute!r}")
        self.schedule = schedule
        self.config = config
        self.launched = False
        if model is not None:
            self.model = model
        if self.model is None:
            self.model = self._made_model()

    @property
    def ident(self) -> str:
        """The name by which programs ask for it."""
        text = _LEFT_OUT.sub("", str(self.name).lower()).replace(" ", "-")
        return text if self.schedule is None else f"{text}-{self.schedule}"

    def _made_model(self) -> type[Any]:
        """Return a class of rows of numbers by time, the same for each instance."""
        table = f"data_{_NO_NAME_OF_TABLE.sub('_', self.ident)}"
        if table not in _models:
            _models[table] = type(table, (ScalarModel,), {"__tablename__": table})
        return _models[table]

    # ---------------------------------------------------------------- for its author

    def process(self, message: Any) -> None:
        """Count a message, which is an envelope; what this raises loses it for this plugin, and no other."""
        raise NotImplementedError(f"{type(self).__name__} has no process()")

    def update(self, session: Any) -> None:
        """Write what was counted since the last call, without a commit."""
        raise NotImplementedError(f"{type(self).__name__} has no update()")

    def launch(self, session: Any) -> None:
        """Prepare for the first message; called once, when the tables are there."""

    def latest(self, session: Any) -> dt.datetime | None:
        """Return the time of the newest row; None where there is none."""
        column = getattr(self.model, "timestamp", None)
        if column is None:
            return None
        newest: dt.datetime | None = session.query(column).order_by(column.desc()).limit(1).scalar()
        return newest

    def revert(self, when: dt.datetime, session: Any) -> None:
        """Remove what was counted of a time and later, without a commit: it is counted again."""
        column = getattr(self.model, "timestamp", None)
        if column is not None:
            session.query(self.model).filter(column >= when).delete(synchronize_session=False)
