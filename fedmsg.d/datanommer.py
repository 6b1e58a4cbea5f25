# SPDX-License-Identifier: LGPL-2.1-or-later
"""The history: a hub stores every message in a database, where datagrepper and the datanommer commands find it."""

from __future__ import annotations

config = {
    # Whether a hub stores messages, and which: the beginnings of their topics, one or a list; all when not set.
    #     "datanommer.enabled": False,
    #     "datanommer.topic": None,
    #
    # The database: the URL of SQLite or PostgreSQL, for example "sqlite:////var/lib/fedmsg-hub/history.db" or
    # "postgresql://datanommer@db.example.org/history". When it is not set it is a file in state_directory.
    # The second name is for old files.
    #     "datanommer.sqlalchemy.url": None,
    #     "datanommer.sqlalchemy.uri": None,
    #
    # Whether messages come from the stream of a relay, so that none is missed: True, or the name of the
    # durable subscription.
    #     "datanommer.durable": None,
}
