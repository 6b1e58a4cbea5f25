# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store of a relay: its stream, opened under the lock that one relay has at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fedmsg._util import plugins
from fedmsg._util.service import Closeable
from fedmsg._util.signals import StopSignals
from fedmsg.monitoring import systemd
from fedmsg.monitoring.metrics import Sample
from fedmsg.stream.committing import Committer
from fedmsg.stream.own_addresses import own_addresses
from fedmsg.stream.server import StreamServer
from fedmsg.stream.storing import Storing
from fedmsg.transport.zmq.forwarder import Check

__all__ = ["Store"]

log = logging.getLogger("fedmsg.stream")

# Seconds between two notifications of a relay that waits for the lock.
_WAIT = 0.5
# Microseconds by which systemd is asked for more time with each of them.
_EXTENSION_USEC = 10_000_000

# Name, text, key of the statistics, and whether it only grows.
_METRICS = (
    ("stream_first_position", "The oldest position that is kept", "first", False),
    ("stream_newest_position", "The newest position of the stream", "newest", False),
    ("stream_messages", "Messages that are kept", "messages", False),
    ("stream_bytes", "Bytes of topics and bodies that are kept", "bytes", False),
    ("stream_per_second", "Messages that are stored per second, at present", "per_second", False),
    ("stream_stored", "Messages that were stored", "stored", True),
    ("stream_duplicates", "Messages that came again", "duplicates", True),
    ("stream_confirmed", "Confirms that were sent to publishers", "confirmed", True),
    ("stream_waiting", "Messages that wait to be stored", "waiting", False),
    ("stream_store_failures", "Attempts to store that have failed", "store_failures", True),
    ("stream_store_away_seconds", "For how long the store has been away", "store_away", False),
    ("stream_publishers", "Publishers at the confirmed port", "publishers", False),
    ("stream_removed", "Messages that retention has removed", "removed", True),
    ("stream_clients", "Clients at the stream port", "clients", False),
    ("stream_subscriptions", "Subscriptions that are open", "subscriptions", False),
    ("stream_lag", "The largest lag of a subscription", "lag_max", False),
    ("stream_durable", "Durable subscriptions", "durable", False),
    ("stream_sent", "Messages that were sent to subscribers of the stream", "sent", True),
    ("stream_lost", "Positions that retention removed before a slow subscriber had them", "lost", True),
)
_LAG = ("stream_durable_lag", "Messages that a durable subscription has not handled yet")


class Store(Closeable):
    """What a relay with ``relay_store`` has besides its forwarder.

    Args:
        config: The configuration.

    Raises:
        AddressInUse: No address of a port is this machine's.
        ConfigError: Something is no address.
        MissingExtra: SQLAlchemy is not installed.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._closed = True  # until there is something to close
        self._config = config
        self._confirmed = own_addresses(config, "relay_confirmed")
        self._stream = own_addresses(config, "relay_stream")
        opener = plugins.lazy("stream").StreamLog
        self._committer = Committer(lambda: opener(config["relay_store"]), config)
        self._keeper: Storing | None = None
        self._server: StreamServer | None = None
        self._closed = False

    def open(self, stop: StopSignals) -> bool:
        """Open the stream, and wait until no other relay has it; False when a signal has come before.

        Raises:
            ConfigError: ``relay_store`` is no URL of a database.
            StoreError: The database can't be used.
        """
        self._committer.start()
        while not self._committer.wait_acquired(_WAIT):
            if stop.wait(0):
                return False
            systemd.notify(f"STATUS=waiting for the stream\nEXTEND_TIMEOUT_USEC={_EXTENSION_USEC}")
        return True

    def keeper(self, check: Check | None) -> Storing:
        """Make what stores the messages of a forwarder."""
        self._server = StreamServer(
            self._config,
            self._stream,
            self._committer.log,
            figures=lambda: {} if self._keeper is None else self._keeper.figures(),
        )
        self._keeper = Storing(self._config, self._committer, self._server, self._confirmed, check=check)
        return self._keeper

    def describe(self) -> str:
        """Return where it is used, and what is the matter with it."""
        if self._keeper is None:
            return ""
        places = self._keeper.addresses()
        text = f", confirming at {', '.join(places['confirmed'])}, with a stream at {', '.join(places['stream'])}"
        away = self._keeper.statistics()["store_away"]
        return f"{text}; messages have been waiting for the store for {away:.0f} s" if away >= 1 else text

    def statistics(self) -> dict[str, Any]:
        """Return what the status report shows."""
        return self._keeper.statistics() if self._keeper is not None else {}

    def metrics(self) -> list[Sample]:
        """Return the metrics for Prometheus; of many durable subscriptions, those with the largest lag."""
        if self._keeper is None or self._server is None:
            return []
        found = self.statistics()
        lags = self._server.lags()
        return [
            *(Sample(name, text, found[key], {}, grows) for name, text, key, grows in _METRICS if key in found),
            *(Sample(*_LAG, lag, {"name": name}, grows=False) for name, lag in lags.items()),
        ]

    def _close(self) -> None:
        self._committer.close()
