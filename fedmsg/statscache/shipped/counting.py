# SPDX-License-Identifier: LGPL-2.1-or-later
"""What plugins that count by time and category have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedmsg.statscache import tables
from fedmsg.statscache.items import Item
from fedmsg.statscache.plugins import BasePlugin, CategorizedModel, ScalarModel

__all__ = ["CountingPlugin"]


class CountingPlugin(BasePlugin):
    """Counts messages by bucket of time and category: in memory first, and in the table by one statement.

    A subclass has an ``interval`` and `categories`, unless it counts all messages as one.

    Attributes:
        by_category: Whether there are categories.
    """

    by_category = True

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        assert self.interval is not None
        self._seconds = int(self.interval.total_seconds())
        self._counts: Counter[tuple[int, str]] = Counter()

    def _made_model(self) -> type[Any]:
        base, unique = (CategorizedModel, ("category",)) if self.by_category else (ScalarModel, ())
        name = "stats_" + self.ident.replace("-", "_")
        return type(name, (base,), {"__tablename__": name, "__unique__": unique})

    def categories(self, items: Sequence[Item]) -> Iterable[Iterable[str]]:
        """Return the categories of each message."""
        raise NotImplementedError

    def process(self, message: Mapping[str, Any]) -> None:
        """Count a message."""
        self.process_many([Item({"body": message}, self.config)])

    def process_many(self, items: Sequence[Item]) -> None:
        """Count messages."""
        length = self._seconds
        buckets = [int(item.time // length) * length for item in items]
        if not self.by_category:
            self._counts.update((bucket, "") for bucket in buckets)
            return
        found = zip(buckets, self.categories(items), strict=True)
        self._counts.update((bucket, category) for bucket, some in found for category in some)

    def update(self, session: Any) -> None:
        """Add what was counted to the table."""
        tables.add_counts(session, self.model, self._counts)
        self._counts.clear()

    def reset(self) -> None:
        """Forget what was counted since the last commit: the messages come again."""
        self._counts.clear()
