# SPDX-License-Identifier: LGPL-2.1-or-later
"""Addresses that nobody uses."""

from __future__ import annotations

import socket

__all__ = ["free_address", "free_port"]


def free_port() -> int:
    """A TCP port of the loopback interface that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def free_address() -> str:
    """A ZeroMQ address on the loopback interface that is free at this moment."""
    return f"tcp://127.0.0.1:{free_port()}"
