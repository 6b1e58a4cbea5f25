# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host names are looked up here first, on a thread of their own, before a socket connects.

libzmq looks names up on the thread that does all its input and output: one name server
that does not answer would hold up every other connection. So an address with a name is
handed to the socket only once the name has been found.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading

from fedmsg.transport.zmq import addresses

__all__ = ["Resolver"]

log = logging.getLogger("fedmsg.transport")


class Resolver:
    """Tells which of some addresses can be connected by now.

    Args:
        wanted: The addresses; those without a name are ready at once.
        retry: Seconds between two attempts at a name that can't be found.
    """

    def __init__(self, wanted: list[str], retry: float = 5.0) -> None:
        self._retry = retry
        self._ready: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.pending = len(wanted)
        names: dict[str, list[str]] = {}
        for address in wanted:
            host = addresses.host_to_resolve(address)
            if host is None:
                self._ready.put((address, address))
            else:
                names.setdefault(host, []).append(address)
        for host, waiting in names.items():
            threading.Thread(target=self._look_up, args=(host, waiting), name="fedmsg-resolver", daemon=True).start()

    def ready(self, patience: float = 0.0) -> list[tuple[str, str]]:
        """Take the addresses that have become ready since the last call.

        Args:
            patience: Seconds to wait for one if there is none yet.

        Returns:
            Pairs: the address as it is configured, and what to connect to.
        """
        found: list[tuple[str, str]] = []
        while self.pending:
            try:
                found.append(self._ready.get(timeout=patience) if patience and not found else self._ready.get_nowait())
            except queue.Empty:
                break
            self.pending -= 1
        return found

    def stop(self) -> None:
        """Look for nothing more. A look-up under way ends by itself, in the background."""
        self._stop.set()

    def _look_up(self, host: str, waiting: list[str]) -> None:
        warned = False
        while not self._stop.is_set():
            try:
                families = {entry[0]: entry[4][0] for entry in socket.getaddrinfo(host, None)}
            except (OSError, UnicodeError) as error:
                if not warned:
                    log.warning("%s: host %r can't be found (%s), trying again", ", ".join(waiting), host, error)
                    warned = True
                self._stop.wait(self._retry)
            else:
                for address in waiting:
                    port = address.rpartition(":")[2]
                    # libzmq takes the IPv4 address of a name; one that has none is handed over as a number.
                    only_ipv6 = socket.AF_INET not in families
                    self._ready.put((address, f"tcp://[{families[socket.AF_INET6]}]:{port}" if only_ipv6 else address))
                return
