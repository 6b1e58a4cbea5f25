# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong with addresses and CURVE keys: looked at before a start, by ``fedmsg-config --check``."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from fedmsg.config.settings import Problem, Settings, of
from fedmsg.exceptions import FedmsgError
from fedmsg.transport.zmq import curve
from fedmsg.transport.zmq.addresses import as_list

__all__ = ["problems"]

# Of a host name nothing is known: it may be that of another machine.
_LITERAL = re.compile(r"tcp://(\*|[\d.]+|\[[\da-f:.]+\]):(\d+)", re.IGNORECASE)
# The signature that each ZeroMQ program sends first.
_GREETING_BYTES = 10
_GREETING_TIMEOUT_S = 1.0


def problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Find addresses that a listener can't connect to, and CURVE keys that can't be used."""
    view = of(config)
    listed = [(name, address) for name, found in view.endpoints.items() for address in found]
    # A listener leaves them out, and does not start when none is left.
    unfit = [(name, address) for name, address in listed if address.startswith("tcp://*:")]
    for name, address in unfit:
        text = f"a listener can't connect to {address!r}; write the name of the host in place of the *"
        yield Problem(f"endpoints[{name!r}]", text, stops=len(unfit) == len(listed))
    yield from _taken(view)
    for name in view.curve_servers:
        yield from _failure(partial(curve.prepare, config, [name]))
    for key, folder in (("curve_publishers", view.curve_publishers), ("curve_subscribers", view.curve_subscribers)):
        if folder:
            yield from _failure(partial(curve.guard_settings, {"curve_key": view.curve_key, key: folder}))
    if view.curve_key and not os.access(view.curve_key, os.R_OK):
        yield Problem("curve_key", f"{view.curve_key} can't be read; fedmsg-certs curve makes a key pair", stops=False)


def _taken(view: Settings) -> Iterator[Problem]:
    """Find ports of the relay that another program has; our own programs are expected to run during a check."""
    outbound = as_list(view.endpoints.get("relay_outbound"))
    for key, needed in (
        *(("relay_inbound", [address]) for address in as_list(view.relay_inbound)),
        *(("relay_confirmed", [address]) for address in as_list(view.relay_store and view.relay_confirmed)),
        *(("relay_stream", [address]) for address in as_list(view.relay_store and view.relay_stream)),
        # The first that is free is bound.
        ("endpoints['relay_outbound']", outbound),
    ):
        if needed and all(map(_is_taken, needed)):
            text = f"another program listens at {', '.join(needed)}; stop it, or choose another port"
            yield Problem(key, text)


def _is_taken(address: str) -> bool:
    """Return whether a program that does not use ZeroMQ listens at an address of this machine."""
    found = _LITERAL.fullmatch(address)
    if not found:
        return False
    host, port = found[1].strip("[]").replace("*", "0.0.0.0"), int(found[2])  # noqa: S104 - nothing is sent
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        # As libzmq does.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE and not _speaks_zmtp(host, port)
    return False


def _speaks_zmtp(host: str, port: int) -> bool:
    """Return whether the program at an address greets as ZeroMQ does."""
    greeting = b""
    try:
        with socket.create_connection((host, port), _GREETING_TIMEOUT_S) as connection:
            while len(greeting) < _GREETING_BYTES and (more := connection.recv(_GREETING_BYTES - len(greeting))):
                greeting += more
    except OSError:
        return False
    return greeting.startswith(b"\xff") and greeting.endswith(b"\x7f")


def _failure(start: Callable[[], object]) -> Iterator[Problem]:
    """Run a part of a start, and yield the problem that ends it."""
    try:
        start()
    except FedmsgError as error:
        key, _, text = str(error).partition(": ")
        yield Problem(key, text) if text else Problem("curve_key", str(error))
