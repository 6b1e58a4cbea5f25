# SPDX-License-Identifier: LGPL-2.1-or-later
"""Replay: messages that a listener missed are asked for again."""

from __future__ import annotations

config = {
    # Where a publisher keeps every message that it sends, and fedmsg-replay finds them: the URL
    # of a database, for example "sqlite:////var/lib/shop/messages.db" or
    # "postgresql://shop@db.example.org/shop". A Python file may also have an object with the
    # methods add(msg, finish) and get(query).
    #     "persistent_store": None,
    #
    # Where each publisher's messages can be asked for, by its name in endpoints.py, for example
    # {"shop.web01": "tcp://web01.example.org:3100"}. fedmsg-replay binds that port; a listener that
    # finds a number missing asks there.
    #     "replay_endpoints": {},
    #
    # How many messages one answer may have, and how many bytes.
    #     "replay_max": 10000,
    #     "replay_max_bytes": 16777216,
}
