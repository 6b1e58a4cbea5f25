# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a daemon has done since it started, as samples for :mod:`fedmsg.monitoring.prometheus`.

They are read from counters that only grow, never from the status report, whose counters start
again at zero after each report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

__all__ = ["Sample", "of_rejections", "of_totals"]


class Sample(NamedTuple):
    """One value of a metric.

    Attributes:
        name: What it counts, such as ``consumer_handled``; the rest of the name is made from it.
        text: The same in words.
        value: How many.
        labels: What distinguishes it from other samples of its name.
        grows: Whether it only grows; otherwise it is how many there are now.
    """

    name: str
    text: str
    value: float
    labels: Mapping[str, str]
    grows: bool = True


# Kinds of totals that are known, in words. Others are counters without an explanation.
_TEXTS: dict[str, dict[str, str]] = {
    "consumer": {
        "received": "Messages that came in for the consumer",
        "handled": "Messages that the consumer handled",
        "failed": "Messages whose handling raised an exception, after all tries",
        "rejected": "Messages that were rejected: malformed or not valid",
        "dropped": "Messages dropped because the queue was full",
        "retried": "Further tries of messages whose handling had failed",
        "dead": "Messages that went to the dead letters",
        "replayed": "Messages missing in a gap that replay has filled",
        "recovered": "Messages that the stream no longer kept, and that came from a datagrepper",
        "lost": "Messages that are missing: in a gap that replay could not fill, or gone from the stream",
        "waiting": "Messages that wait for the consumer",
        "spooled": "Messages that wait on disk for the consumer",
        "stored": "Messages that the consumer has stored",
        "skipped": "Messages that the consumer has not stored, for they are stored already",
        "connected": "Whether a consumer that acknowledges is connected to its relay or broker",
        "connections": "Connections of a consumer that acknowledges to its relay or broker",
        "queued": "Messages that wait for the consumer at the broker",
        "unacked": "Messages that the broker waits for an acknowledgement of",
        "sharing": "Consumers of the queue at the broker, which share its messages",
        "lag": "Newest position of the stream less the cursor of a durable consumer",
        "position": "Position in the stream up to which a durable consumer has handled everything",
    },
    "producer": {
        "polls": "Calls of the producer's poll()",
        "failures": "Calls of poll() that raised an exception",
    },
}
_GAUGES = frozenset({"waiting", "backlog", "connected", "lag", "position", "queued", "sharing", "spooled", "unacked"})


def of_totals(role: Literal["consumer", "producer"], kind: type, totals: Mapping[str, int]) -> Iterator[Sample]:
    """Yield the samples of one consumer or producer: its totals, labelled with its class ``kind``."""
    labels = {role: kind.__name__, "module": kind.__module__}
    for name, value in totals.items():
        text = _TEXTS[role].get(name, f"The total of {name}")
        yield Sample(f"{role}_{name}", text, value, labels, grows=name not in _GAUGES)


def of_rejections(counts: Mapping[str, int]) -> Iterator[Sample]:
    """Yield the samples of rejected messages, which are counted by reason."""
    for kind, value in list(counts.items()):
        yield Sample("rejected", "Messages that were rejected, by reason", value, {"reason": kind})
