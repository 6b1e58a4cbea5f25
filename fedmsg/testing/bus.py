# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole bus for one test: a configuration with free ports, and a relay on it."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmsg.core import FedMsgContext
from fedmsg.testing.ports import free_address
from fedmsg.testing.processes import Process, run

__all__ = ["Bus"]


class Bus:
    """A relay on free ports, and what is needed to talk through it.

    Attributes:
        config: The configuration that everything on this bus uses.
        environ: The environment that makes a command use it.
        relay: The relay's process; None while it is down.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.config: dict[str, Any] = {
            "environment": "dev",
            "relay_inbound": [free_address()],
            "endpoints": {"relay_outbound": [free_address()]},
            **(settings or {}),
        }
        self._folder = tempfile.TemporaryDirectory(prefix="fedmsg-bus-")
        path = Path(self._folder.name) / "bus.py"
        path.write_text(f"config = {self.config!r}\n")
        self.environ = {"FEDMSG_CONFIG": str(path)}
        self.relay: Process | None = None

    def start_relay(self, *arguments: str) -> Process:
        """Start the relay; returns when it passes messages on."""
        self.relay = Process(["fedmsg-relay", *arguments], env=self.environ)
        try:
            return self.relay.wait_ready()
        except BaseException:
            self.relay.close()
            raise

    def stop_relay(self, number: int = signal.SIGTERM) -> int:
        """Stop the relay; return its exit status."""
        assert self.relay is not None, "there is no relay to stop"
        status = self.relay.stop(number)
        self.relay.close()
        self.relay = None
        return status

    def tail(self, *arguments: str) -> Process:
        """Start a ``fedmsg-tail`` and wait until messages reach it.

        The greetings that find out are logged with the topic ``log.hello``; those that came
        through are taken off its output.
        """
        tail = Process(["fedmsg-tail", *arguments], env=self.environ)
        try:
            self._greet(tail)
        except BaseException:
            tail.close()
            raise
        return tail

    def _greet(self, tail: Process) -> None:
        with self.context() as context:
            tail.wait_for(lambda line: True, meanwhile=lambda: context.publish(topic="log.hello", modname="logger"))
            # The last greeting may still be under way; this one comes after it.
            context.publish(topic="log.hello", modname="logger", msg={"log": "that was all"})
            tail.wait_for("that was all")
        del tail.out[:]

    def context(self, **settings: Any) -> FedMsgContext:
        """Return a context that publishes through the relay."""
        return FedMsgContext(**{**self.config, "active": True, "name": "relay_inbound", **settings})

    def run(self, *argv: str, stdin: str | bytes = b"", timeout: float = 30.0) -> Any:
        """Run a command on this bus to its end, as `fedmsg.testing.run` does."""
        return run(argv, stdin=stdin, env=self.environ, timeout=timeout)

    def close(self) -> None:
        """Stop what runs and remove the configuration."""
        if self.relay is not None:
            self.relay.close()
            self.relay = None
        self._folder.cleanup()

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def envelopes(lines: list[str]) -> list[dict[str, Any]]:
    """Return the envelopes in the output of ``fedmsg-tail --json``."""
    return [json.loads(line) for line in lines]
