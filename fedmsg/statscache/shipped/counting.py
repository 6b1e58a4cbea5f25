# SPDX-License-Identifier: LGPL-2.1-or-later
"""What plugins that count by time and category have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedmsg.statscache import tables
from fedmsg.statscache.items import Item, Items
from fedmsg.statscache.plugins import BasePlugin, CategorizedModel, ScalarModel

__all__ = ["CountingPlugin", "each_of"]


def each_of(buckets: Sequence[int], names: Iterable[Iterable[str]]) -> Iterable[tuple[int, str]]:
    """Return the bucket of each message with each of its names."""
    return ((bucket, name) for bucket, some in zip(buckets, names, strict=True) for name in some)


class CountingPlugin(BasePlugin):
    """Counts messages by bucket of time and category: in memory first, and in the table by one statement.

    A subclass has an ``interval`` and `counted`.

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

    def counted(self, buckets: Sequence[int], items: Items) -> Iterable[tuple[int, str]]:
        """Return what is counted of messages: the bucket of each with its category, as often as it has one."""
        raise NotImplementedError

    def process(self, message: Mapping[str, Any]) -> None:
        """Count a message."""
        self.process_many(Items([Item({"body": message}, self.config)]))

    def process_many(self, items: Items) -> None:
        """Count messages."""
        self._counts.update(self.counted(items.buckets(self._seconds), items))

    def update(self, session: Any) -> None:
        """Add what was counted to the table."""
        tables.add_counts(session, self.model, self._counts)
        self._counts.clear()

    def reset(self) -> None:
        """Forget what was counted since the last commit: the messages come again."""
        self._counts.clear()
