# SPDX-License-Identifier: LGPL-2.1-or-later
"""Replay: messages that a listener missed are asked for again."""

from __future__ import annotations

config = {
    # Where a publisher keeps every message that it sends. An object, so that only a Python file
    # can set it, for example
    #
    # fedmsg.replay.sqlstore.SqlStore(sqlalchemy.create_engine("sqlite:////var/lib/fedmsg/store.db"))
    #     "persistent_store": None,
    #
    # Where each publisher answers questions, by its name in endpoints.py, for example
    # {"shop.web01": "tcp://web01.example.org:3100"}. A listener that notices a gap asks there.
    #     "replay_endpoints": {},
    #
    # How many messages one question may ask for.
    #     "replay_max": 10000,
}
