# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the application on gunicorn: threads in worker processes, and streams that end when the server stops."""

from __future__ import annotations

import errno
import logging
import socket
from types import FrameType
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from fedmsg.exceptions import AddressInUse, ConfigError

if TYPE_CHECKING:
    import flask

__all__ = ["Server", "Worker", "listen"]

# The most that gunicorn takes.
_LONGEST_REQUEST_LINE = 8190
_BACKLOG = 1024
_IDLE_CONNECTIONS = 1000


class Worker(ThreadWorker):  # type: ignore[misc] # the library has no types
    """A worker process."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: answer what has come, and end the streams."""
        self._end_streams()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at once."""
        self._end_streams()
        super().handle_quit(sig, frame)

    def _end_streams(self) -> None:
        self.app.callable.extensions["ending"].set()
        self.app.callable.extensions["wake"]()


class Server(BaseApplication):  # type: ignore[misc] # the library has no types
    """A server for an application on a socket that listens, which it takes over."""

    def __init__(
        self, made: flask.Flask, listener: socket.socket, *, name: str, threads: int, workers: int, stop: float
    ) -> None:
        self._options: dict[str, Any] = {
            "bind": f"fd://{listener.detach()}", "workers": workers, "threads": threads, "worker_class": Worker,
            "worker_connections": threads + _IDLE_CONNECTIONS, "limit_request_line": _LONGEST_REQUEST_LINE,
            "graceful_timeout": max(1, int(stop)), "loglevel": "error", "control_socket_disable": True,
            "proc_name": name,
        }  # fmt: skip
        self._made = made
        # A client that does not read is cut off; a traceback for each would fill the log.
        logging.getLogger("gunicorn.error").addFilter(_is_no_timeout)
        super().__init__()

    def load_config(self) -> None:
        """Set the options that this gunicorn knows."""
        for name, value in self._options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> flask.Flask:
        """Return the application."""
        return self._made


def _is_no_timeout(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], TimeoutError)


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Return a socket that listens at an address.

    Args:
        host: The address.
        port: The port; 0 is any free one.
        setting: What the names of the settings of both begin with.

    Raises:
        AddressInUse: Another process has the address.
        ConfigError: It is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        kind = AddressInUse if error.errno == errno.EADDRINUSE else ConfigError
        reason = error.strerror or error
        raise kind(f"{setting}.host, {setting}.port: {host} port {port} can't be bound: {reason}") from error
    listener.set_inheritable(True)
    return listener
