# SPDX-License-Identifier: LGPL-2.1-or-later
"""A consumer that receives everything and does nothing: to see that a hub works, and what it costs."""

from __future__ import annotations

from typing import Any

from fedmsg.consumers import FedmsgConsumer

__all__ = ["DummyConsumer"]


class DummyConsumer(FedmsgConsumer):
    """Counts what passes, in the monitoring report like that of any other consumer."""

    topic = ""
    config_key = "fedmsg.consumers.dummy.enabled"

    def consume(self, message: Any) -> None:
        """Do nothing with a message."""
