# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many messages there were: of each minute, hour and day, and by what they are about."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from fedmsg.statscache.items import Items
from fedmsg.statscache.shipped.counting import CountingPlugin, each_of

__all__ = ["PLUGINS"]

_LAYOUT = {"groups": ["volume"]}
_DAY = dt.timedelta(days=1)
_HOUR = dt.timedelta(hours=1)


class Volume(CountingPlugin):
    """Counts all messages."""

    name = "volume"
    summary = "How many messages there were"
    description = "The number of messages of all topics in each minute, hour and day."
    layout = _LAYOUT
    by_category = False

    def counted(self, buckets: Sequence[int], items: Items) -> Iterable[tuple[int, str]]:
        """Return the bucket of each message."""
        del items
        return ((bucket, "") for bucket in buckets)


class VolumeByCategory(CountingPlugin):
    """Counts messages by their category."""

    name = "volume by category"
    summary = "How many messages each category had"
    description = "The number of messages by the fourth word of their topic, which is the service that sent them."
    layout = _LAYOUT

    def counted(self, buckets: Sequence[int], items: Items) -> Iterable[tuple[int, str]]:
        """Return the bucket and category of each message."""
        return zip(buckets, items.categories, strict=True)


class VolumeByTopic(CountingPlugin):
    """Counts messages by their topic."""

    name = "volume by topic"
    summary = "How many messages each topic had"
    description = "The number of messages by topic."
    layout = _LAYOUT
    interval = _DAY

    def counted(self, buckets: Sequence[int], items: Items) -> Iterable[tuple[int, str]]:
        """Return the bucket and topic of each message."""
        return zip(buckets, items.topics, strict=True)


class VolumeByUser(CountingPlugin):
    """Counts messages by the users that they are about."""

    name = "volume by user"
    summary = "How many messages each user had"
    description = "The number of messages by the users that they are about; one that is about two counts for both."
    layout = _LAYOUT
    interval = _DAY

    def counted(self, buckets: Sequence[int], items: Items) -> Iterable[tuple[int, str]]:
        """Return the bucket of each message with each of its users."""
        return each_of(buckets, (item.users for item in items))


class VolumeByPackage(CountingPlugin):
    """Counts messages by the packages that they are about."""

    name = "volume by package"
    summary = "How many messages each package had"
    description = "The number of messages by the packages that they are about; one that is about two counts for both."
    layout = _LAYOUT
    interval = _DAY

    def counted(self, buckets: Sequence[int], items: Items) -> Iterable[tuple[int, str]]:
        """Return the bucket of each message with each of its packages."""
        return each_of(buckets, (item.packages for item in items))


class VolumeByMinute(Volume):
    """Counts all messages of each minute."""

    interval = dt.timedelta(minutes=1)


class VolumeByHour(Volume):
    """Counts all messages of each hour."""

    interval = _HOUR


class VolumeByDay(Volume):
    """Counts all messages of each day."""

    interval = _DAY


class CategoriesByHour(VolumeByCategory):
    """Counts messages of each hour by category."""

    interval = _HOUR


class CategoriesByDay(VolumeByCategory):
    """Counts messages of each day by category."""

    interval = _DAY


#: What the entry point names.
PLUGINS = [
    VolumeByMinute,
    VolumeByHour,
    VolumeByDay,
    CategoriesByHour,
    CategoriesByDay,
    VolumeByTopic,
    VolumeByUser,
    VolumeByPackage,
]
