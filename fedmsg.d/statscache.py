# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statistics: a hub counts what passes, and stores the numbers in a database, where the command statscache shows them."""

from __future__ import annotations

config = {
    # Whether a hub keeps statistics.
    #     "statscache.consumer.enabled": False,
    #
    # The database: the URL of SQLite or PostgreSQL, for example "sqlite:////var/lib/fedmsg-hub/statistics.db". When it
    # is not set it is a file in state_directory.
    #     "statscache.sqlalchemy.uri": None,
    #
    # Where a first start begins in the history, for example "2026-05-01"; only new messages are counted when not set.
    #     "statscache.consumer.epoch": None,
    #
    # Whether messages come from the stream of a relay, so that none is missed: True, or the name of the
    # durable subscription.
    #     "statscache.consumer.durable": None,
    #
    # How many seconds pass between two times that plugins bring up to date what depends on the clock.
    #     "statscache.producer.frequency": 5.0,
    #
    # The datagrepper that is asked for what was missed, where there is neither a stream nor a history here, and
    # whether it is logged how long its pages take.
    #     "statscache.datagrepper.endpoint": None,
    #     "statscache.datagrepper.profile": False,
}
