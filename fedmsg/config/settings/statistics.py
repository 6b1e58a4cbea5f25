# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rows of the table of settings that are about serving statistics."""

from __future__ import annotations

from fedmsg.config.settings.kinds import INTEGER, NUMBER, TEXT
from fedmsg.config.settings.setting import View, setting

__all__ = ["StatscacheAppSettings"]


class StatscacheAppSettings(View):
    """The statistics over HTTP."""

    # fmt: off
    statscache_app_host = setting(TEXT, "127.0.0.1", "The address on which statistics are served over HTTP.",
        "statscache", name="statscache.app.host", in_conf=False)
    statscache_app_port = setting(INTEGER, 5001, "The port.", "statscache", name="statscache.app.port", in_conf=False,
        high=65535)
    statscache_app_threads = setting(INTEGER, 50, "How many requests are answered at the same time.", "statscache",
        unit="threads", name="statscache.app.threads", in_conf=False, low=1, high=10000)
    statscache_app_workers = setting(INTEGER, None,
        "How many processes share the work; as many as there are processors, but at most 4, when not set.",
        "statscache", unit="processes", name="statscache.app.workers", in_conf=False, low=1, high=256)
    statscache_app_query_timeout = setting(NUMBER, 10.0, "How long a query may take.", "statscache", unit="seconds",
        name="statscache.app.query_timeout", in_conf=False)
    statscache_app_maximum_rows_per_page = setting(INTEGER, 100, "The most rows that a page has.", "statscache",
        unit="rows", name="statscache.app.maximum_rows_per_page", in_conf=False, low=1, high=10000)
    statscache_app_default_rows_per_page = setting(INTEGER, 100, "How many rows a page has otherwise.", "statscache",
        unit="rows", name="statscache.app.default_rows_per_page", in_conf=False, low=1, high=10000)
