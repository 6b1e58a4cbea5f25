# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serves the metrics of a daemon over HTTP, in the form that Prometheus reads."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import logging
import platform
import selectors
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fedmsg._util.service import Closeable, ServiceThread, Waker
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.monitoring.metrics import Sample

__all__ = ["Exporter", "exposition"]

log = logging.getLogger("fedmsg.monitoring.prometheus")

# The clients are one Prometheus, or a few. When so many are served at once, the oldest is cut off.
_MAX_CLIENTS = 8
# For how long a client may send nothing, in seconds.
_CLIENT_TIMEOUT_S = 10.0
# How long a thread has to notice that its client was cut off, in seconds.
_THREAD_END_S = 2.0
_CLIENT_THREAD = "fedmsg-metrics-client"
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Exporter(Closeable):
    """An HTTP server for the metrics of this process; without ``metrics_port`` there is none.

    It is one of our own: that of prometheus_client has no limit to its clients and threads, waits for a
    silent client for ever, and wakes up twice a second.

    Args:
        collect: Returns the samples; called in a thread of the server.
    """

    def __init__(self, config: Mapping[str, Any], collect: Callable[[], Iterable[Sample]]) -> None:
        self.port: int | None = None
        self._host: str = settings.get(config, "metrics_interface") or "127.0.0.1"
        self._configured_port: int | None = settings.get(config, "metrics_port")
        self._registry = _registry(collect)
        self._server: _HTTPServer | None = None
        self._thread: _ServerThread | None = None

    def start(self) -> Exporter:
        """Bind the port and begin to serve.

        Raises:
            AddressInUse: Another process has the port.
            ConfigError: The interface is none of this machine.
        """
        if self._configured_port is None or self._thread is not None:
            return self
        handler = MetricsHandler.factory(self._registry)
        try:
            self._server = _HTTPServer(self._host, self._configured_port, type("Handler", (_Handler, handler), {}))
        except OSError as error:
            kind = AddressInUse if error.errno == errno.EADDRINUSE else ConfigError
            where = f"port {self._configured_port} of {self._host}"
            raise kind(f"metrics_port: {where} can't be bound: {error.strerror or error}") from error
        self.port = self._server.server_address[1]
        self._thread = _ServerThread(self._server)
        self._thread.start()
        host = f"[{self._host}]" if ":" in self._host else self._host
        log.info("serving metrics at http://%s:%d/metrics", host, self.port)
        return self

    def _close(self) -> None:
        """Serve no more."""
        if self._thread is not None:
            self._thread.close()

    def __enter__(self) -> Exporter:
        return self.start()

    def __del__(self) -> None:
        # Without a thread there is nothing to close.
        if getattr(self, "_thread", None) is not None:
            super().__del__()


def exposition(collect: Callable[[], Iterable[Sample]], accept: str) -> tuple[bytes, str]:
    """Return the metrics of this process in the form that a client takes, and its type."""
    encode, kind = choose_encoder(accept)
    found: bytes = encode(_registry(collect))
    return found, kind


def _registry(collect: Callable[[], Iterable[Sample]]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Samples(collect))
    ProcessCollector(registry=registry)
    return registry


class _Samples(Collector):
    """Makes metrics of samples."""

    def __init__(self, collect: Callable[[], Iterable[Sample]]) -> None:
        self._collect = collect
        self._failures = 0

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the moment; after a failure, which is counted, the rest is served."""
        info = InfoMetricFamily("fedmsg", "The version of fedmsg and of Python")
        info.add_metric([], {"version": _version(), "python": platform.python_version()})
        yield info
        try:
            yield from _families(list(self._collect()))
        except Exception:
            self._failures += 1
            log.exception("the metrics could not be collected")
        failures = CounterMetricFamily("fedmsg_metrics_failures", "How often the metrics could not be collected")
        failures.add_metric([], self._failures)
        yield failures


def _families(samples: list[Sample]) -> list[Metric]:
    """Group samples by name; those with the same labels, which Prometheus rejects, are summed."""
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
    """Answers one request of a client, for a limited time."""

    timeout = _CLIENT_TIMEOUT_S
    server_version = "fedmsg"
    sys_version = ""


class _ServerThread(ServiceThread):
    """Accepts clients; unlike ``serve_forever`` it does not wake up several times a second."""

    def __init__(self, server: _HTTPServer) -> None:
        super().__init__("fedmsg-metrics")
        self._server = server

    def run(self) -> None:
        """Accept clients until the end."""
        self._server.stop_waker = self.waker
        with self._server, selectors.DefaultSelector() as selector:
            selector.register(self._server.socket, selectors.EVENT_READ)
            selector.register(self.waker, selectors.EVENT_READ)
            self.ready()
            while not self.stopping:
                selector.select()
                self._server.handle_request()
            self._server.cut_clients()


class _HTTPServer(socketserver.ThreadingTCPServer):
    """A server with a few threads at most."""

    allow_reuse_address = True
    request_queue_size = 100
    stop_waker: Waker

    def __init__(self, host: str, port: int, handler: Any) -> None:
        self._clients: dict[socket.socket, None] = {}
        self._client_threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), handler)
        # A connection that has gone before it could be accepted is not waited for.
        self.socket.setblocking(False)

    def cut_clients(self) -> None:
        """End the connections of all clients, and their threads."""
        with self._lock:
            for client in self._clients:
                _cut(client)
        for thread in self._client_threads:
            thread.join(_THREAD_END_S)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; where there are no descriptors left, the next try comes after a pause."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _SHORT_OF:
                self.stop_waker.poll(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a client; the oldest client is cut off when there are too many."""
        self._client_threads = [thread for thread in self._client_threads if thread.is_alive()]
        if len(self._client_threads) >= 2 * _MAX_CLIENTS:
            self._client_threads[0].join(_THREAD_END_S)
        with self._lock:
            if len(self._clients) >= _MAX_CLIENTS:
                oldest = next(iter(self._clients))
                _cut(oldest)
                del self._clients[oldest]
            self._clients[request] = None
        # A daemon thread, as a client that reads nothing must not keep the process from ending.
        arguments = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=arguments, name=_CLIENT_THREAD, daemon=True)
        self._client_threads.append(thread)
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close the connection of a client."""
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing but for developers: clients come and go."""
        del request
        log.debug("the client %s was not served: %r", client_address, sys.exc_info()[1])


def _cut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
