# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statistics of what passes: what a hub counts, and what statscache serves of it."""

from __future__ import annotations

config = {
    # Whether a hub counts, and where the numbers are: an SQLite or PostgreSQL database.
    #     "statscache.consumer.enabled": False,
    #     "statscache.sqlalchemy.uri": None,
    #
    # Where a first start begins in the history: "2026-05-01", for example. Only new messages count when not set.
    #     "statscache.consumer.epoch": None,
    #
    # The stream of a relay is the most exact source: True, or the name of the durable subscription. Else it is
    # the history of datanommer here, else this datagrepper.
    #     "statscache.consumer.durable": None,
    #     "statscache.datagrepper.endpoint": None,
    #     "statscache.datagrepper.profile": False,
    #
    # How many seconds after its start a hub asks the history again for what that got late; 0 is never.
    #     "statscache.consumer.recheck": 60.0,
    #
    # How many seconds pass between two times that plugins look at the clock.
    #     "statscache.producer.frequency": 5.0,
    #
    # Where statscache serves; a proxy in front of it is on the same machine.
    #     "statscache.app.host": "127.0.0.1",
    #     "statscache.app.port": 5001,
    #
    # How many requests one process answers at the same time, and how many processes there are: when not set, as
    # many as processors, but at most four.
    #     "statscache.app.threads": 50,
    #     "statscache.app.workers": None,
    #
    # How many seconds a query may take, and how many rows a page has.
    #     "statscache.app.query_timeout": 10.0,
    #     "statscache.app.maximum_rows_per_page": 100,
    #     "statscache.app.default_rows_per_page": 100,
}
