# SPDX-License-Identifier: LGPL-2.1-or-later
"""A publisher for tests of what listens: it knows when somebody does, and can send whatever a test wants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zmq

__all__ = ["Publisher"]


class Publisher:
    """Stands where a relay's outlet would, so that a test can send whatever it likes.

    Attributes:
        environ: The environment that makes a command listen to it.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.bind("tcp://127.0.0.1:*")
        address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        config = {"endpoints": {"relay_outbound": [address]}, **settings}
        (folder / "publisher.py").write_text(f"config = {config!r}\n")
        self.environ = {"FEDMSG_CONFIG": str(folder / "publisher.py")}

    def wait(self) -> bytes:
        """Wait for a subscriber, and return what it subscribed to."""
        assert self._socket.poll(20_000), "nobody subscribed"
        return self._socket.recv()[1:]

    def send(self, *messages: dict[str, Any]) -> None:
        """Send envelopes."""
        for message in messages:
            self.send_frames(message["topic"].encode(), json.dumps(message).encode())

    def send_frames(self, *frames: bytes) -> None:
        """Send frames, whatever they are."""
        self._socket.send_multipart(frames)

    def close(self) -> None:
        """Stop."""
        self._socket.close(0)
        self._context.term()
