# SPDX-License-Identifier: LGPL-2.1-or-later
"""Envelopes to store, and stores on any database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedmsg.replay import sqlstore

TOPIC = "org.fedoraproject.dev.shop.order"


def envelope(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Give an envelope without a number in the store."""
    return {
        "i": number,
        "msg": {"n": number},
        "msg_id": f"2026-{number:08}-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
        "timestamp": 1_700_000_000 + number,
        "topic": TOPIC,
        "username": "shop",
        **changes,
    }


@contextmanager
def opened(url: str) -> Iterator[sqlstore.SqlStore]:
    """Open a store, and close its connections in the end."""
    store = sqlstore.connect(url)
    try:
        yield store
    finally:
        store.close()
