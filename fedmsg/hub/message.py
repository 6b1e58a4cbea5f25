# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message as text, for consumers that decode it themselves."""

from __future__ import annotations

from typing import Any

from fedmsg.transport.base import Delivery

__all__ = ["ZMQMessage"]


class ZMQMessage:
    """A message as text, for those who decode it themselves.

    Args:
        topic: Its topic.
        body: The envelope as JSON.
    """

    def __init__(self, topic: str, body: Any) -> None:
        self.topic = topic
        self.body = body

    @classmethod
    def of(cls, delivery: Delivery) -> ZMQMessage:
        """Return a delivery as text, for somebody who may change that."""
        return cls(delivery.frame.decode("utf-8", "replace"), delivery.data.decode("utf-8", "replace"))

    def __json__(self) -> dict[str, Any]:
        """Return the topic and the body, as a dict."""
        return {"topic": self.topic, "body": self.body}
