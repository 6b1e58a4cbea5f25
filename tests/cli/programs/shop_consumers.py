# SPDX-License-Identifier: LGPL-2.1-or-later
"""Consumers and a producer for a hub that runs as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fedmsg.consumers import FedmsgConsumer
from fedmsg.hub import PollingProducer

__all__ = ["Broken", "Clock", "Picky", "Printer", "Stuck"]


def say(line: str) -> None:
    """Print a line as a whole: other threads print too."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Printer(FedmsgConsumer):
    """Prints what it hears."""

    topic = "org.fedoraproject.dev.shop"
    config_key = "shop.printer"

    def consume(self, message: Any) -> None:
        """Print the content of a message."""
        say(f"heard {message['body']['msg']['number']}")


class Stuck(Printer):
    """Waits, in each message, until somebody writes into a pipe."""

    config_key = "shop.stuck"

    def consume(self, message: Any) -> None:
        """Print the content of a message, and wait."""
        super().consume(message)
        Path(self.hub.config["shop.pipe"]).read_bytes()


class Picky(Printer):
    """Can't handle odd numbers, as long as a file is there."""

    config_key = "shop.picky"

    def consume(self, message: Any) -> None:
        """Print the content of a message, or fail."""
        if message["body"]["msg"]["number"] % 2 and Path(self.hub.config["shop.file"]).exists():
            raise ZeroDivisionError("odd")
        super().consume(message)


class Broken(Printer):
    """Can't be made."""

    config_key = "shop.broken"

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        raise ZeroDivisionError("broken from the start")


class Clock(PollingProducer):
    """Prints how often it was asked."""

    frequency = 0.01
    number = 0

    def poll(self) -> None:
        """Print the number of this call."""
        self.number += 1
        say(f"tick {self.number}")
