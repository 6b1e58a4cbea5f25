# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells every few seconds how a daemon is, at ``moksha.monitoring.socket``.

In a hub that is the work of a producer, in other daemons of a thread.

``fedmsg-check`` and other people's monitoring read it: one frame with the JSON of
``{"consumers": [...], "producers": [...]}``. The counters in it begin again after each
report, so nobody else may ask for one; :mod:`fedmsg.monitoring.prometheus` has counters of its own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import zmq

from fedmsg import encoding
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError, FedmsgError
from fedmsg.hub.producer import PollingProducer
from fedmsg.transport.zmq import contexts, ipc, sockets
from fedmsg.transport.zmq.sockets import Socket

__all__ = ["Bulletin", "Monitor", "MonitoringProducer", "Report"]

log = logging.getLogger("fedmsg.hub.monitoring")

#: Gives the rows of consumers and producers.
Report = Callable[[], Mapping[str, Any]]

_KEY = "moksha.monitoring.socket"
#: Seconds between two reports. Readers wait for 10.
EVERY = 5.0
# How long to wait for a report in the making when a monitor is closed, in seconds.
_PATIENCE = 2.0


class Bulletin:
    """The socket on which reports go out; threads share it.

    Several daemons may have been given one address, which 1.x let pass: one of them has it, and
    the others do their work all the same.

    Args:
        config: The configuration.

    Attributes:
        address: Where it is, once it is open; None when it is closed, and while somebody else has the address.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.address: str | None = None
        self._config = config
        self._lock = threading.Lock()
        self._closed = False
        self._socket: Socket | None = None
        self._file: ipc.File | None = None
        self._generation = contexts.generation

    def open(self) -> None:
        """Bind the configured address; where somebody else has it, say so and wait for it to become free.

        Raises:
            ConfigError: It is no address, or not one to bind.
        """
        with self._lock:
            try:
                self._open()
            except AddressInUse as error:
                log.error("%s: nothing is reported until it is free; give each daemon one of its own", error)

    def _open(self) -> None:
        address, mode = str(self._config[_KEY]), _mode(self._config)
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
            return sockets.bind(socket, address, _KEY)
        self._file = ipc.listen(path, mode, _KEY)
        socket.setsockopt(zmq.USE_FD, self._file.descriptor)
        return sockets.bind(socket, address, _KEY)

    def post(self, text: str) -> None:
        """Send a report to whoever listens; after closing, to nobody."""
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
    key = f"{_KEY}.mode"
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


class Monitor:
    """A thread that reports; without ``moksha.monitoring.socket`` there is none.

    Args:
        config: The configuration.
        report: Gives the rows.
        every: Seconds between two reports.

    Attributes:
        address: Where the reports go out; None where nothing is configured, and after the end.
        failures: How many reports could not be made.
        every: Seconds between two reports.
    """

    def __init__(self, config: Mapping[str, Any], report: Report, *, every: float = EVERY) -> None:
        self.failures = 0
        self.every = every
        self._report = report
        self._bulletin = Bulletin(config)
        self._wanted = bool(config.get(_KEY))
        self._last_ran: float | None = None
        self._stop = threading.Event()
        self._started = threading.Event()
        self._problem: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str | None:
        """Where the reports go out; None where nothing is configured, and after the end."""
        return self._bulletin.address

    def start(self) -> Monitor:
        """Bind the address, if nobody else has it, and begin; returns when that is done.

        Raises:
            ConfigError: It is no address, or not one to bind.
        """
        if not self._wanted or self._thread is not None:
            return self
        self._thread = threading.Thread(target=self._run, name="fedmsg-monitor", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._problem is not None:
            self._thread.join()
            self._thread = None
            raise self._problem
        return self

    def close(self) -> None:
        """End the thread and close the socket; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        thread.join(_PATIENCE)
        if thread.is_alive():
            log.error("a report does not come to an end, and is left behind")

    def __enter__(self) -> Monitor:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_thread", None) is not None:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    # ---------------------------------------------------------------- in its thread

    def _run(self) -> None:
        try:
            self._bulletin.open()
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._problem = error
            return
        finally:
            self._started.set()
        try:
            while not self._stop.wait(self.every):
                self._tell()
        finally:
            self._bulletin.close()

    def _tell(self) -> None:
        try:
            text = encoding.dumps(self._complete(self._report()))
        except Exception:
            self.failures += 1
            log.exception("no report could be made")
            return
        self._last_ran = time.time()
        self._bulletin.post(text)

    def _complete(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Add the row of the monitor itself, which readers expect among the producers."""
        producers = list(report.get("producers", ()))
        return {**report, "consumers": list(report.get("consumers", ())), "producers": [*producers, self._row()]}

    def _row(self) -> dict[str, Any]:
        return {
            "name": MonitoringProducer.__name__,
            "module": "moksha.hub.monitoring",
            "initialized": True,
            "exceptions": self.failures,
            "frequency": self.every,
            "now": False,
            "last_ran": self._last_ran,
        }


class MonitoringProducer(PollingProducer):
    """Reports how the hub is that it belongs to; without ``moksha.monitoring.socket`` it is disabled.

    Args:
        hub: The hub.
    """

    frequency = EVERY

    def __init__(self, hub: Any) -> None:
        if not hub.config.get(_KEY):
            return
        super().__init__(hub)
        self._bulletin = Bulletin(hub.config)

    def _hub_prepare(self) -> None:
        """Bind the address, if nobody else has it.

        Raises:
            ConfigError: It is no address, or not one to bind.
        """
        self._bulletin.open()

    def poll(self) -> None:
        """Send a report."""
        self._bulletin.post(encoding.dumps(self.hub.report()))

    def stop(self) -> None:
        """Send no more."""
        super().stop()
        self._bulletin.close()

    def __json__(self) -> dict[str, Any]:
        """Its row of the report. Readers know it by the name that it has had since 1.x."""
        return {**super().__json__(), "module": "moksha.hub.monitoring"}
