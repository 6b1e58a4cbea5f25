# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who and what was most active in the last week, which moves on by the hour."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from fedmsg.statscache.items import Items
from fedmsg.statscache.plugins import CategorizedModel
from fedmsg.statscache.shipped.counting import CountingPlugin, each_of

__all__ = ["PLUGINS"]

_WEEK = dt.timedelta(days=7)
_SHOWN = 100


class ActivePlugin(CountingPlugin):
    """Counts by hour in a table of its own, and keeps a list of those with the highest sums of a week.

    The list is made when something was counted or an hour is over, at most once for each poll of the producer:
    what that takes does not add to each message. Its time is the beginning of the week.
    """

    interval = dt.timedelta(hours=1)

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.hours = self.model
        name = "stats_top_" + self.ident.replace("-", "_")
        self.model = type(name, (CategorizedModel,), {"__tablename__": name, "__unique__": ("category",)})
        self._shown: dt.datetime | None = None
        self._has_counted = True

    @property
    def ident(self) -> str:
        """The name by which programs ask for it: that it goes by the hour is its own business."""
        return super().ident.removesuffix(f"-{self.schedule}")

    def update(self, session: Any) -> None:
        """Add what was counted to the table of hours."""
        self.model, shown = self.hours, self.model
        try:
            super().update(session)
        finally:
            self.model = shown
        self._has_counted = True

    def _start(self) -> dt.datetime:
        assert self.schedule is not None
        return self.schedule.next() - _WEEK

    def wants_refresh(self) -> bool:
        """Return whether the list is not up to date."""
        return self._has_counted or self._start() != self._shown

    def refresh(self, session: Any) -> None:
        """Make the list anew, and remove the hours that are past."""
        start = self._start()
        hours, shown = self.hours, self.model
        session.execute(sa.delete(hours).where(hours.timestamp < start))
        total = sa.func.sum(hours.scalar)
        highest = sa.select(sa.literal(start, shown.timestamp.type), hours.category, total)
        # Those in the future have clocks that are wrong.
        highest = highest.where(hours.timestamp < start + _WEEK).group_by(hours.category)
        highest = highest.order_by(total.desc(), hours.category).limit(_SHOWN)
        session.execute(sa.delete(shown))
        session.execute(sa.insert(shown).from_select(["timestamp", "category", "scalar"], highest))
        self._shown, self._has_counted = start, False

    def reset(self) -> None:
        """Forget what was counted since the last commit."""
        super().reset()
        self._shown, self._has_counted = None, True


class ActiveUsers(ActivePlugin):
    """Lists the most active users of the last week."""

    name = "most active users"
    summary = "Who was most active in the last week"
    description = "The users with the most messages in the last seven days, and how many each of them had."

    def counted(self, buckets: Sequence[int], items: Items) -> Iterable[tuple[int, str]]:
        """Return the bucket of each message with each of its users."""
        return each_of(buckets, (item.users for item in items))


class ActivePackages(ActivePlugin):
    """Lists the most active packages of the last week."""

    name = "most active packages"
    summary = "What was most active in the last week"
    description = "The packages with the most messages in the last seven days, and how many each of them had."

    def counted(self, buckets: Sequence[int], items: Items) -> Iterable[tuple[int, str]]:
        """Return the bucket of each message with each of its packages."""
        return each_of(buckets, (item.packages for item in items))


#: What the entry point names.
PLUGINS = [ActiveUsers, ActivePackages]
