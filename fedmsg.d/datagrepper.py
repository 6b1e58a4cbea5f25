# SPDX-License-Identifier: LGPL-2.1-or-later
"""The history over HTTP: what datagrepper serves of what datanommer has stored."""

from __future__ import annotations

config = {
    # Where it serves; a proxy in front of it is on the same machine.
    #     "datagrepper.host": "127.0.0.1",
    #     "datagrepper.port": 5000,
    #
    # How many requests and streams one process answers at the same time, and how many processes there are:
    # when not set, as many as processors, but at most four.
    #     "datagrepper.threads": 200,
    #     "datagrepper.workers": None,
    #
    # How many seconds a query may take, and how far back a request looks that names no time: 86400 is a day.
    #     "datagrepper.query_timeout": 10.0,
    #     "datagrepper.query_delta": None,
}
