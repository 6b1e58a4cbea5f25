# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration of the tutorial's history."""

from __future__ import annotations

config = {
    "datanommer.enabled": True,
    "datanommer.durable": True,
    "datanommer.sqlalchemy.url": "sqlite:////tmp/history.db",
    "datagrepper_url": "http://127.0.0.1:5000/",
}
