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
from fedmsg.stream.own_addresses import is_own, own_addresses
from fedmsg.stream.server import StreamServer
from fedmsg.stream.storing import Storing
from fedmsg.stream.upstream import Upstreams
from fedmsg.stream.window import Window
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
# The same of each relay that the stream is handed on to.
_UPSTREAM_METRICS = (
    ("stream_upstream_connected", "Whether messages can be handed on to a relay", "connected", False),
    ("stream_upstream_lag", "Messages that are not handed on to a relay yet", "lag", False),
    ("stream_upstream_handed_on", "Messages that were handed on to a relay", "handed_on", True),
    ("stream_upstream_skipped", "Messages that a relay had already", "skipped", True),
    ("stream_upstream_rejected", "Messages that a relay has rejected", "rejected", True),
    ("stream_upstream_lost", "Messages that retention removed before they were handed on", "lost", True),
)


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
        log = self._committer.log
        window = Window(log.newest())
        upstreams = Upstreams(self._config, log, window)
        self._server = StreamServer(
            self._config,
            self._stream,
            log,
            window=window,
            figures=lambda: {} if self._keeper is None else self._keeper.figures(),
        )
        self._keeper = Storing(self._config, self._committer, self._server, self._confirmed, upstreams, check=check)
        return self._keeper

    @staticmethod
    def own_outbound(configured: list[str]) -> list[str]:
        """Return those outbound addresses that are this machine's, of the relays in one list; all where none is."""
        return [address for address in configured if is_own(address)] or configured

    def describe(self) -> str:
        """Return where it is used, and what is the matter with it."""
        if self._keeper is None:
            return ""
        places = self._keeper.addresses()
        text = f", confirming at {', '.join(places['confirmed'])}, with a stream at {', '.join(places['stream'])}"
        figures = self._keeper.figures()
        for one in (one for one in figures["upstreams"] if one["used"]):
            state = f"{one['lag']} messages behind" if one["connected"] else f"away, {one['lag']} messages wait"
            text += f", handing on to {one['address']} ({state})"
        away = figures["store_away"]
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
            *(
                Sample(name, text, float(one[key]), {"upstream": one["address"]}, grows)
                for one in found.get("upstreams", ())
                for name, text, key, grows in _UPSTREAM_METRICS
            ),
        ]

    def _close(self) -> None:
        self._committer.close()
