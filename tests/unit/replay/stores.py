# SPDX-License-Identifier: LGPL-2.1-or-later
"""Envelopes to store, and stores on any database."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fedmsg.exceptions import QueryError
from fedmsg.replay import ReplayContext, sqlstore
from fedmsg.testing import free_address

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


class ListStore:
    """A store of somebody else's: a list, ``add`` and ``get``."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)

    def add(self, msg: dict[str, Any]) -> dict[str, Any]:
        self.messages.append({**msg, "seq_id": len(self.messages) + 1})
        return self.messages[-1]

    def get(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        first, last = query["seq_id_range"] if "seq_id_range" in query else [query["seq_id"]] * 2
        found = [message for message in self.messages if first <= message["seq_id"] <= last]
        if not found:
            raise QueryError("There was no match for the given query")
        return found


@contextmanager
def serving(store: object, **settings: Any) -> Iterator[ReplayContext]:
    """Answer questions for a store in a thread; ``config`` of what it gives is for those who ask, too."""
    address = settings.pop("address", None) or free_address()
    config = {"name": "shop", "persistent_store": store, "replay_endpoints": {"shop": address}, **settings}
    with ReplayContext(**config) as server:
        thread = threading.Thread(target=server.listen)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()
