# SPDX-License-Identifier: LGPL-2.1-or-later
"""Replay: messages that were missed are asked for again.

A publisher with a ``persistent_store`` numbers its messages without gaps and keeps them
(`fedmsg.replay.sqlstore.SqlStore`). A `ReplayContext` answers queries for them. A subscriber that
finds a gap in the numbers asks for what is missing: by `check_for_replay`, or for many messages by
`fedmsg.replay.gaps.GapFiller`.
"""

from __future__ import annotations

from fedmsg.replay.client import get_replay
from fedmsg.replay.gaps import check_for_replay
from fedmsg.replay.server import ReplayContext

__all__ = ["ReplayContext", "check_for_replay", "get_replay"]
