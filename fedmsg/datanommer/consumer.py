# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer that stores every message in the database of the history."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from fedmsg._util import plugins
from fedmsg._util.text import as_list
from fedmsg.config import settings
from fedmsg.consumers.storing import StoringConsumer
from fedmsg.datanommer import database_url
from fedmsg.datanommer.indexing import TextIndexer
from fedmsg.hub.consumer import runner_of
from fedmsg.hub.hooks import Origin
from fedmsg.stream.progress import StoredPosition

__all__ = ["Nommer"]

log = logging.getLogger("fedmsg.datanommer")

_PUBLISHED = "datanommer.consumer"


class Nommer(StoringConsumer):
    """Stores each message once, many in one transaction, together with how far it has come.

    With ``datanommer.durable`` it reads the stream of a relay, and the position stands in the database. Without, it
    stores the last number of each service in ``replay_endpoints``, and asks for what is missing. While the database
    is away, messages wait: at the relay, or in memory and then in the ``state_directory``.

    Args:
        hub: The hub.

    Attributes:
        stored: How many messages it has stored.
        skipped: How many it has not, for they were stored already.
    """

    config_key = "datanommer.enabled"

    log = log

    def __init__(self, hub: Any) -> None:
        view = settings.of(hub.config)
        self.stored = self.skipped = 0
        if hub.config.get(self.config_key) and _is_published_installed():
            self.log.warning(
                "%s is not run: the published %s is installed and stores messages too; uninstall it to use this one",
                type(self).__name__, _PUBLISHED,
            )  # fmt: skip
            return
        self.topic = as_list(view.datanommer_topic) or [""]
        self._name = ""
        super().__init__(hub, view.datanommer_durable)
        if not self._initialized:
            return
        self._url = database_url(hub.config)
        self._history = plugins.lazy("history")
        runner = runner_of(self)
        runner.more_totals.append(lambda: {"stored": self.stored, "skipped": self.skipped})
        self._indexer = TextIndexer(self._history, lambda: self._is_open and not self.incoming.unfinished)
        runner.on_start.append(self._indexer.start)
        self._try_to_open(self._prepare)

    # ---------------------------------------------------------------- storing

    def consume_many(self, messages: list[Any]) -> None:
        """Store messages in one transaction, and how far that is.

        Raises:
            MessageError: One of them can't be stored.
            Unavailable: The database is away.
            StoreError: It does not take one of them.
        """
        origins = [getattr(message, "origin", Origin()) for message in messages]
        rows = [
            message if origin.stored is None else {**message, "stored": origin.stored}
            for message, origin in zip(messages, origins, strict=True)
        ]
        self._open()
        with self._history.used():
            count = self._history.store(rows, origins, self._name, self.hub.config)
        self.stored += count
        self.skipped += len(messages) - count

    def _open(self) -> None:
        """Open the database, once, and make its tables.

        Raises:
            Unavailable: It is away.
        """
        self._open_once(self._prepare)

    def _prepare(self) -> None:
        self._history.prepare(self._url)

    # ---------------------------------------------------------------- going on where it was

    def stored_position(self, name: str) -> StoredPosition | None:
        """Return the last position of a stream that was stored; see `fedmsg.hub.Consumer.stored_position`."""
        self._name = name
        self._open()
        with self._history.used():
            found: StoredPosition | None = self._history.stored_position(name)
        return found

    def stored_numbers(self) -> Mapping[str, int]:
        """Return the last number of each service that was stored."""
        self._open()
        with self._history.used():
            found: Mapping[str, int] = self._history.stored_numbers()
        return found

    def stop(self) -> None:
        """Fill the index of texts no more, and release what the consumer holds."""
        self._indexer.close()
        super().stop()


def _is_published_installed() -> bool:
    try:
        found = find_spec(_PUBLISHED)
    except (ImportError, ValueError):
        return False
    # A program may have given our module the old name.
    return found is not None and found.name == _PUBLISHED
