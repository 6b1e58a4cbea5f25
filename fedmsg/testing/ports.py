# SPDX-License-Identifier: LGPL-2.1-or-later
"""Free addresses on the loopback interface."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

__all__ = ["free_address", "free_port"]

# Ports below the range from which the kernel takes the ports of outgoing connections and of "port 0": none of
# them is taken by chance between the moment a test asks for it and the moment a server binds it.
_FIRST_PORT = 10_000
_LAST_PORT = 32_000
_BLOCK_PORTS = 500

_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

# The process that the ports of this iterator were reserved for: a forked child reserves its own.
_owner = 0
_ports: Iterator[int] = iter(())


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free at this moment.

    Processes that run at the same time on one machine get different ports, and a process gets the same
    port again only after thousands of others.

    Raises:
        OSError: No free port was found.
    """
    global _owner, _ports
    if _owner != os.getpid():
        _owner, _ports = os.getpid(), _all_ports()
    for port in itertools.islice(_ports, 4 * _BLOCK_PORTS):
        if _is_free(port):
            return port
    raise OSError("no free port was found on the loopback interface")


def free_address() -> str:
    """Return a ZeroMQ address on the loopback interface that is free at this moment."""
    return f"tcp://127.0.0.1:{free_port()}"


def _all_ports() -> Iterator[int]:
    """Yield ports without end: one block after the other that this process can reserve.

    A publisher remembers whether an address was heard, so a test must not get the address of one before it.
    """
    own: list[range] = []
    last = _LAST_PORT
    with contextlib.suppress(OSError, ValueError):
        last = min(last, int(_EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0]))
    starts = list(range(_FIRST_PORT, last - _BLOCK_PORTS, _BLOCK_PORTS))
    random.shuffle(starts)
    for start in starts:
        if _reserve(start):
            own.append(range(start, start + _BLOCK_PORTS))
            yield from own[-1]
    yield from itertools.cycle(itertools.chain(*own)) if own else _ports_of_the_kernel()


def _reserve(start: int) -> bool:
    """Reserve a block for this process, by a socket in the kernel's abstract namespace; whether it was free."""
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reservation.bind(f"\0fedmsg-testing-ports-{start}")
    except OSError:
        reservation.close()
        return False
    reservation.detach()  # stays open for as long as the process lives
    return True


def _ports_of_the_kernel() -> Iterator[int]:
    """Yield ports that the kernel chooses, where no block is left."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        yield port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
