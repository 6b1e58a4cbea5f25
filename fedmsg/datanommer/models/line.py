# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a row of messages was published as; and such a row without the ORM, for those who read many."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedmsg.datanommer.models import rows

__all__ = ["Line", "Published"]


class _Columns(NamedTuple):
    timestamp: dt.datetime
    id: int
    msg_id: str
    i: int | None
    topic: str
    certificate: str | None
    signature: str | None
    username: str | None
    crypto: str | None
    source_name: str | None
    source_version: str | None
    msg: Any
    headers: Any
    seq_id: int | None
    original: str | None


class Published:
    """What all rows of messages can be asked for; those that have it have the columns."""

    __slots__ = ()

    def as_dict(self: Any, request: object = None) -> dict[str, Any]:  # noqa: ARG002 Pyramid passes one
        """Return the message as it was published, with where it comes from; its signature can be checked."""
        columns: dict[str, Any] = {
            "certificate": self.certificate, "crypto": self.crypto, "headers": self.headers, "i": self.i,
            "msg": self.msg, "msg_id": self.msg_id, "signature": self.signature, "source_name": self.source_name,
            "source_version": self.source_version, "timestamp": rows.seconds(self.timestamp), "topic": self.topic,
            "username": self.username,
        }  # fmt: skip
        if self.original is not None:
            return rows.envelope_of(self.original, columns)
        return columns if self.seq_id is None else {**columns, "seq_id": self.seq_id}

    __json__ = as_dict

    def as_fedora_message_dict(self: Any) -> dict[str, Any]:
        """Return the message in the form of fedora-messaging."""
        envelope = self.as_dict()
        headers: Mapping[str, Any] = envelope["headers"] or {}
        sent_at = self.timestamp.replace(tzinfo=dt.timezone.utc).isoformat()
        return {
            "body": envelope["msg"],
            "headers": {**headers, "sent-at": headers.get("sent-at", sent_at)},
            "id": envelope["msg_id"],
            "priority": headers.get("priority", 0),
            "queue": None,
            "topic": envelope["topic"],
        }


class Line(Published, _Columns):
    """The columns of a message that was read to be handed out: a fraction of what a `Message` costs."""

    __slots__ = ()
