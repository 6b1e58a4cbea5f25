# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages that were missed are asked for again.

A publisher with a ``persistent_store`` numbers its messages without gaps and keeps them
(`fedmsg.replay.sqlstore.SqlStore`). A `ReplayContext` answers questions for them. A
listener that finds a number left out asks for what lies between: `check_for_replay`, or
`fedmsg.replay.gaps.GapFiller` for many messages, also from asynchronous code.
"""

from __future__ import annotations

from fedmsg.replay.client import get_replay
from fedmsg.replay.gaps import check_for_replay
from fedmsg.replay.server import ReplayContext

__all__ = ["ReplayContext", "check_for_replay", "get_replay"]
