# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statistics: a hub counts what passes, and stores the numbers in a database; the command statscache serves them."""

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
    #
    # Where the numbers are served over HTTP, by how many threads in how many processes (as many as there are
    # processors, but at most 4, when that is not set), and how many seconds a query may take.
    #     "statscache.app.host": "127.0.0.1",
    #     "statscache.app.port": 5001,
    #     "statscache.app.threads": 50,
    #     "statscache.app.workers": None,
    #     "statscache.app.query_timeout": 10.0,
    #
    # How many rows a page has at most, and where a request does not say how many.
    #     "statscache.app.maximum_rows_per_page": 100,
    #     "statscache.app.default_rows_per_page": 100,
}
