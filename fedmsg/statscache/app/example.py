# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts the edits of a wiki: of each hour, by user."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

from fedmsg.statscache.plugins import BasePlugin, CategorizedModel


class EditsModel(CategorizedModel):
    """Each row has a timestamp, a category, which is the user here, and a scalar: the number of edits."""

    __tablename__ = "wiki_edits"
    # No two rows have the same hour and user.
    __unique__ = ("category",)


class Edits(BasePlugin):
    """Counts in memory, and adds to the table when the hub asks for it."""

    name = "wiki edits"
    summary = "How many edits each user made"
    description = "The number of edits of pages of the wiki in each hour, by user."
    interval = dt.timedelta(hours=1)
    model = EditsModel

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.counts: Counter[tuple[dt.datetime, str]] = Counter()

    def process(self, message: dict[str, Any]) -> None:
        """Count a message."""
        if message["topic"].endswith(".wiki.article.edit"):
            assert self.schedule is not None  # there is one, because there is an interval
            hour = self.schedule.last(dt.datetime.fromtimestamp(message["timestamp"], dt.timezone.utc))
            self.counts[hour, message["msg"]["user"]] += 1

    def update(self, session: Any) -> None:
        """Add what was counted since the last call."""
        for (hour, user), number in self.counts.items():
            row = session.query(EditsModel).filter_by(timestamp=hour, category=user).one_or_none()
            if row is None:
                row = EditsModel(timestamp=hour, category=user, scalar=0)
                session.add(row)
            row.scalar += number
        self.counts.clear()
