# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serves the samples of a daemon over HTTP, in the form that Prometheus reads."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import logging
import os
import platform
import select
import selectors
import socket
import socketserver
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.monitoring.metrics import Sample

__all__ = ["Exporter"]

log = logging.getLogger("fedmsg.monitoring.prometheus")

# Who asks is one Prometheus, or a few. When so many are served at once, the one that is slowest is cut off.
_AT_ONCE = 8
# For how long a client may say nothing, in seconds.
_SILENCE = 10.0
# How long a thread has to notice that its client was cut off, in seconds.
_PATIENCE = 2.0
_CLIENT = "fedmsg-metrics-client"
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Exporter:
    """An HTTP server for the samples of this process; without ``metrics_port`` there is none.

    Args:
        config: The configuration.
        collect: Gives the samples, in a thread of the server.

    Attributes:
        port: The port that is served, once it runs.
    """

    def __init__(self, config: Mapping[str, Any], collect: Callable[[], Iterable[Sample]]) -> None:
        self.port: int | None = None
        self._host: str = settings.get(config, "metrics_interface") or "127.0.0.1"
        self._configured_port: int | None = settings.get(config, "metrics_port")
        self._registry = CollectorRegistry()
        self._registry.register(_Samples(collect))
        ProcessCollector(registry=self._registry)
        self._server: _HTTPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Exporter:
        """Bind the port and begin to serve.

        Raises:
            AddressInUse: Somebody else has the port.
            ConfigError: The interface is none of this machine.
        """
        if self._configured_port is None or self._server is not None:
            return self
        handler = MetricsHandler.factory(self._registry)
        try:
            self._server = _HTTPServer(self._host, self._configured_port, type("Handler", (_Handler, handler), {}))
        except OSError as error:
            kind = AddressInUse if error.errno == errno.EADDRINUSE else ConfigError
            where = f"port {self._configured_port} of {self._host}"
            raise kind(f"metrics_port: {where} can't be bound: {error.strerror or error}") from error
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve, name="fedmsg-metrics", daemon=True)
        self._thread.start()
        log.info(
            "serving metrics at http://%s:%d/metrics", f"[{self._host}]" if ":" in self._host else self._host, self.port
        )
        return self

    def close(self) -> None:
        """Serve no more; a second call does nothing."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.end()
            self._thread.join()
            server.server_close()

    def __enter__(self) -> Exporter:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_server", None) is not None:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
            self.close()


class _Samples(Collector):
    """Makes metrics of samples."""

    def __init__(self, collect: Callable[[], Iterable[Sample]]) -> None:
        self._collect = collect
        self._failures = 0

    def collect(self) -> Iterator[Metric]:
        """Give the metrics of the moment; a failure is counted and leaves the rest to be served."""
        info = InfoMetricFamily("fedmsg", "The version of fedmsg and of Python")
        info.add_metric([], {"version": _version(), "python": platform.python_version()})
        yield info
        try:
            yield from _families(list(self._collect()))
        except Exception:
            self._failures += 1
            log.exception("no metrics could be collected")
        failures = CounterMetricFamily("fedmsg_metrics_failures", "How often no figures could be collected")
        failures.add_metric([], self._failures)
        yield failures


def _families(samples: list[Sample]) -> list[Metric]:
    """Put samples of one name together; those with the same labels, which Prometheus would not take, are summed."""
    values: dict[tuple[str, tuple[str, ...]], float] = {}
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for sample in samples:
        if sample.name not in families:
            family = CounterMetricFamily if sample.grows else GaugeMetricFamily
            families[sample.name] = family(f"fedmsg_{sample.name}", sample.text, labels=[*sample.labels])
        key = sample.name, tuple(sample.labels.values())
        values[key] = values.get(key, 0) + sample.value
    for (name, labels), value in values.items():
        families[name].add_metric(labels, value)
    return list(families.values())


def _version() -> str:
    try:
        return importlib.metadata.version("fedmsg")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class _Handler:
    """Answers one request of a client that is not waited for without end."""

    timeout = _SILENCE
    server_version = "fedmsg"
    sys_version = ""


class _HTTPServer(socketserver.ThreadingTCPServer):
    """A server with a few threads at most.

    Args:
        host: The interface.
        port: The port.
        handler: The class that answers.
    """

    allow_reuse_address = True
    request_queue_size = 100

    def __init__(self, host: str, port: int, handler: Any) -> None:
        self._clients: dict[socket.socket, None] = {}
        self._answering: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._bell = -1
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), handler)
        # A connection that has gone before it could be accepted is not waited for.
        self.socket.setblocking(False)
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)

    def serve(self) -> None:
        """Serve until `end`; unlike serve_forever() it does not look up several times a second."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            while self._bell not in {key.fileobj for key, _ in selector.select()}:
                self.handle_request()
        with self._lock:
            for client in self._clients:
                _cut(client)
        for thread in self._answering:
            thread.join(_PATIENCE)

    def end(self) -> None:
        """Let `serve` come to its end."""
        os.eventfd_write(self._bell, 1)

    def server_close(self) -> None:
        """Close the socket."""
        super().server_close()
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; where there are no descriptors left, that is not tried without a pause."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _SHORT_OF:
                select.select([self._bell], [], [], 0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a client; the oldest is cut off when there are too many."""
        self._answering = [thread for thread in self._answering if thread.is_alive()]
        if len(self._answering) >= 2 * _AT_ONCE:
            self._answering[0].join(_PATIENCE)
        with self._lock:
            if len(self._clients) >= _AT_ONCE:
                oldest = next(iter(self._clients))
                _cut(oldest)
                del self._clients[oldest]
            self._clients[request] = None
        # A daemon thread, as somebody who reads nothing must not keep the process from ending.
        arguments = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=arguments, name=_CLIENT, daemon=True)
        self._answering.append(thread)
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close the connection of a client."""
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""
        del request
        log.debug("the client %s was not served: %r", client_address, sys.exc_info()[1])


def _cut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
