# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sends the status report of a daemon every few seconds, at ``moksha.monitoring.socket``.

In a hub a producer sends it, in other daemons a thread. ``fedmsg-check`` and other people's monitoring
read it: one frame with the JSON of ``{"consumers": [...], "producers": [...]}``. The counters in it start
again at zero after each report, so only one may ask for it; :mod:`fedmsg.monitoring.metrics` has counters
of its own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from fedmsg import encoding
from fedmsg._util.service import ServiceThread
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError, FedmsgError
from fedmsg.transport.zmq import contexts, ipc, sockets
from fedmsg.transport.zmq.sockets import Socket

__all__ = ["INTERVAL_S", "KEY", "PRODUCER_MODULE", "Monitor", "Report", "ReportSocket"]

log = logging.getLogger("fedmsg.hub.monitoring")

#: Returns the rows of consumers and producers.
Report = Callable[[], Mapping[str, Any]]

#: The setting with the address.
KEY = "moksha.monitoring.socket"
#: Seconds between two reports. Readers wait for 10.
INTERVAL_S = 5.0
#: Where the producer of reports has been since 1.x; readers know it by this name.
PRODUCER_MODULE = "moksha.hub.monitoring"


class ReportSocket:
    """The socket on which reports are sent; threads share it.

    Several daemons may have one address configured, which 1.x let pass: one of them has it, and
    the others do their work all the same.

    Attributes:
        address: Its address while it is open; None when it is closed, and while another process has the address.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.address: str | None = None
        self._config = config
        self._lock = threading.RLock()
        self._closed = False
        self._socket: Socket | None = None
        self._file: ipc.File | None = None
        self._generation = contexts.generation

    def open(self) -> None:
        """Bind the configured address; where another process has it, log that and try again at each report.

        Raises:
            ConfigError: It is no address, or not one to bind.
        """
        with self._lock:
            try:
                self._open()
            except AddressInUse as error:
                log.error("%s: nothing is reported until it is free; configure one address per daemon", error)

    def _open(self) -> None:
        address, mode = str(self._config[KEY]), _mode(self._config)
        self._generation = contexts.generation
        context = contexts.acquire(settings.get(self._config, "io_threads"))
        self._socket = sockets.monitor(context, self._config)
        try:
            self.address = self._bind(self._socket, address, mode)
        except BaseException:
            self._release()
            raise
        log.info("reporting at %s", self.address)

    def _bind(self, socket: Socket, address: str, mode: int | None) -> str:
        path = address.removeprefix("ipc://")
        # A name in the abstract namespace has no file.
        if path == address or path.startswith("@"):
            return sockets.bind(socket, address, KEY)
        self._file = ipc.listen(path, mode, KEY)
        socket.setsockopt(zmq.USE_FD, self._file.descriptor)
        return sockets.bind(socket, address, KEY)

    def send(self, text: str) -> None:
        """Send a report to all subscribers; after closing this does nothing."""
        with self._lock:
            if self._socket is None and not self._closed:
                with contextlib.suppress(FedmsgError):
                    self._open()
            if self._socket is not None:
                self._socket.send(text.encode())

    def close(self) -> None:
        """Close the socket and remove its file; a second call does nothing."""
        with self._lock:
            self._closed = True
            self._release()

    def _release(self) -> None:
        socket, self._socket, self.address = self._socket, None, None
        file, self._file = self._file, None
        if socket is None or self._generation != contexts.generation:
            return
        socket.close(0)
        if file is not None:
            file.remove()
        contexts.release(self._generation)


def _mode(config: Mapping[str, Any]) -> int | None:
    key = f"{KEY}.mode"
    text = settings.get(config, key)
    if text is None:
        return None
    try:
        mode = int(str(text), 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ConfigError(f"{key} is {text!r}, which is no octal file mode; write one such as '0770'")
    return mode


class Monitor(ServiceThread):
    """A thread that sends reports; without ``moksha.monitoring.socket`` it is not started.

    Args:
        every: Seconds between two reports.

    Attributes:
        failures: How many reports could not be made.
    """

    def __init__(self, config: Mapping[str, Any], report: Report, *, every: float = INTERVAL_S) -> None:
        super().__init__("fedmsg-monitor")
        self.failures = 0
        self.every = every
        self._report = report
        self._socket = ReportSocket(config)
        self._wanted = bool(config.get(KEY))
        self._last_ran: float | None = None

    @property
    def address(self) -> str | None:
        """Where reports are sent; None where nothing is configured, and after the end."""
        return self._socket.address

    def start(self) -> None:
        """Bind the address, if no other process has it, and begin; returns when that is done.

        Raises:
            ConfigError: It is no address, or not one to bind.
        """
        if self._wanted and not self.alive:
            super().start()

    def __enter__(self) -> Monitor:
        self.start()
        return self

    def run(self) -> None:
        """Send reports until the end."""
        self._socket.open()
        try:
            self.ready()
            while not self.waker.poll(self.every):
                self.send()
        finally:
            self._socket.close()

    def send(self) -> None:
        """Send a report now; called in the thread."""
        try:
            text = encoding.dumps(self._complete(self._report()))
        except Exception:
            self.failures += 1
            log.exception("the status report could not be made")
            return
        self._last_ran = time.time()
        self._socket.send(text)

    def _complete(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Add the row of the monitor itself, which readers expect among the producers."""
        producers = list(report.get("producers", ()))
        return {**report, "consumers": list(report.get("consumers", ())), "producers": [*producers, self._row()]}

    def _row(self) -> dict[str, Any]:
        return {
            "name": "MonitoringProducer",
            "module": PRODUCER_MODULE,
            "initialized": True,
            "exceptions": self.failures,
            "frequency": self.every,
            "now": False,
            "last_ran": self._last_ran,
        }
