# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host names are resolved here first, in threads, before a socket connects.

ZeroMQ resolves names in the thread that does all its input and output: one name server that does
not answer would hold up every other connection. So an address with a name reaches a socket only
after the name was found.
"""

from __future__ import annotations

import logging
import queue
import socket
import time
from collections import deque
from typing import NamedTuple

from fedmsg._util.service import start_thread
from fedmsg.transport.zmq import addresses

__all__ = ["Resolved", "Resolver", "resolve"]

log = logging.getLogger("fedmsg.transport")

#: Seconds between two attempts at a name that can't be found.
RETRY_INTERVAL = 5.0
# So many names are looked up at the same time: a name server that does not answer takes a thread for long.
_MAX_THREADS = 64


class Resolved(NamedTuple):
    """An address that can be connected.

    Attributes:
        address: As it is configured.
        target: What to connect to.
        aliases: What ZeroMQ may call the target in its events.
    """

    address: str
    target: str
    aliases: tuple[str, ...] = ()


class Resolver:
    """Finds the hosts of addresses, each until it is found.

    Args:
        wanted: The addresses; those without a name are ready at once.
        retry: Seconds between two attempts at a name that can't be found.

    Attributes:
        pending: How many addresses `ready` has not returned yet.
    """

    def __init__(self, wanted: list[str], retry: float = RETRY_INTERVAL) -> None:
        self._retry = retry
        self._ready: queue.SimpleQueue[Resolved] = queue.SimpleQueue()
        self._hosts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # Hosts that were not found, and when to try again.
        self._failed: deque[tuple[float, str]] = deque()
        self._warned: set[str] = set()
        self._waiting: dict[str, list[str]] = {}
        self.pending = len(wanted)
        for address in wanted:
            host = addresses.host_to_resolve(address)
            if host is None:
                self._ready.put(Resolved(address, address, (addresses.canonical(address),)))
            else:
                self._waiting.setdefault(host, []).append(address)
        for host in self._waiting:
            self._hosts.put(host)
        self._threads = min(len(self._waiting), _MAX_THREADS)
        for _ in range(self._threads):
            start_thread(self._run, "fedmsg-resolver")

    def ready(self, timeout: float = 0.0) -> list[Resolved]:
        """Return the addresses that have become ready since the last call.

        Names that could not be found are tried again as long as this is called now and then.
        """
        now = time.monotonic()
        while self._failed and self._failed[0][0] <= now:
            self._hosts.put(self._failed.popleft()[1])
        found: list[Resolved] = []
        while self.pending:
            try:
                found.append(self._ready.get(timeout=timeout) if timeout and not found else self._ready.get_nowait())
            except queue.Empty:
                break
            self.pending -= 1
        if not self.pending:
            self.stop()
        return found

    def stop(self) -> None:
        """Stop looking. A look-up in progress ends by itself, in the background."""
        while self._threads:
            self._threads -= 1
            self._hosts.put(None)

    def _run(self) -> None:
        while (host := self._hosts.get()) is not None:
            try:
                found = _look_up(host)
            except (OSError, UnicodeError) as error:
                if host not in self._warned:
                    self._warned.add(host)
                    log.warning(
                        "%s: host %r can't be found (%s), trying again", ", ".join(self._waiting[host]), host, error
                    )
                self._failed.append((time.monotonic() + self._retry, host))
            else:
                for address in self._waiting[host]:
                    self._ready.put(_target(address, found))


def resolve(address: str, timeout: float = 1.0, *, log_failure: bool = True) -> Resolved:
    """Return what one address stands for: itself where its host is not found in time, which is left to ZeroMQ."""
    host = addresses.host_to_resolve(address)
    if host is None:
        return Resolved(address, address, (addresses.canonical(address),))
    outcome: queue.SimpleQueue[Resolved | Exception] = queue.SimpleQueue()

    def find() -> None:
        try:
            outcome.put(_target(address, _look_up(host)))
        except (OSError, UnicodeError) as error:
            outcome.put(error)

    start_thread(find, "fedmsg-resolver")
    try:
        found = outcome.get(timeout=timeout)
    except queue.Empty:
        found = TimeoutError(f"no answer within {timeout:g} s")
    if isinstance(found, Resolved):
        return found
    if log_failure:
        log.warning("%s: host %r can't be found (%s), trying again", address, host, found)
    return Resolved(address, address)


def _look_up(host: str) -> dict[int, list[str]]:
    """Return the numeric addresses of a host by family."""
    found: dict[int, list[str]] = {}
    for family, _, _, _, where in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        found.setdefault(family, []).append(str(where[0]))
    return found


def _target(address: str, found: dict[int, list[str]]) -> Resolved:
    port = address.rpartition(":")[2]
    if socket.AF_INET not in found:
        # ZeroMQ takes the IPv4 address of a name; a host without one is passed on as a number.
        target = f"tcp://[{found[socket.AF_INET6][0]}]:{port}"
        return Resolved(address, target, (target, addresses.canonical(target)))
    return Resolved(address, address, (address, *(f"tcp://{number}:{port}" for number in found[socket.AF_INET])))
