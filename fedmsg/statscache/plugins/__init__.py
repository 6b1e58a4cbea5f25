# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a plugin is made of: its base class, its models, its schedule.

::

    from fedmsg.statscache.plugins import BasePlugin, CategorizedModel
"""

from __future__ import annotations

from fedmsg.statscache import models
from fedmsg.statscache.models import (
    BaseModel,
    CategorizedLogModel,
    CategorizedModel,
    ConstrainedCategorizedLogModel,
    ScalarModel,
)
from fedmsg.statscache.plugins.asynchronous_plugin import AsyncPlugin
from fedmsg.statscache.plugins.base import BasePlugin
from fedmsg.statscache.plugins.futures import Future, Queue, asynchronous
from fedmsg.statscache.plugins.schedule import Schedule

__all__ = [
    "AsyncPlugin",
    "BaseModel",
    "BasePlugin",
    "CategorizedLogModel",
    "CategorizedModel",
    "ConstrainedCategorizedLogModel",
    "Future",
    "Queue",
    "ScalarModel",
    "Schedule",
    "asynchronous",
    "models",
]
