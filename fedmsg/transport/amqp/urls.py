# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the broker is: ``broker_url`` read, checked, and shown without its password."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from fedmsg.config import settings
from fedmsg.config.settings import Problem
from fedmsg.exceptions import ConfigError

__all__ = ["Server", "problems", "servers"]

_PORTS = {"amqp": 5672, "amqps": 5671}
_EXAMPLE = "write one such as 'amqps://user:password@broker.example.org/vhost'"


class Server(NamedTuple):
    """A node of the broker, and how to log in to it.

    Attributes:
        vhost: The virtual host; ``/`` where the URL has none.
        is_tls: Whether the connection is encrypted.
    """

    host: str
    port: int
    user: str
    password: str
    vhost: str
    is_tls: bool

    @property
    def label(self) -> str:
        """The URL without login: it goes into logs, errors and what listeners get."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = "" if self.vhost == "/" else f"/{self.vhost}"
        return f"{'amqps' if self.is_tls else 'amqp'}://{host}:{self.port}{vhost}"

    def __repr__(self) -> str:
        return f"Server({self.label!r})"


def servers(config: Mapping[str, Any]) -> list[Server]:
    """Return the nodes of the broker in the order of ``broker_url``.

    Raises:
        ConfigError: A URL is none, or there is none at all.
    """
    urls = settings.get(config, "broker_url") or []
    found = [_server(url, number) for number, url in enumerate([urls] if isinstance(urls, str) else urls, 1)]
    if not found:
        raise ConfigError(f"broker_url is empty: {_EXAMPLE}")
    return found


def _server(url: str, number: int) -> Server:
    # The URL itself is not shown: it may have a password in it.
    where = f"broker_url: URL {number}"
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise ConfigError(f"{where} has no valid port or host; {_EXAMPLE}") from error
    if parts.scheme not in _PORTS:
        raise ConfigError(f"{where} does not begin with amqp:// or amqps://; {_EXAMPLE}")
    if not parts.hostname or parts.query or parts.fragment:
        what = "no host" if not parts.hostname else "something after the vhost"
        raise ConfigError(f"{where} has {what}; {_EXAMPLE}")
    return Server(parts.hostname, port, *_login(parts), _vhost(parts.path), parts.scheme == "amqps")


def _login(parts: SplitResult) -> tuple[str, str]:
    # The same defaults as those of every client of RabbitMQ.
    return unquote(parts.username or "guest"), unquote(parts.password or "guest")


def _vhost(path: str) -> str:
    return unquote(path[1:]) or "/"


def problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what is wrong with the settings of the broker, before a start."""
    if not settings.get(config, "broker_url"):
        return
    if settings.get(config, "stomp_uri"):
        yield Problem("broker_url", "stomp_uri is set too, and a bus has one broker; remove one of them")
    try:
        servers(config)
    except ConfigError as error:
        key, _, text = str(error).partition(": ")
        yield Problem(key, text)
    certificate, key_file = settings.get(config, "broker_cert"), settings.get(config, "broker_key")
    if bool(certificate) != bool(key_file):
        yield Problem("broker_cert", "broker_cert and broker_key go together; set both, or none")
    for name in ("broker_ca", "broker_cert", "broker_key"):
        path = settings.get(config, name)
        if path and not os.access(path, os.R_OK):
            yield Problem(name, f"{path!r} can't be read; name a file that is there and that this user may read")
